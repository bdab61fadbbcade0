//! For how long a disk that does not give something is asked again, before that is stepped over. Pure.
//!
//! A cable, a path to a storage network or a controller that is reset gives the same error as a bad sector, and is back
//! some seconds later. What is stepped over is lost.

use std::time::{Duration, Instant};

/// So long.
const SPAN: Duration = Duration::from_secs(10);

/// With one file.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl Patience {
    /// The disk did not give it. Has that gone on for long enough?
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let since = self.failing.map_or(now, |failing| failing.since);
        self.failing = Some(Failing { since, last: now });
        now.saturating_duration_since(since) >= SPAN
    }

    /// The disk gave something. Between bad sectors it does, and they are not waited for one by one: only one that did
    /// well for as long is trusted again.
    pub(super) fn succeeded(&mut self, now: Instant) {
        let is_long_ago = |failing: &Failing| now.saturating_duration_since(failing.last) >= SPAN;
        if self.failing.as_ref().is_some_and(is_long_ago) {
            self.failing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_after_the_span_and_comes_back_when_all_went_well_for_as_long() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut patience = Patience::default();
        for second in 0..10 {
            assert!(!patience.is_over(at(second)), "{second}");
        }
        assert!(patience.is_over(at(10)));
        // The next bad sector is not waited for.
        patience.succeeded(at(11));
        assert!(patience.is_over(at(12)));
        patience.succeeded(at(22));
        assert!(!patience.is_over(at(23)));
    }

    #[test]
    fn a_disk_that_takes_long_for_each_error_is_not_asked_for_ever() {
        let begin = Instant::now();
        let mut patience = Patience::default();
        assert!(!patience.is_over(begin));
        assert!(patience.is_over(begin + Duration::from_secs(60)));
    }
}
