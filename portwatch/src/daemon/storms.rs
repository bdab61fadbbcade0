//! What storms are told by: cells are made for what listens, and read when the probes say that something moved.
//!
//! While all is quiet, this is a comparison of eight numbers a second, which were read anyway, and a look at the counters of
//! the namespaces every [`SLOW`] seconds. A crossing has everything read at once; so does a second in which more happened
//! on the host than one subject may do; and while somebody watches an episode, each second does.

use std::collections::{BTreeSet, HashMap, HashSet};

use portwatch_common::counters::Counters;
use portwatch_common::socket::TcpState;
use portwatch_common::storm::{CellKey, PeerKey, StormCount, Thresholds};
use tokio::sync::mpsc;

use super::outside::{CLOSE_WAIT_FLOOR, Outside, complete, look_outside};
use super::pipeline::Pipeline;
use crate::decode::record::SockId;
use crate::decode::{address, cell_key};
use crate::event::Protocol;
use crate::inventory::{Change, Listener};
use crate::probe::sensors::Sensors;
use crate::probe::storms::StormMaps;
use crate::storm::{
    Counts, Crossing, Kept, ListenerKey, ListenerReading, PeerReading, ProcessReading, Reading,
    STATES, SourceReading, Subject,
};
use crate::time::BootNs;

/// A look while all is quiet, ns.
const SLOW: u64 = 10 * 1_000_000_000;
/// A look while somebody watches, ns.
const FAST: u64 = 1_000_000_000;
/// Between two looks, however many crossings there are, ns.
const PAUSE: u64 = 200_000_000;
/// A process that did not connect for so many windows of about a second is forgotten: tables and walks stay short.
const SILENT_WINDOWS: u64 = 120;
/// Peers of one listener or process that are told.
const PEERS_TOLD: usize = 32;
/// One CPU announces no less than this, or a host with many of them would announce everything.
const LEAST_BY_CPU: u64 = 8;

/// What the kernel announces by itself unless it is told otherwise; of the whole host, in a window of about a second.
pub(super) const THRESHOLDS: Thresholds = Thresholds {
    syn: 100,
    accept: 1000,
    unanswered: 20,
    reset: 100,
    connect: 200,
    ports: 15,
    peer_floor: 32,
};

/// Cells, and when to read them.
pub(super) struct Storms {
    /// Listeners of TCP, by what a packet tells them apart by.
    keys: HashMap<ListenerKey, HashSet<SockId>>,
    /// Those of them that got no cell.
    without_cell: BTreeSet<ListenerKey>,
    thresholds: Thresholds,
    cpus: u64,
    last: [u64; MOVES],
    due: BootNs,
    not_before: BootNs,
    fast_until: BootNs,
    is_looking: bool,
    kept: Option<Kept>,
    sources_moved: bool,
    latest: Option<Reading>,
    outside: (
        mpsc::Sender<std::io::Result<Outside>>,
        mpsc::Receiver<std::io::Result<Outside>>,
    ),
}

impl Storms {
    pub(super) fn new(now: BootNs) -> Self {
        Self {
            keys: HashMap::new(),
            without_cell: BTreeSet::new(),
            thresholds: THRESHOLDS,
            cpus: 1,
            last: [0; MOVES],
            due: BootNs(now.0 + SLOW),
            not_before: now,
            fast_until: now,
            is_looking: false,
            kept: None,
            sources_moved: false,
            latest: None,
            outside: mpsc::channel(1),
        }
    }

    /// Completes when a look has ended. Cancel-safe.
    pub(super) async fn looked(&mut self) -> std::io::Result<Outside> {
        match self.outside.1.recv().await {
            Some(outside) => outside,
            None => std::future::pending().await,
        }
    }

