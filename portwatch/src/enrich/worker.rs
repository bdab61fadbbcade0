//! A few threads for look-ups that may take long; asking never waits, and too much asking is counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::cgroup::Placement;
use super::hash::{ExeId, Hasher, open_exe};
use super::package::Packages;
use super::proc_fs::{FileStamp, ProcFs};
use super::{cgroup_map, users};
use crate::decode::record::ProcessKey;

/// Nice value of the threads: what they find is never urgent.
const NICE: i32 = 10;

/// A look-up under way. Several processes may wait for the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What is missing. Equal needs are looked up once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Needs {
    pub(super) exe: Option<ExeId>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) cgroup: Option<u64>,
    pub(super) args: Option<ProcessKey>,
}

/// What was found of the needs of one ticket.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) ticket: Ticket,
    pub(super) needs: Needs,
    pub(super) exe: Option<ExeFacts>,
    pub(super) user: Option<Arc<str>>,
    pub(super) group: Option<Arc<str>>,
    pub(super) placement: Option<Arc<Placement>>,
    pub(super) args: Option<(Vec<Vec<u8>>, bool)>,
}

impl Answer {
    /// The ticket that this answers.
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        self.ticket
    }
}

/// What is true of an executable as long as its stamp is.
#[derive(Clone, Debug)]
pub(super) struct ExeFacts {
    pub(super) stamp: FileStamp,
    pub(super) sha256: Option<Arc<str>>,
    pub(super) package: Option<Arc<str>>,
}

/// What the threads work with.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) proc: ProcFs,
    pub(super) root: PathBuf,
    pub(super) cgroup2: PathBuf,
    pub(super) hasher: Option<Hasher>,
    pub(super) packages: Option<Mutex<Packages>>,
}

/// The threads, seen from the pipeline.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    last_ticket: u64,
    skipped: u64,
}

#[derive(Debug)]
struct Job {
    ticket: Ticket,
    key: ProcessKey,
    needs: Needs,
}

#[derive(Debug)]
struct Shared {
    tools: Tools,
    waiting: Mutex<Receiver<Job>>,
    under_way: Mutex<HashMap<Needs, Ticket>>,
    depth: AtomicUsize,
}

impl Pool {
    /// Starts the threads. They end when the pool or the receiver of answers is dropped.
    pub(super) fn start(
        tools: Tools,
        threads: usize,
        queue: usize,
    ) -> (Self, mpsc::Receiver<Answer>) {
        let (jobs, waiting) = sync_channel(queue);
        let (answers, receiver) = mpsc::channel(queue.max(1));
        let shared = Arc::new(Shared {
            tools,
            waiting: Mutex::new(waiting),
            under_way: Mutex::default(),
            depth: AtomicUsize::new(0),
        });
        for n in 0..threads {
            let (shared, answers) = (Arc::clone(&shared), answers.clone());
            let started = std::thread::Builder::new()
                .name(format!("enrich-{n}"))
                .spawn(move || work(&shared, &answers));
            if let Err(error) = started {
                tracing::warn!(
                    "cannot start a thread for slow look-ups, some will be missing: {error}"
                );
            }
        }
        let pool = Self {
            jobs,
            shared,
            last_ticket: 0,
            skipped: 0,
        };
        (pool, receiver)
    }

    /// Asks, unless the same was asked and not answered yet, or the queue is full (then `None`).
    pub(super) fn ask(&mut self, key: ProcessKey, needs: Needs) -> Option<Ticket> {
        let mut under_way = lock(&self.shared.under_way);
        if let Some(ticket) = under_way.get(&needs) {
            return Some(*ticket);
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let job = Job {
            ticket,
            key,
            needs: needs.clone(),
        };
        // Before the send: a thread may take the job at once.
        self.shared.depth.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(job).is_err() {
            self.shared.depth.fetch_sub(1, Ordering::Relaxed);
            self.skipped += 1;
            return None;
        }
        under_way.insert(needs, ticket);
        Some(ticket)
    }

    /// Look-ups that wait for a thread.
    pub(super) fn depth(&self) -> usize {
        self.shared.depth.load(Ordering::Relaxed)
    }

    /// Look-ups that were not made because the queue was full.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }
}

fn work(shared: &Shared, answers: &mpsc::Sender<Answer>) {
    // Of this thread alone: for Linux a nice value is a thread's. Without it the work is done all the same.
    let _ = rustix::process::setpriority_process(None, NICE);
    loop {
        let Ok(job) = lock(&shared.waiting).recv() else {
            return;
        };
        shared.depth.fetch_sub(1, Ordering::Relaxed);
        let entry = UnderWay {
            shared,
            needs: &job.needs,
        };
        let answer = look_up(&shared.tools, &job);
        // Before the answer goes out: who asks from now on gets a look-up of their own, and who
        // holds this ticket already will see the answer.
        drop(entry);
        if answers.blocking_send(answer).is_err() {
            return;
        }
    }
}

/// Takes a look-up off the list even if it panics, so that nobody waits for it for ever.
struct UnderWay<'a> {
    shared: &'a Shared,
    needs: &'a Needs,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.shared.under_way).remove(self.needs);
    }
}

