//! Readings in, episodes and scans out. Pure: time comes with the readings.
//!
//! What it remembers is bounded, whoever sends: as many listeners and processes as the kernel's tables hold, 256 namespaces,
//! 2,048 sources of knocks, 512 networks that scan, 512 candidates of which 128 may be episodes at once, 2,048 learned
//! subjects. A subject that stands still takes about 250 bytes, one that moves while something goes on up to 1.2 KB (16
//! readings in three seconds): 3 MiB for 8,192 quiet listeners, and 10 MiB at the very most, when all of them are busy in a
//! storm. What finds no place is counted.

mod claims;
mod verdicts;

use std::collections::HashMap;

use portwatch_common::storm::{CELLS, PROCESSES as PROCESS_CELLS};

use self::claims::Claims;
use super::episode::{Candidate, Episode, Signal, Standing, Terms, Turn, is_level};
use super::judge::{
    Listener, Namespace, Process, is_crowded, listener_totals, namespace_totals, process_totals,
};
use super::learned::{Habit, Learned};
use super::reading::{Crossing, ListenerKey, NamespaceReading, Rate, Reading, Subject};
use super::scan::{Found, Scans};
use super::settings::Settings;
use crate::event::StormKind;
use crate::time::{BootNs, WallClock};

/// Listeners that are judged: all that may have a cell.
const LISTENERS: usize = CELLS as usize;
/// Processes that are judged: all that the kernel remembers.
const PROCESSES: usize = PROCESS_CELLS as usize;
const NAMESPACES: usize = 256;
const CANDIDATES: usize = 512;
/// Episodes at once.
pub const EPISODES: usize = 128;
/// Between readings while something goes on.
const FAST_NS: u64 = 200_000_000;
/// The same where only levels are looked at.
pub const LEVEL_NS: u64 = 2_000_000_000;
/// How long a closer look is wanted after a reading gave reason for one.
const ALERT_NS: u64 = 3_000_000_000;
/// The same after a crossing, where the last reading is older than that.
const FOLLOW_NS: u64 = 500_000_000;
const RECENT_NS: u64 = 1_500_000_000;
/// What was not read for so long is gone.
const GONE_NS: u64 = 120_000_000_000;
/// How often what is gone is forgotten.
const FORGET_NS: u64 = 10_000_000_000;
/// When a namespace holds this part of its local ports in TIME_WAIT, in percent of the threshold, who takes them is looked for.
const TIME_WAIT_HALF: u64 = 2;

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// An episode begins.
    Started(Episode),
    /// It goes on.
    Updated(Episode),
    /// It is over; the flag says that only nothing can be seen of it any more.
    Ended(Episode, bool),
    /// Somebody scans.
    Scan(Found),
}

/// What was counted of the detector itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Episodes that began.
    pub started: u64,
    /// Scans that were told.
    pub scans: u64,
    /// Storms that were not told, because there were too many at once.
    pub untold: u64,
    /// Listeners, processes, namespaces and sources that found no place, each time.
    pub dropped: u64,
    /// Listeners, processes and namespaces of the last reading that found none: they are not judged.
    pub unjudged: u64,
    /// Sources of knocks that are remembered now.
    pub sources: u64,
}

/// Takes readings, and tells episodes and scans.
#[derive(Debug)]
pub struct Detector {
    settings: Settings,
    listeners: HashMap<ListenerKey, Heard>,
    processes: HashMap<(u32, u64), Known>,
    namespaces: HashMap<u32, Namespace>,
    learned: Learned,
    scans: Scans,
    candidates: HashMap<(StormKind, Subject), Candidate>,
    /// The last reading gave reason to think of a flood of SYNs.
    is_suspect: bool,
    /// Until when a closer look is wanted.
    alert_until: BootNs,
    last: BootNs,
    forgot: BootNs,
    next_number: u64,
    account: Account,
}

#[derive(Debug, Default)]
struct Heard {
    track: Listener,
    /// When its accept queue was full last.
    full: Option<BootNs>,
    /// Its queue of half-open connections was full when they were counted last.
    is_crowded: bool,
    /// SYNs that made no request, as far as they are taken for its own.
    unqueued: u64,
}

#[derive(Debug, Default)]
struct Known {
    track: Process,
    close_wait: Option<u32>,
}