    /// When a look is due.
    pub(super) fn next_due(&self) -> Option<BootNs> {
        (!self.is_looking).then_some(self.due.max(self.not_before))
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
    pub(super) fn announce_from(
        &mut self,
        thresholds: Thresholds,
        maps: &mut StormMaps,
    ) -> std::io::Result<()> {
        self.thresholds = thresholds;
        self.cpus = online_cpus().max(1);
        let by_cpu = |limit: u64| match limit {
            0 => 0,
            _ => limit.div_ceil(self.cpus).max(LEAST_BY_CPU).min(limit),
        };
        maps.set_thresholds(Thresholds {
            syn: by_cpu(thresholds.syn),
            accept: by_cpu(thresholds.accept),
            unanswered: by_cpu(thresholds.unanswered),
            reset: by_cpu(thresholds.reset),
            peer_floor: by_cpu(thresholds.peer_floor),
            ..thresholds
        })
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
        listeners: impl Iterator<Item = &'a Listener>,
        mut maps: Option<&mut StormMaps>,
    ) {
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
        for &key in wanted.keys() {
            if !before.contains_key(&key) || self.without_cell.contains(&key) {
                self.make(key, maps.as_deref_mut());
            }
        }
        self.keys = wanted;
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
        if !self.without_cell.remove(&key)
            && let Some(maps) = maps
        {
            maps.remove_cell(cell_key(key));
        }
    }

    /// What the probes counted in the last second: does any of it ask for a look?
    pub(super) fn every_second(&mut self, counters: &Counters, now: BootNs) {
        let mut is_over = false;
        let mut by = [0; MOVES];
        let moves = moves(counters, &self.thresholds);
        for (((total, limit), last), by) in moves.into_iter().zip(&mut self.last).zip(&mut by) {
            *by = total.wrapping_sub(*last);
            *last = total;
            is_over |= limit != 0 && *by >= limit;
        }
        self.sources_moved |= by.iter().rev().take(2).any(|&knocks| knocks > 0);
        if is_over || self.fast_until > now {
            self.due = self.due.min(now);
        }
    }

    /// The maps' part of a reading. While all is calm peers are forgotten instead: those of a storm must not be the ones of
    /// the days before it.
    fn read(&self, maps: Option<&mut StormMaps>, now: BootNs, wanted: Wanted) -> Reading {
        let mut reading = Reading {
            at: now,
            ..Reading::default()
        };
        let Some(maps) = maps else {
            return reading;
        };
        let mut peers = match wanted.peers {
            Peers::Told => by_subject(maps.peers()),
            Peers::Forgotten => {
                maps.forget_peers();
                HashMap::new()
            }
        };
        for &key in self.keys.keys() {
            if let Some(cell) = maps.cell(cell_key(key)) {
                reading.listeners.push(ListenerReading {
                    key,
                    syns: Some(cell.syns),
                    accepted: Some(cell.accepted),
                    unanswered: Some(cell.unanswered),
                    resets: Some(cell.resets),
                    half_open: None,
                    accept_queue: None,
                    peers: peers.remove(&word(cell_key(key))).unwrap_or_default(),
                });
            }
        }
        let processes = maps.processes();
        let window = processes.iter().map(|(_, cell)| cell.window).max();
        for (id, cell) in processes {
            if window.unwrap_or_default().saturating_sub(cell.window) > SILENT_WINDOWS {
                maps.forget_process(id);
                continue;
            }
            reading.processes.push(ProcessReading {
                pid: id.pid,
                start: id.start,
                connects: Some(cell.connects),
                failed: Some(cell.failed),
                close_wait: None,
                peers: peers
                    .remove(&word(CellKey::of_process(id)))
                    .unwrap_or_default(),
            });
        }
        if wanted.sources {
            let sources = maps.sources().into_iter();
            reading.sources = sources
                .map(|(key, source)| {
                    let sampled = usize::try_from(source.sampled).unwrap_or_default();
                    let mut sample: Vec<u16> = source.sample.into_iter().take(sampled).collect();
                    sample.sort_unstable();
                    SourceReading {
                        netns: key.netns,
                        address: address(key.address),
                        is_udp: key.protocol == 17,
                        ports: source.ports,
                        count: source.count,
                        sample,
                        first: BootNs(source.first),
                        last: BootNs(source.last),
                    }
                })
                .collect();
        }
        reading
    }
}

impl Pipeline {
    /// A rate was crossed: everything is read, unless that was done a moment ago.
    pub(super) fn crossed(&mut self, crossing: &Crossing) {
        tracing::debug!(?crossing, "a rate was crossed");
        let now = BootNs::now();
        if matches!(crossing.subject, Subject::Source(..)) {
            self.storms.sources_moved = true;
        }
        self.episodes.crossed(crossing);
        self.storms.due = now;
        self.storms.fast_until = BootNs(now.0 + SLOW);
    }

    /// Reads the maps, and has the rest looked at elsewhere.
    pub(super) fn read_storms(&mut self) {
        let now = BootNs::now();
        self.storms.is_looking = true;
        self.storms.not_before = BootNs(now.0 + PAUSE);
        let is_fast = self.storms.fast_until > now;
        let usual = if is_fast { FAST } else { SLOW };
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
        let mut states = 1 << TcpState::LISTEN.0;
        if is_fast || self.sensors.is_none() {
            states |= 1 << TcpState::SYN_RECV.0;
        }
        if close_wait {
            states |= 1 << TcpState::CLOSE_WAIT.0;
        }
        let latest = self.storms.latest.as_ref();
        if self.episodes.wants_busiest(latest) {
            states |= 1 << TcpState::TIME_WAIT.0 | 1 << TcpState::ESTABLISHED.0;
        }
        let maps = self.sensors.as_mut().map(Sensors::storms);
        self.storms.settle(self.inventory.iter(), maps);
        let wanted = Wanted {
            sources: std::mem::take(&mut self.storms.sources_moved)
                || self.episodes.is_knocked(now),
            peers: match self.episodes.beat(now) {
                Some(_) => Peers::Told,
                None => Peers::Forgotten,
            },
        };
        self.storms.latest = Some(self.read_maps_with(now, wanted));
        let sender = self.storms.outside.0.clone();
        tokio::task::spawn_blocking(move || {
            // The pipeline is gone when nobody receives.
            let _ = sender.blocking_send(look_outside(states));
        });
    }