fn look_up(tools: &Tools, job: &Job) -> Answer {
    let needs = &job.needs;
    Answer {
        ticket: job.ticket,
        needs: needs.clone(),
        // The process may end any moment; its own things first.
        args: needs.args.and_then(|key| tools.proc.open_same(key)?.args()),
        exe: needs
            .exe
            .as_ref()
            .and_then(|exe| facts(tools, job.key, exe)),
        user: needs.user.and_then(users::ask_user),
        group: needs.group.and_then(users::ask_group),
        placement: needs
            .cgroup
            .and_then(|id| cgroup_map::walk(&tools.cgroup2, id))
            .map(Arc::new),
    }
}

fn facts(tools: &Tools, key: ProcessKey, exe: &ExeId) -> Option<ExeFacts> {
    let open = open_exe(&tools.proc, &tools.root, key, exe)?;
    let stamp = open.stamp;
    let package = tools
        .packages
        .as_ref()
        .and_then(|packages| lock(packages).owner(&exe.path, &stamp));
    Some(ExeFacts {
        stamp,
        sha256: tools.hasher.as_ref().and_then(|hasher| hasher.hash(open)),
        package,
    })
}

/// A thread that panicked holding a lock left nothing half done: the maps behind them are caches.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Needs, Pool, Tools};
    use crate::decode::record::ProcessKey;
    use crate::enrich::proc_fs::ProcFs;
    use crate::time::BootNs;

    const KEY: ProcessKey = ProcessKey {
        pid: 1,
        start: BootNs(0),
    };

    fn tools() -> Tools {
        Tools {
            proc: ProcFs::new("/proc".into()),
            root: PathBuf::from("/"),
            cgroup2: "/nonexistent".into(),
            hasher: None,
            packages: None,
        }
    }

    fn user(uid: u32) -> Needs {
        Needs {
            user: Some(uid),
            ..Needs::default()
        }
    }

    #[test]
    fn the_same_question_is_asked_once_and_a_full_queue_is_counted() {
        // Without a thread nothing is ever taken from the queue.
        let (mut pool, _answers) = Pool::start(tools(), 0, 2);
        let first = pool.ask(KEY, user(0));
        assert!(first.is_some());
        assert_eq!(pool.ask(KEY, user(0)), first);
        assert!(pool.ask(KEY, user(1)).is_some());
        assert_eq!((pool.depth(), pool.skipped()), (2, 0));
        assert_eq!(pool.ask(KEY, user(2)), None);
        assert_eq!((pool.depth(), pool.skipped()), (2, 1));
        assert_eq!(pool.ask(KEY, user(0)), first, "joining needs no room");
    }

    #[test]
    fn every_ticket_is_answered_and_may_be_asked_anew() {
        let (mut pool, mut answers) = Pool::start(tools(), 2, 16);
        let tickets = [0, 4_000_000_001].map(|uid| pool.ask(KEY, user(uid)).expect("room"));
        let mut seen: Vec<_> = (0..2).filter_map(|_| answers.blocking_recv()).collect();
        seen.sort_by_key(|answer| answer.ticket);
        assert_eq!([seen[0].ticket(), seen[1].ticket()], tickets);
        assert_eq!(seen[0].user.as_deref(), Some("root"));
        assert_eq!(seen[1].user, None);
        assert_eq!(pool.depth(), 0);
        let again = pool.ask(KEY, user(0)).expect("room");
        assert!(again > tickets[1]);
        assert_eq!(
            answers.blocking_recv().map(|answer| answer.ticket()),
            Some(again)
        );
        drop(pool);
        assert!(answers.blocking_recv().is_none(), "the threads end");
    }
}
