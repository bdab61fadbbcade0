//! The baseline while watching: learns it at the first start, keeps it in memory, follows its changes.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use jiff::Timestamp;

use crate::baseline::{Approved, Baseline, Frame, Identity, Store, StoreError};
use crate::config::Learn;
use crate::event::{self, Event, EventType, PolicyState, Severity};
use crate::policy::{self, Policy};

/// Where the baseline is, and whether it may be changed.
#[derive(Clone, Debug)]
pub struct Approving {
    /// The state directory.
    pub state_dir: PathBuf,
    /// What is taken as approved without being asked; none for a watch that writes nothing.
    pub learn: Option<Learn>,
}

/// The baseline of a watch.
#[derive(Debug)]
pub(super) struct Approvals {
    keeper: Option<Keeper>,
    baseline: Baseline,
    learning: Learning,
    /// Learned, and not handed over yet.
    fresh: Vec<Identity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learning {
    No,
    /// What is there at the start.
    Present,
    /// Everything until then.
    Until(Timestamp),
}

impl Approvals {
    /// Reads what is approved. A database that cannot be used is told, and keeps nobody from watching.
    pub(super) fn open(approving: &Approving, netns: u32, now: Timestamp) -> Self {
        let mut approvals = Self {
            keeper: None,
            baseline: Baseline::empty(Frame::of_host(netns)),
            learning: Learning::No,
            fresh: Vec::new(),
        };
        if let Err(error) = approvals.read(approving, now) {
            tracing::error!(%error, "no listener counts as approved");
        }
        approvals
    }

    fn read(&mut self, approving: &Approving, now: Timestamp) -> Result<(), StoreError> {
        let store = match approving.learn {
            Some(_) => Some(Store::open(&approving.state_dir)?),
            None => Store::open_existing(&approving.state_dir)?,
        };
        let Some(mut store) = store else {
            return Ok(());
        };
        let learned = store.learned()?;
        self.learning = match (approving.learn, learned) {
            (Some(Learn::FirstStart), None) => Learning::Present,
            (Some(Learn::During(span)), None) => {
                let until = now.saturating_add(span).unwrap_or(Timestamp::MAX);
                // A daemon that starts again goes on until the same moment.
                store.end_learning(until)?;
                Learning::Until(until)
            }
            (Some(Learn::During(_)), Some(until)) if until > now => Learning::Until(until),
            _ => Learning::No,
        };
        let generation = store.generation()?;
        self.baseline.replace(store.approved(now)?);
        self.keeper = Keeper::start(store, generation);
        Ok(())
    }

    /// Judges the listener of an event by rules and baseline; while learning, what no rule decides on is
    /// approved.
    pub(super) fn judge(&mut self, policy: &Policy, event: &mut Event) -> Option<Severity> {
        let severity = policy.judge(event, &self.baseline);
        let is_news = matches!(
            event.kind,
            EventType::ListenerOpened | EventType::ListenerPresent
        );
        if self.learning != Learning::No
            && is_news
            && let Some(judged) = &event.policy
            && judged.state == PolicyState::New
            && let Some(identity) = Identity::of(event, self.baseline.frame())
        {
            event.policy = Some(event::Policy {
                state: PolicyState::Baseline,
                rule: policy::BASELINE.to_owned(),
            });
            self.baseline.insert(identity.clone());
            self.fresh.push(identity);
        }
        severity
    }

    /// Everything that was there at the start has been judged.
    pub(super) fn started(&mut self, now: Timestamp) {
        if self.learning == Learning::Present {
            self.learning = Learning::No;
            let fresh = std::mem::take(&mut self.fresh);
            tracing::info!(
                listeners = fresh.len(),
                "what listens at this first start is approved; `portwatch baseline check` compares, `portwatch baseline generate` approves anew"
            );
            // Learned and ended in one step: killed before it, the next start is the first one again.
            self.ask(Request::Replace(fresh, now));
        }
    }

