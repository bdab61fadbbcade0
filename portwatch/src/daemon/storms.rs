//! What storms are told by: cells are made for what listens, and looked at when the probes say that something moved.
//!
//! While all is quiet, this is a comparison of eight numbers a second, which were read anyway, and a look at the tables and the
//! counters of the namespaces every [`SLOW`] nanoseconds, or [`FAST`] where SYNs are seen as requests alone. A crossing
//! leads to a look at once, unless what moved is connections that are completed; so does a second in which more happened on
//! the host than one subject may do; and while somebody watches an episode, each second does. The looking itself is done by
//! the [`Observer`], on another thread.

use std::collections::{BTreeSet, HashMap, HashSet};

use portwatch_common::counters::Counters;
use portwatch_common::socket::TcpState;
use tokio::task::JoinError;

use super::announce::{self, Limits, by_cpu, online_cpus, thresholds};
use super::errand::Errand;
use super::observer::{Found, Observer, Wanted};
use super::outside::CLOSE_WAIT_FLOOR;
use super::pipeline::Pipeline;
use crate::decode::cell_key;
use crate::decode::record::SockId;
use crate::enrich::Waits;
use crate::event::{EventType, Mechanism, Protocol, Sensor};
use crate::inventory::{Change, Listener};
use crate::probe::plan::Signal;
use crate::probe::sensors::Sensors;
use crate::probe::storms::{CellTotals, StormMaps};
use crate::storm::peers::percent;
use crate::storm::{Counts, Crossing, Kept, ListenerKey, Rate, Settings, Subject};
use crate::time::BootNs;

/// A look while all is quiet, ns.
const SLOW: u64 = 10 * 1_000_000_000;
/// A look while somebody watches, ns.
const FAST: u64 = 1_000_000_000;
/// Between two looks, however many crossings there are, ns.
const PAUSE: u64 = 200_000_000;
/// Crossings that may wait for a look: more than the probes announce in a window.
const WAITING: usize = 256;
/// How long the end waits for a look and for the disk.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);
/// Of a hundred SYNs of a listener, fewer than so many half-open ones are no reason to look.
const HALF_OPEN: u32 = 10;

/// What a look brings back: the observer, and what it found.
pub(super) type Looked = (Box<Observer>, std::io::Result<Found>);

/// Cells, and when to look at them.
pub(super) struct Storms {
    /// Listeners of TCP, by what a packet tells them apart by.
    keys: HashMap<ListenerKey, HashSet<SockId>>,
    /// Those of them that got no cell.
    without_cell: BTreeSet<ListenerKey>,
    /// Cells of listeners at the last crossing of their SYNs.
    crossed: HashMap<ListenerKey, CellTotals>,
    limits: Limits,
    /// So many half-open connections of a listener since its last crossing are worth a look.
    half_open: u64,
    last: announce::Counts,
    due: BootNs,
    not_before: BootNs,
    fast_until: BootNs,
    settled: BootNs,
    /// When outcomes of connects were asked for last, because of a crossing.
    asked: BootNs,
    kept: Option<Kept>,
    sources_moved: bool,
    waiting: Vec<Crossing>,
    /// New settings that the observer does not know of.
    settings: Option<Settings>,
    /// Here while no look is under way.
    observer: Option<Box<Observer>>,
    look: Errand<Looked>,
    /// Looks that failed.
    failed: u64,
    /// That was told, and no look has succeeded since.
    is_failing: bool,
}

impl Storms {
    pub(super) fn new(now: BootNs) -> Self {
        Self {
            keys: HashMap::new(),
            without_cell: BTreeSet::new(),
            crossed: HashMap::new(),
            limits: Limits::default(),
            half_open: 1,
            last: announce::Counts::default(),
            due: BootNs(now.0 + FAST),
            not_before: now,
            fast_until: now,
            settled: now,
            asked: now,
            kept: None,
            sources_moved: false,
            waiting: Vec::new(),
            settings: None,
            observer: None,
            look: Errand::default(),
            failed: 0,
            is_failing: false,
        }
    }

    /// Completes when a look has ended. Cancel-safe.
    pub(super) async fn looked(&mut self) -> Result<Looked, JoinError> {
        self.look.ended().await
    }

    /// Looks that failed.
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    /// When a look is due.
    pub(super) fn next_due(&self) -> Option<BootNs> {
        (!self.look.is_under_way()).then_some(self.due.max(self.not_before))
    }

