//! Incidents out of events: a matter begins once and ends once, however many events it has. Pure.
//!
//! What is an incident: a listener that nobody approved or a rule denies, until it is closed; an expectation that is
//! not met, until it is; records that were lost, until everything was looked at again; a sense that the kernel denies us;
//! an episode of a storm, until it is over; a scan, which is told once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::baseline::{Frame, Identity};
use crate::event::words::Word as _;
use crate::event::{Event, EventType, PolicyState, RingName, Severity, message};

/// Matters that are kept apart at once; more of them come of a flood, which the messages count.
const LIMIT: usize = 10_000;

/// What a matter is known again by. Never contains a pid, where the program can be known without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// A matter of another kind than those of events, such as a test.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The kind of matter: `listener`, `expected`, `lost`, `sensor`, `storm`, `scan`; the same at its begin and at its end.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// 16 hexadecimal digits that are the same whenever this matter comes, on every host.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.0);
        let digits = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
        digits.collect()
    }
}

/// Where in its life a matter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has begun.
    Began,
    /// It goes on: a reminder, or met again after a restart.
    Still,
    /// It is over.
    Ended,
    /// It has no end of its own.
    Once,
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Still => "still",
            Self::Ended => "ended",
            Self::Once => "once",
        }
    }
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Which matter.
    pub key: Key,
    /// Begin or end.
    pub phase: Phase,
    /// When it began (RFC 3339).
    pub since: String,
    /// How much it mattered when it began.
    pub severity: Severity,
    /// The event that made it so.
    pub event: Arc<Event>,
    /// Of an end, and of what goes on: the channels that were told of the begin.
    pub told: BTreeSet<Arc<str>>,
}

/// A matter that has begun and not ended, as it outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which.
    pub key: Key,
    /// Since when (RFC 3339).
    pub since: String,
    /// How much it mattered then.
    pub severity: Severity,
    /// What was said of it.
    pub sentence: String,
    /// The channels that were told.
    pub told: BTreeSet<String>,
    /// It was there before anybody asked for alerts: nobody is told of it.
    pub is_old: bool,
}

/// Every matter that is open now.
#[derive(Debug)]
pub struct Incidents {
    frame: Frame,
    open: BTreeMap<Key, State>,
    /// The matter that a socket belongs to.
    sockets: HashMap<u64, Key>,
    /// Told in a run before, and not met in this one yet.
    before: Option<BTreeSet<Key>>,
    /// What a run before missed, and was neither found at this one's start nor missed again since: it is down as far as anybody was
    /// told.
    unmet: BTreeSet<Key>,
    /// What is found while starting was there before.
    is_starting: bool,
}

#[derive(Debug)]
struct State {
    since: String,
    severity: Severity,
    sentence: String,
    sockets: BTreeSet<u64>,
    told: BTreeSet<Arc<str>>,
    is_old: bool,
}

impl State {
    fn open(&self, key: &Key) -> Open {
        Open {
            key: key.clone(),
            since: self.since.clone(),
            severity: self.severity,
            sentence: self.sentence.clone(),
            told: self.told.iter().map(ToString::to_string).collect(),
            is_old: self.is_old,
        }
    }
}

impl Incidents {
    /// As a run before has left them; none where there was no run before: then what is found at the start is told to
    /// nobody, because it is not new.
    #[must_use]
    pub fn new(frame: Frame, before: Option<Vec<Open>>) -> Self {
        let mut incidents = Self {
            frame,
            open: BTreeMap::new(),
            sockets: HashMap::new(),
            before: before
                .as_ref()
                .map(|all| all.iter().map(|one| one.key.clone()).collect()),
            unmet: BTreeSet::new(),
            is_starting: true,
        };
        for one in before.into_iter().flatten() {
            let state = State {
                since: one.since,
                severity: one.severity,
                sentence: one.sentence,
                sockets: BTreeSet::new(),
                told: one.told.iter().map(|name| name.as_str().into()).collect(),
                is_old: one.is_old,
            };
            incidents.open.insert(one.key, state);
        }
        incidents
    }

