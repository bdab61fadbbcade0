//! What a reading says of every listener, process and namespace, as far as anybody wants to know. Pure.

use std::collections::{HashMap, HashSet};

use super::{ALERT_NS, Detector, Heard};
use crate::event::StormKind;
use crate::storm::episode::{Signal, Standing};
use crate::storm::judge::{self, ACCEPTED, CONNECTS, Judge, Namespace, RESET};
use crate::storm::peers::{Share, shares};
use crate::storm::reading::{ListenerReading, PeerReading, ProcessReading, Rate, Reading, Subject};
use crate::storm::track::Growth;
use crate::time::BootNs;

/// Rates are learned from spans of at least that, in nanoseconds.
const LEARN_NS: u64 = 900_000_000;

/// Signals that say something. Of thousands of listeners that are quiet, nothing is kept.
struct Signals<'a> {
    detector: &'a Detector,
    all: Vec<Signal>,
}

impl Signals<'_> {
    fn push(&mut self, signal: Signal) {
        let learned = &self.detector.learned;
        // A moment in which nothing happens says something of what is normal, where anything is known.
        let is_learned = learned_rate(&signal)
            .is_some_and(|rate| signal.value > 0 || learned.knows(rate, signal.subject));
        let key = (signal.kind, signal.subject);
        let matters = signal.standing == Standing::Over
            || is_learned
            || self.detector.candidates.contains_key(&key);
        if matters && !self.detector.is_off(signal.kind) {
            self.all.push(signal);
        }
    }
}

/// The listeners of one namespace, and how much they grew together in the last second. One that is too young to be known must
/// not hide the others; nothing is known where there are some, and none of them is.
#[derive(Default)]
struct Space<'a> {
    listeners: Vec<&'a ListenerReading>,
    accepted: Sum,
    resets: Sum,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    of: u32,
    known: u32,
    count: u64,
    ns: u64,
}

impl Sum {
    fn add(&mut self, grown: Option<Growth>) {
        self.of += 1;
        if let Some(grown) = grown {
            self.known += 1;
            self.count = self.count.saturating_add(grown.count);
            self.ns = self.ns.max(grown.ns);
        }
    }

    fn growth(self) -> Option<Growth> {
        (self.known > 0 || self.of == 0).then_some(Growth {
            count: self.count,
            ns: self.ns.max(LEARN_NS),
        })
    }
}

