//! The one ordered task: records in, events out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portwatch_common::counters::RINGS;
use portwatch_common::socket::TcpState;
use tokio::sync::{mpsc, oneshot};

use super::answerable::{absolute_name, process_now, process_of};
use super::connections::Connections;
use super::draft::{self, Surroundings};
use super::look;
use super::pending::{Draft, Pending};
use super::rings::Readers;
use super::selftest::SelfTest;
use super::status::{self, Health};
use super::{Options, StartError};
use crate::decode::decode;
use crate::decode::record::{Record, SockId, SockInfo, StateSeen};
use crate::enrich::{Answer, EnrichConfig, Enricher};
use crate::event::message;
use crate::event::{
    Event, EventType, Mechanism, Protocol, Reconciled, RingName, Sensor, SignalMechanism,
};
use crate::interface::server::Query;
use crate::inventory::collect::{self, Collected};
use crate::inventory::interfaces::interfaces;
use crate::inventory::{Change, DEFAULT_LIMIT, Inventory, Listener, MergeReason, Merged, Snapshot};
use crate::probe::load::{Outcome, Sizes};
use crate::probe::plan::{Plan, Signal};
use crate::probe::sensors::Sensors;
use crate::ring::ledger::{Ledger, Reading};
use crate::sink::{Bus, Line};
use crate::time::{BootNs, WallClock};

/// Records of one ring between two looks at everything else.
const BATCH: usize = 1024;
/// How often the rings that wake lazily are looked at while they are in use.
const LAZY: Duration = Duration::from_millis(20);
/// How often losses are counted, and the heartbeat beats.
const SECOND: Duration = Duration::from_secs(1);
/// How long the self-test's listener may take to arrive; generous, because hosts boot.
const SELF_TEST: Duration = Duration::from_secs(3);
/// From an owner's end to the look at what it held: closing its descriptors comes after its end is told.
const HINT_NS: u64 = 10_000_000;
/// How long the first look at `/proc` may take.
const SEED: Duration = Duration::from_secs(2);
/// Owners change without a hook; this many fast beats apart they are looked at even where nothing else
/// needs a fast beat.
const CALM: u32 = 5;

/// How many times longer an event waits for its process's arguments than for its executable's hash.
const PATIENCE: u64 = 10;

/// What a look outside of the pipeline found.
enum Found {
    /// A whole snapshot (no iterator on this kernel), and why it was taken.
    Snapshot(std::io::Result<Collected>, MergeReason),
    /// The suspects that live.
    Alive(std::io::Result<HashSet<u64>>),
}

