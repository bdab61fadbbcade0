//! One look at everything that storms are told by, and what it means. On a blocking thread: the observer goes there for each
//! look with all that it remembers, and comes back with what is to be told. The pipeline reads no table and judges nothing.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use portwatch_common::socket::TcpState;
use portwatch_common::storm::{CellKey, PeerKey};

use super::outside::{complete, look_outside};
use crate::decode::{address, cell_key, listener_key};
use crate::inventory::tcp::Spaces;
use crate::probe::storms::Tables;
use crate::storm::detector::LEVEL_NS;
use crate::storm::peers::PEERS_TOLD;
use crate::storm::{
    Account, Crossing, Detector, Episode, Habit, ListenerReading, PeerReading, ProcessReading,
    Rate, Reading, Report, Setting, Settings, SourceReading, habits_text,
};
use crate::time::{BootNs, WallClock};

/// A process that did not connect for so many windows of about a second is none that connects.
const SILENT_WINDOWS: u64 = 120;
/// How often something is done that has the kernel walk all connections.
struct Pace {
    /// No more often than that, ns.
    least: u64,
    /// And no more than this part of one processor is taken.
    share: u64,
    /// But as often as that: what is not seen for longer is given up.
    seldom: u64,
}

/// Half-open connections: in a large flood there are a million of them.
const HALF_OPEN: Pace = Pace {
    least: 900_000_000,
    share: 100,
    seldom: 20_000_000_000,
};
/// Towards whom local ports are taken: a kind that is told by its level has no haste, and a busy web server has a hundred thousand
/// connections in TIME_WAIT all day. Ports run out within seconds, though.
const BUSIEST: Pace = Pace {
    least: 1_900_000_000,
    share: 500,
    seldom: 5_000_000_000,
};
/// For how long the sources of knocks are read each time, after one of them tried many ports.
const KNOCKING_NS: u64 = 3_000_000_000;
/// For how long the namespaces that were found are taken to be all there are.
const SPACES_NS: u64 = 10_000_000_000;

/// What a look has to know of the pipeline.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Something listens in a namespace that no look may have visited.
    pub(super) is_elsewhere: bool,
    /// What the kernel announced since the last one.
    pub(super) crossings: Vec<Crossing>,
    /// Other settings from now on.
    pub(super) settings: Option<Settings>,
    /// What was learned before, for an observer that has just begun.
    pub(super) recalled: Vec<Habit>,
    /// What was learned is to be told, to be written.
    pub(super) habits: Option<Setting>,
    /// Episodes that go on are to be told, to be answered.
    pub(super) open: bool,
    /// Somebody knocked at a closed port since the last look.
    pub(super) sources: bool,
    /// SYNs are counted, by listener.
    pub(super) sees_syns: bool,
    /// And that by the requests that they make.
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
    /// What goes on, where it was asked for.
    pub(super) open: Vec<Episode>,
    /// What was learned, where it was asked for.
    pub(super) habits: Option<String>,
    pub(super) account: Account,
    /// How long to wait for the next look, in nanoseconds, if it is wanted soon.
    pub(super) beat: Option<u64>,
}

/// Looks, and remembers.
pub(super) struct Observer {
    detector: Detector,
    /// What the probes keep, where there are any.
    tables: Option<Arc<Tables>>,
    /// The network namespaces, and when they were found.
    spaces: Option<(BootNs, Spaces)>,
    knocking_until: BootNs,
    /// When half-open connections may be counted again.
    half_open_due: BootNs,
    /// When it may be found out again towards whom local ports are taken.
    busiest_due: BootNs,
    /// Towards whom local ports are taken is to be found out.
    wants_busiest: bool,
    /// What the last look took outside of the tables that walked nothing, ns.
    plain_cost: u64,
    /// It was said that the tables cannot be read.
    is_blind: bool,
}