    /// Is it?
    pub(super) fn is_due(&self, now: BootNs) -> bool {
        self.next_due().is_some_and(|due| due <= now)
    }

    /// Listeners that have no cell, because there are too many.
    pub(super) fn without_cell(&self) -> usize {
        self.without_cell.len()
    }

    /// What transitions tell of sockets in each state, once it is known what was there before.
    pub(super) fn kept(&self, counters: &Counters) -> Option<Counts> {
        Some(self.kept?.counts(&counters.transitions))
    }

    /// From here on the states are kept by what was found, while the counters stood there.
    pub(super) fn keep(&mut self, present: &Counts, counters: &Counters) {
        self.kept = Some(Kept::new(present, &counters.transitions));
    }

    /// Tells the probes from which rate on they announce.
    pub(super) fn configure(
        &mut self,
        settings: &Settings,
        maps: &mut StormMaps,
    ) -> std::io::Result<()> {
        let announced = by_cpu(thresholds(settings), online_cpus());
        maps.set_thresholds(announced)?;
        self.half_open = announced.syn.max(1);
        self.limits = Limits::new(settings);
        Ok(())
    }

    /// Other settings for the observer, from its next look on.
    pub(super) fn hand_over(&mut self, settings: Settings) {
        self.settings = Some(settings);
    }

    /// Makes a cell for what begins to listen, and removes it when nothing listens there any more.
    pub(super) fn follow(&mut self, change: &Change, maps: Option<&mut StormMaps>) {
        let listener = change.listener();
        let Some(key) = key_of(listener) else {
            return;
        };
        if !matches!(change, Change::Closed { .. }) {
            let sockets = self.keys.entry(key).or_default();
            let is_new = sockets.is_empty();
            sockets.insert(listener.id());
            if is_new {
                self.make(key, maps);
            }
        } else if let Some(sockets) = self.keys.get_mut(&key) {
            sockets.remove(&listener.id());
            if sockets.is_empty() {
                self.keys.remove(&key);
                self.unmake(key, maps);
            }
        }
    }