/// The pipeline's state.
pub(super) struct Pipeline {
    sensors: Option<Sensors>,
    readers: Option<Readers>,
    plan: Plan,
    enricher: Enricher,
    answers: mpsc::Receiver<Answer>,
    inventory: Inventory,
    connections: Connections,
    pending: Pending,
    ledger: Ledger,
    surroundings: Surroundings,
    bus: Arc<Bus>,
    heartbeat: Arc<AtomicU64>,
    self_test: Option<SelfTest>,
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    /// A look is under way elsewhere: its answer must find the suspects that it was asked about.
    looking: bool,
    /// Records were lost since the last look; counts what the look finds.
    after_gap: bool,
    /// When to look again because an owner ended.
    hint: Option<BootNs>,
    /// Holders of listeners whose closing no hook tells.
    watched: HashSet<u32>,
    streaming: bool,
    next_seq: u64,
    events: BTreeMap<EventType, u64>,
    lost: u64,
    decode_errors: u64,
    since: BootNs,
    sizes: Sizes,
    wait_ns: u64,
    fast: Duration,
    slow: Duration,
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
            plan, mut sensors, ..
        } = outcome;
        let rings = sensors.as_mut().and_then(Sensors::take_rings);
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
        let since = BootNs::now();
        let fast = Duration::from_secs(u64::from(options.inventory.fast_seconds));
        let fast = if needs_fast_beat(&plan) {
            fast
        } else {
            fast * CALM
        };
        Ok(Self {
            sensors,
            readers,
            plan,
            enricher,
            answers,
            inventory: Inventory::new(DEFAULT_LIMIT),
            connections: Connections::default(),
            pending: Pending::default(),
            ledger: Ledger::new(since),
            surroundings: look::surroundings(),
            bus,
            heartbeat,
            self_test: None,
            found: mpsc::channel(4),
            looking: false,
            after_gap: false,
            hint: None,
            watched: HashSet::new(),
            streaming: false,
            next_seq: 1,
            events: BTreeMap::new(),
            lost: 0,
            decode_errors: 0,
            since,
            sizes: options.sizes,
            wait_ns: u64::from(options.enrich.wait_ms) * 1_000_000,
            fast,
            slow: Duration::from_secs(u64::from(options.inventory.reconcile_seconds)),
        })
    }

    /// Start: the probes are attached; seed the process table, test, take the first inventory, be ready.
    pub(super) async fn begin(&mut self) -> Result<(), StartError> {
        if let Some(sensors) = &mut self.sensors {
            let quarter = u64::from(self.sizes.bulk) / 4;
            let set = sensors.wake_bulk_at(quarter);
            set.map_err(|source| StartError::Io {
                what: "setting the probes' switches",
                source,
            })?;
        }
        let seeded = self.enricher.seed(BootNs::now(), SEED);
        tracing::debug!(?seeded, "the process table is seeded");
        self.tell_degraded();
        let tested = self.test().await;
        self.first_look().await?;
        let seen = self.self_test.as_ref().is_some_and(SelfTest::saw_opening);
        match tested {
            Ok(()) if seen => {}
            Ok(()) => {
                let reason = "neither a probe nor a look at every socket shows a listener";
                return Err(StartError::NoSensor(reason.to_owned()));
            }
            Err(reason) => self.tell_untested(&reason),
        }
        if let Some(test) = &mut self.self_test {
            test.close();
        }
        let mut event = self
            .surroundings
            .event(EventType::SensorReady, BootNs::now());
        event.sensor = Some(Sensor {
            mechanisms: self.mechanisms(),
            ..Sensor::default()
        });
        self.push(event, BootNs::now(), None, None);
        self.publish_ready(BootNs::now());
        Ok(())
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
                Some(query) = queries.recv() => self.answer(query),
                changed = wants_states.changed() => {
                    if changed.is_ok() {
                        let wanted = *wants_states.borrow_and_update();
                        self.switch_states(wanted)?;
                    }
                }
                () = sleep_until(deadline) => self.due(),
                _ = second.tick() => self.every_second(),
                _ = fast.tick() => self.look_again(MergeReason::Beat),
                _ = slow.tick() => {
                    self.refresh();
                    self.look_again(MergeReason::Beat);
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
        Ok(())
    }

    /// Takes records out of the rings. Processes first: a listener's ancestors must be known when it is
    /// told of. Tells whether there may be more.
    fn drain(&mut self) -> bool {
        let Some(mut readers) = self.readers.take() else {
            return false;
        };
        let mut more = readers
            .process
            .drain(BATCH, |bytes| self.process_record(bytes));
        more |= readers
            .critical
            .drain(BATCH, |bytes| self.critical_record(bytes));
        if self.streaming {
            more |= readers
                .bulk
                .drain(BATCH, |bytes| self.critical_record(bytes));
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
                self.push(event, seen.at, None, resolution.ticket);
            }
            Ok(Record::State(seen)) => self.state_record(&seen),
            Ok(_) => self.decode_errors += 1,
            Err(error) => {
                tracing::warn!(%error, "a record could not be understood");
                self.decode_errors += 1;
            }
        }
    }

    fn state_record(&mut self, seen: &StateSeen) {
        if !self.streaming {
            return;
        }
        let (Some(old), Some(new)) = (status::state(seen.old), status::state(seen.new)) else {
            self.decode_errors += 1;
            return;
        };
        let now = BootNs::now();
        let clock = self.surroundings.clock;
        let owner = self
            .connections
            .owner(seen, &self.inventory, &mut self.enricher, now, &clock);
        let mut event = self.surroundings.event(EventType::ConnectionState, seen.at);
        event.socket = Some(self.surroundings.socket(&seen.sock, None));
        event.process = owner.map(|process| (*process).clone());
        event.old_state = Some(old);
        event.new_state = Some(new);
        event.sensor = Some(draft::sensor(seen.mechanism));
        let draft = Draft {
            event,
            at: seen.at,
            sock: None,
            ticket: None,
        };
        // A listener's own changes keep their place among its events; connections need not wait for them.
        let begins = seen.new == TcpState::LISTEN;
        let ends = seen.old == TcpState::LISTEN && seen.new == TcpState::CLOSE;
        if begins || ends {
            self.pending.push(draft, now);
        } else {
            self.publish(draft, now);
        }
    }

    fn tell_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.tell_change(change);
        }
    }

    fn tell_change(&mut self, mut change: Change) {
        let now = BootNs::now();
        let begins = matches!(change, Change::Opened { .. } | Change::Present { .. });
        if begins && let Some(name) = absolute_name(change.listener(), &self.enricher) {
            self.inventory
                .set_unix_name(change.listener().id(), name.clone());
            change.listener_mut().unix = Some(name);
        }
        let listener = change.listener();
        let mut event = self.surroundings.change(&change, &mut self.enricher, now);
        let clock = &self.surroundings.clock;
        let (process, ticket) = process_of(listener, &mut self.enricher, now, clock);
        event.process = process;
        if begins {
            self.watch(listener);
        }
        if let Change::Present { listener, .. } = &change {
            self.track(listener);
        }
        if self.streaming
            && let (Change::Closed { .. }, Some(process)) = (&change, &event.process)
        {
            self.connections.listener_closed(listener, process);
        }
        self.push(event, change.at(), Some(listener.id()), ticket);
    }

    /// Remembers who holds a listener whose end nothing tells.
    fn watch(&mut self, listener: &Listener) {
        if self.closing_is_told(listener.sock.protocol) {
            return;
        }
        self.watched
            .extend(listener.owners.iter().map(|owner| owner.pid));
    }

    /// Tells the probes of a listener that they did not see opening, so that its end is told.
    fn track(&mut self, listener: &Listener) {
        let is_inet = listener.sock.local.is_some();
        let Some(sensors) = &mut self.sensors else {
            return;
        };
        if is_inet
            && !crate::inventory::is_synthetic(listener.id())
            && let Err(error) = sensors.track(listener.id(), listener.sock.backlog)
        {
            tracing::warn!(%error, "a listener that was there before cannot be tracked");
        }
    }

    fn closing_is_told(&self, protocol: Protocol) -> bool {
        let signal = match protocol {
            Protocol::Tcp | Protocol::Mptcp | Protocol::Sctp => Signal::TcpState,
            Protocol::Udp | Protocol::Udplite | Protocol::Icmp => Signal::UdpClose,
            Protocol::Raw => Signal::RawClose,
            Protocol::Unix => Signal::UnixClose,
            Protocol::Packet => Signal::PacketClose,
            Protocol::Vsock => return false,
        };
        self.plan
            .choice(signal)
            .is_some_and(|choice| choice.mechanism != Mechanism::Reconcile)
    }

    fn hint(&mut self, at: BootNs) {
        self.hint.get_or_insert(BootNs(at.0 + HINT_NS));
    }

    fn push(
        &mut self,
        event: Event,
        at: BootNs,
        sock: Option<SockId>,
        ticket: Option<crate::enrich::Ticket>,
    ) {
        // Without its arguments an event says little: those, a few microseconds' work, are worth a wait
        // behind whatever keeps the workers busy.
        let has_args = event
            .process
            .as_ref()
            .is_none_or(|process| process.args.is_some());
        let patience = if has_args { 1 } else { PATIENCE };
        let deadline = BootNs(BootNs::now().0 + patience * self.wait_ns);
        self.pending.push(
            Draft {
                event,
                at,
                sock,
                ticket,
            },
            deadline,
        );
    }

    fn answered(&mut self, answer: &Answer) {
        let mut used = false;
        for draft in self.pending.waiting_for(answer.ticket()) {
            if let Some(process) = &mut draft.event.process {
                self.enricher.complete(answer, process);
            }
            draft.ticket = None;
            used = true;
        }
        if !used {
            self.enricher.absorb(answer);
        }
    }

    fn publish_ready(&mut self, now: BootNs) {
        while let Some(draft) = self.pending.pop(now) {
            self.publish(draft, now);
        }
    }

    fn publish(&mut self, draft: Draft, now: BootNs) {
        let Draft {
            mut event,
            at,
            sock,
            ..
        } = draft;
        if let (Some(sock), Some(process)) = (sock, &event.process)
            && event.kind != EventType::ListenerClosed
        {
            self.inventory.set_process(sock, Arc::new(process.clone()));
        }
        event.seq = self.next_seq;
        self.next_seq += 1;
        event.id = uuid::Uuid::now_v7().to_string();
        event.severity = message::severity(&event);
        event.message = message::sentence(&event);
        if let Some(sensor) = &mut event.sensor
            && matches!(sensor.mechanism, Some(mechanism) if is_live(mechanism))
        {
            sensor.latency_us = Some(now.since(at) / 1_000);
        }
        *self.events.entry(event.kind).or_insert(0) += 1;
        self.bus.publish(&Line::new(Arc::new(event)));
    }

    /// Looks at every socket again, here or elsewhere.
    fn look_again(&mut self, reason: MergeReason) {
        if self.looking {
            return;
        }
        self.hint = None;
        let began = BootNs::now();
        let walked = match &mut self.sensors {
            Some(sensors) if sensors.has_iterator() => Some(look::walk(sensors, false)),
            _ => None,
        };
        match walked {
            Some(Ok((held, errors))) => {
                self.decode_errors += errors;
                self.drain();
                self.merge(Snapshot::of_descriptors(began, held, errors == 0), reason);
            }
            Some(Err(error)) => tracing::warn!(%error, "the inventory could not be walked"),
            None => {
                self.looking = true;
                let sender = self.found.0.clone();
                tokio::task::spawn_blocking(move || {
                    // The pipeline is gone when nobody receives.
                    let _ = sender.blocking_send(Found::Snapshot(collect::collect(), reason));
                });
            }
        }
    }

    fn merge(&mut self, mut snapshot: Snapshot, reason: MergeReason) {
        let started = BootNs::now();
        if let Some(test) = &mut self.self_test {
            snapshot
                .held
                .retain(|held| !test.takes(held.sock.inode, true));
        }
        let snapshot = &snapshot;
        let merged = self.inventory.merge(snapshot, reason);
        let Merged {
            changes,
            found,
            vanished,
            changed,
            checked,
        } = merged;
        self.tell_changes(changes);
        self.watched = self.holders_without_hook();
        let suspects = self.inventory.suspects().to_vec();
        let lost_before = std::mem::take(&mut self.after_gap);
        if lost_before || reason == MergeReason::Gap {
            let mut event = self
                .surroundings
                .event(EventType::GapReconciled, BootNs::now());
            event.reconciled = Some(Reconciled {
                found,
                vanished: vanished + suspects.len() as u64,
                changed,
                checked,
                took_us: BootNs::now().since(started.min(snapshot.began)) / 1_000,
            });
            self.push(event, BootNs::now(), None, None);
        }
        if !suspects.is_empty() {
            self.looking = true;
            let sender = self.found.0.clone();
            tokio::task::spawn_blocking(move || {
                // The pipeline is gone when nobody receives.
                let _ = sender.blocking_send(Found::Alive(collect::alive(&suspects)));
            });
        }
    }

    fn found(&mut self, found: Found) {
        self.looking = false;
        match found {
            Found::Snapshot(Ok(collected), reason) => {
                for refused in &collected.refused {
                    tracing::debug!(refused, "not looked at");
                }
                self.drain();
                self.merge(collected.snapshot, reason);
            }
            Found::Alive(Ok(alive)) => {
                self.drain();
                let changes = self.inventory.resolve_suspects(&alive, BootNs::now());
                self.tell_changes(changes);
            }
            Found::Snapshot(Err(error), _) | Found::Alive(Err(error)) => {
                tracing::warn!(%error, "the sockets could not be looked at");
            }
        }
    }

    fn holders_without_hook(&self) -> HashSet<u32> {
        let unseen = self
            .inventory
            .iter()
            .filter(|listener| !self.closing_is_told(listener.sock.protocol));
        unseen
            .flat_map(|listener| listener.owners.iter().map(|owner| owner.pid))
            .collect()
    }

    /// Something's time has come.
    fn due(&mut self) {
        let now = BootNs::now();
        let tentative = self.inventory.tentative_due(now);
        if !tentative.is_empty() {
            self.verify(&tentative);
        }
        if self.hint.is_some_and(|hint| hint <= now) {
            self.look_again(MergeReason::Hint);
        }
    }

    /// Finds out the truth about listens that were announced before they were validated.
    fn verify(&mut self, tentative: &[SockId]) {
        let now = BootNs::now();
        let held = match &mut self.sensors {
            Some(sensors) if sensors.has_iterator() => look::walk(sensors, false).ok(),
            _ => None,
        };
        let mut listening: HashMap<SockId, SockInfo> = held
            .into_iter()
            .flat_map(|(held, _)| held)
            .filter(|held| held.sock.state == TcpState::LISTEN)
            .map(|held| (held.sock.id, held.sock))
            .collect();
        for &id in tentative {
            let found = listening.remove(&id).or_else(|| self.ask_sock_diag(id));
            match found {
                Some(sock) => {
                    let changes = self.inventory.confirm(id, sock.port, now);
                    self.tell_changes(changes);
                }
                None => self.inventory.refute(id),
            }
        }
    }

    /// The listening socket behind an unvalidated opening, if sock_diag knows one.
    fn ask_sock_diag(&self, id: SockId) -> Option<SockInfo> {
        let seen = self.inventory.tentative(id)?;
        let inode = seen.sock.inode?;
        let wanted = HashSet::from([inode]);
        collect::listening(seen.sock.netns, &wanted)
            .ok()?
            .remove(&inode)
    }

    fn next_deadline(&self) -> Option<BootNs> {
        let tentative = self.inventory.next_tentative();
        [
            self.pending.deadline(),
            self.hint.filter(|_| !self.looking),
            tentative,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn every_second(&mut self) {
        self.heartbeat.fetch_add(1, Ordering::Relaxed);
        self.surroundings.clock = WallClock::read();
        self.count_losses();
    }

    fn refresh(&mut self) {
        match interfaces() {
            Ok(interfaces) => self.surroundings.interfaces = interfaces,
            Err(error) => tracing::debug!(%error, "interfaces could not be read"),
        }
    }

    /// Every loss is an event, and every loss of listeners is made good by looking again.
    fn count_losses(&mut self) {
        let Some(sensors) = &self.sensors else { return };
        let counters = match sensors.counters() {
            Ok(counters) => counters,
            Err(error) => {
                tracing::warn!(%error, "the probes' counters could not be read");
                return;
            }
        };
        let misses = sensors.recursion_misses();
        let at = BootNs::now();
        while self.drain() {}
        let reading = Reading {
            at,
            counters,
            received: self.received(),
            misses: misses
                .into_iter()
                .map(|(probe, count)| (Arc::from(probe), count))
                .collect(),
        };
        let losses = self.ledger.read(&reading);
        let mut reconcile = false;
        for loss in losses {
            self.lost += loss.lost;
            reconcile |= matches!(loss.ring, RingName::Critical | RingName::Probe);
            let mut event = self.surroundings.event(EventType::Gap, loss.to);
            event.gap = Some(loss.gap(self.surroundings.clock));
            self.push(event, loss.to, None, None);
        }
        if reconcile {
            self.after_gap = true;
            self.look_again(MergeReason::Gap);
        }
    }

    fn received(&self) -> [u64; RINGS] {
        self.readers.as_ref().map_or([0; RINGS], |readers| {
            [
                readers.critical.received(),
                readers.process.received(),
                readers.bulk.received(),
            ]
        })
    }

    fn switch_states(&mut self, on: bool) -> std::io::Result<()> {
        if self.streaming == on {
            return Ok(());
        }
        let Some(sensors) = &mut self.sensors else {
            return Ok(());
        };
        sensors.stream_states(on)?;
        self.streaming = on;
        if on {
            // Who holds what is connected already; a connection that closes meanwhile does no harm.
            match look::walk(sensors, true) {
                Ok((held, _)) => self.connections.begin(held),
                Err(error) => tracing::debug!(%error, "owners of connections are not known"),
            }
        } else {
            self.connections.end();
            if let Some(readers) = &mut self.readers {
                while readers.bulk.drain(BATCH, |_| {}) {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, query: Query) {
        match query {
            Query::List(answer) => {
                // The client may have gone.
                let _ = answer.send(self.list());
            }
            Query::Status(answer) => {
                let _ = answer.send(self.status());
            }
        }
    }

    fn list(&mut self) -> Vec<Arc<Event>> {
        let now = BootNs::now();
        let listeners: Vec<&Listener> = self.inventory.iter().collect();
        let mut events = Vec::with_capacity(listeners.len());
        for (listener, seq) in listeners.into_iter().zip(1..) {
            let mut event = self.surroundings.listed(listener, &mut self.enricher, now);
            let clock = &self.surroundings.clock;
            event.process = process_now(listener, &mut self.enricher, now, clock);
            event.seq = seq;
            event.id = uuid::Uuid::now_v7().to_string();
            event.severity = message::severity(&event);
            event.message = message::sentence(&event);
            events.push(Arc::new(event));
        }
        events
    }

    fn status(&self) -> crate::interface::status::Status {
        let sensors = self.sensors.as_ref();
        status::status(&Health {
            host: &self.surroundings.host,
            plan: &self.plan,
            inventory: &self.inventory,
            counters: sensors.and_then(|sensors| sensors.counters().ok()),
            received: self.received(),
            sizes: self.sizes,
            misses: sensors.map(Sensors::recursion_misses).unwrap_or_default(),
            events: &self.events,
            lost: self.lost,
            decode_errors: self.decode_errors,
            enrich: self.enricher.stats(),
            since: self.since,
            now: BootNs::now(),
            clock: self.surroundings.clock,
        })
    }

    fn mechanisms(&self) -> Vec<SignalMechanism> {
        self.plan.mechanisms()
    }

    fn tell_degraded(&mut self) {
        let degraded: Vec<_> = self
            .plan
            .choices
            .iter()
            .filter(|choice| choice.is_degraded())
            .cloned()
            .collect();
        for choice in degraded {
            let mut event = self
                .surroundings
                .event(EventType::SensorDegraded, BootNs::now());
            event.sensor = Some(Sensor {
                mechanism: Some(choice.mechanism),
                signal: Some(choice.signal.as_str().to_owned()),
                reason: choice
                    .rejected
                    .first()
                    .map(|rejected| rejected.reason.clone()),
                blind_to: choice.blind_to.map(str::to_owned),
                remedy: choice.remedy.map(str::to_owned),
                ..Sensor::default()
            });
            self.push(event, BootNs::now(), None, None);
        }
    }

    fn tell_untested(&mut self, reason: &str) {
        let mut event = self
            .surroundings
            .event(EventType::SensorDegraded, BootNs::now());
        event.sensor = Some(Sensor {
            signal: Some(Signal::TcpListen.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            blind_to: Some("listeners that open, until the next look".to_owned()),
            remedy: Some("see `portwatch doctor`".to_owned()),
            ..Sensor::default()
        });
        self.push(event, BootNs::now(), None, None);
    }

    /// Opens a listener and waits until its own record comes through the ring. Where no probe tells of
    /// TCP listeners, it stays open for the first look to find.
    async fn test(&mut self) -> Result<(), String> {
        let test = SelfTest::begin()
            .map_err(|error| format!("the self-test could not listen: {error}"))?;
        self.self_test = Some(test);
        let choice = self.plan.choice(Signal::TcpListen);
        if choice.is_none_or(|choice| choice.mechanism == Mechanism::Reconcile) {
            return Ok(());
        }
        let saw = self.wait_for(SelfTest::saw_opening).await;
        if let Some(test) = &mut self.self_test {
            test.close();
        }
        if saw {
            self.wait_for(SelfTest::saw_closing).await;
            Ok(())
        } else {
            Err("the self-test's listener was not reported".to_owned())
        }
    }

    async fn wait_for(&mut self, happened: impl Fn(&SelfTest) -> bool) -> bool {
        let until = tokio::time::Instant::now() + SELF_TEST;
        loop {
            self.drain();
            if self.self_test.as_ref().is_some_and(&happened) {
                return true;
            }
            if tokio::time::Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The first inventory: attached before, merged with what came meanwhile.
    async fn first_look(&mut self) -> Result<(), StartError> {
        self.look_again(MergeReason::Start);
        while self.looking {
            match self.found.1.recv().await {
                Some(found) => self.found(found),
                None => break,
            }
        }
        // Slow look-ups of everything that was there already: a start may take the time they need.
        let until = tokio::time::Instant::now() + SEED;
        while self.pending.deadline().is_some() && self.pending.has_tickets() {
            match tokio::time::timeout_at(until, self.answers.recv()).await {
                Ok(Some(answer)) => self.answered(&answer),
                Ok(None) | Err(_) => break,
            }
        }
        self.drain();
        Ok(())
    }
}

/// Does anything end or begin unseen on this kernel, so that only looking tells?
fn needs_fast_beat(plan: &Plan) -> bool {
    plan.choices.iter().any(|choice| {
        choice.mechanism == Mechanism::Reconcile
            && !matches!(
                choice.signal,
                Signal::ProcessExec
                    | Signal::ProcessFork
                    | Signal::ProcessExit
                    | Signal::Inventory
                    | Signal::BindFailed
            )
    })
}

/// Mechanisms that run at the moment of the event, so that a latency means something.
const fn is_live(mechanism: Mechanism) -> bool {
    !matches!(
        mechanism,
        Mechanism::Iterator | Mechanism::Snapshot | Mechanism::Reconcile
    )
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

async fn sleep_until(deadline: Option<BootNs>) {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep(Duration::from_nanos(deadline.since(BootNs::now()))).await;
        }
        None => std::future::pending().await,
    }
}
