//! A few threads for look-ups that may take long; asking never waits, and too much asking is counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::cgroup::Placement;
use super::hash::{ExeId, Hasher, open_exe};
use super::package::Packages;
use super::proc_fs::{FileStamp, ProcFs};
use super::{cgroup_map, users};
use crate::decode::record::ProcessKey;
use crate::time::BootNs;

/// Nice value of the threads that read files: what they find is never urgent.
const NICE: i32 = 10;
/// Most threads of a lane, those included that hang in what they read.
const THREADS_MAX: usize = 8;
/// When no thread takes the arguments that wait for so long, all of them hang and one more is started.
const ARGS_STUCK: Duration = Duration::from_millis(50);
/// The same of files, of which a large one takes its time.
const REST_STUCK: Duration = Duration::from_secs(1);

/// A look-up under way. Several processes may wait for the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The look-ups that will complete a process. An answer is not promised in time, and a publisher need not
/// wait for it.
///
/// Arguments are apart from the rest: they are a few microseconds' work and an event says little without
/// them, while a hash reads a whole file. Together they would wait behind every file that is to be hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    args: Option<Ticket>,
    rest: Option<Ticket>,
}

impl Waits {
    /// Is nothing more to come?
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.args.is_none() && self.rest.is_none()
    }

    /// Are the arguments still to come?
    #[must_use]
    pub const fn for_args(&self) -> bool {
        self.args.is_some()
    }

    /// Takes note of an answer: was it waited for?
    pub fn settle(&mut self, ticket: Ticket) -> bool {
        let waited = [&mut self.args, &mut self.rest]
            .into_iter()
            .find(|waiting| **waiting == Some(ticket));
        waited.is_some_and(|waiting| waiting.take().is_some())
    }
}

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
    args: Lane,
    rest: Lane,
    last_ticket: u64,
    skipped: u64,
}

impl Pool {
    /// Starts the threads: `threads` for what reads files, and one for arguments. They end when the pool or
    /// the receiver of answers is dropped.
    pub(super) fn start(
        tools: Tools,
        threads: usize,
        queue: usize,
    ) -> (Self, mpsc::Receiver<Answer>) {
        let (answers, receiver) = mpsc::channel(queue.max(1));
        let tools = Arc::new(tools);
        let lane = |kind, threads| Lane::start(kind, &tools, threads, queue, &answers);
        let args = LaneKind {
            name: "enrich-args",
            nice: 0,
            stuck: ARGS_STUCK,
        };
        let rest = LaneKind {
            name: "enrich",
            nice: NICE,
            stuck: REST_STUCK,
        };
        let pool = Self {
            args: lane(args, threads.min(1)),
            rest: lane(rest, threads),
            last_ticket: 0,
            skipped: 0,
        };
        (pool, receiver)
    }

    /// Asks, unless the same was asked and not answered yet, or the queue is full.
    pub(super) fn ask(&mut self, key: ProcessKey, needs: Needs) -> Waits {
        let args = Needs {
            args: needs.args,
            ..Needs::default()
        };
        let rest = Needs {
            args: None,
            ..needs
        };
        let mut ask = |lane: &mut Lane, needs: Needs| {
            if needs == Needs::default() {
                return None;
            }
            let ticket = Ticket(self.last_ticket + 1);
            match lane.ask(Job { ticket, key, needs }) {
                Asked::Now => {
                    self.last_ticket += 1;
                    Some(ticket)
                }
                Asked::Before(ticket) => Some(ticket),
                Asked::NoRoom => {
                    self.skipped += 1;
                    None
                }
            }
        };
        Waits {
            args: ask(&mut self.args, args),
            rest: ask(&mut self.rest, rest),
        }
    }

    /// Starts a thread where all hang: what a process gives to read may never come, and what is asked of
    /// others must not wait for it.
    pub(super) fn relieve(&mut self, now: BootNs) {
        for lane in [&mut self.args, &mut self.rest] {
            if lane.relief_due().is_some_and(|due| due <= now) {
                lane.start_thread();
                lane.shared.moved.store(now.0, Ordering::Relaxed);
            }
        }
    }

    /// When [`Self::relieve`] is to be called next; `None` while nothing waits.
    pub(super) fn relief_due(&self) -> Option<BootNs> {
        let due = [self.args.relief_due(), self.rest.relief_due()];
        due.into_iter().flatten().min()
    }

