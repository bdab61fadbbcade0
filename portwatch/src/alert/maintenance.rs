//! Maintenance windows: in them incidents wait, and what is over at the end of the window is not told at all. Pure;
//! time comes as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Zoned;
use jiff::civil::{Date, DateTime, Time, Weekday};

use serde::{Deserialize, Serialize};

use super::incident::{Key, Notice, Phase};
use crate::event::{Event, Severity};
use crate::filter::Filter;
use crate::time::BootNs;

/// Incidents that wait at once; what comes beyond them is told in spite of the window.
const LIMIT: usize = 10_000;

/// A span of time in which some incidents are expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// What it is called in the log.
    pub name: String,
    /// When it is.
    pub when: When,
    /// What waits; everything where none is said.
    pub filter: Option<Filter>,
}

/// When a window is, by the clock of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// On these days from one time of the day to another, past midnight where that is earlier.
    Weekly {
        /// The days on which it begins.
        days: Vec<Weekday>,
        /// Begin.
        from: Time,
        /// End.
        to: Time,
    },
    /// Once.
    Once {
        /// Begin.
        from: DateTime,
        /// End.
        to: DateTime,
    },
}

impl Window {
    /// When it ends, if it is now.
    #[must_use]
    pub fn end(&self, now: &Zoned) -> Option<Zoned> {
        match &self.when {
            When::Once { from, to } => within(*from, *to, now),
            When::Weekly { days, from, to } => {
                let today = now.date();
                [today.yesterday().ok(), Some(today)]
                    .into_iter()
                    .flatten()
                    .filter(|day| days.contains(&day.weekday()))
                    .find_map(|day| within(day.to_datetime(*from), end_of(day, *from, *to)?, now))
            }
        }
    }

    /// Is the event one of those that it is about?
    #[must_use]
    pub fn covers(&self, event: &Event) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| filter.matches(event))
    }
}

fn end_of(day: Date, from: Time, to: Time) -> Option<DateTime> {
    let last = if to > from { day } else { day.tomorrow().ok()? };
    Some(last.to_datetime(to))
}

/// Times that a clock change skips or repeats are taken as the system does it (RFC 5545: the earlier of two).
fn within(from: DateTime, to: DateTime, now: &Zoned) -> Option<Zoned> {
    let zone = now.time_zone();
    let from = from.to_zoned(zone.clone()).ok()?;
    let to = to.to_zoned(zone.clone()).ok()?;
    (from <= *now && *now < to).then_some(to)
}

/// An incident that waits, as it outlives the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resting {
    key: Key,
    phase: Phase,
    since: String,
    severity: Severity,
    event: Event,
    told: BTreeSet<String>,
}

impl From<Resting> for Notice {
    fn from(resting: Resting) -> Self {
        Self {
            key: resting.key,
            phase: resting.phase,
            since: resting.since,
            severity: resting.severity,
            event: Arc::new(resting.event),
            told: resting
                .told
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        }
    }
}

/// Incidents that wait for the end of a window.
#[derive(Debug, Default)]
pub struct Held {
    waiting: BTreeMap<Key, (Notice, BootNs)>,
    /// Ends of what was told before the window, while the same matter has begun again in it.
    ends: BTreeMap<Key, Notice>,
}

impl Held {
    /// Keeps a notice until then; gives it back when there is no room for it. What began and ended meanwhile is
    /// forgotten.
    pub fn keep(&mut self, notice: Notice, until: BootNs) -> Option<Notice> {
        match (self.waiting.get(&notice.key), notice.phase) {
            (Some((begun, _)), Phase::Ended) if begun.phase != Phase::Ended => {
                self.waiting.remove(&notice.key);
                // What was told before has ended all the same.
                if let Some(end) = self.ends.remove(&notice.key) {
                    self.waiting.insert(notice.key, (end, until));
                }
                None
            }
            (None, _) if self.waiting.len() >= LIMIT => Some(notice),
            (before, phase) => {
                if let Some((end, _)) = before
                    && end.phase == Phase::Ended
                    && phase != Phase::Ended
                {
                    self.ends.insert(notice.key.clone(), end.clone());
                }
                self.waiting.insert(notice.key.clone(), (notice, until));
                None
            }
        }
    }

    /// Until when something waits that belongs to this matter: its end waits with it, whatever the window says.
    #[must_use]
    pub fn until(&self, key: &Key) -> Option<BootNs> {
        self.waiting.get(key).map(|(_, until)| *until)
    }

    /// When [`Self::release`] has something.
    #[must_use]
    pub fn due(&self) -> Option<BootNs> {
        self.waiting.values().map(|(_, until)| *until).min()
    }

    /// Everything whose window is over.
    pub fn release(&mut self, now: BootNs) -> Vec<Notice> {
        let due = self.waiting.extract_if(.., |_, (_, until)| *until <= now);
        let due: Vec<Notice> = due.map(|(_, (notice, _))| notice).collect();
        for notice in &due {
            self.ends.remove(&notice.key);
        }
        due
    }

