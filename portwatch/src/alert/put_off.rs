//! When messages are tried again that the other side wants later, while it takes others. Pure; time comes as an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// First distance of two attempts; doubled each time.
const FIRST: Duration = Duration::from_secs(1);
/// Longest distance.
const LONGEST: Duration = Duration::from_secs(900);
/// Messages that are waited for by themselves; the oldest beyond are tried at once.
const MOST: usize = 1_000;

/// Messages that wait, each for itself.
#[derive(Debug, Default)]
pub struct PutOff(BTreeMap<Uuid, (Instant, Duration)>);

impl PutOff {
    /// May it be tried now?
    #[must_use]
    pub fn is_due(&self, id: Uuid, now: Instant) -> bool {
        self.0.get(&id).is_none_or(|(due, _)| *due <= now)
    }

    /// It was put off again; `jittered` varies the distance.
    pub fn again(&mut self, id: Uuid, now: Instant, jittered: impl Fn(Duration) -> Duration) {
        let before = self.0.get(&id).map_or(Duration::ZERO, |(_, pause)| *pause);
        let pause = (before * 2).clamp(FIRST, LONGEST);
        self.0.insert(id, (now + jittered(pause), pause));
        if self.0.len() > MOST {
            self.0.pop_first();
        }
    }

    /// It is done with.
    pub fn forget(&mut self, id: Uuid) {
        self.0.remove(&id);
    }

    /// None of those that are due waits any more: somebody has taken them out of the queue.
    pub fn forget_due(&mut self, now: Instant) {
        self.0.retain(|_, (due, _)| *due > now);
    }

    /// When the next one may be tried.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|(due, _)| *due).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use uuid::Uuid;

    use super::{LONGEST, MOST, PutOff};

    fn id(number: usize) -> Uuid {
        Uuid::from_u128(number as u128)
    }

    #[test]
    fn each_waits_for_itself_and_longer_each_time() {
        let (mut all, start) = (PutOff::default(), Instant::now());
        let mut now = start;
        assert!(all.is_due(id(1), now));
        for seconds in [1, 2, 4, 8] {
            all.again(id(1), now, |pause| pause);
            let due = now + Duration::from_secs(seconds);
            assert_eq!(all.next(), Some(due));
            assert!(!all.is_due(id(1), now) && all.is_due(id(1), due) && all.is_due(id(2), now));
            now = due;
        }
        for _ in 0..20 {
            all.again(id(1), now, |pause| pause);
        }
        assert_eq!(all.next(), Some(now + LONGEST));
        all.forget(id(1));
        assert_eq!((all.next(), all.is_due(id(1), now)), (None, true));
    }

    #[test]
    fn what_is_gone_is_not_waited_for() {
        let (mut all, now) = (PutOff::default(), Instant::now());
        all.again(id(1), now, |pause| pause);
        all.again(id(2), now, |pause| pause * 9);
        let due = now + Duration::from_secs(1);
        all.forget_due(due);
        assert_eq!(all.next(), Some(now + Duration::from_secs(9)));
    }

    #[test]
    fn they_are_bounded() {
        let (mut all, now) = (PutOff::default(), Instant::now());
        for number in 0..=MOST {
            all.again(id(number), now, |pause| pause);
        }
        assert!(all.is_due(id(0), now) && !all.is_due(id(1), now));
    }
}
