//! Readings in, episodes and scans out. Pure: time comes with the readings.
//!
//! What it remembers is bounded, whoever sends: 1,024 listeners, 1,024 processes and 256 namespaces (each up to 24 readings
//! while something goes on, two while it is quiet), 2,048 sources of knocks, 512 candidates of which 128 may be episodes at
//! once, 2,048 learned subjects. That is 4 MiB at the very most. What finds no place is counted.

use std::collections::{HashMap, HashSet};

use super::episode::{Candidate, Episode, Signal, Standing, Terms, Turn, is_level};
use super::judge::{
    self, ACCEPTED, CONNECTS, Judge, Listener, Namespace, Process, RESET, listener_totals,
    namespace_totals, process_totals,
};
use super::learned::Learned;
use super::peers::{Share, shares};
use super::reading::{
    Crossing, ListenerKey, ListenerReading, NamespaceReading, PeerReading, ProcessReading, Rate,
    Reading, Subject,
};
use super::scan::{Found, Scans};
use super::settings::Settings;
use super::track::Growth;
use crate::event::StormKind;
use crate::time::{BootNs, WallClock};

const LISTENERS: usize = 1_024;
const PROCESSES: usize = 1_024;
const NAMESPACES: usize = 256;
const CANDIDATES: usize = 512;
/// Episodes at once.
pub const EPISODES: usize = 128;
/// Between readings while something goes on.
const FAST_NS: u64 = 200_000_000;
const LEVEL_NS: u64 = 2_000_000_000;
/// How long a closer look is wanted after a reading gave reason for one.
const ALERT_NS: u64 = 3_000_000_000;
/// The same after a crossing, where the last reading is older than that.
const FOLLOW_NS: u64 = 500_000_000;
const RECENT_NS: u64 = 1_500_000_000;
/// What was not read for so long is gone.
const GONE_NS: u64 = 120_000_000_000;
/// How often what is gone is forgotten.
const FORGET_NS: u64 = 10_000_000_000;
/// Rates are learned from spans of at least that, in nanoseconds.
const LEARN_NS: u64 = 900_000_000;
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
    /// Listeners, processes, namespaces and sources that found no place.
    pub dropped: u64,
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
            alert_until: BootNs(0),
            last: BootNs(0),
            forgot: BootNs(0),
            next_number: 1,
            account: Account::default(),
        }
    }

    /// The thresholds.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
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
        self.last = at;
        let found = self.scan(reading);
        self.note(reading);
        let mut signals = self.judge(reading, hour(clock, at));
        self.add_absent(&mut signals);
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

    /// Remembers the totals, within bounds.
    fn note(&mut self, reading: &Reading) {
        let at = reading.at;
        for one in &reading.listeners {
            match place(&mut self.listeners, one.key, LISTENERS) {
                Some(heard) => {
                    heard.track.push(at, listener_totals(one));
                    if one.accept_queue.is_some_and(|(now, most)| now >= most) {
                        heard.full = Some(at);
                    }
                }
                None => self.account.dropped += 1,
            }
        }
        for one in &reading.processes {
            match place(&mut self.processes, (one.pid, one.start), PROCESSES) {
                Some(known) => known.track.push(at, process_totals(one)),
                None => self.account.dropped += 1,
            }
        }
        for one in &reading.namespaces {
            let knocks = self.scans.knocks(one.netns);
            match place(&mut self.namespaces, one.netns, NAMESPACES) {
                Some(track) => track.push(at, namespace_totals(one, knocks)),
                None => self.account.dropped += 1,
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

    fn judge(&mut self, reading: &Reading, hour: u8) -> Vec<Signal> {
        let learned = std::mem::take(&mut self.learned);
        let normal = |rate, subject| learned.normal(rate, subject, hour);
        let judge = Judge {
            settings: &self.settings,
            normal: &normal,
        };
        let mut signals = Vec::new();
        let is_suspect = self.judge_listeners(&judge, reading, &mut signals);
        self.judge_processes(&judge, reading, &mut signals);
        self.judge_namespaces(&judge, reading, &mut signals);
        signals.retain(|signal| !self.is_off(signal.kind));
        self.learned = learned;
        if is_suspect && !self.is_off(StormKind::SynFlood) {
            self.alert_until = BootNs(reading.at.0.saturating_add(ALERT_NS));
        }
        for one in &reading.processes {
            if let Some(known) = self.processes.get_mut(&(one.pid, one.start)) {
                known.close_wait = one.close_wait;
            }
        }
        self.learn(&signals, reading.at, hour);
        signals
    }

    /// Tells whether any of them deserves a closer look.
    fn judge_listeners(
        &self,
        judge: &Judge<'_>,
        reading: &Reading,
        signals: &mut Vec<Signal>,
    ) -> bool {
        let mut is_suspect = false;
        for one in &reading.listeners {
            let Some(Heard { track, full }) = self.listeners.get(&one.key) else {
                continue;
            };
            let was_full = full.is_some_and(|full| reading.at.since(full) < ALERT_NS);
            let namespace = self.namespaces.get(&one.key.netns);
            if one.syns.is_some() || one.unanswered.is_some() {
                signals.push(judge.syn_flood(track, one, namespace, was_full));
                is_suspect |= judge.is_suspect(track);
            }
            if one.accepted.is_some() {
                signals.push(judge.connection_storm(track, one));
            }
            if one.resets.is_some() {
                signals.push(judge.listener_resets(track, one.key));
            }
        }
        is_suspect
    }

    fn judge_processes(&self, judge: &Judge<'_>, reading: &Reading, signals: &mut Vec<Signal>) {
        for one in &reading.processes {
            if let Some(known) = self.processes.get(&(one.pid, one.start)) {
                signals.push(judge.connect_storm(&known.track, one));
                signals.push(judge.close_wait(one, known.close_wait));
            }
        }
    }

    fn judge_namespaces(&self, judge: &Judge<'_>, reading: &Reading, signals: &mut Vec<Signal>) {
        let connects = self.connects(reading);
        for one in &reading.namespaces {
            let Some(track) = self.namespaces.get(&one.netns) else {
                continue;
            };
            signals.push(judge.refused(track, one.netns));
            signals.push(judge.time_wait(one));
            let accepted = self.grown(reading, one.netns, ACCEPTED);
            let resets = self
                .grown(reading, one.netns, RESET)
                .map_or(0, |grown| grown.count);
            // On one host both ends of a connection are in the same namespace, and both of them are reset.
            let begun = accepted.zip(connects).map(|(accepted, connects)| Growth {
                count: accepted.count.saturating_add(accepted.count.max(connects)),
                ns: accepted.ns,
            });
            signals.push(judge.namespace_resets(track, one.netns, begun, resets));
            let is_blind = |of: &&ListenerReading| {
                of.key.netns == one.netns && (of.syns.is_some() || of.unanswered.is_some())
            };
            if reading.listeners.iter().find(is_blind).is_none() {
                signals.push(judge.cookies(track, one.netns, accepted));
            }
            self.judge_overflow(judge, reading, one.netns, track, signals);
        }
    }

    /// The listener that does not accept fast enough; its namespace, where it cannot be told which one that is.
    fn judge_overflow(
        &self,
        judge: &Judge<'_>,
        reading: &Reading,
        netns: u32,
        track: &Namespace,
        signals: &mut Vec<Signal>,
    ) {
        const KIND: StormKind = StormKind::AcceptQueueOverflow;
        let candidate = |subject| self.candidates.get(&(KIND, subject));
        let is_open = |subject| candidate(subject).is_some_and(|candidate| candidate.is_open);
        let all = Subject::Namespace(netns);
        let here = || {
            let here = reading.listeners.iter();
            here.filter(|one| one.key.netns == netns)
        };
        let mut targets = Vec::new();
        if !is_open(all) {
            targets.extend(here().filter(|one| {
                judge::is_full(one, candidate(Subject::Listener(one.key)).is_some())
            }));
            if targets.is_empty() {
                targets.extend(here().filter(|one| is_open(Subject::Listener(one.key))));
            }
        }
        if targets.is_empty() {
            signals.push(judge.overflow(track, all));
        }
        for one in targets {
            let signal = judge.overflow(track, Subject::Listener(one.key));
            signals.push(Signal {
                accept_queue: one.accept_queue,
                ..signal
            });
        }
    }

    /// How much a total of all listeners of a namespace grew in the last second. One that is too young to be known must not
    /// hide the others; none where there are some, and none is known.
    fn grown(&self, reading: &Reading, netns: u32, which: usize) -> Option<Growth> {
        let here = reading
            .listeners
            .iter()
            .filter(|one| one.key.netns == netns);
        let of =
            |one: &ListenerReading| self.listeners.get(&one.key)?.track.lately(which, LEARN_NS);
        let mut known = 0;
        let mut sum = Growth {
            count: 0,
            ns: LEARN_NS,
        };
        for grown in here.clone().filter_map(of) {
            known += 1;
            sum.count = sum.count.saturating_add(grown.count);
            sum.ns = sum.ns.max(grown.ns);
        }
        (known > 0 || here.count() == 0).then_some(sum)
    }

    /// Connects of all processes in the last second; as [`Detector::grown`].
    fn connects(&self, reading: &Reading) -> Option<u64> {
        let told = reading
            .processes
            .iter()
            .filter(|one| one.connects.is_some());
        let of = |one: &ProcessReading| {
            let known = self.processes.get(&(one.pid, one.start))?;
            known.track.lately(CONNECTS, LEARN_NS)
        };
        let (mut known, mut sum) = (0, 0_u64);
        for grown in told.clone().filter_map(of) {
            known += 1;
            sum = sum.saturating_add(grown.count);
        }
        (known > 0 || told.count() == 0).then_some(sum)
    }

    /// What is no storm is normal.
    fn learn(&mut self, signals: &[Signal], at: BootNs, hour: u8) {
        if !self.settings.learn {
            return;
        }
        for signal in signals {
            let is_candidate = self.candidates.contains_key(&(signal.kind, signal.subject));
            let is_known = matches!(signal.standing, Standing::Under | Standing::Between);
            let rate = match signal.kind {
                StormKind::ConnectionStorm => Rate::Accept,
                // Of a process that fails, the rate is of failures.
                StormKind::ConnectStorm if signal.begun.is_none() => Rate::Connect,
                StormKind::RefusedStorm => Rate::Reset,
                _ => continue,
            };
            if is_known && !is_candidate {
                self.learned
                    .learn(rate, signal.subject, signal.value, at, hour);
            }
        }
    }

    /// What is not in a reading, or is no longer looked for, is quiet.
    fn add_absent(&self, signals: &mut Vec<Signal>) {
        let told: HashSet<(StormKind, Subject)> = signals
            .iter()
            .map(|signal| (signal.kind, signal.subject))
            .collect();
        let absent = self.candidates.keys().filter(|key| !told.contains(key));
        signals.extend(absent.map(|&(kind, subject)| {
            let threshold = self.candidates.get(&(kind, subject));
            let threshold = threshold.map_or(1, |candidate| candidate.episode.threshold.max(1));
            Signal::unknown(kind, subject).stands(0, threshold)
        }));
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
            self.candidates.insert(key, Candidate::new(signal, at));
        }
        let may_open = self.open().count() < EPISODES;
        let terms = Terms {
            hold: self.settings.hold(signal.kind, signal.subject),
            calm: self.settings.calm,
            beat: self.settings.beat,
        };
        let candidate = self.candidates.get_mut(&key)?;
        let turn = candidate.take(signal, at, terms, may_open);
        if matches!(turn, Turn::Starts | Turn::GoesOn) || candidate.is_open {
            let peers = peers_of(reading, signal.kind, signal.subject);
            if !peers.is_empty() {
                candidate.episode.peers = peers;
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

/// Where it comes from, or goes to.
fn peers_of(reading: &Reading, kind: StormKind, subject: Subject) -> Vec<Share> {
    match subject {
        Subject::Listener(key) => {
            let one = reading.listeners.iter().find(|one| one.key == key);
            shares(one.map_or(&[][..], |one| &one.peers))
        }
        Subject::Process(pid, start) => {
            let mut all = reading.processes.iter();
            let one = all.find(|one| (one.pid, one.start) == (pid, start));
            shares(one.map_or(&[][..], |one| &one.peers))
        }
        // Who knocks has to do with what is refused, and with nothing else of a namespace.
        Subject::Namespace(netns) if kind == StormKind::RefusedStorm => {
            let here = reading.sources.iter().filter(|one| one.netns == netns);
            let peers = here.map(|one| PeerReading {
                address: one.address,
                count: one.count,
            });
            shares(&peers.collect::<Vec<_>>())
        }
        Subject::Namespace(_) | Subject::Source(..) => Vec::new(),
    }
}

/// Hour of the day, UTC.
fn hour(clock: WallClock, at: BootNs) -> u8 {
    const HOUR_NS: i128 = 3_600_000_000_000;
    let now = i128::from(clock.epoch_ns()) + i128::from(at.0);
    u8::try_from(now.div_euclid(HOUR_NS).rem_euclid(24)).unwrap_or(0)
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