    /// Everything that the probes' maps hold.
    pub(super) fn read_maps(&mut self, now: BootNs) -> Reading {
        let wanted = Wanted {
            sources: true,
            peers: Peers::Told,
        };
        let mut reading = self.read_maps_with(now, wanted);
        let opening = self
            .sensors
            .as_mut()
            .map(|sensors| sensors.storms().opening());
        for (id, pending) in opening.unwrap_or_default() {
            let is_it = |one: &&mut ProcessReading| one.pid == id.pid && one.start == id.start;
            match reading.processes.iter_mut().find(is_it) {
                Some(one) => one.connects = Some(one.connects.unwrap_or_default() + pending),
                None => reading.processes.push(ProcessReading {
                    pid: id.pid,
                    start: id.start,
                    connects: Some(pending),
                    failed: Some(0),
                    close_wait: None,
                    peers: Vec::new(),
                }),
            }
        }
        reading
    }

    fn read_maps_with(&mut self, now: BootNs, wanted: Wanted) -> Reading {
        let maps = self.sensors.as_mut().map(Sensors::storms);
        self.storms.read(maps, now, wanted)
    }

    /// The rest has come: the reading is whole.
    pub(super) fn storms_looked(&mut self, outside: std::io::Result<Outside>) {
        self.storms.is_looking = false;
        let outside = match outside {
            Ok(outside) => outside,
            Err(error) => {
                tracing::warn!(%error, "what storms are told by could not be looked at");
                return;
            }
        };
        let Some(mut reading) = self.storms.latest.take() else {
            return;
        };
        complete(&mut reading, outside);
        self.judge_storms(&reading);
        if let Some(beat) = self.episodes.beat(BootNs::now()) {
            let soon = BootNs(reading.at.0.saturating_add(beat));
            self.storms.due = self.storms.due.min(soon);
        }
        self.storms.latest = Some(reading);
    }
}

/// Counters that ask for a look.
const MOVES: usize = 7;

/// What the probes counted since they began, and from how much of it in a second on a look is due; knocks last.
fn moves(counters: &Counters, limits: &Thresholds) -> [(u64, u64); MOVES] {
    let of = |count: StormCount| {
        counters
            .storm
            .get(count.0 as usize)
            .copied()
            .unwrap_or_default()
    };
    let changed = |old: TcpState, new: TcpState| {
        let cell = usize::from(old.0) * STATES + usize::from(new.0);
        counters.transitions.get(cell).copied().unwrap_or_default()
    };
    [
        (of(StormCount::SYN), limits.syn),
        (
            changed(TcpState::SYN_RECV, TcpState::ESTABLISHED),
            limits.accept,
        ),
        (of(StormCount::UNANSWERED), limits.unanswered),
        (of(StormCount::RESET), limits.reset),
        (changed(TcpState::CLOSE, TcpState::SYN_SENT), limits.connect),
        (of(StormCount::KNOCK), limits.ports),
        (of(StormCount::UDP_KNOCK), limits.ports),
    ]
}

/// What of the maps is wanted besides cells and processes.
#[derive(Clone, Copy)]
struct Wanted {
    /// Who knocks.
    sources: bool,
    peers: Peers,
}

/// What becomes of peers.
#[derive(Clone, Copy)]
enum Peers {
    Told,
    Forgotten,
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

fn by_subject(peers: Vec<(PeerKey, u64)>) -> HashMap<u64, Vec<PeerReading>> {
    let mut by: HashMap<u64, Vec<PeerReading>> = HashMap::new();
    for (key, count) in peers {
        by.entry(word(key.subject)).or_default().push(PeerReading {
            address: address(key.address),
            count,
        });
    }
    for peers in by.values_mut() {
        peers.sort_unstable_by_key(|peer| (std::cmp::Reverse(peer.count), peer.address));
        peers.truncate(PEERS_TOLD);
    }
    by
}

/// A subject of peers as a number.
fn word(key: CellKey) -> u64 {
    u64::from(key.netns) | u64::from(key.port) << 32 | u64::from(key.family) << 48
}

/// CPUs that are online: `0-3,5`.
fn online_cpus() -> u64 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let span = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    text.trim().split(',').filter_map(span).sum()
}

#[cfg(test)]
#[path = "storms_tests.rs"]
mod tests;
