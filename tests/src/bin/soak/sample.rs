//! What the daemon uses, read from its `/proc` folder.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// What the kernel names pages of maps that are mapped, which here are the rings.
const RING_MAPPING: &str = "anon_inode:bpf-map";

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Since the start of the run.
    pub(crate) at: Duration,
    /// Anonymous memory, in KiB: the heap, mostly.
    pub(crate) anon: u64,
    /// Mapped files without the rings, in KiB: the program and its libraries.
    pub(crate) file: u64,
    /// Ring pages, in KiB. The kernel allocates them when the rings are made; mapping shows them here.
    pub(crate) rings: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// Processor time used so far.
    pub(crate) cpu: Duration,
}

/// Reads all of it. Not one instant, but within a millisecond or so.
///
/// # Errors
/// The process is gone.
pub(crate) fn sample(pid: u32, at: Duration) -> Result<Sample> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}: the daemon is gone"))
    };
    let status = read("status")?;
    let rings = mapped(&read("smaps")?, RING_MAPPING);
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).context("the daemon is gone")?;
    Ok(Sample {
        at,
        anon: field(&status, "RssAnon:")?,
        file: field(&status, "RssFile:")?.saturating_sub(rings),
        rings,
        descriptors: u64::try_from(folder.count())?,
        threads: field(&status, "Threads:")?,
        cpu: processor_time(&read("stat")?)?,
    })
}

/// The number behind a key.
fn field(text: &str, key: &str) -> Result<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok())
        .with_context(|| format!("no {key} in /proc"))
}

/// Resident KiB of mappings with this name.
fn mapped(smaps: &str, name: &str) -> u64 {
    let mut inside = false;
    let mut sum = 0;
    for line in smaps.lines() {
        // Only a mapping's first line begins with an address: `from-to rights offset device inode name`.
        let first = line.split(' ').next().unwrap_or_default();
        if first.contains('-') && !first.ends_with(':') {
            inside = line.ends_with(name);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| inside) {
            let size = size.split_whitespace().next();
            sum += size
                .and_then(|size| size.parse::<u64>().ok())
                .unwrap_or_default();
        }
    }
    sum
}

/// `utime` and `stime`, fields 14 and 15 of `stat`, in ticks of 10 ms (`USER_HZ` is 100 everywhere).
fn processor_time(stat: &str) -> Result<Duration> {
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_pages_are_counted_apart() {
        let smaps = "7f00-7f10 r--s 0 00:0e 1041 anon_inode:bpf-map\nSize: 8 kB\nRss: 8192 kB\n\
                     VmFlags: rd sh\n7f10-7f20 rw-p 0 00:00 0\nRss: 100 kB\nPss: 3 kB\n";
        assert_eq!(mapped(smaps, RING_MAPPING), 8192);
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b) 9) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 100 1 1";
        let time = processor_time(stat).expect("time");
        assert_eq!(time, Duration::from_secs(2));
    }

    #[test]
    fn this_process_can_be_read() {
        let mine = sample(std::process::id(), Duration::ZERO).expect("sample");
        assert!(mine.anon > 0 && mine.threads > 0 && mine.descriptors > 0);
        assert_eq!(mine.rings, 0);
    }
}
