//! When what was written has to be synced. Pure.

use std::time::{Duration, Instant};

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
}

impl Pace {
    pub(super) const fn new(policy: Sync) -> Self {
        Self { policy, due: None }
    }

    /// Something was written.
    pub(super) fn wrote(&mut self, now: Instant) {
        let span = match self.policy {
            Sync::Always => Duration::ZERO,
            Sync::Within(span) => span,
            Sync::Never => return,
        };
        self.due.get_or_insert(now + span);
    }

    /// When it has to be synced; nothing when nothing has.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Has it to be synced now? It is taken as done.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
        }
        is_due
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
        assert!(!pace.is_due(at(9)) && pace.is_due(at(10)) && !pace.is_due(at(11)));
        pace.wrote(at(20));
        assert_eq!(pace.due(), Some(at(30)));
        let mut always = Pace::new(Sync::Always);
        always.wrote(at(0));
        assert!(always.is_due(at(0)));
        let mut never = Pace::new(Sync::Never);
        never.wrote(at(0));
        assert_eq!(never.due(), None);
    }
}