impl Observer {
    /// That has seen nothing yet.
    pub(super) const fn new(detector: Detector, tables: Option<Arc<Tables>>) -> Self {
        Self {
            detector,
            tables,
            spaces: None,
            knocking_until: BootNs(0),
            half_open_due: BootNs(0),
            busiest_due: BootNs(0),
            wants_busiest: false,
            plain_cost: 0,
            is_blind: false,
        }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// `/proc` cannot be read at all.
    pub(super) fn look(&mut self, wanted: Wanted) -> io::Result<Found> {
        let now = BootNs::now();
        self.detector.recall(&wanted.recalled, now);
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
        let part = Part {
            sources: wanted.sources || now <= self.knocking_until,
            peers: match self.detector.beat(now) {
                Some(_) => Peers::Told,
                None => Peers::LeftOut,
            },
        };
        let mut reading = self.count(now, part);
        reading.sees_requests = wanted.sees_requests;
        if !wanted.sees_syns {
            // Nobody counts them: zero would be a lie.
            for listener in &mut reading.listeners {
                listener.syns = None;
            }
        }
        let mut states = 1 << TcpState::LISTEN.0;
        let counts_half_open = self.are_half_open_wanted(now);
        if counts_half_open {
            states |= 1 << TcpState::SYN_RECV.0;
        }
        if wanted.close_wait {
            states |= 1 << TcpState::CLOSE_WAIT.0;
        }
        let finds_busiest = self.wants_busiest && now >= self.busiest_due;
        if finds_busiest {
            states |= 1 << TcpState::TIME_WAIT.0 | 1 << TcpState::ESTABLISHED.0;
        }
        let spaces = self.spaces(now, wanted.is_elsewhere)?;
        // Namespaces are found every few seconds: a look that finds them must not make all others seem cheap.
        let begun = BootNs::now();
        let outside = look_outside(spaces, states)?;
        if outside.has_moved() {
            self.spaces = None;
        }
        let cost = BootNs::now().since(begun);
        // What a look costs anyway is none of theirs.
        let more = cost.saturating_sub(self.plain_cost);
        if counts_half_open {
            self.half_open_due = HALF_OPEN.next(now, more);
        }
        if finds_busiest {
            self.busiest_due = BUSIEST.next(now, more);
        }
        if !counts_half_open && !finds_busiest {
            self.plain_cost = cost;
        }
        complete(&mut reading, outside);
        let reports = self.detector.read(&reading, wanted.clock);
        if self.detector.beat(now).is_none() {
            self.forget_peers();
        }
        let mut namespaces = reading.namespaces.iter();
        self.wants_busiest = namespaces.any(|one| self.detector.wants_busiest(one));
        Ok(Found {
            at: now,
            reports,
            open: match wanted.open {
                true => self.detector.open().cloned().collect(),
                false => Vec::new(),
            },
            habits: wanted.habits.as_ref().map(|setting| self.habits(setting)),
            account: self.detector.account(),
            beat: self.beat(),
        })
    }

    /// As the detector wants it; while many ports are taken, to find out towards whom, as for what is told by its level.
    fn beat(&self) -> Option<u64> {
        let beat = self.detector.beat(BootNs::now());
        beat.or(self.wants_busiest.then_some(LEVEL_NS))
    }

    /// The namespaces, as they were found a few seconds ago at most: to find them takes longer than all the rest of a look.
    fn spaces(&mut self, now: BootNs, is_elsewhere: bool) -> io::Result<&Spaces> {
        let is_good = |(at, _): &(BootNs, Spaces)| !is_elsewhere && now.since(*at) < SPACES_NS;
        let found = match self.spaces.take().filter(is_good) {
            Some(found) => found,
            None => (now, Spaces::find()?),
        };
        Ok(&self.spaces.insert(found).1)
    }

    /// While all is calm: the peers of a storm must not be those of the days before it. Not before it is known to be calm, or the
    /// look that notices a storm would forget who makes it.
    fn forget_peers(&self) {
        let forgotten = self.tables.as_ref().map(|tables| tables.forget_peers());
        if let Some(Err(error)) = forgotten {
            tracing::debug!(%error, "peers are not forgotten");
        }
    }

    /// Takes over what was learned before.
    pub(super) fn recall(&mut self, habits: &[Habit]) {
        self.detector.recall(habits, BootNs::now());
    }

    /// What was learned, as a text.
    pub(super) fn habits(&self, setting: &Setting) -> String {
        habits_text(self.detector.habits(), setting)
    }

    /// Whoever asks for half-open connections has the kernel walk all connections there are, and those of the last minute: on a
    /// busy host that is a hundred times the rest of a look.
    fn are_half_open_wanted(&self, now: BootNs) -> bool {
        now >= self.half_open_due && (self.tables.is_none() || self.detector.wants_half_open())
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
                    is_blind: true,
                    ..Reading::default()
                }
            }
        }
    }
}

impl Pace {
    /// When something that cost so much may be done again.
    fn next(&self, now: BootNs, cost: u64) -> BootNs {
        let pause = cost.saturating_mul(self.share).min(self.seldom);
        BootNs(now.0.saturating_add(self.least.max(pause)))
    }
}

/// What of the tables is wanted besides cells and processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Who knocks.
    pub(super) sources: bool,
    pub(super) peers: Peers,
}

/// Are peers read?
#[derive(Clone, Copy, Debug)]
pub(super) enum Peers {
    Told,
    LeftOut,
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
        Peers::LeftOut => HashMap::new(),
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
            backlog: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_much_is_done_seldom() {
        let now = BootNs(7);
        let half_open = |cost| HALF_OPEN.next(now, cost);
        assert_eq!(half_open(1_000_000), BootNs(7 + HALF_OPEN.least));
        // A tenth of a second of work in ten.
        assert_eq!(half_open(100_000_000), BootNs(10_000_000_007));
        // The machine slept meanwhile.
        assert_eq!(half_open(u64::MAX), BootNs(HALF_OPEN.seldom + 7));
        assert_eq!(BUSIEST.next(now, 8_000_000), BootNs(4_000_000_007));
    }

    #[test]
    fn namespaces_are_found_again_after_a_while_or_when_there_is_another_one() {
        let mut observer = Observer::new(Detector::new(Settings::default()), None);
        let mut found = |now: u64, is_elsewhere| {
            observer.spaces(BootNs(now), is_elsewhere).expect("found");
            observer.spaces.as_ref().map(|(at, _)| at.0)
        };
        assert_eq!(found(1, false), Some(1));
        assert_eq!(found(SPACES_NS, false), Some(1));
        assert_eq!(found(SPACES_NS + 1, false), Some(SPACES_NS + 1));
        assert_eq!(found(SPACES_NS + 2, true), Some(SPACES_NS + 2));
    }
}
