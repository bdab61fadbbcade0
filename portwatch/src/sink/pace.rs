//! When what was written has to be synced. Pure.

use std::time::{Duration, Instant};

/// What could not be synced is tried again after this span.
const RETRY: Duration = Duration::from_secs(1);

/// When what was written is made to survive the end of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// With each batch, before it is handed on.
    Always,
    /// After this span at the latest.
    Within(Duration),
    /// When the kernel likes.
    Never,
}

/// Keeps to a policy.
#[derive(Debug)]
pub(super) struct Pace {
    policy: Sync,
    due: Option<Instant>,
    has_failed: bool,
}

impl Pace {
    pub(super) const fn new(policy: Sync) -> Self {
        Self {
            policy,
            due: None,
            has_failed: false,
        }
    }

    /// Something was written.
    pub(super) fn wrote(&mut self, now: Instant) {
        let span = match self.policy {
            Sync::Always => Duration::ZERO,
            Sync::Within(span) => span,
            Sync::Never => return,
        };
        let due = now + span;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When it has to be synced; nothing when nothing has.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Has it to be synced now?
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// It was tried. What failed stays due: what the kernel still has in memory is written again, see `settle.rs`.
    pub(super) fn tried(&mut self, is_synced: bool, now: Instant) {
        self.has_failed = !is_synced;
        self.due = self.has_failed.then(|| now + RETRY);
    }

    /// Did the last attempt fail?
    pub(super) const fn has_failed(&self) -> bool {
        self.has_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_write_of_a_span_decides() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut pace = Pace::new(Sync::Within(Duration::from_millis(10)));
        assert!(!pace.is_due(at(100)));
        pace.wrote(at(0));
        pace.wrote(at(9));
        assert_eq!(pace.due(), Some(at(10)));
        assert!(!pace.is_due(at(9)) && pace.is_due(at(10)));
        pace.tried(true, at(10));
        assert!(!pace.is_due(at(11)));
        pace.wrote(at(20));
        assert_eq!(pace.due(), Some(at(30)));
        let mut always = Pace::new(Sync::Always);
        always.wrote(at(0));
        assert!(always.is_due(at(0)));
        let mut never = Pace::new(Sync::Never);
        never.wrote(at(0));
        assert_eq!(never.due(), None);
    }

    #[test]
    fn what_failed_stays_due() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        for policy in [Sync::Always, Sync::Within(Duration::from_millis(10))] {
            let mut pace = Pace::new(policy);
            pace.wrote(at(0));
            pace.tried(false, at(10));
            assert!(pace.has_failed());
            assert_eq!(pace.due(), Some(at(1_010)));
            // Whatever is written meanwhile does not put it off.
            pace.wrote(at(1_005));
            assert!(pace.due() <= Some(at(1_010)));
            pace.tried(true, at(1_010));
            assert!(!pace.has_failed() && pace.due().is_none());
        }
    }
}
