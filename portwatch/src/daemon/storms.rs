//! What storms are told by: cells are made for what listens, and looked at when the probes say that something moved.
//!
//! While all is quiet, this is a comparison of eight numbers a second, which were read anyway, and a look at the tables and the
//! counters of the namespaces every [`SLOW`] nanoseconds, or [`FAST`] where SYNs are seen as requests alone. A crossing leads to a look at once, unless what moved is connections that are completed; so does a second in which more happened on
//! the host than one subject may do; and while somebody watches an episode, each second does. The looking itself is done by
//! the [`Observer`], on another thread.

use std::collections::{BTreeSet, HashMap, HashSet};

use portwatch_common::counters::Counters;
use portwatch_common::socket::TcpState;
use tokio::task::JoinError;

use super::announce::{self, Limits, by_cpu, online_cpus, thresholds};
use super::errand::Errand;
use super::observer::{Found, Observer};
use crate::decode::cell_key;
use crate::decode::record::SockId;
use crate::event::Protocol;
use crate::inventory::{Change, Listener};
use crate::probe::storms::{CellTotals, StormMaps};
use crate::storm::peers::percent;
use crate::storm::{Counts, Crossing, Kept, ListenerKey, STATES, Settings, Subject};
use crate::time::BootNs;

/// A look while all is quiet, ns.
pub(super) const SLOW: u64 = 10 * 1_000_000_000;
/// A look while somebody watches, ns.
pub(super) const FAST: u64 = 1_000_000_000;
/// Between two looks, however many crossings there are, ns.
pub(super) const PAUSE: u64 = 200_000_000;
/// Crossings that may wait for a look: more than the probes announce in a window.
const WAITING: usize = 256;
/// A look that takes longer than that hangs, ns.
const LATE: u64 = 10 * 1_000_000_000;
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
    pub(super) limits: Limits,
    /// So many half-open connections of a listener since its last crossing are worth a look.
    half_open: u64,
    last: announce::Counts,
    pub(super) due: BootNs,
    /// Keys by namespace.
    namespaces: HashMap<u32, usize>,
    /// Something listens where no look may have been.
    pub(super) is_elsewhere: bool,
    pub(super) not_before: BootNs,
    pub(super) fast_until: BootNs,
    pub(super) settled: BootNs,
    /// When outcomes of connects were asked for last, because of a crossing.
    pub(super) asked: BootNs,
    kept: Option<Kept>,
    pub(super) sources_moved: bool,
    pub(super) waiting: Vec<Crossing>,
    /// New settings that the observer does not know of.
    pub(super) settings: Option<Settings>,
    /// Here while no look is under way.
    pub(super) observer: Option<Box<Observer>>,
    pub(super) look: Errand<Looked>,
    /// When it began.
    pub(super) began: BootNs,
    /// That it takes too long was told.
    is_late: bool,
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
            namespaces: HashMap::new(),
            is_elsewhere: false,
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
            began: now,
            is_late: false,
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

    /// From here on the states are kept by what was found, while the counters stood there, and moved so often while it was.
    pub(super) fn keep(&mut self, present: &Counts, counters: &Counters, churn: [u64; STATES]) {
        self.kept = Some(Kept::new(present, &counters.transitions, churn));
    }

    /// Holds that against what was found again: see [`Kept::compare`].
    pub(super) fn compare(
        &mut self,
        present: &Counts,
        counters: &Counters,
        churn: &[u64; STATES],
    ) -> Vec<(TcpState, i64)> {
        let kept = self.kept.as_mut();
        kept.map_or_else(Vec::new, |kept| {
            kept.compare(present, &counters.transitions, churn)
        })
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
                let keys = self.namespaces.entry(key.netns).or_default();
                self.is_elsewhere |= *keys == 0;
                *keys += 1;
                self.make(key, maps);
            }
        } else if let Some(sockets) = self.keys.get_mut(&key) {
            sockets.remove(&listener.id());
            if sockets.is_empty() {
                self.keys.remove(&key);
                // A number may come again for another namespace.
                if let Some(keys) = self.namespaces.get_mut(&key.netns) {
                    *keys -= 1;
                    if *keys == 0 {
                        self.namespaces.remove(&key.netns);
                    }
                }
                self.unmake(key, maps);
            }
        }
    }

    /// Puts right what changes alone do not tell: a listener that got another address or another identity.
    pub(super) fn settle<'a>(
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
        self.namespaces.clear();
        for key in self.keys.keys() {
            *self.namespaces.entry(key.netns).or_default() += 1;
        }
        self.is_elsewhere = true;
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
        let all_have_cells = self.without_cell.is_empty();
        if self.limits.are_passed(&grown, all_have_cells) || self.fast_until > now {
            self.due = self.due.min(now);
        }
    }

    /// Has a look been under way for too long? Told once.
    pub(super) fn is_late(&mut self, now: BootNs) -> bool {
        let is_late = self.look.is_under_way() && now.since(self.began) >= LATE;
        is_late && !std::mem::replace(&mut self.is_late, true)
    }

    /// Takes a crossing, if it deserves a look.
    pub(super) fn cross(&mut self, crossing: &Crossing, now: BootNs) {
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
    pub(super) fn are_half_open(&mut self, key: ListenerKey, cell: Option<CellTotals>) -> bool {
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
    pub(super) fn are_failing(&self, counters: &Counters) -> bool {
        let failed = announce::Counts::of(counters).since(&self.last).failed;
        self.limits.failed != 0 && failed >= self.limits.failed.div_ceil(2)
    }

    /// A look has ended, and this is what the observer wants next.
    pub(super) fn ended(&mut self, observer: Box<Observer>, found: Option<&Found>) {
        self.observer = Some(observer);
        self.is_failing = false;
        self.is_late = false;
        if let Some(found) = found
            && let Some(beat) = found.beat
        {
            let soon = BootNs(found.at.0.saturating_add(beat));
            self.due = self.due.min(soon);
        }
    }

    /// A look failed, and its observer is lost: another one begins at the slow beat, so that one that always fails costs little.
    /// Tells whether that is news.
    pub(super) fn broke(&mut self, now: BootNs) -> bool {
        self.failed += 1;
        self.is_late = false;
        self.due = BootNs(now.0 + SLOW);
        self.not_before = self.due;
        !std::mem::replace(&mut self.is_failing, true)
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
