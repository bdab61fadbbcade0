//! Which incidents go into one message, and when: at once for the first, in growing distances while there are more, and
//! never more than so many in a span of time. Pure; time comes as an argument.
//!
//! Nothing is thrown away: what does not fit into a message is counted in it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::incident::{Key, Notice, Phase};
use super::message::Entry;
use crate::event::{Event, Severity};
use crate::time::BootNs;

/// Incidents that one message tells one by one.
const ENTRIES: usize = 100;
/// What the others are counted by.
const GROUPS: usize = 50;
/// Distance to the message before, while there is one after the other.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// How many messages a channel may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long an incident waits for others to go with it.
    pub window: Duration,
    /// So many messages …
    pub messages: u32,
    /// … in this span of time.
    pub span: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(300),
            messages: 20,
            span: Duration::from_secs(3600),
        }
    }
}

/// What waits for the next message, as it outlives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    entries: Vec<(Key, Entry)>,
    more: BTreeMap<String, u64>,
    severity: Option<Severity>,
}

/// What is to become the next message of one channel.
#[derive(Debug)]
pub struct Batch {
    limits: Limits,
    waiting: Waiting,
    due: Option<BootNs>,
    /// Index into [`PAUSES`].
    pace: usize,
    sent: VecDeque<BootNs>,
    held_until: Option<BootNs>,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// How much the worst of it matters.
    pub severity: Severity,
    /// Incidents.
    pub entries: Vec<Entry>,
    /// Those that are only counted.
    pub more: Vec<(String, u64)>,
    /// It is the last one for this long.
    pub silent_for: Option<Duration>,
}