    /// Look-ups that wait for a thread.
    pub(super) fn depth(&self) -> usize {
        let depth = |lane: &Lane| lane.shared.depth.load(Ordering::Relaxed);
        depth(&self.args) + depth(&self.rest)
    }

    /// Look-ups that were not made because the queue was full.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[derive(Debug)]
struct Job {
    ticket: Ticket,
    key: ProcessKey,
    needs: Needs,
}

enum Asked {
    Now,
    Before(Ticket),
    NoRoom,
}

/// What makes a lane.
#[derive(Clone, Copy, Debug)]
struct LaneKind {
    name: &'static str,
    nice: i32,
    stuck: Duration,
}

/// A queue and the threads that serve it.
#[derive(Debug)]
struct Lane {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    threads: usize,
}

#[derive(Debug)]
struct Shared {
    kind: LaneKind,
    tools: Arc<Tools>,
    answers: mpsc::Sender<Answer>,
    waiting: Mutex<Receiver<Job>>,
    under_way: Mutex<HashMap<Needs, Ticket>>,
    depth: AtomicUsize,
    /// When a thread last took a look-up, or one was put into an empty queue.
    moved: AtomicU64,
}

impl Lane {
    fn start(
        kind: LaneKind,
        tools: &Arc<Tools>,
        threads: usize,
        queue: usize,
        answers: &mpsc::Sender<Answer>,
    ) -> Self {
        let (jobs, waiting) = sync_channel(queue);
        let mut lane = Self {
            jobs,
            shared: Arc::new(Shared {
                kind,
                tools: Arc::clone(tools),
                answers: answers.clone(),
                waiting: Mutex::new(waiting),
                under_way: Mutex::default(),
                depth: AtomicUsize::new(0),
                moved: AtomicU64::new(0),
            }),
            threads: 0,
        };
        for _ in 0..threads {
            lane.start_thread();
        }
        lane
    }

    fn start_thread(&mut self) {
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name(format!("{}-{}", shared.kind.name, self.threads))
            .spawn(move || work(&shared));
        match started {
            Ok(_) => self.threads += 1,
            Err(error) => tracing::warn!(
                "cannot start a thread for slow look-ups, some will be missing: {error}"
            ),
        }
    }

    fn ask(&mut self, job: Job) -> Asked {
        let mut under_way = lock(&self.shared.under_way);
        if let Some(ticket) = under_way.get(&job.needs) {
            return Asked::Before(*ticket);
        }
        let (needs, ticket) = (job.needs.clone(), job.ticket);
        // Before the send: a thread may take the job at once.
        if self.shared.depth.fetch_add(1, Ordering::Relaxed) == 0 {
            self.shared.moved.store(BootNs::now().0, Ordering::Relaxed);
        }
        if self.jobs.try_send(job).is_err() {
            self.shared.depth.fetch_sub(1, Ordering::Relaxed);
            return Asked::NoRoom;
        }
        under_way.insert(needs, ticket);
        Asked::Now
    }

