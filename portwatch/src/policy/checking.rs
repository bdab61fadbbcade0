//! When one expectation's check is due, and how often in a row it failed. Pure; time comes as an argument.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crate::check::{Asked, Check, Failure, Target, Ticket};
use crate::time::BootNs;

/// The first pause between checks of what has just come back: it may need a moment until it answers.
const IMPATIENT: Duration = Duration::from_secs(1);

/// One check, again and again.
#[derive(Clone, Debug)]
pub(super) struct Checking {
    pub(super) check: Check,
    /// When it is due; never while there is nothing to ask.
    next: Option<BootNs>,
    /// Until the one after that.
    pause: Duration,
    under_way: Option<UnderWay>,
    streak: Option<Streak>,
    /// Why the last one could not be made.
    unmade: Option<String>,
}

/// A check that has no outcome yet.
#[derive(Clone, Debug)]
struct UnderWay {
    ticket: Ticket,
    since: BootNs,
    target: Target,
    /// It asks what is there now, and not what was before.
    counts: bool,
}

/// Failures without a success between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Streak {
    /// When the first of them began.
    pub(super) since: BootNs,
    pub(super) failures: u32,
    /// The last of them, and what was asked.
    pub(super) error: Failure,
    pub(super) target: Target,
}

/// What an outcome means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It answers, at this target.
    Answered(Target),
    /// It has failed so often that it is to be told.
    Unanswered,
    /// Nothing new.
    Nothing,
}

impl Checking {
    pub(super) const fn new(check: Check) -> Self {
        Self {
            pause: check.every,
            check,
            next: None,
            under_way: None,
            streak: None,
            unmade: None,
        }
    }

    /// From here on there is something to ask. It goes on where it is asked already. Checks of different rules begin
    /// at different times, so that many of them do not come at once; one that many wait for is made at once.
    pub(super) fn begin(&mut self, rule: &str, is_urgent: bool, now: BootNs) {
        if self.next.is_some() {
            return;
        }
        let delay = if is_urgent {
            self.pause = IMPATIENT.min(self.check.every);
            0
        } else {
            self.pause = self.check.every;
            phase(rule, self.check.every)
        };
        self.next = Some(BootNs(now.0.saturating_add(delay)));
    }

    /// There is nothing to ask any more. What comes back will be something else.
    pub(super) fn stop(&mut self) {
        self.next = None;
        self.streak = None;
        self.unmade = None;
        if let Some(under_way) = &mut self.under_way {
            under_way.counts = false;
        }
    }

    /// Takes over what the same check came to before.
    pub(super) fn resume(&mut self, before: Self) {
        if before.check == self.check {
            *self = before;
        }
    }

    /// When the next one is due; `None` while one is under way.
    pub(super) fn due(&self) -> Option<BootNs> {
        self.next.filter(|_| self.under_way.is_none())
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// It is made now, under this name, and tells of this target first.
    pub(super) fn made(&mut self, ticket: Ticket, target: Target, now: BootNs) {
        self.under_way = Some(UnderWay {
            ticket,
            since: now,
            target,
            counts: true,
        });
        self.next = Some(BootNs(now.0.saturating_add(nanoseconds(self.pause))));
        self.pause = self.check.every.min(self.pause * 2);
    }

    /// What became of it; `None` when it is none of ours.
    pub(super) fn outcome(&mut self, outcome: &Asked) -> Option<Report> {
        let under_way = self.under_way.take_if(|one| one.ticket == outcome.ticket)?;
        if !under_way.counts {
            return Some(Report::Nothing);
        }
        self.unmade = None;
        Some(match &outcome.result {
            Ok(target) => {
                self.streak = None;
                self.pause = self.check.every;
                Report::Answered(target.clone())
            }
            // That we cannot ask says nothing about who should answer.
            Err(Failure::Unmade(why)) => {
                self.unmade = Some(why.clone());
                Report::Nothing
            }
            Err(failure) => {
                let before = self.streak.take();
                let (since, failures) = before.map_or((under_way.since, 0), |before| {
                    (before.since, before.failures)
                });
                let failures = failures.saturating_add(1);
                self.streak = Some(Streak {
                    since,
                    failures,
                    error: failure.clone(),
                    target: under_way.target,
                });
                match failures >= self.check.failures {
                    true => Report::Unanswered,
                    false => Report::Nothing,
                }
            }
        })
    }

    pub(super) fn unmade(&self) -> Option<&str> {
        self.unmade.as_deref()
    }

    pub(super) fn is_of(&self, ticket: Ticket) -> bool {
        let under_way = self.under_way.as_ref();
        under_way.is_some_and(|under_way| under_way.ticket == ticket)
    }

    pub(super) const fn streak(&self) -> Option<&Streak> {
        self.streak.as_ref()
    }
}

/// Somewhere within `every`, always the same for the same rule.
fn phase(rule: &str, every: Duration) -> u64 {
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    hasher.finish() % nanoseconds(every).max(1)
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