    /// What is open, to outlive this run.
    pub fn all(&self) -> impl Iterator<Item = Open> {
        self.open.iter().map(|(key, state)| state.open(key))
    }

    /// Of somebody who comes when all is running: what is there already is not news.
    #[must_use]
    pub fn midway(frame: Frame) -> Self {
        Self {
            is_starting: false,
            ..Self::new(frame, None)
        }
    }

    /// These channels were told of the begin: they are told of the end too, and no others are.
    pub fn was_told(&mut self, key: &Key, channels: BTreeSet<Arc<str>>) {
        if let Some(state) = self.open.get_mut(key) {
            state.told.extend(channels);
        }
    }

    /// Takes note of an event; what is to be told of it comes back.
    pub fn observe(&mut self, event: &Arc<Event>) -> Option<Notice> {
        match event.kind {
            EventType::ListenerOpened | EventType::ListenerPresent | EventType::ListenerChanged => {
                self.listens(event)
            }
            EventType::ListenerClosed => self.closed(event),
            EventType::ListenerDown => {
                let key = expectation(event)?;
                self.begin(key, event, None)
            }
            EventType::ListenerRecovered => {
                let key = expectation(event)?;
                self.end(key, event)
            }
            EventType::Gap => {
                // What a slow reader missed, nobody else did.
                let ring = event.gap.as_ref().map(|gap| gap.ring)?;
                if ring == RingName::Client {
                    // Such a gap is in the queue of the reader whose it is, and this reader makes the alerts.
                    return Some(once(Key("alerts missed".to_owned()), event));
                }
                self.begin(loss(), event, None)
            }
            EventType::GapReconciled => self.end(loss(), event),
            EventType::SensorDegraded => {
                let sensor = event.sensor.as_ref()?;
                let what = sensor.signal.as_deref().or(sensor.reason.as_deref())?;
                let is_first_start = self.is_first_start();
                let notice = self.begin(Key(format!("sensor {what}")), event, None)?;
                // What the kernel denies from the first day on is for `status` to say, and must not hold up what is new.
                let is_news = notice.phase == Phase::Began && !is_first_start;
                is_news.then(|| once(notice.key, event))
            }
            EventType::SensorReady => {
                self.is_starting = false;
                None
            }
            EventType::StormStarted | EventType::StormUpdated => {
                let key = storm(event)?;
                self.begin(key, event, None)
            }
            EventType::StormEnded => {
                let key = storm(event)?;
                self.end(key, event)
            }
            EventType::ScanDetected => Some(once(scan(event)?, event)),
            // What goes wrong is for somebody to mend.
            EventType::StormResponse => {
                let done = event.response.as_ref()?;
                let key = Key(format!("response {}", done.set));
                done.error.is_some().then(|| once(key, event))
            }
            EventType::BindFailed | EventType::ConnectionState | EventType::Heartbeat => None,
        }
    }

    /// Matters of a run before that nothing was seen of since this one is ready: they ended while nobody watched.
    pub fn ended_unseen(&mut self) -> Vec<Open> {
        let before = self.before.take().unwrap_or_default();
        // A start looks at everything, as a look after a loss does.
        let ends =
            |key: &Key| key.0.starts_with(LISTENER) || key.0.starts_with(STORM) || *key == loss();
        let (gone, goes_on): (Vec<Key>, Vec<Key>) = before.into_iter().partition(ends);
        // Whoever starts after us, as after a reboot, is back when he listens, or is missed again when his grace is over.
        let expected = goes_on
            .into_iter()
            .filter(|key| key.0.starts_with(EXPECTED));
        self.unmet.extend(expected);
        gone.into_iter()
            .filter_map(|key| {
                let state = self.open.remove(&key)?;
                Some(state.open(&key))
            })
            .collect()
    }