    fn relief_due(&self) -> Option<BootNs> {
        let waits = self.shared.depth.load(Ordering::Relaxed) > 0;
        let moved = self.shared.moved.load(Ordering::Relaxed);
        let stuck = u64::try_from(self.shared.kind.stuck.as_nanos()).unwrap_or(u64::MAX);
        (waits && (1..THREADS_MAX).contains(&self.threads))
            .then(|| BootNs(moved.saturating_add(stuck)))
    }
}

fn work(shared: &Shared) {
    // Of this thread alone: for Linux a nice value is a thread's. Without it the work is done all the same.
    let _ = rustix::process::setpriority_process(None, shared.kind.nice);
    loop {
        let Ok(job) = lock(&shared.waiting).recv() else {
            return;
        };
        shared.moved.store(BootNs::now().0, Ordering::Relaxed);
        shared.depth.fetch_sub(1, Ordering::Relaxed);
        let entry = UnderWay {
            shared,
            needs: &job.needs,
        };
        let answer = look_up(&shared.tools, &job);
        // Before the answer goes out: who asks from now on gets a look-up of their own, and who
        // holds this ticket already will see the answer.
        drop(entry);
        if shared.answers.blocking_send(answer).is_err() {
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
    use std::time::{Duration, Instant};

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
        assert!(!first.is_over());
        assert_eq!(pool.ask(KEY, user(0)), first);
        assert!(!pool.ask(KEY, user(1)).is_over());
        assert_eq!((pool.depth(), pool.skipped()), (2, 0));
        assert!(pool.ask(KEY, user(2)).is_over());
        assert_eq!((pool.depth(), pool.skipped()), (2, 1));
        assert_eq!(pool.ask(KEY, user(0)), first, "joining needs no room");
    }

    #[test]
    fn every_ticket_is_answered_and_may_be_asked_anew() {
        let (mut pool, mut answers) = Pool::start(tools(), 2, 16);
        let mut waits = [0, 4_000_000_001].map(|uid| pool.ask(KEY, user(uid)));
        let mut users = [None, None];
        while let Some(open) = waits.iter().position(|waits| !waits.is_over()) {
            let answer = answers.blocking_recv().expect("an answer");
            let of = (open..2).find(|&at| waits[at].settle(answer.ticket()));
            users[of.expect("waited for")] = answer.user;
        }
        assert_eq!((users[0].as_deref(), &users[1]), (Some("root"), &None));
        assert_eq!(pool.depth(), 0);
        let mut again = pool.ask(KEY, user(0));
        let answer = answers.blocking_recv().expect("an answer");
        assert!(again.settle(answer.ticket()) && again.is_over());
        assert!(!waits[0].settle(answer.ticket()), "a ticket of its own");
        drop(pool);
        assert!(answers.blocking_recv().is_none(), "the threads end");
    }

    #[test]
    fn arguments_do_not_wait_behind_files() {
        // No thread reads files.
        let (mut pool, mut answers) = Pool::start(tools(), 0, 16);
        pool.args.start_thread();
        let own = ProcFs::new("/proc".into()).who_from_proc(std::process::id());
        let key = own.expect("this process").task.key;
        let needs = Needs {
            args: Some(key),
            user: Some(0),
            ..Needs::default()
        };
        let mut waits = pool.ask(key, needs);
        assert!(waits.for_args());
        let answer = answers.blocking_recv().expect("an answer");
        assert!(waits.settle(answer.ticket()) && answer.args.is_some());
        assert!(!waits.for_args() && !waits.is_over());
    }

    /// What a process gives to read may never come. A pipe without a writer is such a file.
    #[test]
    fn who_hangs_does_not_keep_others_waiting() {
        let proc = tempfile::tempdir().expect("folder");
        let key = |pid| ProcessKey {
            pid,
            start: BootNs(70_000_000),
        };
        for pid in 1..=4 {
            let folder = proc.path().join(pid.to_string());
            std::fs::create_dir(&folder).expect("folder");
            let zeros = "0 ".repeat(30);
            let stat = format!("{pid} (hangs) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7 {zeros}");
            std::fs::write(folder.join("stat"), stat).expect("stat");
            let cmdline = folder.join("cmdline");
            match pid {
                4 => std::fs::write(cmdline, "nc\0-l\0").expect("cmdline"),
                _ => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &cmdline,
                    rustix::fs::FileType::Fifo,
                    0o600.into(),
                    0,
                )
                .expect("pipe"),
            }
        }
        let tools = Tools {
            proc: ProcFs::new(proc.path().into()),
            ..tools()
        };
        let (mut pool, mut answers) = Pool::start(tools, 1, 16);
        let ask = |pool: &mut Pool, pid| {
            let needs = Needs {
                args: Some(key(pid)),
                ..Needs::default()
            };
            pool.ask(key(pid), needs)
        };
        assert_eq!(pool.relief_due(), None, "nobody waits");
        for pid in 1..=4 {
            assert!(ask(&mut pool, pid).for_args());
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        let args = loop {
            assert!(Instant::now() < deadline, "hangs with the others");
            pool.relieve(BootNs::now());
            if let Ok(answer) = answers.try_recv()
                && answer.needs.args == Some(key(4))
            {
                break answer.args;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let args = args.expect("arguments").0;
        assert_eq!(args, [b"nc".to_vec(), b"-l".to_vec()]);
        assert_eq!(pool.args.threads, 4);
    }
}
