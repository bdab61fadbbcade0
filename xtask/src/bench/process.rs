//! Processes that are measured: started, waited for, ended; and what `/proc` says of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long a process may take to end when it is asked to.
const END: Duration = Duration::from_secs(10);
/// The kernel's number of ring buffer maps (`BPF_MAP_TYPE_RINGBUF`).
const RINGBUF: u64 = 27;

/// A child; ended when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts it with nothing on its input, and its output thrown away.
    pub(crate) fn quiet(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::spawn(command.stderr(Stdio::null()))
    }

    /// Starts it as the command says.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the condition holds while the process lives.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut holds: impl FnMut(u32) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !holds(self.pid()) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended before {what}: {status}", self.name);
            }
            if Instant::now() > deadline {
                bail!("{}: no {what} within {patience:?}", self.name);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot end {}", self.name))?;
        let deadline = Instant::now() + END;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end", self.name);
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.end(Signal::TERM).is_err() {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Anonymous pages.
    pub(crate) anonymous: u64,
    /// Pages of files, without those of rings.
    pub(crate) file: u64,
    /// Capacity of the rings between kernel and process.
    pub(crate) rings: u64,
    /// What the kernel holds for its BPF maps, rings among them, as far as the kernel says: before 6.4 that is what they may take
    /// at most.
    pub(crate) maps: u64,
}

impl Memory {
    /// What the process has now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let read = |name: &str| {
            let path = proc.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let status = read("status")?;
        let mapped = map_pages(&read("smaps")?);
        let file = field(&status, "RssFile").unwrap_or(0) + field(&status, "RssShmem").unwrap_or(0);
        let (rings, maps) = maps(&fdinfos(pid));
        Ok(Self {
            anonymous: field(&status, "RssAnon").context("no RssAnon")? * 1024,
            file: file.saturating_sub(mapped) * 1024,
            rings,
            maps,
        })
    }

    /// Of each the larger.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            anonymous: self.anonymous.max(other.anonymous),
            file: self.file.max(other.file),
            rings: self.rings.max(other.rings),
            maps: self.maps.max(other.maps),
        }
    }
}

/// Time that all threads of a process spent on a processor.
pub(crate) fn on_cpu(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut total = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        // A thread may end meanwhile; what it used is lost, as it is to `schedstat` of the process.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let first = text.split(' ').next().and_then(|first| first.parse().ok());
        total += first.unwrap_or(0_u64);
    }
    Ok(Duration::from_nanos(total))
}

/// Ids of the BPF programs that a process holds.
pub(crate) fn bpf_programs(pid: u32) -> Vec<u32> {
    let programs = fdinfos(pid).into_iter().filter_map(|info| {
        // Links name a program too; only the program itself has counts.
        field(&info, "run_cnt")?;
        field(&info, "prog_id").and_then(|id| u32::try_from(id).ok())
    });
    programs.collect()
}

/// Bytes of memory that could be had without swapping.
pub(crate) fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    field(&text, "MemAvailable").map(|kib| kib * 1024)
}

/// What the kernel says of each open descriptor; those that close meanwhile are left out.
fn fdinfos(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .collect()
}

/// Capacity of all rings and kernel memory of all maps that have a descriptor among these, each counted once. Pure.
fn maps(infos: &[String]) -> (u64, u64) {
    let (mut rings, mut maps) = (BTreeMap::new(), BTreeMap::new());
    for info in infos {
        let Some(id) = field(info, "map_id") else {
            continue;
        };
        maps.insert(id, field(info, "memlock").unwrap_or(0));
        if field(info, "map_type") == Some(RINGBUF) {
            rings.insert(id, field(info, "max_entries").unwrap_or(0));
        }
    }
    (rings.values().sum(), maps.values().sum())
}

/// The number in a line `name: number …`. Pure.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.split_whitespace().next()?.parse().ok()
    })
}

/// Resident KiB of all mappings of BPF maps, by `smaps`. Pure.
fn map_pages(smaps: &str) -> u64 {
    let mut inside = false;
    let mut total = 0;
    for line in smaps.lines() {
        let first = line.split(' ').next().unwrap_or_default();
        if !first.ends_with(':') {
            // `7f01-7f02 rw-s 00000000 00:0e 1033  anon_inode:bpf-map`
            inside = line.ends_with("anon_inode:bpf-map");
        } else if inside && first == "Rss:" {
            total += field(line, "Rss").unwrap_or(0);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_whole_names() {
        let text = "VmRSS:\t   100 kB\nRssAnon:\t   40 kB\nprog_id:\t12\n";
        assert_eq!(field(text, "RssAnon"), Some(40));
        assert_eq!(field(text, "Rss"), None);
        assert_eq!(field(text, "prog_id"), Some(12));
        assert_eq!(field(text, "map_id"), None);
    }

    #[test]
    fn only_mappings_of_maps_count_as_rings() {
        let smaps = "7f0000000000-7f0000800000 r--s 00001000 00:0e 1033       anon_inode:bpf-map\n\
                     Size:               8192 kB\nRss:                  64 kB\nPss:  64 kB\n\
                     55d0c0000000-55d0c0100000 r-xp 00000000 fe:00 77         /usr/bin/true\n\
                     Size:               1024 kB\nRss:                 900 kB\n\
                     7f0000900000-7f0000901000 rw-s 00000000 00:0e 1033       anon_inode:bpf-map\n\
                     Rss:                   4 kB\nVmFlags: rd wr\n";
        assert_eq!(map_pages(smaps), 68);
    }

    #[test]
    fn a_map_with_two_descriptors_counts_once() {
        let map = |id: u32, kind: u32, memory: u32| {
            format!("map_type:\t{kind}\nmax_entries:\t4096\nmemlock:\t{memory}\nmap_id:\t{id}\n")
        };
        let infos = [
            map(1, 27, 9_000),
            map(1, 27, 9_000),
            map(2, 1, 500),
            "prog_id:\t7\nmemlock:\t100\nrun_cnt:\t1\n".to_owned(),
            "pos:\t0\n".to_owned(),
        ];
        assert_eq!(maps(&infos), (4_096, 9_500));
    }

    #[test]
    fn the_peak_is_taken_of_each_by_itself() {
        let memory = |anonymous, maps| Memory {
            anonymous,
            maps,
            ..Memory::default()
        };
        assert_eq!(memory(5, 1).max(memory(3, 2)), memory(5, 2));
    }

    #[test]
    fn this_process_has_memory_and_used_a_processor() {
        let memory = Memory::of(std::process::id()).expect("own memory");
        assert!(memory.anonymous > 0 && memory.file > 0, "{memory:?}");
        assert!(on_cpu(std::process::id()).expect("own time") > Duration::ZERO);
        assert!(bpf_programs(std::process::id()).is_empty());
    }
}
