//! What a reading says of every listener, process and namespace, as far as anybody wants to know. Pure.

use std::collections::{HashMap, HashSet};

use super::claims::Claims;
use super::{ALERT_NS, Detector, Heard};
use crate::event::StormKind;
use crate::storm::episode::{Signal, Standing};
use crate::storm::judge::{self, ACCEPTED, CONNECTS, Claimed, Judge, Namespace, RESET, Unclaimed};
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
    pub(super) fn judge(&mut self, reading: &Reading, claims: &Claims, hour: u8) -> Vec<Signal> {
        let normal = |rate, subject| self.learned.normal(rate, subject, hour);
        let judge = Judge {
            settings: &self.settings,
            normal: &normal,
        };
        let mut signals = Signals {
            detector: self,
            all: Vec::new(),
        };
        let mut is_suspect = self.judge_listeners(&judge, reading, &mut signals);
        self.judge_processes(&judge, reading, &mut signals);
        is_suspect |= self.judge_namespaces(&judge, reading, claims, &mut signals);
        let signals = signals.all;
        self.is_suspect = is_suspect && !self.is_off(StormKind::SynFlood);
        if self.is_suspect {
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
            let Some(Heard { track, full, .. }) = self.listeners.get(&one.key) else {
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

    fn judge_processes(&self, judge: &Judge<'_>, reading: &Reading, signals: &mut Signals<'_>) {
        for one in &reading.processes {
            if let Some(known) = self.processes.get(&(one.pid, one.start)) {
                signals.push(judge.connect_storm(&known.track, one));
                signals.push(judge.close_wait(one, known.close_wait));
            }
        }
    }

    /// Tells whether any of them deserves a closer look.
    fn judge_namespaces(
        &self,
        judge: &Judge<'_>,
        reading: &Reading,
        claims: &Claims,
        signals: &mut Signals<'_>,
    ) -> bool {
        let mut is_suspect = false;
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
            let claimed = self.resets_of(space);
            // On one host both ends of a connection are in the same namespace, and both of them are reset.
            let begun = accepted.zip(connects).map(|(accepted, connects)| Growth {
                count: accepted.count.saturating_add(accepted.count.max(connects)),
                ns: accepted.ns,
            });
            signals.push(judge.namespace_resets(track, one.netns, begun, claimed));
            if claims.are_open(one.netns) {
                signals.push(judge.unclaimed(track, one.netns, Unclaimed::WithoutRequest));
                is_suspect |= judge.is_suspect_without_request(track);
            } else if !reading.sees_requests && self.has_uncounted(space) {
                signals.push(judge.unclaimed(track, one.netns, Unclaimed::Cookies));
            }
            self.judge_overflow(judge, &space.listeners, one.netns, track, signals);
        }
        is_suspect
    }

    /// Is there a listener whose SYNs nobody counts, and none that is flooded as far as anybody knows? Its own are then seen by
    /// the cookies of its namespace alone.
    fn has_uncounted(&self, space: &Space<'_>) -> bool {
        let is_flooded = |one: &ListenerReading| {
            let flood = (StormKind::SynFlood, Subject::Listener(one.key));
            self.candidates.contains_key(&flood)
        };
        space.listeners.iter().any(|one| one.syns.is_none())
            && !space.listeners.iter().any(|one| is_flooded(one))
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
            space.listeners.push(one);
            space
                .accepted
                .add(track.and_then(|track| track.lately(ACCEPTED, LEARN_NS)));
        }
        spaces
    }

    /// Resets that are those of listeners, in the last second and since the reading before. A namespace counts both ends of a
    /// connection whose client is in it as well: where a listener may be in a storm of its own, that one is the cause of as many
    /// again, and the storm is not told twice. Of one whose clients are elsewhere this hides no more than it has itself.
    fn resets_of(&self, space: &Space<'_>) -> Claimed {
        let mut claimed = Claimed::default();
        for one in &space.listeners {
            let Some(Heard { track, .. }) = self.listeners.get(&one.key) else {
                continue;
            };
            let storm = (StormKind::ResetStorm, Subject::Listener(one.key));
            let ends = 1 + u64::from(self.candidates.contains_key(&storm));
            let count =
                |grown: Option<Growth>| grown.map_or(0, |grown| grown.count.saturating_mul(ends));
            let lately = count(track.lately(RESET, LEARN_NS));
            claimed.lately = claimed.lately.saturating_add(lately);
            claimed.step = claimed.step.saturating_add(count(track.step(RESET)));
        }
        claimed
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

    /// What is not in a reading, or is no longer looked for, is quiet; unless the reading could not be made.
    pub(super) fn add_absent(&self, signals: &mut Vec<Signal>, is_blind: bool) {
        let told: HashSet<(StormKind, Subject)> = signals
            .iter()
            .map(|signal| (signal.kind, signal.subject))
            .collect();
        let absent = self.candidates.keys().filter(|key| !told.contains(key));
        signals.extend(absent.map(|&(kind, subject)| {
            let threshold = self.candidates.get(&(kind, subject));
            let threshold = threshold.map_or(1, |candidate| candidate.episode.threshold.max(1));
            let unknown = Signal::unknown(kind, subject);
            match is_blind && !self.is_off(kind) {
                true => unknown,
                false => unknown.stands(0, threshold),
            }
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

/// What those stand at whom it comes from, or goes to.
pub(super) fn peers_of(reading: &Reading, kind: StormKind, subject: Subject) -> Vec<PeerReading> {
    match subject {
        Subject::Listener(key) => {
            let one = reading.listeners.iter().find(|one| one.key == key);
            one.map_or_else(Vec::new, |one| one.peers.clone())
        }
        Subject::Process(pid, start) => {
            let mut all = reading.processes.iter();
            let one = all.find(|one| (one.pid, one.start) == (pid, start));
            one.map_or_else(Vec::new, |one| one.peers.clone())
        }
        // Who knocks has to do with what is refused, and with nothing else of a namespace.
        Subject::Namespace(netns) if kind == StormKind::RefusedStorm => {
            let here = reading.sources.iter().filter(|one| one.netns == netns);
            let peers = here.map(|one| PeerReading {
                address: one.address,
                count: one.count,
            });
            peers.collect()
        }
        Subject::Namespace(_) | Subject::Source(..) => Vec::new(),
    }
}