    /// Hands over what was learned, and takes over what others changed.
    pub(super) fn every_second(&mut self, now: Timestamp) {
        if let Learning::Until(until) = self.learning {
            if !self.fresh.is_empty() {
                let fresh = std::mem::take(&mut self.fresh);
                self.ask(Request::Approve(fresh, now));
            }
            if until <= now {
                self.learning = Learning::No;
                tracing::info!("learning has ended; what opens from now on is new");
            }
        }
        self.ask(Request::Follow);
        let keeper = self.keeper.as_ref();
        if let Some(approved) = keeper.and_then(|keeper| keeper.changed.try_iter().last()) {
            self.baseline.replace(approved);
        }
        self.expire(now);
    }

    fn expire(&mut self, now: Timestamp) {
        for over in self.baseline.expire(now) {
            tracing::info!("no longer accepted, its time is over: {over}");
        }
    }

    fn ask(&self, request: Request) {
        if let Some(requests) = self
            .keeper
            .as_ref()
            .and_then(|keeper| keeper.requests.as_ref())
        {
            // It has told why it ended.
            let _ = requests.send(request);
        }
    }
}

/// The thread that has the database: waiting for a disk must not hold up the pipeline.
#[derive(Debug)]
struct Keeper {
    requests: Option<Sender<Request>>,
    changed: Receiver<Approved>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Request {
    /// In addition.
    Approve(Vec<Identity>, Timestamp),
    /// Instead, and learning has ended.
    Replace(Vec<Identity>, Timestamp),
    /// Look whether somebody changed it.
    Follow,
}

impl Keeper {
    fn start(store: Store, generation: i64) -> Option<Self> {
        let (requests, asked) = channel();
        let (tell, changed) = channel();
        let thread = std::thread::Builder::new()
            .name("baseline".to_owned())
            .spawn(move || keep(store, generation, &asked, &tell));
        match thread {
            Ok(thread) => Some(Self {
                requests: Some(requests),
                changed,
                thread: Some(thread),
            }),
            Err(error) => {
                tracing::error!(%error, "the baseline stays as it is: its thread cannot be started");
                None
            }
        }
    }
}

/// What was learned is written before the daemon ends.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by itself.
            let _ = thread.join();
        }
    }
}

fn keep(mut store: Store, mut generation: i64, asked: &Receiver<Request>, tell: &Sender<Approved>) {
    let mut is_broken = false;
    for request in asked {
        let done = match request {
            Request::Approve(these, now) => store.approve(&these, now).map(|_| ()),
            Request::Replace(these, now) => store.replace(&these, now),
            Request::Follow => follow(&store, &mut generation, tell),
        };
        match done {
            Ok(()) => is_broken = false,
            // Once: it is asked every second.
            Err(error) if !is_broken => {
                is_broken = true;
                tracing::error!(%error, "the baseline cannot be kept");
            }
            Err(_) => {}
        }
    }
}

fn follow(store: &Store, generation: &mut i64, tell: &Sender<Approved>) -> Result<(), StoreError> {
    // Before the reading: a change in between is found the next time.
    let now = store.generation()?;
    if now != *generation {
        let approved = store.approved(Timestamp::now())?;
        *generation = now;
        // The pipeline may be gone.
        let _ = tell.send(approved);
    }
    Ok(())
}

