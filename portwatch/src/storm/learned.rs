//! What a subject is used to, by the hour of the day. Pure.

use std::collections::HashMap;

use super::reading::{Rate, Subject};
use crate::time::BootNs;

/// Subjects that are learned; beyond that nothing new is, and fixed thresholds hold.
pub(super) const MOST: usize = 2_048;
/// What is left of a rate after a day.
const DAILY: f32 = 0.9;
const MINUTE_NS: u64 = 60_000_000_000;
/// Places that are kept free where something can go.
const ROOM: usize = MOST / 8;
const SILENT_MINUTES: u64 = 60;

/// The highest rates of each hour; 120 bytes a subject.
#[derive(Debug, Default)]
pub(super) struct Learned {
    hours: HashMap<(Rate, Subject), Hours>,
}

/// What one subject is used to.
#[derive(Clone, Debug, PartialEq)]
pub struct Habit {
    /// Of which rate.
    pub rate: Rate,
    /// Who.
    pub subject: Subject,
    /// The highest rate by hour of the day (UTC), a second.
    pub rates: [f32; 24],
    /// The hour that was seen last.
    pub hour: u8,
}

impl Habit {
    /// What is left of it after so many days in which nobody looked.
    #[must_use]
    pub fn after(mut self, days: u32) -> Self {
        let left = DAILY.powi(i32::try_from(days).unwrap_or(i32::MAX));
        for rate in &mut self.rates {
            *rate *= left;
        }
        self
    }
}

#[derive(Clone, Debug)]
struct Hours {
    rates: [f32; 24],
    hour: u8,
    /// The minute that is going on, and the least rate of it.
    minute: u64,
    least: f32,
}

impl Learned {
    /// Takes a rate for normal that it did not fall below for a minute. What rises within seconds, and may be a storm when
    /// it has risen, is no habit.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate of six digits is exact enough"
    )]
    pub(super) fn learn(&mut self, rate: Rate, subject: Subject, value: u64, at: BootNs, hour: u8) {
        let minute = at.0 / MINUTE_NS;
        let key = (rate, subject);
        if !self.hours.contains_key(&key) && (value == 0 || self.hours.len() >= MOST) {
            return;
        }
        let hours = self.hours.entry(key).or_insert_with(|| Hours {
            rates: [0.0; 24],
            hour,
            minute,
            // The first minute is half seen.
            least: 0.0,
        });
        if hours.minute == minute {
            hours.least = hours.least.min(value as f32);
            return;
        }
        let least = hours.least;
        (hours.minute, hours.least) = (minute, value as f32);
        let is_new_hour = hours.hour != hour;
        hours.hour = hour;
        if let Some(slot) = hours.rates.get_mut(usize::from(hour)) {
            if is_new_hour {
                *slot *= DAILY;
            }
            *slot = slot.max(least);
        }
    }

    /// The rate that is normal at this hour: that of it and of its neighbours, or of the whole day while the hour has not
    /// been seen.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was a rate"
    )]
    pub(super) fn normal(&self, rate: Rate, subject: Subject, hour: u8) -> u64 {
        let Some(hours) = self.hours.get(&(rate, subject)) else {
            return 0;
        };
        let at = |hour: u8| hours.rates.get(usize::from(hour % 24)).copied();
        let near = [
            at(hour.wrapping_add(23)),
            at(hour),
            at(hour.wrapping_add(1)),
        ];
        let near = near.into_iter().flatten().fold(0.0, f32::max);
        let normal = if near > 0.0 {
            near
        } else {
            hours.rates.iter().copied().fold(0.0, f32::max)
        };
        normal as u64
    }

    /// Is anything known of it?
    pub(super) fn knows(&self, rate: Rate, subject: Subject) -> bool {
        self.hours.contains_key(&(rate, subject))
    }

    /// Everything that was learned, in no order.
    pub(super) fn habits(&self) -> impl Iterator<Item = Habit> {
        self.hours.iter().map(|(&(rate, subject), hours)| Habit {
            rate,
            subject,
            rates: hours.rates,
            hour: hours.hour,
        })
    }

    /// Takes over what was learned before. What is known already is what was seen since the start: the higher one counts.
    pub(super) fn recall(&mut self, habit: &Habit, now: BootNs) {
        let key = (habit.rate, habit.subject);
        if self.hours.len() < MOST || self.hours.contains_key(&key) {
            let known = self.hours.entry(key).or_insert_with(|| Hours {
                rates: habit.rates,
                hour: habit.hour,
                minute: now.0 / MINUTE_NS,
                // As the first minute.
                least: 0.0,
            });
            for (rate, before) in known.rates.iter_mut().zip(habit.rates) {
                *rate = rate.max(before);
            }
        }
    }

    /// Where there are nearly too many, those go that nothing was learned of for longest, if that is an hour: containers come
    /// and go, and those that have gone must not keep those that come from being known.
    pub(super) fn make_room(&mut self, now: BootNs) {
        if self.hours.len() <= MOST - ROOM {
            return;
        }
        let now = now.0 / MINUTE_NS;
        let mut silent: Vec<u64> = self.hours.values().map(|hours| hours.minute).collect();
        silent.retain(|minute| now.saturating_sub(*minute) >= SILENT_MINUTES);
        silent.sort_unstable();
        silent.truncate(ROOM);
        if let Some(last) = silent.last() {
            self.hours.retain(|_, hours| hours.minute > *last);
        }
    }

    /// Forgets what is no longer there.
    pub(super) fn retain(&mut self, keep: impl Fn(&Subject) -> bool) {
        self.hours.retain(|(_, subject), _| keep(subject));
    }
}