    /// Every listener now, after events since a time (RFC 3339) did not reach us: what began meanwhile is to be told,
    /// and what is there no more ended unseen.
    pub fn catch_up(&mut self, all: &[Arc<Event>], since: &str) -> (Vec<Notice>, Vec<Open>) {
        let there: HashSet<u64> = all.iter().filter_map(|event| socket_of(event)).collect();
        let mut ended = Vec::new();
        let gone = self.sockets.extract_if(|socket, _| !there.contains(socket));
        for (socket, key) in gone {
            let is_over = self.open.get_mut(&key).is_some_and(|state| {
                state.sockets.remove(&socket);
                state.sockets.is_empty()
            });
            if is_over && let Some(state) = self.open.remove(&key) {
                ended.push(state.open(&key));
            }
        }
        // What is older was told, or was there before anybody asked for alerts.
        let missed = all.iter().filter(|event| event.ts.as_str() >= since);
        let begun = missed.filter_map(|event| self.listens(event)).collect();
        (begun, ended)
    }

    fn listens(&mut self, event: &Arc<Event>) -> Option<Notice> {
        let socket = socket_of(event);
        if !is_unwanted(event) {
            // What was missed in a run before is there again: nothing else will say so.
            let met = expectation(event).filter(|key| self.is_of_before(key));
            if let Some(key) = met {
                return self.end(key, event);
            }
            // Approved meanwhile: the matter is settled.
            let key = socket.and_then(|socket| self.sockets.remove(&socket))?;
            return self.leave(key, socket, event);
        }
        let key = self.listener(event);
        if let Some(notice) = self.is_worse(&key, event, socket) {
            return Some(notice);
        }
        let notice = self.begin(key, event, socket)?;
        let is_first_start = self.is_first_start();
        let state = self.open.get_mut(&notice.key);
        if is_first_start {
            if let Some(state) = state {
                state.is_old = true;
            }
            return None;
        }
        state.is_none_or(|state| !state.is_old).then_some(notice)
    }

    /// One that is denied must not go under in a matter of the same program that is only new.
    fn is_worse(&mut self, key: &Key, event: &Arc<Event>, socket: Option<u64>) -> Option<Notice> {
        if self.is_starting {
            return None;
        }
        let state = self.open.get_mut(key)?;
        if event.severity <= state.severity {
            return None;
        }
        state.severity = event.severity;
        state.sentence.clone_from(&event.message);
        state.is_old = false;
        state.sockets.extend(socket);
        let notice = Notice {
            key: key.clone(),
            phase: Phase::Began,
            since: event.ts.clone(),
            severity: event.severity,
            event: Arc::clone(event),
            told: state.told.clone(),
        };
        self.sockets
            .extend(socket.map(|socket| (socket, key.clone())));
        Some(notice)
    }

