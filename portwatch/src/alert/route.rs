//! What one channel is told of, and when: its severity and expression, its grouping, its digest, its reminders. Pure;
//! time comes as an argument.

use std::sync::Arc;
use std::time::Duration;

use jiff::Zoned;
use jiff::civil::Time;

use super::batch::{Batch, Content, Limits, Waiting};
use super::incident::{Notice, Phase};
use super::reminders::Reminders;
use crate::event::Severity;
use crate::filter::Filter;
use crate::time::BootNs;

/// What a channel wants to be told, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// What matters less is not told.
    pub severity: Severity,
    /// What does not match is not told.
    pub filter: Option<Filter>,
    /// How many messages there may be.
    pub limits: Limits,
    /// One message a day, at this time by the clock of the host, instead of one at once.
    pub digest: Option<Time>,
    /// How often it is reminded of what is not over.
    pub remind: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            severity: Severity::Notice,
            filter: None,
            limits: Limits::default(),
            digest: None,
            remind: None,
        }
    }
}

/// The moment at which something is done, by both clocks.
#[derive(Clone, Debug)]
pub struct Now {
    /// For spans.
    pub boot: BootNs,
    /// For times of the day.
    pub wall: Zoned,
}

impl Now {
    /// The moment of the boot clock at which the other one shows this time.
    #[must_use]
    pub fn boot_at(&self, then: &Zoned) -> BootNs {
        let span = self.wall.duration_until(then);
        let ns = u64::try_from(span.as_nanos()).unwrap_or(0);
        BootNs(self.boot.0.saturating_add(ns))
    }
}

/// One channel's way from incidents to messages.
#[derive(Debug)]
pub struct Route {
    name: Arc<str>,
    terms: Terms,
    batch: Batch,
    reminders: Reminders,
}

impl Route {
    /// With nothing on it.
    #[must_use]
    pub fn new(name: &str, terms: Terms) -> Self {
        Self {
            name: name.into(),
            batch: Batch::new(terms.limits),
            reminders: Reminders::new(terms.remind),
            terms,
        }
    }

    /// New terms for what comes from now on; what waits already stays.
    pub fn change(&mut self, terms: Terms, now: BootNs) {
        self.batch.change(terms.limits);
        self.reminders.change(terms.remind, now);
        self.terms = terms;
    }

    /// The channel.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Takes a notice along if the channel is to be told of it; true when it is.
    pub fn offer(&mut self, notice: &Notice, now: &Now) -> bool {
        let was_told = notice.told.contains(&self.name);
        let is_wanted = match notice.phase {
            Phase::Began | Phase::Once => self.wants(notice),
            Phase::Still => was_told || self.wants(notice),
            // Whoever was told of the begin is told of the end, however little it matters by itself, and nobody else is.
            Phase::Ended => was_told,
        };
        if !is_wanted {
            return false;
        }
        self.reminders.observe(notice, now.boot);
        // What was told before a restart is not told again.
        if notice.phase != Phase::Still || !was_told {
            self.batch.add(notice.clone(), now.boot, self.digest(now));
        }
        true
    }

    /// When there is something to do: a message to send, a reminder to add to one.
    #[must_use]
    pub fn due(&self) -> Option<BootNs> {
        let both = [self.batch.due(), self.reminders.due()];
        both.into_iter().flatten().min()
    }

    /// Does something wait for its message?
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.batch.due().is_some()
    }

    /// What waits, to outlive this run.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.batch.waiting()
    }

    /// Takes over what a run before has left waiting.
    pub fn resume(&mut self, waiting: Waiting, now: &Now) {
        let digest = self.digest(now);
        self.batch.resume(waiting, now.boot, digest);
    }

    /// The next message, when its time has come.
    pub fn take(&mut self, now: &Now) -> Option<Content> {
        for notice in self.reminders.take(now.boot) {
            self.batch.add(notice, now.boot, self.digest(now));
        }
        self.batch.take(now.boot)
    }

    fn wants(&self, notice: &Notice) -> bool {
        let filter = self.terms.filter.as_ref();
        notice.event.severity >= self.terms.severity
            && filter.is_none_or(|filter| filter.matches(&notice.event))
    }

    fn digest(&self, now: &Now) -> Option<BootNs> {
        let next = next(self.terms.digest?, &now.wall)?;
        Some(now.boot_at(&next))
    }
}

