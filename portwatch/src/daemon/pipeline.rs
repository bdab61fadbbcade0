//! The one ordered task: records in, events out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::approvals::Approvals;
use super::connections::Connections;
use super::draft::Surroundings;
use super::episodes::Episodes;
use super::expected::Expected;
use super::glance::Glances;
use super::habits::Habits;
use super::kernel_log;
use super::latency::Latency;
use super::look;
use super::pending::Pending;
use super::reconcile::Found;
use super::responses::Done;
use super::rings::Readers;
use super::selftest::SelfTest;
use super::stats::Asked as StatsAsked;
use super::storms::Storms;
use super::{Options, StartError};
use crate::check::{Asked, Checker};
use crate::decode::record::{Record, SockId};
use crate::decode::{DecodeError, decode};
use crate::enrich::{Answer, EnrichConfig, Enricher};
use crate::event::{EventType, Mechanism, Process, Reconciled};
use crate::interface::server::Query;
use crate::interface::status::FirstLook;
use crate::inventory::interfaces::interfaces;
use crate::inventory::{DEFAULT_LIMIT, Inventory, MergeReason};
use crate::kernel::preflight::{self, Limitation};
use crate::policy::Policy;
use crate::probe::load::{Outcome, Sizes};
use crate::probe::plan::{Plan, Signal};
use crate::probe::sensors::Sensors;
use crate::ring::ledger::Ledger;
use crate::sink::Bus;
use crate::time::{BootNs, WallClock};

/// Records of one ring between two looks at everything else.
pub(super) const BATCH: usize = 1024;
/// How often the rings that wake lazily are looked at while they are in use.
const LAZY: Duration = Duration::from_millis(20);
/// How often losses are counted, and the heartbeat beats.
const SECOND: Duration = Duration::from_secs(1);

/// The pipeline's state.
pub(super) struct Pipeline {
    pub(super) sensors: Option<Sensors>,
    pub(super) policy: Policy,
    pub(super) approvals: Approvals,
    pub(super) expected: Expected,
    pub(super) checker: Checker,
    pub(super) outcomes: mpsc::Receiver<Asked>,
    pub(super) readers: Option<Readers>,
    pub(super) plan: Plan,
    /// What missing capabilities cost; until it is told.
    pub(super) limitations: Vec<Limitation>,
    pub(super) enricher: Enricher,
    pub(super) answers: mpsc::Receiver<Answer>,
    pub(super) inventory: Inventory,
    pub(super) connections: Connections,
    pub(super) pending: Pending,
    pub(super) ledger: Ledger,
    pub(super) surroundings: Surroundings,
    pub(super) bus: Arc<Bus>,
    pub(super) heartbeat: Arc<AtomicU64>,
    pub(super) self_test: Option<SelfTest>,
    pub(super) found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    /// A look is under way elsewhere: its answer must find the suspects that it was asked about.
    pub(super) looking: bool,
    /// When the last records were lost that no look has made good for yet.
    pub(super) after_gap: Option<BootNs>,
    /// The look beyond descriptors found another one under way, and waits for its end.
    pub(super) beyond: Option<MergeReason>,
    /// What the look after a loss found so far; told when its suspects are decided, and when it began.
    pub(super) report: Option<(Reconciled, BootNs)>,
    /// When to look again because an owner ended.
    pub(super) hint: Option<BootNs>,
    /// Listeners whose closing no hook tells, and who holds them.
    pub(super) unhooked: Vec<SockId>,
    pub(super) watched: HashSet<u32>,
    pub(super) glances: Glances,
    /// That spare probes run in another order than expected was told.
    pub(super) told_reversed: bool,
    /// Listeners that the probes could not be told of.
    pub(super) untracked: u64,
    /// The process told of last, to be shared by listeners in a row.
    pub(super) last_process: Option<Arc<Process>>,
    pub(super) storms: Storms,
    pub(super) episodes: Episodes,
    pub(super) done: mpsc::Receiver<Done>,
    /// The look for `portwatch stats`, and its answer.
    pub(super) asked: StatsAsked,
    /// What was learned of rates, where it is kept; each observer begins with it.
    pub(super) habits: Habits,
    pub(super) streaming: bool,
    /// Records of the stream were lost, and with them the owners of connections.
    pub(super) forgotten: bool,
    pub(super) next_seq: u64,
    /// Events that a rule says nobody wants to hear of.
    pub(super) ignored: u64,
    pub(super) events: BTreeMap<EventType, u64>,
    /// Records that gaps stand for, by ring.
    pub(super) lost: BTreeMap<&'static str, u64>,
    pub(super) latency: Latency,
    /// Records that the process ring is known to have dropped.
    pub(super) processes_lost: u64,
    pub(super) decode_errors: u64,
    pub(super) since: BootNs,
    pub(super) first_look: Option<FirstLook>,
    pub(super) sizes: Sizes,
    pub(super) wait_ns: u64,
    pub(super) fast: Duration,
    pub(super) slow: Duration,
}

