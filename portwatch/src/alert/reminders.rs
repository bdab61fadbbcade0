//! Reminders of what was told and is not over. Off unless asked for. Pure; time comes as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use super::incident::{Key, Notice, Phase};
use crate::time::BootNs;

/// Matters that are remembered at once; of a flood the first ones are enough of a reminder.
const LIMIT: usize = 1_000;
/// What comes due within a tenth of the distance goes along.
const TOGETHER: u64 = 10;

/// The open matters of one channel.
#[derive(Debug)]
pub struct Reminders {
    /// Nanoseconds between two.
    every: Option<u64>,
    open: BTreeMap<Key, (Notice, BootNs)>,
}

impl Reminders {
    /// One in each such span; none where there is no span.
    #[must_use]
    pub fn new(every: Option<Duration>) -> Self {
        Self {
            every: every.map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
            open: BTreeMap::new(),
        }
    }

    /// Another span; the matters stay.
    pub fn change(&mut self, every: Option<Duration>, now: BootNs) {
        let new = Self::new(every).every;
        if new == self.every {
            return;
        }
        self.every = new;
        match self.next(now) {
            Some(next) => self.open.values_mut().for_each(|(_, due)| *due = next),
            None => self.open.clear(),
        }
    }

    /// Takes note of what the channel is told.
    pub fn observe(&mut self, notice: &Notice, now: BootNs) {
        let Some(next) = self.next(now) else { return };
        match notice.phase {
            Phase::Began | Phase::Still => {
                let has_room = self.open.len() < LIMIT || self.open.contains_key(&notice.key);
                if has_room {
                    let kept = (notice.clone(), next);
                    self.open.insert(notice.key.clone(), kept);
                }
            }
            Phase::Ended => {
                self.open.remove(&notice.key);
            }
            Phase::Once => {}
        }
    }

    /// When [`Self::take`] has something.
    #[must_use]
    pub fn due(&self) -> Option<BootNs> {
        self.open.values().map(|(_, due)| *due).min()
    }

    /// What is to be told again now.
    pub fn take(&mut self, now: BootNs) -> Vec<Notice> {
        let (Some(every), Some(next)) = (self.every, self.next(now)) else {
            return Vec::new();
        };
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let soon = BootNs(now.0.saturating_add(every / TOGETHER));
        let due = self.open.values_mut().filter(|(_, due)| *due <= soon);
        due.map(|(notice, due)| {
            *due = next;
            Notice {
                phase: Phase::Still,
                ..notice.clone()
            }
        })
        .collect()
    }

    fn next(&self, now: BootNs) -> Option<BootNs> {
        self.every.map(|every| BootNs(now.0.saturating_add(every)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Reminders;
    use crate::alert::incident::{Notice, Phase};
    use crate::alert::message::tests::notice;
    use crate::time::BootNs;

    const HOUR: u64 = 3_600_000_000_000;

    fn hourly() -> Reminders {
        Reminders::new(Some(Duration::from_secs(3600)))
    }

    #[test]
    fn what_goes_on_is_told_again_together_until_it_ends() {
        let mut reminders = hourly();
        let (one, other) = (notice(81, "/usr/bin/nc"), notice(82, "/usr/bin/nc"));
        reminders.observe(&one, BootNs(0));
        reminders.observe(&other, BootNs(HOUR / 20));
        assert_eq!(reminders.due(), Some(BootNs(HOUR)));
        assert_eq!(reminders.take(BootNs(HOUR - 1)), []);
        let told = reminders.take(BootNs(HOUR));
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|notice| notice.phase == Phase::Still));
        let ended = Notice {
            phase: Phase::Ended,
            ..one
        };
        reminders.observe(&ended, BootNs(HOUR + 1));
        let again = reminders.take(BootNs(2 * HOUR));
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].key, other.key);
    }

    #[test]
    fn without_a_span_nothing_is_kept() {
        let mut reminders = Reminders::new(None);
        reminders.observe(&notice(81, "/usr/bin/nc"), BootNs(0));
        assert_eq!(
            (reminders.due(), reminders.take(BootNs(HOUR))),
            (None, vec![])
        );
    }

    #[test]
    fn another_span_counts_from_now_on() {
        let mut reminders = hourly();
        reminders.observe(&notice(81, "/usr/bin/nc"), BootNs(0));
        reminders.change(Some(Duration::from_secs(7200)), BootNs(HOUR / 2));
        assert_eq!(reminders.due(), Some(BootNs(HOUR / 2 + 2 * HOUR)));
        reminders.change(None, BootNs(HOUR));
        assert_eq!(reminders.due(), None);
    }
}