#[cfg(test)]
mod tests {
    use super::{BootNs, Habit, Learned, MINUTE_NS, MOST, ROOM, Rate, SILENT_MINUTES, Subject};

    const WHO: Subject = Subject::Namespace(1);

    /// So many minutes of this rate.
    fn minutes(learned: &mut Learned, now: &mut u64, count: u64, value: u64, hour: u8) {
        for _ in 0..count * 6 {
            *now += MINUTE_NS / 6;
            learned.learn(Rate::Accept, WHO, value, BootNs(*now), hour);
        }
    }

    #[test]
    fn an_hour_is_known_by_itself_and_its_neighbours() {
        let (mut learned, mut now) = (Learned::default(), 0);
        assert_eq!(learned.normal(Rate::Accept, WHO, 3), 0);
        minutes(&mut learned, &mut now, 5, 500, 12);
        minutes(&mut learned, &mut now, 5, 20, 18);
        let normal = |hour| learned.normal(Rate::Accept, WHO, hour);
        assert_eq!([normal(11), normal(12), normal(13)], [500; 3]);
        assert_eq!(normal(3), 500, "an hour that was not seen");
    }

    #[test]
    fn what_was_learned_before_is_worth_as_much_as_what_was_seen_since() {
        let (mut learned, mut now) = (Learned::default(), 0);
        minutes(&mut learned, &mut now, 3, 500, 12);
        let before = Habit {
            rate: Rate::Accept,
            subject: WHO,
            rates: std::array::from_fn(|hour| if hour == 3 { 900.0 } else { 100.0 }),
            hour: 3,
        };
        learned.recall(&before, BootNs(now));
        let normal = |hour| learned.normal(Rate::Accept, WHO, hour);
        assert_eq!([normal(3), normal(8), normal(12)], [900, 100, 500]);
    }

    #[test]
    fn what_does_not_last_a_minute_is_no_habit() {
        let (mut learned, mut now) = (Learned::default(), 0);
        for _ in 0..20 {
            minutes(&mut learned, &mut now, 2, 10, 12);
            learned.learn(Rate::Accept, WHO, 25_000, BootNs(now + 1), 12);
        }
        assert_eq!(learned.normal(Rate::Accept, WHO, 12), 10);
    }

    #[test]
    fn it_fades_with_the_days_and_is_bounded() {
        let (mut learned, mut now) = (Learned::default(), 0);
        minutes(&mut learned, &mut now, 5, 1_000, 12);
        for _ in 0..30 {
            minutes(&mut learned, &mut now, 3, 10, 11);
            minutes(&mut learned, &mut now, 3, 10, 12);
        }
        assert!(learned.normal(Rate::Accept, WHO, 12) < 100);
        for netns in 0..100_000 {
            learned.learn(Rate::Accept, Subject::Namespace(netns), 7, BootNs(now), 1);
        }
        assert_eq!(learned.hours.len(), MOST);
        learned.make_room(BootNs(now));
        assert_eq!(learned.hours.len(), MOST, "all of them were seen lately");
        now += 2 * SILENT_MINUTES * MINUTE_NS;
        learned.learn(Rate::Accept, WHO, 7, BootNs(now), 1);
        learned.make_room(BootNs(now));
        assert!(learned.hours.len() <= MOST - ROOM);
        assert!(learned.knows(Rate::Accept, WHO), "it was seen just now");
        learned.retain(|_| false);
        assert!(learned.hours.is_empty());
    }
}
