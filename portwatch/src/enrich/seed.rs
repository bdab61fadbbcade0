//! The first look at /proc: every process that runs already, into the table.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::proc_fs::ProcFs;
use super::proc_parse::Stat;
use super::table::ProcessTable;
use crate::decode::record::{ImageInfo, ProcessKey};
use crate::time::BootNs;

/// Threads that read, at most: one, and one more for each that hangs.
const READERS_MAX: usize = 8;
/// Without an answer for so long a reader hangs.
const STUCK: Duration = Duration::from_millis(100);

/// What came of a seeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedReport {
    /// Processes found.
    pub processes: usize,
    /// Every process was read. If not, the rest is resolved when it is asked for.
    pub complete: bool,
}

struct Found {
    pid: u32,
    stat: Stat,
    image: Option<ImageInfo>,
}

/// Reads all of /proc, for at most `limit`. The reading is done by threads of its own, because reading the
/// arguments of a stuck process can hang; such a thread is left behind, and another one goes on.
pub(super) fn seed(
    table: &mut ProcessTable,
    proc: &ProcFs,
    now: BootNs,
    limit: Duration,
) -> SeedReport {
    let until = Instant::now() + limit;
    let (send, receive) = sync_channel(256);
    let pids: Vec<u32> = proc.pids().collect();
    let mut open = pids.len();
    let mut readers = Readers {
        proc: proc.clone(),
        pids: Arc::new(Mutex::new(pids.into_iter())),
        send,
        started: 0,
    };
    let mut report = SeedReport {
        processes: 0,
        complete: false,
    };
    let mut parents = Vec::new();
    let mut is_stuck = true;
    while open > 0 {
        if is_stuck && !readers.start_another() {
            break;
        }
        let left = until.saturating_duration_since(Instant::now());
        is_stuck = false;
        match receive.recv_timeout(left.min(STUCK)) {
            Ok(found) => {
                open -= 1;
                let Some(Found { pid, stat, image }) = found else {
                    continue;
                };
                let key = ProcessKey {
                    pid,
                    start: stat.start,
                };
                table.learn(key, &stat.comm, None, image.as_ref(), now);
                table.learn_layout(key, stat.layout);
                parents.push((key, stat.ppid));
                report.processes += 1;
            }
            Err(RecvTimeoutError::Timeout) if !left.is_zero() => is_stuck = true,
            Err(_) => break,
        }
    }
    report.complete = open == 0;
    // A parent may have been found after its child.
    for (key, ppid) in parents {
        table.learn(key, b"", table.current(ppid), None, now);
    }
    report
}

/// The threads, and what is left for them to read.
struct Readers {
    proc: ProcFs,
    pids: Arc<Mutex<std::vec::IntoIter<u32>>>,
    send: SyncSender<Option<Found>>,
    started: usize,
}

impl Readers {
    /// False when nothing is left to read, or too many hang.
    fn start_another(&mut self) -> bool {
        let is_empty = lock(&self.pids).len() == 0;
        if is_empty || self.started == READERS_MAX {
            return false;
        }
        self.started += 1;
        let (proc, pids, send) = (self.proc.clone(), Arc::clone(&self.pids), self.send.clone());
        let started = std::thread::Builder::new()
            .name("enrich-seed".to_owned())
            .spawn(move || {
                loop {
                    // Of its own, so that nobody waits for this lock while a process is read.
                    let next = lock(&pids).next();
                    let Some(pid) = next else { return };
                    if send.send(read(&proc, pid)).is_err() {
                        return;
                    }
                }
            });
        started.is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A /proc with one process that hangs: opening a pipe without a writer blocks.
    fn one_hangs() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("dir");
        for pid in ["7", "8"] {
            std::fs::create_dir(root.path().join(pid)).expect("dir");
        }
        let stat = root.path().join("7/stat");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &stat, fifo, 0o600.into(), 0).expect("pipe");
        let zeros = "0 ".repeat(30);
        let text = format!("8 (reads) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7 {zeros}");
        std::fs::write(root.path().join("8/stat"), text).expect("stat");
        root
    }

    #[test]
    fn a_process_that_hangs_is_left_behind() {
        let root = one_hangs();
        let mut table = ProcessTable::new(Limits::default());
        let proc = ProcFs::new(root.path().into());
        let started = Instant::now();
        let report = seed(&mut table, &proc, BootNs(0), Duration::from_secs(60));
        assert!(!report.complete);
        assert_eq!((report.processes, table.len()), (1, 1));
        assert!(started.elapsed() < Duration::from_secs(30));
        let again = seed(&mut table, &proc, BootNs(0), Duration::ZERO);
        assert!(!again.complete, "the time is up at once");
        // Let the readers go.
        let _ = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(root.path().join("7/stat"));
    }
}