/// When it will be this time of the day again.
fn next(time: Time, now: &Zoned) -> Option<Zoned> {
    let on = |day: jiff::civil::Date| day.to_datetime(time).to_zoned(now.time_zone().clone()).ok();
    let today = on(now.date()).filter(|today| today > now);
    today.or_else(|| on(now.date().tomorrow().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use jiff::civil::time;

    use super::{Now, Route, Terms};
    use crate::alert::incident::{Notice, Phase};
    use crate::alert::message::tests::notice;
    use crate::event::Severity;
    use crate::filter::Filter;
    use crate::time::BootNs;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3_600 * SECOND;

    fn at(boot: u64, wall: &str) -> Now {
        Now {
            boot: BootNs(boot),
            wall: format!("{wall}+01:00[Europe/Berlin]")
                .parse()
                .expect("a time"),
        }
    }

    fn end(of: &Notice, told: &[&str]) -> Notice {
        Notice {
            phase: Phase::Ended,
            told: told.iter().map(|name| (*name).into()).collect(),
            ..of.clone()
        }
    }

    #[test]
    fn severity_and_expression_choose_and_the_end_follows_the_begin() {
        let now = at(0, "2026-11-22T10:00:00");
        let mut urgent = Terms {
            severity: Severity::Critical,
            ..Terms::default()
        };
        let begun = notice(81, "/usr/bin/nc");
        assert!(!Route::new("pager", urgent.clone()).offer(&begun, &now));
        urgent.severity = Severity::Notice;
        urgent.filter = Filter::parse("port == 82").ok();
        let mut route = Route::new("pager", urgent);
        assert!(!route.offer(&begun, &now));
        assert!(route.offer(&notice(82, "/usr/bin/nc"), &now));
        assert!(!route.offer(&end(&begun, &["mail"]), &now));
        assert!(route.offer(&end(&begun, &["mail", "pager"]), &now));
    }

    #[test]
    fn a_digest_is_one_message_at_its_time() {
        let terms = Terms {
            digest: Some(time(7, 0, 0, 0)),
            ..Terms::default()
        };
        let mut route = Route::new("daily", terms);
        route.offer(&notice(81, "/usr/bin/nc"), &at(0, "2026-11-22T06:00:00"));
        route.offer(
            &notice(82, "/usr/bin/nc"),
            &at(HOUR / 2, "2026-11-22T06:30:00"),
        );
        assert_eq!(route.due(), Some(BootNs(HOUR)));
        let told = route.take(&at(HOUR, "2026-11-22T07:00:00")).expect("due");
        assert_eq!(told.entries.len(), 2);
        let later = at(HOUR, "2026-11-22T07:00:00");
        route.offer(&notice(83, "/usr/bin/nc"), &later);
        assert_eq!(route.due(), Some(BootNs(25 * HOUR)));
    }

    #[test]
    fn a_reminder_becomes_a_message_and_ends_with_its_matter() {
        let terms = Terms {
            remind: Some(Duration::from_secs(4 * 3600)),
            ..Terms::default()
        };
        let mut route = Route::new("mail", terms);
        let begun = notice(81, "/usr/bin/nc");
        route.offer(&begun, &at(0, "2026-11-22T06:00:00"));
        assert!(route.take(&at(SECOND, "2026-11-22T06:00:01")).is_some());
        assert!(!route.is_waiting());
        assert_eq!(route.due(), Some(BootNs(4 * HOUR)));
        let due = at(4 * HOUR, "2026-11-22T10:00:00");
        assert_eq!(route.take(&due), None);
        let told = route.take(&at(4 * HOUR + SECOND, "2026-11-22T10:00:01"));
        assert_eq!(told.expect("due").entries[0].phase, Phase::Still);
        route.offer(&end(&begun, &["mail"]), &due);
        route.take(&at(5 * HOUR, "2026-11-22T11:00:00"));
        assert_eq!(route.due(), None);
    }

    /// After a restart: told in the run before, so it is not told again, but reminded of.
    #[test]
    fn what_goes_on_after_a_restart_is_reminded_of() {
        let terms = Terms {
            remind: Some(Duration::from_secs(3600)),
            ..Terms::default()
        };
        let mut route = Route::new("mail", terms);
        let still = Notice {
            phase: Phase::Still,
            told: BTreeSet::from(["mail".into()]),
            ..notice(81, "/usr/bin/nc")
        };
        assert!(route.offer(&still, &at(0, "2026-11-22T06:00:00")));
        assert!(!route.is_waiting());
        assert_eq!(route.due(), Some(BootNs(HOUR)));
    }
}