impl Batch {
    /// Empty.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: Waiting::default(),
            due: None,
            pace: 0,
            sent: VecDeque::new(),
            held_until: None,
        }
    }

    /// Adds an incident, to be told at `not_before` or later where that is said.
    pub fn add(&mut self, notice: Notice, now: BootNs, not_before: Option<BootNs>) {
        self.schedule(now, not_before);
        let waiting = &mut self.waiting;
        waiting.severity = waiting.severity.max(Some(notice.event.severity));
        let has_room = waiting.entries.len() < ENTRIES;
        let known = waiting
            .entries
            .iter_mut()
            .find(|(key, _)| *key == notice.key);
        match (known, notice.phase) {
            (Some((_, entry)), Phase::Ended) if entry.phase == Phase::Began => {
                entry.ended_after_ms = notice.event.duration_ms.or(Some(0));
            }
            (Some((_, entry)), Phase::Began | Phase::Once) if entry.phase == notice.phase => {
                let again = entry.again + 1;
                // What is worse is what is told.
                if notice.severity > entry.severity {
                    *entry = notice.into();
                }
                entry.again = again;
                entry.ended_after_ms = None;
            }
            // It is in this message anyhow.
            (Some(_), Phase::Still) => {}
            _ if has_room => {
                let key = notice.key.clone();
                waiting.entries.push((key, notice.into()));
            }
            _ => waiting.count(&notice),
        }
    }

    /// What waits, to outlive this run.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Takes over what a run before has left waiting.
    pub fn resume(&mut self, waiting: Waiting, now: BootNs, not_before: Option<BootNs>) {
        if waiting.severity.is_some() {
            self.schedule(now, not_before);
            self.waiting = waiting;
        }
    }

    fn schedule(&mut self, now: BootNs, not_before: Option<BootNs>) {
        self.due.get_or_insert_with(|| {
            let window = add(now, self.limits.window);
            let last = self.sent.back().copied();
            // After a long quiet the first one is told at once again.
            if last.is_none_or(|last| now.since(last) > 2 * nanos(PAUSES[self.pace])) {
                self.pace = 0;
            }
            let pause = last.map(|last| add(last, PAUSES[self.pace]));
            [Some(window), pause, self.held_until, not_before]
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(window)
        });
    }

    /// Other limits from now on.
    pub const fn change(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// When [`Self::take`] has something.
    #[must_use]
    pub const fn due(&self) -> Option<BootNs> {
        self.due
    }

    /// The next message, when its time has come.
    pub fn take(&mut self, now: BootNs) -> Option<Content> {
        if self.due? > now {
            return None;
        }
        self.due = None;
        while let Some(&oldest) = self.sent.front()
            && add(oldest, self.limits.span) <= now
        {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        self.pace = (self.pace + 1).min(PAUSES.len() - 1);
        let is_last = self.sent.len() >= self.limits.messages as usize;
        let silent_for = is_last.then(|| {
            let oldest = self.sent.front().copied().unwrap_or(now);
            let until = add(oldest, self.limits.span);
            self.held_until = self.held_until.max(Some(until));
            Duration::from_nanos(until.since(now))
        });
        let waiting = std::mem::take(&mut self.waiting);
        let mut more: Vec<_> = waiting.more.into_iter().collect();
        more.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Some(Content {
            severity: waiting.severity?,
            entries: waiting
                .entries
                .into_iter()
                .map(|(_, entry)| entry)
                .collect(),
            more,
            silent_for,
        })
    }
}

impl Waiting {
    fn count(&mut self, notice: &Notice) {
        let group = group(&notice.event, notice.phase);
        let is_known = self.more.contains_key(&group);
        let group = match is_known || self.more.len() < GROUPS {
            true => group,
            false => "others".to_owned(),
        };
        *self.more.entry(group).or_default() += 1;
    }
}

/// What a flood has in common: its program.
fn group(event: &Event, phase: Phase) -> String {
    let what = match phase {
        Phase::Began | Phase::Once => event.kind.as_str().to_owned(),
        Phase::Still => format!("still {}", event.kind.as_str()),
        Phase::Ended => format!("end of {}", event.kind.as_str()),
    };
    let process = event.process.as_ref();
    let program = process.map(|process| process.exe.as_ref().unwrap_or(&process.name));
    match program {
        Some(program) => format!("{what} by {program}"),
        None => what,
    }
}

fn add(at: BootNs, span: Duration) -> BootNs {
    BootNs(at.0.saturating_add(nanos(span)))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Batch, Limits, Notice, Phase};
    use crate::alert::message::tests::notice;
    use crate::time::BootNs;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    fn batch() -> Batch {
        Batch::new(Limits::default())
    }

    fn ended(port: u16) -> Notice {
        Notice {
            phase: Phase::Ended,
            ..notice(port, "/usr/bin/nc")
        }
    }

    #[test]
    fn the_first_goes_at_once_and_what_comes_with_it_goes_along() {
        let mut batch = batch();
        batch.add(notice(81, "/usr/bin/nc"), BootNs(0), None);
        batch.add(notice(82, "/usr/bin/nc"), BootNs(200 * MS), None);
        assert_eq!(batch.due(), Some(BootNs(300 * MS)));
        assert_eq!(batch.take(BootNs(299 * MS)), None);
        let content = batch.take(BootNs(300 * MS)).expect("due");
        assert_eq!(content.entries.len(), 2);
        assert_eq!((batch.due(), batch.take(BootNs(SECOND))), (None, None));
    }

    #[test]
    fn what_comes_and_goes_is_one_entry() {
        let mut batch = batch();
        batch.add(notice(81, "/usr/bin/nc"), BootNs(0), None);
        batch.add(ended(81), BootNs(1), None);
        batch.add(notice(81, "/usr/bin/nc"), BootNs(2), None);
        batch.add(ended(81), BootNs(3), None);
        let content = batch.take(BootNs(SECOND)).expect("due");
        let [entry] = content.entries.as_slice() else {
            panic!("{content:?}")
        };
        assert_eq!((entry.ended_after_ms, entry.again), (Some(0), 1));
    }

    #[test]
    fn distances_grow_while_there_is_more_and_shrink_after_a_quiet() {
        let mut batch = batch();
        let mut told = Vec::new();
        for tick in 0..6_000 {
            let now = BootNs(tick * 100 * MS);
            batch.add(notice(81, "/usr/bin/nc"), now, None);
            if batch.take(now).is_some() {
                told.push(tick / 10);
            }
        }
        assert_eq!(told, [0, 10, 70, 370]);
        batch.add(notice(81, "/usr/bin/nc"), BootNs(600 * SECOND), None);
        assert!(batch.take(BootNs(700 * SECOND)).is_some());
        let later = 700 * SECOND + 601 * SECOND;
        batch.add(notice(81, "/usr/bin/nc"), BootNs(later), None);
        assert_eq!(batch.due(), Some(BootNs(later + 300 * MS)));
    }

    /// The flood of the acceptance: ten thousand in a minute are a few messages that account for all of them.
    #[test]
    fn ten_thousand_in_a_minute_are_a_few_messages_that_account_for_all() {
        let mut batch = batch();
        let (mut messages, mut told) = (0, 0);
        let mut take = |batch: &mut Batch, now| {
            if let Some(content) = batch.take(BootNs(now)) {
                messages += 1;
                let more: u64 = content.more.iter().map(|(_, count)| count).sum();
                told += content.entries.len() as u64 + more;
            }
        };
        for n in 0..10_000_u64 {
            let now = n * 6 * MS;
            batch.add(notice(n as u16 + 1, "/usr/bin/nc"), BootNs(now), None);
            take(&mut batch, now);
        }
        take(&mut batch, 3600 * SECOND);
        assert_eq!((messages, told), (3, 10_000));
    }

    #[test]
    fn the_last_message_of_a_span_says_so_and_nothing_comes_before_its_end() {
        let limits = Limits {
            messages: 2,
            ..Limits::default()
        };
        let mut batch = Batch::new(limits);
        batch.add(notice(81, "/usr/bin/nc"), BootNs(0), None);
        assert_eq!(batch.take(BootNs(SECOND)).expect("due").silent_for, None);
        batch.add(notice(82, "/usr/bin/nc"), BootNs(100 * SECOND), None);
        let last = batch.take(BootNs(101 * SECOND)).expect("due");
        assert_eq!(last.silent_for, Some(Duration::from_secs(3500)));
        batch.add(notice(83, "/usr/bin/nc"), BootNs(102 * SECOND), None);
        assert_eq!(batch.due(), Some(BootNs(3601 * SECOND)));
        let after = batch.take(BootNs(3601 * SECOND)).expect("due");
        assert_eq!(after.entries.len(), 1);
    }

    #[test]
    fn what_waits_outlives_the_daemon() {
        let mut before = batch();
        before.add(notice(81, "/usr/bin/nc"), BootNs(0), None);
        let json = serde_json::to_string(&before.waiting()).expect("JSON");
        let mut after = batch();
        let waiting = serde_json::from_str(&json).expect("the same");
        after.resume(waiting, BootNs(SECOND), None);
        let told = after.take(BootNs(2 * SECOND));
        assert_eq!(told, before.take(BootNs(2 * SECOND)));
        after.resume(before.waiting(), BootNs(3 * SECOND), None);
        assert_eq!(after.due(), None, "nothing is no message");
    }

    #[test]
    fn a_digest_comes_at_its_time() {
        let mut batch = batch();
        let digest = Some(BootNs(50 * SECOND));
        batch.add(notice(81, "/usr/bin/nc"), BootNs(0), digest);
        batch.add(notice(82, "/usr/bin/nc"), BootNs(SECOND), digest);
        assert_eq!(batch.take(BootNs(49 * SECOND)), None);
        let content = batch.take(BootNs(50 * SECOND)).expect("due");
        assert_eq!(content.entries.len(), 2);
    }

    proptest! {
        /// Whatever comes, messages are bounded and every begin is accounted for.
        #[test]
        fn messages_are_bounded_and_nothing_is_lost(
            steps in prop::collection::vec((1_u16..400, 0_u64..20_000), 1..400),
            most in 1_u32..5,
        ) {
            let limits = Limits { messages: most, span: Duration::from_secs(60), ..Limits::default() };
            let mut batch = Batch::new(limits);
            let (mut now, mut told, mut sent) = (0, 0, Vec::new());
            let count = steps.len() as u64;
            let take = |batch: &mut Batch, now: u64, sent: &mut Vec<u64>| {
                let Some(content) = batch.take(BootNs(now)) else { return 0 };
                sent.push(now);
                let more: u64 = content.more.iter().map(|(_, count)| count).sum();
                let again: u64 = content.entries.iter().map(|entry| entry.again).sum();
                content.entries.len() as u64 + again + more
            };
            for (port, pause) in steps {
                now += pause * MS;
                told += take(&mut batch, now, &mut sent);
                batch.add(notice(port, "/usr/bin/nc"), BootNs(now), None);
            }
            told += take(&mut batch, now + 3600 * SECOND, &mut sent);
            prop_assert_eq!(told, count);
            for (at, first) in sent.iter().enumerate() {
                let within = sent[at..].iter().filter(|one| **one < first + 60 * SECOND).count();
                prop_assert!(within <= most as usize, "{sent:?}");
            }
        }
    }
}
