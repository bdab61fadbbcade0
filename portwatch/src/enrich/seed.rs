//! The first look at /proc: every process that runs already, into the table.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::proc_fs::ProcFs;
use super::proc_parse::Stat;
use super::table::ProcessTable;
use crate::decode::record::{ImageInfo, ProcessKey};
use crate::time::BootNs;

/// What came of a seeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedReport {
    /// Processes found.
    pub processes: usize,
    /// /proc was read to its end. If not, the rest is resolved when it is asked for.
    pub complete: bool,
}

struct Found {
    pid: u32,
    stat: Stat,
    image: Option<ImageInfo>,
}

/// Reads all of /proc, for at most `limit`. The reading is done by a thread of its own, because
/// reading the arguments of a stuck process can hang; such a thread is left behind.
pub(super) fn seed(
    table: &mut ProcessTable,
    proc: &ProcFs,
    now: BootNs,
    limit: Duration,
) -> SeedReport {
    let until = Instant::now() + limit;
    let (send, receive) = sync_channel(256);
    let reader = proc.clone();
    let started = std::thread::Builder::new()
        .name("enrich-seed".to_owned())
        .spawn(move || {
            for found in reader.pids().filter_map(|pid| read(&reader, pid)) {
                if send.send(found).is_err() {
                    return;
                }
            }
        });
    let mut report = SeedReport {
        processes: 0,
        complete: false,
    };
    if started.is_err() {
        return report;
    }
    let mut parents = Vec::new();
    loop {
        match receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Found { pid, stat, image }) => {
                let key = ProcessKey {
                    pid,
                    start: stat.start,
                };
                table.learn(key, &stat.comm, None, image.as_ref(), now);
                table.learn_layout(key, stat.layout);
                parents.push((key, stat.ppid));
                report.processes += 1;
            }
            Err(RecvTimeoutError::Disconnected) => {
                report.complete = true;
                break;
            }
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    // A parent may have been found after its child.
    for (key, ppid) in parents {
        table.learn(key, b"", table.current(ppid), None, now);
    }
    report
}

fn read(proc: &ProcFs, pid: u32) -> Option<Found> {
    let process = proc.open(pid)?;
    let stat = process.stat()?;
    let image = (!stat.is_kthread)
        .then(|| process.image().ok())
        .flatten()
        .map(|image| match process.args() {
            Some((args, args_truncated)) => ImageInfo {
                args: Some(args),
                args_truncated,
                ..image
            },
            None => image,
        });
    Some(Found { pid, stat, image })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::seed;
    use crate::enrich::proc_fs::ProcFs;
    use crate::enrich::table::{Limits, ProcessTable};
    use crate::time::BootNs;

    #[test]
    fn what_runs_is_known_with_image_and_parent() {
        let proc = ProcFs::new("/proc".into());
        let mut table = ProcessTable::new(Limits::default());
        let report = seed(&mut table, &proc, BootNs::now(), Duration::from_secs(10));
        assert!(report.complete && report.processes > 1);
        let own = table.current(std::process::id()).expect("we are there");
        let exe = std::fs::read_link("/proc/self/exe").expect("exe");
        let image = table.image(own).expect("image");
        assert_eq!(
            image.exe.as_deref(),
            Some(exe.as_os_str().as_encoded_bytes())
        );
        assert!(image.args.as_ref().is_some_and(|args| !args.is_empty()));
        let parent = table.parent(own).expect("parent");
        assert_eq!(parent.pid, std::os::unix::process::parent_id());
    }

    #[test]
    fn a_proc_that_hangs_is_left_behind() {
        let root = tempfile::tempdir().expect("dir");
        for pid in ["7", "8"] {
            let dir = root.path().join(pid);
            std::fs::create_dir(&dir).expect("dir");
            // Opening a FIFO without a writer blocks.
            let made = std::process::Command::new("mkfifo")
                .arg(dir.join("stat"))
                .status();
            assert!(made.expect("mkfifo").success());
        }
        let mut table = ProcessTable::new(Limits::default());
        let proc = ProcFs::new(root.path().into());
        let started = Instant::now();
        let report = seed(&mut table, &proc, BootNs(0), Duration::from_millis(50));
        assert!(!report.complete && table.is_empty());
        assert!(started.elapsed() < Duration::from_secs(5));
        // Let the reader go.
        for pid in ["7", "8"] {
            let _ = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(root.path().join(pid).join("stat"));
        }
    }
}