    /// Puts right what changes alone do not tell: a listener that got another address or another identity.
    fn settle<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a Listener> + Clone,
        mut maps: Option<&mut StormMaps>,
    ) {
        if self.without_cell.is_empty() && self.is_settled(listeners.clone()) {
            return;
        }
        let mut wanted: HashMap<ListenerKey, HashSet<SockId>> = HashMap::new();
        for listener in listeners {
            if let Some(key) = key_of(listener) {
                wanted.entry(key).or_default().insert(listener.id());
            }
        }
        let before = std::mem::take(&mut self.keys);
        for &key in before.keys().filter(|key| !wanted.contains_key(key)) {
            self.unmake(key, maps.as_deref_mut());
        }
        let mut is_full = false;
        for &key in wanted.keys() {
            if before.contains_key(&key) && !self.without_cell.contains(&key) {
                continue;
            }
            // One that is refused is enough to know that the others would be.
            if is_full {
                self.without_cell.insert(key);
            } else {
                self.make(key, maps.as_deref_mut());
                is_full = self.without_cell.contains(&key);
            }
        }
        self.keys = wanted;
    }

    /// Is everything as the changes said? That is the rule, and told without building anything.
    fn is_settled<'a>(&self, listeners: impl Iterator<Item = &'a Listener>) -> bool {
        let mut known = 0;
        for listener in listeners {
            let Some(key) = key_of(listener) else {
                continue;
            };
            let sockets = self.keys.get(&key);
            if !sockets.is_some_and(|sockets| sockets.contains(&listener.id())) {
                return false;
            }
            known += 1;
        }
        known == self.keys.values().map(HashSet::len).sum::<usize>()
    }

    fn make(&mut self, key: ListenerKey, maps: Option<&mut StormMaps>) {
        let Some(maps) = maps else {
            return;
        };
        match maps.make_cell(cell_key(key)) {
            Ok(()) => {
                self.without_cell.remove(&key);
            }
            Err(error) => {
                if self.without_cell.is_empty() {
                    tracing::warn!(%error, "not every listener gets a cell: storms at the others are only seen by the counters of their namespace");
                }
                self.without_cell.insert(key);
            }
        }
    }

    fn unmake(&mut self, key: ListenerKey, maps: Option<&mut StormMaps>) {
        self.crossed.remove(&key);
        if !self.without_cell.remove(&key)
            && let Some(maps) = maps
        {
            maps.remove_cell(cell_key(key));
        }
    }

    /// What the probes counted in the last second: does any of it ask for a look?
    pub(super) fn every_second(&mut self, counters: &Counters, now: BootNs) {
        let counts = announce::Counts::of(counters);
        let grown = counts.since(&self.last);
        self.last = counts;
        self.sources_moved |= grown.has_knocks();
        if self.limits.are_passed(&grown) || self.fast_until > now {
            self.due = self.due.min(now);
        }
    }

    /// Takes a crossing, if it deserves a look.
    fn cross(&mut self, crossing: &Crossing, now: BootNs) {
        if matches!(crossing.subject, Subject::Source(..)) {
            self.sources_moved = true;
        }
        if self.waiting.len() < WAITING {
            self.waiting.push(*crossing);
        }
        self.due = now;
        self.fast_until = BootNs(now.0 + SLOW);
    }

    /// SYNs of a listener went over their threshold, and its cell counted that since it was made: are so many of them half
    /// open that a look is worth it? Where nothing is known of the time before, it is.
    fn are_half_open(&mut self, key: ListenerKey, cell: Option<CellTotals>) -> bool {
        let Some(cell) = cell else {
            return true;
        };
        let Some(before) = self.crossed.insert(key, cell) else {
            return true;
        };
        let grown = |now: u64, before: u64| now.checked_sub(before);
        let (Some(syns), Some(accepted)) = (
            grown(cell.syns, before.syns),
            grown(cell.accepted, before.accepted),
        ) else {
            // It is another cell.
            return true;
        };
        let half_open = syns.saturating_sub(accepted);
        half_open >= self.half_open && percent(half_open, syns) >= HALF_OPEN
    }

    /// A process opened many connections: did any number of them fail since the last second?
    fn are_failing(&self, counters: &Counters) -> bool {
        let failed = announce::Counts::of(counters).since(&self.last).failed;
        self.limits.failed != 0 && failed >= self.limits.failed.div_ceil(2)
    }

    /// A look has ended, and this is what the observer wants next.
    fn ended(&mut self, observer: Box<Observer>, found: Option<&Found>) {
        self.observer = Some(observer);
        self.is_failing = false;
        if let Some(found) = found
            && let Some(beat) = found.beat
        {
            let soon = BootNs(found.at.0.saturating_add(beat));
            self.due = self.due.min(soon);
        }
    }

    /// A look failed, and its observer is lost: another one begins at the slow beat, so that one that always fails costs little.
    /// Tells whether that is news.
    fn broke(&mut self, now: BootNs) -> bool {
        self.failed += 1;
        self.due = BootNs(now.0 + SLOW);
        self.not_before = self.due;
        !std::mem::replace(&mut self.is_failing, true)
    }
}

impl Pipeline {
    /// A rate was crossed: everything is looked at, unless that was done a moment ago, or there is no reason to.
    pub(super) fn crossed(&mut self, crossing: &Crossing) {
        tracing::debug!(?crossing, "a rate was crossed");
        let now = BootNs::now();
        let is_worth_it = match (crossing.rate, crossing.subject) {
            (Rate::Syn, Subject::Listener(key)) => {
                let maps = self.sensors.as_mut().map(Sensors::storms);
                let cell = maps.and_then(|maps| maps.cell(cell_key(key)));
                self.storms.are_half_open(key, cell)
            }
            (Rate::Connect, _) => self.is_connecting_in_vain(now),
            _ => true,
        };
        if is_worth_it {
            self.storms.cross(crossing, now);
        }
    }

    /// Many processes may connect a lot: the counters are read for them a few times a second at most.
    fn is_connecting_in_vain(&mut self, now: BootNs) -> bool {
        if now.since(self.storms.asked) < PAUSE {
            return false;
        }
        self.storms.asked = now;
        let counters = self.sensors.as_ref().and_then(|one| one.counters().ok());
        counters.is_some_and(|counters| self.storms.are_failing(&counters))
    }