impl Detector {
    pub(super) fn judge(&mut self, reading: &Reading, hour: u8) -> Vec<Signal> {
        let normal = |rate, subject| self.learned.normal(rate, subject, hour);
        let judge = Judge {
            settings: &self.settings,
            sees_requests: reading.sees_requests,
            normal: &normal,
        };
        let mut signals = Signals {
            detector: self,
            all: Vec::new(),
        };
        let is_suspect = self.judge_listeners(&judge, reading, &mut signals);
        self.judge_processes(&judge, reading, &mut signals);
        self.judge_namespaces(&judge, reading, &mut signals);
        let signals = signals.all;
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
        signals: &mut Signals<'_>,
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
                is_suspect |= judge.is_suspect(track, one, namespace);
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

    fn judge_processes(&self, judge: &Judge<'_>, reading: &Reading, signals: &mut Signals<'_>) {
        for one in &reading.processes {
            if let Some(known) = self.processes.get(&(one.pid, one.start)) {
                signals.push(judge.connect_storm(&known.track, one));
                signals.push(judge.close_wait(one, known.close_wait));
            }
        }
    }

    fn judge_namespaces(&self, judge: &Judge<'_>, reading: &Reading, signals: &mut Signals<'_>) {
        let connects = self.connects(reading);
        let spaces = self.spaces(reading);
        let empty = Space::default();
        for one in &reading.namespaces {
            let Some(track) = self.namespaces.get(&one.netns) else {
                continue;
            };
            let space = spaces.get(&one.netns).unwrap_or(&empty);
            signals.push(judge.refused(track, one.netns));
            signals.push(judge.time_wait(one));
            let accepted = space.accepted.growth();
            let resets = space.resets.growth().map_or(0, |grown| grown.count);
            // On one host both ends of a connection are in the same namespace, and both of them are reset.
            let begun = accepted.zip(connects).map(|(accepted, connects)| Growth {
                count: accepted.count.saturating_add(accepted.count.max(connects)),
                ns: accepted.ns,
            });
            signals.push(judge.namespace_resets(track, one.netns, begun, resets));
            let has_counts = |of: &&ListenerReading| of.syns.is_some() || of.unanswered.is_some();
            if !space.listeners.iter().any(has_counts) {
                signals.push(judge.cookies(track, one.netns, accepted));
            }
            self.judge_overflow(judge, &space.listeners, one.netns, track, signals);
        }
    }

    /// The listener that does not accept fast enough; its namespace, where it cannot be told which one that is.
    fn judge_overflow(
        &self,
        judge: &Judge<'_>,
        here: &[&ListenerReading],
        netns: u32,
        track: &Namespace,
        signals: &mut Signals<'_>,
    ) {
        const KIND: StormKind = StormKind::AcceptQueueOverflow;
        let candidate = |subject| self.candidates.get(&(KIND, subject));
        let is_open = |subject| candidate(subject).is_some_and(|candidate| candidate.is_open);
        let all = Subject::Namespace(netns);
        let mut targets: Vec<&&ListenerReading> = Vec::new();
        if !is_open(all) {
            targets.extend(here.iter().filter(|one| {
                judge::is_full(one, candidate(Subject::Listener(one.key)).is_some())
            }));
            if targets.is_empty() {
                let open = here.iter();
                targets.extend(open.filter(|one| is_open(Subject::Listener(one.key))));
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

    fn spaces<'a>(&self, reading: &'a Reading) -> HashMap<u32, Space<'a>> {
        let mut spaces: HashMap<u32, Space<'a>> = HashMap::new();
        for one in &reading.listeners {
            let space = spaces.entry(one.key.netns).or_default();
            let track = self.listeners.get(&one.key).map(|heard| &heard.track);
            let lately = |which| track.and_then(|track| track.lately(which, LEARN_NS));
            space.listeners.push(one);
            space.accepted.add(lately(ACCEPTED));
            space.resets.add(lately(RESET));
        }
        spaces
    }

    /// Connects of all processes in the last second; as in [`Space`].
    fn connects(&self, reading: &Reading) -> Option<u64> {
        let mut sum = Sum::default();
        let told = |one: &&ProcessReading| one.connects.is_some();
        for one in reading.processes.iter().filter(told) {
            let known = self.processes.get(&(one.pid, one.start));
            sum.add(known.and_then(|known| known.track.lately(CONNECTS, LEARN_NS)));
        }
        sum.growth().map(|grown| grown.count)
    }

    /// What is no storm is normal.
    fn learn(&mut self, signals: &[Signal], at: BootNs, hour: u8) {
        if !self.settings.learn {
            return;
        }
        for signal in signals {
            let is_candidate = self.candidates.contains_key(&(signal.kind, signal.subject));
            let is_known = matches!(signal.standing, Standing::Under | Standing::Between);
            if let Some(rate) = learned_rate(signal)
                && is_known
                && !is_candidate
            {
                self.learned
                    .learn(rate, signal.subject, signal.value, at, hour);
            }
        }
    }

    /// What is not in a reading, or is no longer looked for, is quiet.
    pub(super) fn add_absent(&self, signals: &mut Vec<Signal>) {
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
}

/// Which rate a signal is learned by, if it is.
fn learned_rate(signal: &Signal) -> Option<Rate> {
    match signal.kind {
        StormKind::ConnectionStorm => Some(Rate::Accept),
        // Of a process that fails, the rate is of failures.
        StormKind::ConnectStorm if signal.begun.is_none() => Some(Rate::Connect),
        StormKind::RefusedStorm => Some(Rate::Reset),
        _ => None,
    }
}

/// Where it comes from, or goes to.
pub(super) fn peers_of(reading: &Reading, kind: StormKind, subject: Subject) -> Vec<Share> {
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
