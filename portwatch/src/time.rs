//! Kernel time (nanoseconds since boot) and its translation to the wall clock.

use jiff::Timestamp;

/// Nanoseconds since boot, suspend included: `CLOCK_BOOTTIME`, `bpf_ktime_get_boot_ns`, `start_boottime`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNs(pub u64);

impl BootNs {
    /// The clock now.
    #[must_use]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }

    /// Nanoseconds from `earlier` to `self`, 0 when the order is the other way round.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Differences of two readings that are taken for the noise of reading, in nanoseconds.
const NOISE_NS: u128 = 1_000_000;

/// Where boot time zero lies on the wall clock. Read anew from time to time, because the wall clock is
/// stepped while the boot clock is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    boot_epoch_ns: i128,
}

impl WallClock {
    /// Reads both clocks; the smallest bracket of three tries keeps a preemption out of the offset.
    #[must_use]
    pub fn read() -> Self {
        let mut best: Option<(u64, i128)> = None;
        for _ in 0..3 {
            let before = BootNs::now();
            let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let after = BootNs::now();
            let width = after.since(before);
            let wall_ns = i128::from(wall.tv_sec) * 1_000_000_000 + i128::from(wall.tv_nsec);
            let epoch = wall_ns - i128::from(before.0) - i128::from(width / 2);
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((width, epoch));
            }
        }
        Self {
            boot_epoch_ns: best.map_or(0, |(_, epoch)| epoch),
        }
    }

    /// Takes over a later reading if the wall clock was stepped. The noise of reading is not taken over:
    /// one process would start at other nanoseconds in each of its events.
    pub const fn follow(&mut self, later: Self) {
        if self.boot_epoch_ns.abs_diff(later.boot_epoch_ns) > NOISE_NS {
            *self = later;
        }
    }

    /// A clock whose boot was at this many nanoseconds after 1970 (for tests).
    #[must_use]
    pub const fn from_epoch_ns(boot_epoch_ns: i128) -> Self {
        Self { boot_epoch_ns }
    }

    /// Where boot time zero lies, nanoseconds after 1970.
    #[must_use]
    pub fn epoch_ns(self) -> i64 {
        i64::try_from(self.boot_epoch_ns).unwrap_or(i64::MAX)
    }

    /// RFC 3339, UTC, nanoseconds.
    #[must_use]
    pub fn rfc3339(self, at: BootNs) -> String {
        let ns = self.boot_epoch_ns + i128::from(at.0);
        Timestamp::from_nanosecond(ns).map_or_else(
            |_| "1970-01-01T00:00:00Z".to_owned(),
            |ts| format!("{ts:.9}"),
        )
    }
}

/// Writes moments as [`WallClock::rfc3339`] does; the text up to the second is made once for all that
/// follow in the same second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rfc3339 {
    /// Seconds since 1970, and `2026-11-21T19:42:01.`.
    second: Option<(i64, [u8; Self::SECOND])>,
}

impl Rfc3339 {
    const SECOND: usize = "2026-11-21T19:42:01.".len();
    const WHOLE: usize = "2026-11-21T19:42:01.123456789Z".len();

    /// Appends the moment.
    pub fn append(&mut self, clock: WallClock, at: BootNs, out: &mut Vec<u8>) {
        const BILLION: i64 = 1_000_000_000;
        let ns = i64::try_from(clock.boot_epoch_ns + i128::from(at.0));
        if let (Ok(ns), Some((second, text))) = (ns, &self.second)
            && ns.div_euclid(BILLION) == *second
        {
            let mut whole = [b'Z'; Self::WHOLE];
            let (head, tail) = whole.split_at_mut(Self::SECOND);
            head.copy_from_slice(text);
            let mut rest = ns.rem_euclid(BILLION);
            for digit in tail[..9].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            out.extend_from_slice(&whole);
            return;
        }
        let text = clock.rfc3339(at);
        out.extend_from_slice(text.as_bytes());
        // Years of more than four digits, and what is no time at all, are never remembered.
        self.second = match (ns, text.as_bytes().first_chunk()) {
            (Ok(ns), Some(head)) if text.len() == Self::WHOLE => {
                Some((ns.div_euclid(BILLION), *head))
            }
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BootNs, Rfc3339, WallClock};

    proptest! {
        /// Moments near each other, so that seconds are remembered and left.
        #[test]
        fn remembered_seconds_make_the_same_text(
            epoch in prop_oneof![Just(0_i128), any::<i64>().prop_map(i128::from), any::<i128>().prop_map(|n| n / 4)],
            moments in proptest::collection::vec(0_u64..3_000_000_000, 1..8),
        ) {
            let mut writer = Rfc3339::default();
            let clock = WallClock::from_epoch_ns(epoch);
            for at in moments.into_iter().map(BootNs) {
                let mut out = Vec::new();
                writer.append(clock, at, &mut out);
                prop_assert_eq!(String::from_utf8(out).expect("text"), clock.rfc3339(at));
            }
        }
    }

    #[test]
    fn boot_time_becomes_wall_time() {
        let clock = WallClock::from_epoch_ns(1_795_290_121_000_000_000);
        assert_eq!(
            clock.rfc3339(BootNs(123_456_789)),
            "2026-11-21T19:42:01.123456789Z"
        );
    }

    #[test]
    fn a_step_is_followed_and_noise_is_not() {
        let mut clock = WallClock::from_epoch_ns(5_000_000_000);
        clock.follow(WallClock::from_epoch_ns(5_000_900_000));
        assert_eq!(clock, WallClock::from_epoch_ns(5_000_000_000));
        clock.follow(WallClock::from_epoch_ns(4_998_000_000));
        assert_eq!(clock, WallClock::from_epoch_ns(4_998_000_000));
    }

    #[test]
    fn the_clock_that_was_read_is_the_wall_clock() {
        let text = WallClock::read().rfc3339(BootNs::now());
        let seen: jiff::Timestamp = text.parse().expect("RFC 3339");
        let apart = jiff::Timestamp::now().as_nanosecond() - seen.as_nanosecond();
        assert!(apart.abs() < 1_000_000_000, "{apart} ns apart");
    }
}
