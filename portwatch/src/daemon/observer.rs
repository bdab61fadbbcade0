//! One look at everything that storms are told by, and what it means. On a blocking thread: the observer goes there for each
//! look with all that it remembers, and comes back with what is to be told. The pipeline reads no table and judges nothing.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use portwatch_common::socket::TcpState;
use portwatch_common::storm::{CellKey, PeerKey};

use super::habits::Habits;
use super::outside::{complete, look_outside};
use crate::decode::{address, cell_key, listener_key};
use crate::probe::storms::Tables;
use crate::storm::{
    Account, Crossing, Detector, ListenerReading, PeerReading, ProcessReading, Rate, Reading,
    Report, Settings, SourceReading,
};
use crate::time::{BootNs, WallClock};

/// A process that did not connect for so many windows of about a second is none that connects.
const SILENT_WINDOWS: u64 = 120;
/// Peers of one listener or process that are told.
const PEERS_TOLD: usize = 32;
/// For how long the sources of knocks are read each time, after one of them tried many ports.
const KNOCKING_NS: u64 = 3_000_000_000;

/// What a look has to know of the pipeline.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What the kernel announced since the last one.
    pub(super) crossings: Vec<Crossing>,
    /// Other settings from now on.
    pub(super) settings: Option<Settings>,
    /// Somebody knocked at a closed port since the last look.
    pub(super) sources: bool,
    /// Half-open connections as well.
    pub(super) half_open: bool,
    /// SYNs are counted by the requests that they make.
    pub(super) sees_requests: bool,
    /// There may be sockets whose peer has closed, and enough of them.
    pub(super) close_wait: bool,
    pub(super) clock: WallClock,
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Found {
    /// When the tables were read.
    pub(super) at: BootNs,
    /// To be told, in order.
    pub(super) reports: Vec<Report>,
    pub(super) account: Account,
    /// How long to wait for the next look, in nanoseconds, if it is wanted soon.
    pub(super) beat: Option<u64>,
}

/// Looks, and remembers.
pub(super) struct Observer {
    detector: Detector,
    /// What the probes keep, where there are any.
    tables: Option<Arc<Tables>>,
    habits: Habits,
    knocking_until: BootNs,
    /// Towards whom local ports are taken is to be found out.
    wants_busiest: bool,
    /// It was said that the tables cannot be read.
    is_blind: bool,
}

impl Observer {
    /// That has seen nothing yet.
    pub(super) fn new(detector: Detector, tables: Option<Arc<Tables>>, habits: Habits) -> Self {
        Self {
            detector,
            tables,
            habits,
            knocking_until: BootNs(0),
            wants_busiest: false,
            is_blind: false,
        }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// `/proc` cannot be read at all.
    pub(super) fn look(&mut self, wanted: Wanted) -> io::Result<Found> {
        self.habits.recall_once(&mut self.detector, wanted.clock);
        if let Some(settings) = wanted.settings {
            self.detector.configure(settings);
        }
        for crossing in &wanted.crossings {
            self.detector.crossed(crossing);
            if crossing.rate == Rate::Ports {
                let until = BootNs(crossing.at.0.saturating_add(KNOCKING_NS));
                self.knocking_until = self.knocking_until.max(until);
            }
        }
        let now = BootNs::now();
        let part = Part {
            sources: wanted.sources || now <= self.knocking_until,
            // While all is calm peers are forgotten: those of a storm must not be the ones of the days before it.
            peers: match self.detector.beat(now) {
                Some(_) => Peers::Told,
                None => Peers::Forgotten,
            },
        };
        let mut reading = self.count(now, part);
        reading.sees_requests = wanted.sees_requests;
        let mut states = 1 << TcpState::LISTEN.0;
        // A full queue of half-open connections crosses no rate where SYNs are counted as requests: while an episode is
        // watched, it is looked at.
        let is_watched = self.detector.beat(now).is_some();
        if wanted.half_open || self.tables.is_none() || is_watched {
            states |= 1 << TcpState::SYN_RECV.0;
        }
        if wanted.close_wait {
            states |= 1 << TcpState::CLOSE_WAIT.0;
        }
        if self.wants_busiest {
            states |= 1 << TcpState::TIME_WAIT.0 | 1 << TcpState::ESTABLISHED.0;
        }
        complete(&mut reading, look_outside(states)?);
        let reports = self.detector.read(&reading, wanted.clock);
        let mut namespaces = reading.namespaces.iter();
        self.wants_busiest = namespaces.any(|one| self.detector.wants_busiest(one));
        self.habits.keep_slowly(&self.detector, now, wanted.clock);
        Ok(Found {
            at: now,
            reports,
            account: self.detector.account(),
            beat: self.detector.beat(BootNs::now()),
        })
    }

    /// Writes down what was learned: the daemon ends.
    pub(super) fn end(&mut self, clock: WallClock) {
        self.habits.keep(&self.detector, clock);
    }

    fn count(&mut self, now: BootNs, part: Part) -> Reading {
        let Some(tables) = &self.tables else {
            return Reading {
                at: now,
                ..Reading::default()
            };
        };
        match count(tables, now, part) {
            Ok(reading) => {
                self.is_blind = false;
                reading
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_blind, true) {
                    tracing::warn!(%error, "the probes' tables cannot be read: storms are told by the kernel's own counters alone");
                }
                Reading {
                    at: now,
                    ..Reading::default()
                }
            }
        }
    }
}

/// What of the tables is wanted besides cells and processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Who knocks.
    pub(super) sources: bool,
    pub(super) peers: Peers,
}

/// What becomes of peers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peers {
    Told,
    Forgotten,
}

impl Part {
    /// All of it.
    pub(super) const ALL: Self = Self {
        sources: true,
        peers: Peers::Told,
    };
}

/// The tables' part of a reading.
///
/// # Errors
/// The kernel refuses the read.
pub(super) fn count(tables: &Tables, now: BootNs, part: Part) -> io::Result<Reading> {
    let mut peers = match part.peers {
        Peers::Told => by_subject(tables.peers()?),
        Peers::Forgotten => {
            tables.forget_peers()?;
            HashMap::new()
        }
    };
    let mut reading = Reading {
        at: now,
        ..Reading::default()
    };
    for (key, cell) in tables.cells()? {
        let Some(key) = listener_key(key) else {
            continue;
        };
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
    let processes = tables.processes()?;
    // Windows are counted by a clock of the probes.
    let window = processes.iter().map(|(_, cell)| cell.window).max();
    for (id, cell) in processes {
        if window.unwrap_or_default().saturating_sub(cell.window) > SILENT_WINDOWS {
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
    if part.sources {
        for (key, source) in tables.sources()? {
            let sampled = usize::try_from(source.sampled).unwrap_or_default();
            let mut sample: Vec<u16> = source.sample.into_iter().take(sampled).collect();
            sample.sort_unstable();
            reading.sources.push(SourceReading {
                netns: key.netns,
                address: address(key.address),
                is_udp: key.protocol == 17,
                ports: source.ports,
                count: source.count,
                sample,
                first: BootNs(source.first),
                last: BootNs(source.last),
            });
        }
    }
    Ok(reading)
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

/// Adds the connects that the probes have not told to their processes yet; for numbers that are shown, and not for
/// differences.
pub(super) fn add_opening(reading: &mut Reading, tables: &Tables) {
    for (id, pending) in tables.opening() {
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
}

/// A subject of peers as a number.
fn word(key: CellKey) -> u64 {
    u64::from(key.netns) | u64::from(key.port) << 32 | u64::from(key.family) << 48
}