    /// Has everything looked at, elsewhere.
    pub(super) fn look_for_storms(&mut self) {
        let now = BootNs::now();
        self.storms.not_before = BootNs(now.0 + PAUSE);
        let is_fast = self.storms.fast_until > now;
        // A full queue makes no requests: where those alone are counted, only a look tells of a flood at a short one.
        let is_half_blind = self.plan.uses(Signal::TcpSyn, Mechanism::Cgroup);
        let usual = if is_fast || is_half_blind { FAST } else { SLOW };
        self.storms.due = BootNs(now.0 + usual);
        let counters = self.sensors.as_ref().map(Sensors::counters);
        let kept = counters
            .and_then(Result::ok)
            .and_then(|counters| self.storms.kept(&counters));
        // Without probes, nothing but the look itself tells whether there are any.
        let close_wait = kept.is_none_or(|counts| {
            let count = counts.get(usize::from(TcpState::CLOSE_WAIT.0));
            count.is_none_or(|count| *count >= CLOSE_WAIT_FLOOR)
        });
        if now.since(self.storms.settled) >= SLOW {
            self.storms.settled = now;
            let maps = self.sensors.as_mut().map(Sensors::storms);
            self.storms.settle(self.inventory.iter(), maps);
        }
        let mut observer = match self.storms.observer.take() {
            Some(observer) => observer,
            None => Box::new(self.observer()),
        };
        let wanted = Wanted {
            crossings: std::mem::take(&mut self.storms.waiting),
            settings: self.storms.settings.take(),
            sources: std::mem::take(&mut self.storms.sources_moved),
            half_open: is_fast || is_half_blind,
            sees_requests: is_half_blind,
            close_wait,
            clock: self.surroundings.clock,
        };
        self.storms.look.begin(move || {
            let found = observer.look(wanted);
            (observer, found)
        });
    }

    /// One that has seen nothing yet.
    fn observer(&mut self) -> Observer {
        let tables = self.sensors.as_mut().map(|one| one.storms().tables());
        Observer::new(self.episodes.detector(), tables, self.habits.clone())
    }

    /// A look has ended.
    pub(super) fn looked_for_storms(&mut self, looked: Result<Looked, JoinError>) {
        match looked {
            Ok((observer, Ok(found))) => {
                self.storms.ended(observer, Some(&found));
                self.tell_storms(found);
            }
            Ok((observer, Err(error))) => {
                self.storms.ended(observer, None);
                tracing::warn!(%error, "what storms are told by could not be looked at");
            }
            Err(error) => self.storms_broke(&error),
        }
    }

    /// A bug must not blind the watcher for good: what it was about begins anew, and that is said.
    fn storms_broke(&mut self, error: &JoinError) {
        tracing::error!(%error, "a look for storms failed; it begins anew");
        let now = BootNs::now();
        self.give_episodes_up("the look that told of it failed");
        if self.storms.broke(now) {
            let mut event = self.surroundings.event(EventType::SensorDegraded, now);
            event.sensor = Some(Sensor {
                signal: Some("storms".to_owned()),
                reason: Some("a look for storms failed by a fault of portwatch".to_owned()),
                blind_to: Some("storms and scans until the next look".to_owned()),
                remedy: Some(
                    "report it with the daemon's log; it is tried again every 10 seconds"
                        .to_owned(),
                ),
                ..Sensor::default()
            });
            self.push(event, now, None, Waits::default());
        }
    }

    /// Has what was learned written down. A look that is under way is waited for; a disk that hangs is not.
    pub(super) async fn end_storms(&mut self) {
        let clock = self.surroundings.clock;
        let storms = &mut self.storms;
        let end = async {
            if storms.look.is_under_way()
                && let Ok((observer, _)) = storms.look.ended().await
            {
                storms.observer = Some(observer);
            }
            if let Some(mut observer) = storms.observer.take() {
                let written = tokio::task::spawn_blocking(move || observer.end(clock));
                // It has said what went wrong.
                let _ = written.await;
            }
        };
        if tokio::time::timeout(FAREWELL, end).await.is_err() {
            tracing::error!("what was learned of rates could not be written in time");
        }
    }
}

/// Only TCP's listeners have cells. MPTCP listens by a subflow of the same port.
pub(super) fn key_of(listener: &Listener) -> Option<ListenerKey> {
    let sock = &listener.sock;
    if !matches!(sock.protocol, Protocol::Tcp | Protocol::Mptcp) {
        return None;
    }
    Some(ListenerKey {
        netns: sock.netns,
        is_v6: sock.family == crate::event::Family::Ipv6,
        port: sock.port?,
    })
}

#[cfg(test)]
#[path = "storms_tests.rs"]
mod tests;