    fn is_of_before(&self, key: &Key) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| before.contains(key)) || self.unmet.contains(key)
    }

    /// What is found now was there before there was a portwatch.
    const fn is_first_start(&self) -> bool {
        self.is_starting && self.before.is_none()
    }

    fn closed(&mut self, event: &Arc<Event>) -> Option<Notice> {
        let socket = socket_of(event)?;
        let key = self.sockets.remove(&socket)?;
        self.leave(key, Some(socket), event)
    }

    /// Takes a socket out of a matter, which is over when that was its last one.
    fn leave(&mut self, key: Key, socket: Option<u64>, event: &Arc<Event>) -> Option<Notice> {
        let state = self.open.get_mut(&key)?;
        if let Some(socket) = socket {
            state.sockets.remove(&socket);
        }
        let is_over = state.sockets.is_empty();
        is_over.then(|| self.end(key, event)).flatten()
    }

    fn begin(&mut self, key: Key, event: &Arc<Event>, socket: Option<u64>) -> Option<Notice> {
        let was_before = self
            .before
            .as_mut()
            .is_some_and(|before| before.remove(&key));
        let was_before = self.unmet.remove(&key) || was_before;
        if let Some(socket) = socket {
            self.sockets.insert(socket, key.clone());
        }
        if let Some(state) = self.open.get_mut(&key) {
            state.sockets.extend(socket);
            return was_before.then(|| Notice {
                key,
                phase: Phase::Still,
                since: state.since.clone(),
                severity: state.severity,
                event: Arc::clone(event),
                told: state.told.clone(),
            });
        }
        // Beyond the limit all is told, and nothing remembered.
        if self.open.len() < LIMIT {
            let state = State {
                since: event.ts.clone(),
                severity: event.severity,
                sentence: event.message.clone(),
                sockets: socket.into_iter().collect(),
                told: BTreeSet::new(),
                is_old: false,
            };
            self.open.insert(key.clone(), state);
        }
        Some(Notice {
            key,
            phase: Phase::Began,
            since: event.ts.clone(),
            severity: event.severity,
            event: Arc::clone(event),
            told: BTreeSet::new(),
        })
    }

    fn end(&mut self, key: Key, event: &Arc<Event>) -> Option<Notice> {
        let state = self.open.remove(&key)?;
        if let Some(before) = &mut self.before {
            before.remove(&key);
        }
        self.unmet.remove(&key);
        Some(Notice {
            key,
            phase: Phase::Ended,
            since: state.since,
            severity: state.severity,
            event: Arc::clone(event),
            told: state.told,
        })
    }

    /// Where, and by which program; what cannot be known again is a matter of its own.
    fn listener(&self, event: &Event) -> Key {
        let key = match Identity::of(event, &self.frame) {
            Some(one) => format!("{LISTENER}{one} by {}", one.exe),
            None => format!(
                "{LISTENER}{} by {}",
                message::socket_of(event),
                message::who(event)
            ),
        };
        Key(key)
    }
}

const LISTENER: &str = "listener ";
const EXPECTED: &str = "expected ";
const STORM: &str = "storm ";

fn once(key: Key, event: &Arc<Event>) -> Notice {
    Notice {
        key,
        phase: Phase::Once,
        since: event.ts.clone(),
        severity: event.severity,
        event: Arc::clone(event),
        told: BTreeSet::new(),
    }
}

fn expectation(event: &Event) -> Option<Key> {
    let policy = event.policy.as_ref()?;
    Some(Key(format!("{EXPECTED}{}", policy.rule)))
}

/// The kind, and what it is about: the same when it comes again.
fn storm(event: &Event) -> Option<Key> {
    let storm = event.storm.as_ref()?;
    Some(Key(format!("{STORM}{} {}", storm.kind.word(), storm.key)))
}

fn scan(event: &Event) -> Option<Key> {
    let scan = event.scan.as_ref()?;
    let source = scan.source.as_deref().unwrap_or("many");
    let port = scan.sample.first().filter(|_| scan.source.is_none());
    let port = port.map_or_else(String::new, |port| format!(" {port}"));
    Some(Key(format!("scan {source}{port} {}", scan.protocol.word())))
}

fn loss() -> Key {
    Key("lost records".to_owned())
}

fn socket_of(event: &Event) -> Option<u64> {
    let socket = event.socket.as_ref()?;
    socket.inode.or(socket.cookie)
}