    /// What waits, to outlive this run.
    pub fn all(&self) -> impl Iterator<Item = Resting> {
        self.waiting.values().map(|(notice, _)| Resting {
            key: notice.key.clone(),
            phase: notice.phase,
            since: notice.since.clone(),
            severity: notice.severity,
            event: Event::clone(&notice.event),
            told: notice.told.iter().map(ToString::to_string).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Zoned;
    use jiff::civil::{Weekday, date, time};

    use super::{Held, LIMIT, When, Window};
    use crate::alert::incident::{Notice, Phase};
    use crate::alert::message::tests::notice;
    use crate::time::BootNs;

    fn at(text: &str) -> Zoned {
        format!("{text}[Europe/Berlin]").parse().expect("a time")
    }

    fn window(when: When) -> Window {
        Window {
            name: "patches".to_owned(),
            when,
            filter: None,
        }
    }

    /// 2026-11-22 is a Sunday.
    #[test]
    fn a_night_begins_on_its_day_and_ends_on_the_next() {
        let night = window(When::Weekly {
            days: vec![Weekday::Sunday],
            from: time(23, 0, 0, 0),
            to: time(2, 0, 0, 0),
        });
        let end = night.end(&at("2026-11-22T23:30:00+01:00"));
        assert_eq!(end, Some(at("2026-11-23T02:00:00+01:00")));
        assert!(night.end(&at("2026-11-23T01:59:59+01:00")).is_some());
        for outside in [
            "2026-11-22T22:59:59+01:00",
            "2026-11-23T02:00:00+01:00",
            "2026-11-23T23:30:00+01:00",
            "2026-11-22T01:00:00+01:00",
        ] {
            assert_eq!(night.end(&at(outside)), None, "{outside}");
        }
    }

    #[test]
    fn a_day_of_its_own_comes_once() {
        let move_of_hosts = window(When::Once {
            from: date(2026, 12, 24).at(22, 0, 0, 0),
            to: date(2026, 12, 25).at(4, 0, 0, 0),
        });
        assert!(
            move_of_hosts
                .end(&at("2026-12-25T03:00:00+01:00"))
                .is_some()
        );
        assert_eq!(move_of_hosts.end(&at("2027-12-25T03:00:00+01:00")), None);
    }

    /// The clocks go back at 3 in the morning of 2026-10-25: the window is an hour longer.
    #[test]
    fn a_changed_clock_does_not_end_it_early() {
        let night = window(When::Weekly {
            days: vec![Weekday::Sunday],
            from: time(1, 0, 0, 0),
            to: time(4, 0, 0, 0),
        });
        let end = night.end(&at("2026-10-25T02:30:00+01:00"));
        assert_eq!(end, Some(at("2026-10-25T04:00:00+01:00")));
    }

    const END: BootNs = BootNs(9);

    #[test]
    fn what_is_over_at_the_end_is_not_told() {
        let mut held = Held::default();
        let begun = notice(81, "/usr/bin/nc");
        let ended = Notice {
            phase: Phase::Ended,
            ..begun.clone()
        };
        let other = notice(82, "/usr/bin/nc");
        for one in [begun, other.clone(), ended] {
            assert_eq!(held.keep(one, END), None);
        }
        assert_eq!(held.until(&other.key), Some(END));
        let kept: Vec<Notice> = held.all().map(Notice::from).collect();
        assert_eq!(kept, std::slice::from_ref(&other));
        assert_eq!(held.release(BootNs(8)), []);
        assert_eq!(held.release(END), [other]);
        assert_eq!(held.due(), None);
    }

    #[test]
    fn the_end_of_what_was_told_before_is_kept_for_the_end() {
        let mut held = Held::default();
        let ended = Notice {
            phase: Phase::Ended,
            ..notice(81, "/usr/bin/nc")
        };
        assert_eq!(held.keep(ended.clone(), END), None);
        assert_eq!(held.release(END), [ended]);
    }

    #[test]
    fn what_comes_and_goes_behind_such_an_end_does_not_swallow_it() {
        let mut held = Held::default();
        let begun = notice(81, "/usr/bin/nc");
        let ended = Notice {
            phase: Phase::Ended,
            ..begun.clone()
        };
        for _ in 0..2 {
            assert_eq!(held.keep(ended.clone(), END), None);
            assert_eq!(held.keep(begun.clone(), END), None);
        }
        assert_eq!(held.keep(ended.clone(), END), None);
        assert_eq!(held.release(END), std::slice::from_ref(&ended));
        // It is down at the end of the window: that is what is told.
        assert_eq!(held.keep(ended, END), None);
        assert_eq!(held.keep(begun.clone(), END), None);
        assert_eq!(held.release(END), [begun]);
    }

    #[test]
    fn a_flood_does_not_wait() {
        let mut held = Held::default();
        let told = (0..=LIMIT).filter_map(|number| {
            let exe = format!("/tmp/{number}");
            held.keep(notice(81, &exe), END)
        });
        assert_eq!(told.count(), 1);
    }
}