/// The baseline for a single look; empty where there is none.
///
/// # Errors
/// When there is one that cannot be read.
pub fn read_only(state_dir: &Path, netns: u32) -> Result<Baseline, StoreError> {
    let approved = match Store::open_existing(state_dir)? {
        Some(store) => store.approved(Timestamp::now())?,
        None => Approved::default(),
    };
    Ok(Baseline::new(approved, Frame::of_host(netns)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use jiff::{SignedDuration, Timestamp};

    use super::{Approvals, Approving};
    use crate::config::Learn;
    use crate::event::{EventType, PolicyState};
    use crate::policy::Policy;
    use crate::sink::testing;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + second)
    }

    fn open(dir: &std::path::Path, learn: Option<Learn>, second: i64) -> Approvals {
        let approving = Approving {
            state_dir: dir.to_owned(),
            learn,
        };
        Approvals::open(&approving, 1, at(second))
    }

    fn state(approvals: &mut Approvals, kind: EventType, port: u16) -> PolicyState {
        let mut event = testing::listener(kind, port, 7, "/usr/bin/app");
        approvals.judge(&Policy::default(), &mut event);
        event.policy.expect("judged").state
    }

    #[test]
    fn what_listens_at_the_first_start_is_approved_and_nothing_else() {
        let dir = tempfile::tempdir().expect("dir");
        let mut first = open(dir.path(), Some(Learn::FirstStart), 0);
        let present = EventType::ListenerPresent;
        assert_eq!(state(&mut first, present, 80), PolicyState::Baseline);
        first.started(at(1));
        assert_eq!(
            state(&mut first, EventType::ListenerOpened, 81),
            PolicyState::New
        );
        assert_eq!(
            state(&mut first, EventType::ListenerOpened, 80),
            PolicyState::Baseline
        );
        drop(first);
        let mut second = open(dir.path(), Some(Learn::FirstStart), 9);
        assert_eq!(state(&mut second, present, 82), PolicyState::New);
        assert_eq!(state(&mut second, present, 80), PolicyState::Baseline);
    }

    /// Killed before it was ready, it has learned nothing, and learns at the next start.
    #[test]
    fn an_interrupted_first_start_is_none() {
        let dir = tempfile::tempdir().expect("dir");
        let mut first = open(dir.path(), Some(Learn::FirstStart), 0);
        let _ = state(&mut first, EventType::ListenerPresent, 80);
        drop(first);
        let mut again = open(dir.path(), Some(Learn::FirstStart), 1);
        assert_eq!(
            state(&mut again, EventType::ListenerPresent, 81),
            PolicyState::Baseline
        );
    }

    #[test]
    fn for_as_long_as_asked_what_opens_is_learned_across_starts() {
        let dir = tempfile::tempdir().expect("dir");
        let hour = Some(Learn::During(Duration::from_secs(3600)));
        let mut first = open(dir.path(), hour, 0);
        let opened = EventType::ListenerOpened;
        assert_eq!(state(&mut first, opened, 80), PolicyState::Baseline);
        first.every_second(at(1));
        drop(first);
        let mut second = open(dir.path(), hour, 1800);
        assert_eq!(state(&mut second, opened, 81), PolicyState::Baseline);
        second.every_second(at(3600));
        assert_eq!(state(&mut second, opened, 82), PolicyState::New);
        drop(second);
        let mut third = open(dir.path(), hour, 4000);
        assert_eq!(state(&mut third, opened, 83), PolicyState::New);
        assert_eq!(state(&mut third, opened, 81), PolicyState::Baseline);
    }

    #[test]
    fn a_watch_that_writes_nothing_makes_no_file() {
        let dir = tempfile::tempdir().expect("dir");
        let mut watch = open(dir.path(), None, 0);
        assert_eq!(
            state(&mut watch, EventType::ListenerPresent, 80),
            PolicyState::New
        );
        assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 0);
    }

    #[test]
    fn what_a_command_changes_counts_within_a_second() {
        let dir = tempfile::tempdir().expect("dir");
        let mut daemon = open(dir.path(), Some(Learn::FirstStart), 0);
        let present = EventType::ListenerPresent;
        let _ = state(&mut daemon, present, 80);
        daemon.started(at(1));
        let mut command = crate::baseline::Store::open(dir.path()).expect("store");
        let deadline = Instant::now() + Duration::from_secs(10);
        while command.learned().expect("read").is_none() {
            assert!(Instant::now() < deadline, "what was learned is not written");
            std::thread::sleep(Duration::from_millis(5));
        }
        command.clear(at(2)).expect("clear");
        while state(&mut daemon, present, 80) != PolicyState::New {
            assert!(Instant::now() < deadline, "the change is not followed");
            daemon.every_second(at(3));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