impl Pipeline {
    /// Takes over what was loaded.
    pub(super) fn new(
        outcome: Outcome,
        options: &Options,
        bus: Arc<Bus>,
        heartbeat: Arc<AtomicU64>,
    ) -> Result<Self, StartError> {
        let Outcome {
            features,
            plan,
            mut sensors,
        } = outcome;
        let rings = sensors.as_mut().and_then(Sensors::take_rings);
        if let Some(sensors) = sensors.as_mut().filter(|_| options.log.0 > 0) {
            kernel_log::follow(sensors.ebpf()).map_err(|source| StartError::Io {
                what: "following the probes' log",
                source,
            })?;
        }
        let readers = rings
            .map(Readers::new)
            .transpose()
            .map_err(|source| StartError::Io {
                what: "waiting for the rings",
                source,
            })?;
        let (enricher, answers) = Enricher::new(EnrichConfig {
            hash: options.enrich.hash,
            package: options.enrich.package,
            execs_are_told: !plan.uses(Signal::ProcessExec, Mechanism::Reconcile),
            ..EnrichConfig::default()
        });
        let surroundings = look::surroundings();
        let approvals = Approvals::open(&options.approving, surroundings.netns, Timestamp::now());
        let (checker, outcomes) = Checker::new();
        let (episodes, done) = Episodes::new(options.storm.clone(), options.response.clone());
        let state_dir = &options.approving.state_dir;
        let habits = Habits::new(
            options.approving.learn.is_some().then(|| state_dir.clone()),
            surroundings.netns,
            surroundings.host.boot_id.clone(),
        );
        let since = BootNs::now();
        let fast = Duration::from_secs(u64::from(options.inventory.fast_seconds));
        let glances = Glances::new(fast, &plan);
        let mut inventory = Inventory::new(DEFAULT_LIMIT);
        inventory.expect_records_of(plan.told_openings());
        Ok(Self {
            sensors,
            readers,
            policy: options.policy.clone(),
            approvals,
            expected: Expected::new(options.policy.rules(), since),
            checker,
            outcomes,
            plan,
            limitations: preflight::limitations(&features),
            enricher,
            answers,
            inventory,
            connections: Connections::default(),
            pending: Pending::default(),
            ledger: Ledger::new(since),
            surroundings: look::surroundings(),
            bus,
            heartbeat,
            self_test: None,
            found: mpsc::channel(4),
            looking: false,
            after_gap: None,
            beyond: None,
            report: None,
            hint: None,
            unhooked: Vec::new(),
            watched: HashSet::new(),
            glances,
            told_reversed: false,
            untracked: 0,
            last_process: None,
            storms: Storms::new(since),
            episodes,
            done,
            asked: StatsAsked::default(),
            habits,
            streaming: false,
            forgotten: false,
            next_seq: 1,
            ignored: 0,
            events: BTreeMap::new(),
            lost: BTreeMap::new(),
            latency: Latency::default(),
            processes_lost: 0,
            decode_errors: 0,
            since,
            first_look: None,
            sizes: options.sizes,
            wait_ns: u64::from(options.enrich.wait_ms) * 1_000_000,
            fast,
            slow: Duration::from_secs(u64::from(options.inventory.reconcile_seconds)),
        })
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(
        mut self,
        mut queries: mpsc::Receiver<Query>,
        mut stop: oneshot::Receiver<()>,
    ) -> std::io::Result<()> {
        let mut second = tokio::time::interval(SECOND);
        let mut fast = tokio::time::interval(self.fast);
        let mut slow = tokio::time::interval(self.slow);
        let mut lazy = tokio::time::interval(LAZY);
        for interval in [&mut second, &mut fast, &mut slow, &mut lazy] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval.tick().await;
        }
        self.ask_stats(None);
        let mut wants_states = self.bus.wants_states();
        self.switch_states(*wants_states.borrow_and_update())?;
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                _ = &mut stop => break,
                woken = woken(&mut self.readers) => woken?,
                Some(answer) = self.answers.recv() => self.answered(&answer),
                Some(found) = self.found.1.recv() => self.found(found),
                Some(outcome) = self.outcomes.recv() => self.asked(&outcome),
                looked = self.storms.looked() => self.looked_for_storms(looked),
                done = self.habits.done() => {
                    self.habits.take(done, BootNs::now(), self.surroundings.clock);
                }
                looked = self.asked.looked() => self.stats_looked(looked),
                Some(done) = self.done.recv() => self.responded(done),
                Some(query) = queries.recv() => self.answer(query),
                changed = wants_states.changed() => {
                    if changed.is_ok() {
                        let wanted = *wants_states.borrow_and_update();
                        self.switch_states(wanted)?;
                    }
                }
                () = sleep_until(deadline) => self.due(),
                _ = second.tick() => self.every_second(),
                _ = fast.tick() => self.glance(),
                _ = slow.tick() => {
                    self.refresh();
                    self.look_again(MergeReason::Beat);
                    self.look_beyond(MergeReason::Beat);
                }
                _ = lazy.tick(), if self.streaming => {}
            }
            while self.drain() {
                self.publish_ready(BootNs::now());
                tokio::task::yield_now().await;
            }
            self.publish_ready(BootNs::now());
        }
        self.drain();
        while let Some(draft) = self.pending.pop_any() {
            self.publish(draft, BootNs::now());
        }
        self.end_storms().await;
        Ok(())
    }

    /// Takes records out of the rings. Processes first: a listener's ancestors must be known when it is
    /// told of. Then listeners, then connections no younger than that: the listener of a connection must be
    /// known when its states are told. Tells whether there may be more.
    pub(super) fn drain(&mut self) -> bool {
        let Some(mut readers) = self.readers.take() else {
            return false;
        };
        let mut more = readers
            .process
            .drain(BATCH, |bytes| self.process_record(bytes));
        if more {
            self.doubt_after_loss();
        }
        let until = BootNs::now();
        let behind = readers
            .critical
            .drain(BATCH, |bytes| self.critical_record(bytes));
        more |= behind;
        if self.streaming && !behind {
            more |= self.drain_states(&mut readers.bulk, until);
        }
        self.readers = Some(readers);
        more
    }

    fn process_record(&mut self, bytes: &[u8]) {
        match decode(bytes) {
            Ok(Record::Exec(exec)) => {
                self.connections.forget(exec.task.key);
                self.enricher.on_exec(&exec);
            }
            Ok(Record::Fork(fork)) => {
                if let Some(parent) = fork.parent
                    && self.watched.contains(&parent.pid)
                {
                    self.hint(fork.at);
                }
                self.enricher.on_fork(&fork);
            }
            Ok(Record::Exit(exit)) => {
                if self.watched.contains(&exit.task.key.pid) {
                    self.hint(exit.at);
                }
                self.enricher.on_exit(&exit);
            }
            Ok(_) | Err(_) => self.decode_errors += 1,
        }
    }

    fn critical_record(&mut self, bytes: &[u8]) {
        match decode(bytes) {
            Ok(Record::Opened(seen)) => {
                let inode = seen.sock.inode;
                if self
                    .self_test
                    .as_mut()
                    .is_some_and(|test| test.takes(inode, true))
                {
                    return;
                }
                let changes = self.inventory.opened(*seen);
                self.tell_changes(changes);
            }
            Ok(Record::Closed(seen)) => {
                let inode = seen.sock.inode;
                if self
                    .self_test
                    .as_mut()
                    .is_some_and(|test| test.takes(inode, false))
                {
                    return;
                }
                let changes = self.inventory.closed(*seen);
                self.tell_changes(changes);
            }
            Ok(Record::Refused(seen)) => {
                let now = BootNs::now();
                let mut event = self.surroundings.refused(&seen, &mut self.enricher, now);
                let resolution = self
                    .enricher
                    .resolve(&seen.who, now, &self.surroundings.clock);
                event.process = Some(resolution.process);
                self.push(event, seen.at, None, resolution.waits);
            }
            Ok(Record::State(seen)) => self.listener_state(&seen),
            Ok(Record::Crossed(crossing)) => self.crossed(&crossing),
            Ok(_) => self.decode_errors += 1,
            Err(error) => self.misunderstood(&error),
        }
    }

    pub(super) fn misunderstood(&mut self, error: &DecodeError) {
        tracing::warn!(%error, "a record could not be understood");
        self.decode_errors += 1;
    }

    fn next_deadline(&self) -> Option<BootNs> {
        let tentative = self.inventory.next_tentative();
        [
            self.pending.deadline(),
            self.hint.filter(|_| !self.looking),
            tentative,
            self.enricher.relief_due(),
            self.expected.next_due(),
            self.storms.next_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn every_second(&mut self) {
        self.heartbeat.fetch_add(1, Ordering::Relaxed);
        self.surroundings.clock.follow(WallClock::read());
        self.approvals.every_second(Timestamp::now());
        self.count_losses();
        self.remember_owners();
    }

    fn refresh(&mut self) {
        match interfaces() {
            Ok(interfaces) => self.surroundings.interfaces = interfaces,
            Err(error) => tracing::debug!(%error, "interfaces could not be read"),
        }
    }
}

/// Completes when the kernel woke the reader of any ring: the critical one for each record, the others
/// when much waits.
async fn woken(readers: &mut Option<Readers>) -> std::io::Result<()> {
    let Some(Readers {
        critical,
        process,
        bulk,
    }) = readers
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        woken = critical.woken() => woken,
        woken = process.woken() => woken,
        woken = bulk.woken() => woken,
    }
}

pub(super) async fn sleep_until(deadline: Option<BootNs>) {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep(Duration::from_nanos(deadline.since(BootNs::now()))).await;
        }
        None => std::future::pending().await,
    }
}