impl Detector {
    /// That has seen nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            listeners: HashMap::new(),
            processes: HashMap::new(),
            namespaces: HashMap::new(),
            learned: Learned::default(),
            scans: Scans::default(),
            candidates: HashMap::new(),
            is_suspect: false,
            alert_until: BootNs(0),
            last: BootNs(0),
            forgot: BootNs(0),
            next_number: 1,
            account: Account::default(),
        }
    }

    /// Its first episode has this number; so that one that takes over from another repeats none.
    #[must_use]
    pub const fn numbered_from(mut self, first: u64) -> Self {
        self.next_number = first;
        self
    }

    /// What was learned of rates.
    pub fn habits(&self) -> impl Iterator<Item = Habit> {
        self.learned.habits()
    }

    /// Takes over what was learned before.
    pub fn recall(&mut self, habits: &[Habit], now: BootNs) {
        for habit in habits {
            self.learned.recall(habit, now);
        }
    }

    /// Other thresholds from now on. Episodes go on by them; those of a kind that is off end with the next reading.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The kernel says that a rate was crossed: the next reading is wanted at once, and after a calm two more soon.
    pub fn crossed(&mut self, crossing: &Crossing) {
        if crossing.rate == Rate::Ports {
            let until = BootNs(crossing.at.0.saturating_add(ALERT_NS));
            self.alert_until = self.alert_until.max(until);
        }
        // A host where rates are high all day is read each second anyway; after a calm, the first reading says little.
        if crossing.at.since(self.last) > RECENT_NS {
            let until = BootNs(crossing.at.0.saturating_add(FOLLOW_NS));
            self.alert_until = self.alert_until.max(until);
        }
        if !self.settings.is_scan_off {
            self.scans.crossed(crossing);
        }
    }

    /// How long to wait for the next reading, in nanoseconds, if it is wanted soon: a fifth of a second where rates are
    /// looked at, two seconds where only levels are.
    #[must_use]
    pub fn beat(&self, now: BootNs) -> Option<u64> {
        let mut kinds = self.candidates.keys().map(|(kind, _)| *kind);
        if now <= self.alert_until || kinds.any(|kind| !is_level(kind)) {
            return Some(FAST_NS);
        }
        (!self.candidates.is_empty()).then_some(LEVEL_NS)
    }

    /// Is it to be found out towards which peer this namespace's local ports are taken?
    #[must_use]
    pub fn wants_busiest(&self, reading: &NamespaceReading) -> bool {
        let (Some(held), Some(ports)) = (reading.time_wait, reading.ephemeral_ports) else {
            return false;
        };
        let threshold = u64::from(ports) * u64::from(self.settings.time_wait_percent) / 100;
        !self.is_off(StormKind::TimeWaitPressure)
            && u64::from(held) >= (threshold / TIME_WAIT_HALF).max(1)
    }

    /// Are half-open connections worth counting? They tell whose queue is full, and how full it is.
    #[must_use]
    pub fn wants_half_open(&self) -> bool {
        let mut kinds = self.candidates.keys().map(|(kind, _)| *kind);
        self.is_suspect || kinds.any(|kind| kind == StormKind::SynFlood)
    }

    /// Episodes that go on.
    pub fn open(&self) -> impl Iterator<Item = &Episode> {
        self.candidates
            .values()
            .filter(|candidate| candidate.is_open)
            .map(|candidate| &candidate.episode)
    }

    /// What was counted.
    #[must_use]
    pub fn account(&self) -> Account {
        Account {
            dropped: self.account.dropped.saturating_add(self.scans.dropped),
            sources: self.scans.len() as u64,
            ..self.account
        }
    }

    /// Takes a reading; what is to be told of it comes back, in order. One that is not later than the last says nothing.
    pub fn read(&mut self, reading: &Reading, clock: WallClock) -> Vec<Report> {
        let at = reading.at;
        if at <= self.last {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.last, at);
        let found = self.scan(reading);
        let claims = self.note(reading, before);
        let mut signals = self.judge(reading, &claims, hour(clock, at));
        self.add_absent(&mut signals, reading.is_blind);
        signals.sort_by_key(|signal| (signal.kind, signal.subject));
        let mut reports = Vec::new();
        for signal in &signals {
            let report = self.take(signal, at, reading);
            reports.extend(report);
        }
        self.account.scans += found.len() as u64;
        reports.extend(found.into_iter().map(Report::Scan));
        self.forget(at);
        reports
    }

    fn is_off(&self, kind: StormKind) -> bool {
        self.settings.off.contains(&kind)
    }

    /// Remembers the totals, within bounds. Tells whose SYNs they were that made no request.
    fn note(&mut self, reading: &Reading, before: BootNs) -> Claims {
        let at = reading.at;
        let mut unjudged = 0;
        // Whoever is gone makes room for those who have come.
        let is_recent = |last: Option<BootNs>| last.is_some_and(|last| last >= before);
        if self.listeners.len().saturating_add(reading.listeners.len()) > LISTENERS {
            self.listeners
                .retain(|_, heard| is_recent(heard.track.last()));
        }
        if self.processes.len().saturating_add(reading.processes.len()) > PROCESSES {
            self.processes
                .retain(|_, known| is_recent(known.track.last()));
        }
        for one in &reading.processes {
            match place(&mut self.processes, (one.pid, one.start), PROCESSES) {
                Some(known) => known.track.push(at, process_totals(one)),
                None => unjudged += 1,
            }
        }
        for one in &reading.namespaces {
            let knocks = self.scans.knocks(one.netns);
            match place(&mut self.namespaces, one.netns, NAMESPACES) {
                Some(track) => track.push(at, namespace_totals(one, knocks)),
                None => unjudged += 1,
            }
        }
        self.note_crowded(reading);
        let claims = self.claims(reading);
        for one in &reading.listeners {
            match place(&mut self.listeners, one.key, LISTENERS) {
                Some(heard) => {
                    let unqueued = claims.growth(one.key, &self.namespaces, (before, at));
                    heard.unqueued = heard.unqueued.saturating_add(unqueued);
                    heard.track.push(at, listener_totals(one, heard.unqueued));
                    if one.accept_queue.is_some_and(|(now, most)| now >= most) {
                        heard.full = Some(at);
                    }
                }
                None => unjudged += 1,
            }
        }
        self.account.unjudged = unjudged;
        self.account.dropped = self.account.dropped.saturating_add(unjudged);
        claims
    }

    /// Half-open connections are not counted in every reading: in between, what was crowded is.
    fn note_crowded(&mut self, reading: &Reading) {
        let are_counted = self.wants_half_open();
        for one in &reading.listeners {
            if let Some(heard) = self.listeners.get_mut(&one.key) {
                heard.is_crowded = match one.half_open {
                    Some(_) => is_crowded(one),
                    None => heard.is_crowded && are_counted,
                };
            }
        }
    }

    fn scan(&mut self, reading: &Reading) -> Vec<Found> {
        let candidates = &self.candidates;
        let is_storm = |netns| {
            let key = (StormKind::RefusedStorm, Subject::Namespace(netns));
            candidates.contains_key(&key)
        };
        let (sources, at) = (&reading.sources, reading.at);
        let mut found = self.scans.read(sources, at, &self.settings, is_storm);
        found.retain(|_| !self.settings.is_scan_off);
        found
    }

    fn take(&mut self, signal: &Signal, at: BootNs, reading: &Reading) -> Option<Report> {
        let key = (signal.kind, signal.subject);
        if !self.candidates.contains_key(&key) {
            if signal.standing != Standing::Over {
                return None;
            }
            if self.candidates.len() >= CANDIDATES {
                self.account.untold += 1;
                return None;
            }
            let peers = verdicts::peers_of(reading, signal.kind, signal.subject);
            let candidate = Candidate::new(signal, at, &peers);
            self.candidates.insert(key, candidate);
        }
        let may_open = self.open().count() < EPISODES;
        let terms = Terms {
            hold: self
                .settings
                .hold(signal.kind, signal.subject, signal.is_large()),
            calm: self.settings.calm,
            beat: self.settings.beat,
        };
        let candidate = self.candidates.get_mut(&key)?;
        let turn = candidate.take(signal, at, terms, may_open);
        if matches!(turn, Turn::Starts | Turn::GoesOn) || candidate.is_open {
            let peers = verdicts::peers_of(reading, signal.kind, signal.subject);
            if !peers.is_empty() {
                candidate.take_peers(&peers);
            }
        }
        match turn {
            Turn::Nothing => None,
            Turn::Starts => {
                candidate.episode.number = self.next_number;
                self.next_number += 1;
                self.account.started += 1;
                Some(Report::Started(candidate.episode.clone()))
            }
            Turn::GoesOn => Some(Report::Updated(candidate.episode.clone())),
            Turn::Fades => {
                let faded = self.candidates.remove(&key);
                let is_over = faded.is_some_and(|one| one.was_refused);
                self.account.untold += u64::from(is_over);
                None
            }
            Turn::Ends | Turn::IsLost => {
                let ended = self.candidates.remove(&key)?;
                Some(Report::Ended(ended.episode, turn == Turn::IsLost))
            }
        }
    }

    /// What was not read for long.
    fn forget(&mut self, at: BootNs) {
        if at.since(self.forgot) < FORGET_NS {
            return;
        }
        self.forgot = at;
        let is_here = |last: Option<BootNs>| last.is_some_and(|last| at.since(last) < GONE_NS);
        self.listeners
            .retain(|_, heard| is_here(heard.track.last()));
        self.processes
            .retain(|_, known| is_here(known.track.last()));
        self.namespaces.retain(|_, track| is_here(track.last()));
        let processes = &self.processes;
        self.learned.retain(|subject| match subject {
            Subject::Process(pid, start) => processes.contains_key(&(*pid, *start)),
            // A listener comes again, and so does its namespace.
            Subject::Listener(_) | Subject::Namespace(_) | Subject::Source(..) => true,
        });
        self.learned.make_room(at);
    }
}

/// The place of a key, if it has or gets one.
fn place<K: std::hash::Hash + Eq, V: Default>(
    map: &mut HashMap<K, V>,
    key: K,
    most: usize,
) -> Option<&mut V> {
    if map.len() >= most && !map.contains_key(&key) {
        return None;
    }
    Some(map.entry(key).or_default())
}

/// Hour of the day, UTC.
fn hour(clock: WallClock, at: BootNs) -> u8 {
    const HOUR_NS: i128 = 3_600_000_000_000;
    let now = i128::from(clock.epoch_ns()) + i128::from(at.0);
    u8::try_from(now.div_euclid(HOUR_NS).rem_euclid(24)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