fn is_unwanted(event: &Event) -> bool {
    event
        .policy
        .as_ref()
        .is_some_and(|policy| matches!(policy.state, PolicyState::New | PolicyState::Denied))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::{Incidents, Open, Phase};
    use crate::baseline::Frame;
    use crate::event::{Event, EventType, Gap, Policy, PolicyState, RingName, Severity};
    use crate::sink::testing;

    fn frame() -> Frame {
        Frame {
            netns: 1,
            ephemeral: 32768..=60999,
        }
    }

    fn running(before: Option<Vec<Open>>) -> Incidents {
        let mut incidents = Incidents::new(frame(), before);
        let ready = testing::event(1, EventType::SensorReady);
        assert_eq!(incidents.observe(&Arc::new(ready)), None);
        incidents
    }

    fn event(kind: EventType, port: u16, inode: u64, state: PolicyState) -> Arc<Event> {
        let mut event = testing::listener(kind, port, 7, "/usr/bin/nc");
        if let Some(socket) = &mut event.socket {
            socket.inode = Some(inode);
        }
        event.policy = Some(Policy {
            state,
            rule: "web".to_owned(),
        });
        Arc::new(event)
    }

    fn phase(incidents: &mut Incidents, event: &Arc<Event>) -> Option<Phase> {
        incidents.observe(event).map(|notice| notice.phase)
    }

    const OPENED: EventType = EventType::ListenerOpened;
    const CLOSED: EventType = EventType::ListenerClosed;

    #[test]
    fn a_listener_that_nobody_approved_begins_once_and_ends_with_its_last_socket() {
        let mut incidents = running(None);
        let new = PolicyState::New;
        assert_eq!(
            phase(&mut incidents, &event(OPENED, 4444, 1, new)),
            Some(Phase::Began)
        );
        assert_eq!(phase(&mut incidents, &event(OPENED, 4444, 2, new)), None);
        assert_eq!(phase(&mut incidents, &event(CLOSED, 4444, 1, new)), None);
        assert_eq!(
            phase(&mut incidents, &event(CLOSED, 4444, 2, new)),
            Some(Phase::Ended)
        );
        assert_eq!(phase(&mut incidents, &event(CLOSED, 4444, 2, new)), None);
        assert_eq!(incidents.all().count(), 0);
        assert_eq!(
            phase(&mut incidents, &event(OPENED, 4444, 3, new)),
            Some(Phase::Began)
        );
    }

    #[test]
    fn what_is_approved_is_no_matter() {
        let mut incidents = running(None);
        for state in [
            PolicyState::Baseline,
            PolicyState::Allowed,
            PolicyState::Expected,
        ] {
            assert_eq!(phase(&mut incidents, &event(OPENED, 80, 1, state)), None);
            assert_eq!(phase(&mut incidents, &event(CLOSED, 80, 1, state)), None);
        }
        let denied = event(OPENED, 80, 1, PolicyState::Denied);
        assert_eq!(phase(&mut incidents, &denied), Some(Phase::Began));
        let accepted = event(EventType::ListenerChanged, 80, 1, PolicyState::Allowed);
        assert_eq!(phase(&mut incidents, &accepted), Some(Phase::Ended));
        assert_eq!(phase(&mut incidents, &accepted), None);
        assert_eq!(incidents.all().count(), 0);
    }

    #[test]
    fn an_expectation_is_down_and_back() {
        let mut incidents = running(None);
        let state = PolicyState::Expected;
        let down = event(EventType::ListenerDown, 80, 1, state);
        let back = event(EventType::ListenerRecovered, 80, 2, state);
        assert_eq!(phase(&mut incidents, &back), None);
        assert_eq!(phase(&mut incidents, &down), Some(Phase::Began));
        assert_eq!(phase(&mut incidents, &down), None);
        assert_eq!(phase(&mut incidents, &back), Some(Phase::Ended));
    }

    #[test]
    fn one_that_is_denied_is_told_beside_new_ones_of_the_same_program() {
        let mut incidents = running(None);
        let new = event(OPENED, 40_001, 1, PolicyState::New);
        let mut denied = (*event(OPENED, 55_552, 2, PolicyState::Denied)).clone();
        denied.severity = Severity::Critical;
        let denied = Arc::new(denied);
        assert_eq!(phase(&mut incidents, &new), Some(Phase::Began));
        let told = incidents.observe(&denied).expect("told");
        assert_eq!(
            (told.phase, told.severity),
            (Phase::Began, Severity::Critical)
        );
        assert_eq!(phase(&mut incidents, &denied), None, "once");
        assert_eq!(
            phase(&mut incidents, &event(CLOSED, 40_001, 1, PolicyState::New)),
            None
        );
        let closed = event(CLOSED, 55_552, 2, PolicyState::Denied);
        assert_eq!(phase(&mut incidents, &closed), Some(Phase::Ended));
        // Also where nobody was told of the new one, since it was there before.
        let mut incidents = Incidents::new(frame(), None);
        let there = event(EventType::ListenerPresent, 40_001, 1, PolicyState::New);
        assert_eq!(phase(&mut incidents, &there), None);
        incidents.observe(&Arc::new(testing::event(1, EventType::SensorReady)));
        assert_eq!(phase(&mut incidents, &denied), Some(Phase::Began));
    }

    /// After a reboot portwatch is ready before the service is.
    #[test]
    fn what_was_down_before_a_reboot_is_back_when_it_listens_and_missed_again_after_that() {
        let state = PolicyState::Expected;
        let down = event(EventType::ListenerDown, 80, 1, state);
        let mut first = running(Some(Vec::new()));
        assert_eq!(phase(&mut first, &down), Some(Phase::Began));
        let before: Vec<Open> = first.all().collect();
        let mut second = running(Some(before.clone()));
        assert_eq!(second.ended_unseen(), []);
        assert_eq!(
            phase(&mut second, &event(OPENED, 80, 2, state)),
            Some(Phase::Ended)
        );
        assert_eq!(phase(&mut second, &down), Some(Phase::Began));
        // It did not come back: that is told already.
        let mut second = running(Some(before));
        assert_eq!(second.ended_unseen(), []);
        assert_eq!(phase(&mut second, &down), Some(Phase::Still));
        assert_eq!(phase(&mut second, &down), None);
        let back = event(EventType::ListenerRecovered, 80, 2, state);
        assert_eq!(phase(&mut second, &back), Some(Phase::Ended));
    }

    #[test]
    fn at_the_very_first_start_what_is_there_is_not_news() {
        let mut incidents = Incidents::new(frame(), None);
        let there = event(EventType::ListenerPresent, 4444, 1, PolicyState::New);
        assert_eq!(phase(&mut incidents, &there), None);
        assert_eq!(incidents.all().count(), 1);
        let closed = event(CLOSED, 4444, 1, PolicyState::New);
        assert_eq!(phase(&mut incidents, &closed), Some(Phase::Ended));
    }

    #[test]
    fn what_the_kernel_denies_is_told_only_where_it_did_not_before() {
        let mut degraded = testing::event(1, EventType::SensorDegraded);
        degraded.sensor = Some(crate::event::Sensor {
            signal: Some("tcp.listen".to_owned()),
            ..crate::event::Sensor::default()
        });
        let degraded = Arc::new(degraded);
        let mut first = Incidents::new(frame(), None);
        assert_eq!(phase(&mut first, &degraded), None);
        let mut second = Incidents::new(frame(), Some(first.all().collect()));
        assert_eq!(phase(&mut second, &degraded), None);
        let mut other = Incidents::new(frame(), Some(Vec::new()));
        assert_eq!(phase(&mut other, &degraded), Some(Phase::Once));
        assert_eq!(phase(&mut other, &degraded), None);
    }

    #[test]
    fn what_was_told_before_is_not_told_again_and_what_came_meanwhile_is() {
        let mut first = running(None);
        let new = PolicyState::New;
        for port in [4444, 5555] {
            let begun = event(OPENED, port, u64::from(port), new);
            assert_eq!(phase(&mut first, &begun), Some(Phase::Began));
        }
        let left: Vec<Open> = first.all().collect();
        let mut second = Incidents::new(frame(), Some(left));
        let present = EventType::ListenerPresent;
        let again = event(present, 4444, 11, new);
        assert_eq!(phase(&mut second, &again), Some(Phase::Still));
        assert_eq!(phase(&mut second, &again), None);
        let meanwhile = event(present, 6666, 12, new);
        assert_eq!(phase(&mut second, &meanwhile), Some(Phase::Began));
        let gone = second.ended_unseen();
        assert_eq!(gone.len(), 1);
        assert!(gone[0].key.0.contains(":5555/"), "{gone:?}");
        assert_eq!(second.all().count(), 2);
    }

    #[test]
    fn what_was_there_before_there_were_alerts_is_told_in_no_later_run() {
        let mut first = Incidents::new(frame(), None);
        let there = event(EventType::ListenerPresent, 4444, 1, PolicyState::New);
        assert_eq!(phase(&mut first, &there), None);
        let mut second = Incidents::new(frame(), Some(first.all().collect()));
        assert_eq!(phase(&mut second, &there), None);
    }

    #[test]
    fn what_was_missed_in_a_run_before_is_over_when_it_is_there() {
        let mut first = running(None);
        let state = PolicyState::Expected;
        let down = event(EventType::ListenerDown, 80, 1, state);
        assert_eq!(phase(&mut first, &down), Some(Phase::Began));
        let mut second = Incidents::new(frame(), Some(first.all().collect()));
        let there = event(EventType::ListenerPresent, 80, 2, state);
        assert_eq!(phase(&mut second, &there), Some(Phase::Ended));
        assert_eq!(phase(&mut second, &there), None);
    }

    #[test]
    fn who_was_told_of_the_begin_is_told_of_the_end() {
        let mut incidents = running(None);
        let new = PolicyState::New;
        let begun = incidents.observe(&event(OPENED, 4444, 1, new));
        let night = BTreeSet::from([Arc::from("night")]);
        incidents.was_told(&begun.expect("begun").key, night.clone());
        let ended = incidents.observe(&event(CLOSED, 4444, 1, new));
        assert_eq!(ended.expect("ended").told, night);
    }

    #[test]
    fn what_the_alerts_themselves_missed_is_told_each_time() {
        let mut incidents = running(None);
        let mut gap = testing::event(1, EventType::Gap);
        gap.gap = Some(Gap {
            ring: RingName::Client,
            cause: None,
            lost: 3,
            from: gap.ts.clone(),
            to: gap.ts.clone(),
            probe: None,
            cgroups: Vec::new(),
        });
        let gap = Arc::new(gap);
        for _ in 0..2 {
            assert_eq!(phase(&mut incidents, &gap), Some(Phase::Once));
        }
    }

    #[test]
    fn what_was_missed_is_caught_up_with() {
        let mut incidents = running(None);
        let new = PolicyState::New;
        let at = |port: u16, second: u32, state| {
            let mut event = Event::clone(&event(OPENED, port, u64::from(port), state));
            event.ts = format!("2026-11-21T19:42:{second:02}.000000000Z");
            Arc::new(event)
        };
        for port in [4001, 4002] {
            let told = phase(&mut incidents, &at(port, 1, new));
            assert_eq!(told, Some(Phase::Began));
        }
        // One is still there, one is not; of those that nobody told us of one is older than what was missed, and one
        // is approved.
        let all = [
            at(4001, 1, new),
            at(4003, 1, new),
            at(4004, 3, new),
            at(4005, 3, PolicyState::Baseline),
        ];
        let since = "2026-11-21T19:42:02.000000000Z";
        let (begun, ended) = incidents.catch_up(&all, since);
        let begun: Vec<_> = begun.iter().map(|notice| &notice.event).collect();
        assert_eq!(begun, [&all[2]]);
        assert_eq!(ended.len(), 1);
        assert!(ended[0].key.0.contains(":4002/"), "{ended:?}");
        // The events themselves, where they come after all, change nothing.
        assert_eq!(phase(&mut incidents, &all[2]), None);
        assert_eq!(phase(&mut incidents, &event(CLOSED, 4002, 4002, new)), None);
        let closed = event(CLOSED, 4004, 4004, new);
        assert_eq!(phase(&mut incidents, &closed), Some(Phase::Ended));
    }

    #[test]
    fn to_who_comes_midway_what_is_there_is_not_known() {
        let mut incidents = Incidents::midway(frame());
        let new = PolicyState::New;
        assert_eq!(phase(&mut incidents, &event(CLOSED, 80, 1, new)), None);
        let opened = event(OPENED, 81, 2, new);
        assert_eq!(phase(&mut incidents, &opened), Some(Phase::Began));
    }
}
