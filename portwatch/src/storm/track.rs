//! Totals of one subject over the last seconds, and what grew in which part of them. Pure.

use std::collections::VecDeque;

use crate::time::BootNs;

/// What is kept: readings of this span, and one before it.
const KEPT_NS: u64 = 3_000_000_000;
/// Readings that are kept at most, however fast they come.
const MOST: usize = 24;
/// How long before the last reading those of a subject that stands still are laid: longer than a rate is measured over, and
/// than half of what a flood is.
const STILL_NS: [u64; 2] = [1_000_000_000, 400_000_000];
/// Readings for which there is room while nothing goes on.
const FEW: usize = 3;
/// Stands for a total that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The last readings of `N` totals.
#[derive(Clone, Debug)]
pub(super) struct Track<const N: usize> {
    samples: VecDeque<Sample<N>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample<const N: usize> {
    at: BootNs,
    totals: [u64; N],
}

/// How much a total grew, and in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) count: u64,
    pub(super) ns: u64,
}

impl Growth {
    /// A second.
    pub(super) fn rate(self) -> u64 {
        per_second(self.count, self.ns)
    }
}

/// So many within so many nanoseconds, a second.
pub(super) fn per_second(count: u64, ns: u64) -> u64 {
    let rate = u128::from(count) * 1_000_000_000 / u128::from(ns.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl<const N: usize> Default for Track<N> {
    fn default() -> Self {
        Self {
            samples: VecDeque::new(),
        }
    }
}

impl<const N: usize> Track<N> {
    /// Takes a reading. One that is not later than the last is left out. Where a total went backwards, what is counted is
    /// another cell, and the past says nothing of it.
    pub(super) fn push(&mut self, at: BootNs, totals: [Option<u64>; N]) {
        let totals = totals.map(|total| total.unwrap_or(UNKNOWN));
        if let Some(last) = self.samples.back() {
            if at <= last.at {
                return;
            }
            let is_less = |(new, old): (&u64, &u64)| new < old && *old != UNKNOWN;
            if totals.iter().zip(&last.totals).any(is_less) {
                self.samples.clear();
            }
        }
        self.thin(at, totals);
        self.samples.push_back(Sample { at, totals });
        // One sample older than the span is kept, for differences over all of it.
        while self.samples.len() > MOST
            || self
                .samples
                .get(1)
                .is_some_and(|second| at.since(second.at) > KEPT_NS)
        {
            self.samples.pop_front();
        }
        if self.samples.len() <= FEW {
            // Listeners by the thousand are quiet most of the time.
            self.samples.shrink_to(FEW);
        }
    }

    /// Of what stands still there need be three readings. It stood at these totals at any moment between: so they may be laid
    /// where every span has one.
    fn thin(&mut self, at: BootNs, totals: [u64; N]) {
        let is_same = |sample: &Sample<N>| sample.totals == totals;
        let is_long = |first: &Sample<N>| at.since(first.at) >= STILL_NS[0];
        if self.samples.front().is_some_and(is_long) && self.samples.iter().all(is_same) {
            self.samples.clear();
            let laid = STILL_NS.map(|ago| BootNs(at.0.saturating_sub(ago)));
            self.samples.extend(laid.map(|at| Sample { at, totals }));
        }
    }

    /// When it was read last.
    pub(super) fn last(&self) -> Option<BootNs> {
        self.samples.back().map(|sample| sample.at)
    }

    /// How much it grew between the last two readings; none where that is not known.
    pub(super) fn step(&self, which: usize) -> Option<Growth> {
        let before = self.samples.len().checked_sub(2)?;
        self.between(which, before, before + 1)
    }

    /// How much it grew lately: over the shortest span that is at least so long, up to the last reading.
    pub(super) fn lately(&self, which: usize, at_least_ns: u64) -> Option<Growth> {
        let last = self.samples.len().checked_sub(1)?;
        let first = self.before(last, at_least_ns)?;
        self.between(which, first, last)
    }

    /// The last reading that is so much older than that one.
    fn before(&self, than: usize, ns: u64) -> Option<usize> {
        let end = self.samples.get(than)?.at;
        (0..than).rev().find(|&place| {
            self.samples
                .get(place)
                .is_some_and(|s| end.since(s.at) >= ns)
        })
    }

    fn between(&self, which: usize, first: usize, last: usize) -> Option<Growth> {
        let (first, last) = (self.samples.get(first)?, self.samples.get(last)?);
        let (old, new) = (first.totals.get(which)?, last.totals.get(which)?);
        if [*old, *new].contains(&UNKNOWN) {
            return None;
        }
        Some(Growth {
            count: new.saturating_sub(*old),
            ns: last.at.since(first.at),
        })
    }

    /// How much of what began has no end yet: `begun` grew in a span that ended `lag_ns` ago, and `ended` grew less in
    /// every span of the same readings that lies up to that much later. So neither the first moment of a burst, when
    /// nothing has ended, nor the last one, when nothing begins any more, looks like what never ends.
    pub(super) fn unended(
        &self,
        begun: usize,
        ended: usize,
        span_ns: u64,
        lag_ns: u64,
    ) -> Option<Unended> {
        let now = self.samples.len().checked_sub(1)?;
        let end = self.before(now, lag_ns)?;
        let start = self.before(end, span_ns)?;
        let began = self.between(begun, start, end)?;
        let width = end - start;
        let mut most = 0;
        for last in end..=now {
            most = most.max(self.between(ended, last - width, last)?.count);
        }
        Some(Unended {
            began: began.count,
            unended: began.count.saturating_sub(most),
            ns: began.ns,
        })
    }
}

/// What began within a span, and how much of it did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unended {
    pub(super) began: u64,
    pub(super) unended: u64,
    pub(super) ns: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Growth, MOST, Track};
    use crate::time::BootNs;

    const MS: u64 = 1_000_000;

    /// Readings every 200 ms: begun and ended.
    fn track(totals: impl IntoIterator<Item = (u64, u64)>) -> Track<2> {
        let mut track = Track::default();
        for ((begun, ended), n) in totals.into_iter().zip(1..) {
            track.push(BootNs(n * 200 * MS), [Some(begun), Some(ended)]);
        }
        track
    }

    fn unended(track: &Track<2>) -> Option<u64> {
        track
            .unended(0, 1, 360 * MS, 360 * MS)
            .map(|found| found.unended)
    }

    #[test]
    fn what_never_ends_is_found_beside_what_does() {
        // A hundred a second never end, a thousand a second do, after 200 ms.
        let totals = (0..12u64).map(|n| (n * 220, n.saturating_sub(1) * 200));
        assert_eq!(unended(&track(totals)), Some(40));
    }

    #[test]
    fn neither_the_begin_nor_the_end_of_a_burst_is_taken_for_it() {
        for rtt in 0..3u64 {
            let begun = |n: u64| n.clamp(5, 15).saturating_sub(5) * 4000;
            let totals =
                |upto: u64| (0..upto).map(move |n| (begun(n), begun(n.saturating_sub(rtt))));
            for upto in 5..30 {
                let found = unended(&track(totals(upto)));
                assert_eq!(found.unwrap_or(0), 0, "{upto} readings, {rtt}");
            }
        }
    }

    #[test]
    fn a_smaller_total_is_a_new_cell() {
        let mut track = track([(100, 0), (200, 0)]);
        assert_eq!(track.step(0).map(|grown| grown.count), Some(100));
        track.push(BootNs(600 * MS), [Some(50), Some(0)]);
        assert_eq!(track.step(0), None);
        track.push(BootNs(800 * MS), [Some(60), Some(0)]);
        let grown = Growth {
            count: 10,
            ns: 200 * MS,
        };
        assert_eq!(track.step(0), Some(grown));
        assert_eq!(grown.rate(), 50);
    }

    #[test]
    fn what_stands_still_needs_little_and_is_measured_as_well() {
        let mut track = Track::<2>::default();
        for n in 0..500 {
            track.push(BootNs(n * 200 * MS), [Some(7), Some(7)]);
            assert!(track.samples.len() <= 8);
        }
        assert_eq!(track.samples.len(), 3);
        assert!(track.samples.capacity() <= 4);
        assert_eq!(unended(&track), Some(0), "known, and none");
        // A hundred a second begin and never end; a second later all is as if each reading had been kept.
        for n in 500..508 {
            track.push(BootNs(n * 200 * MS), [Some(7 + (n - 499) * 20), Some(7)]);
        }
        assert_eq!(unended(&track), Some(40));
        let lately = track.lately(0, 900 * MS).map(Growth::rate);
        assert_eq!(lately, Some(100));
    }

    proptest! {
        /// Whatever comes: nothing grows where a total is missing, and little is kept.
        #[test]
        fn what_is_missing_grows_by_nothing(
            readings in prop::collection::vec((any::<u64>(), prop::option::of(any::<u64>())), 0..200)
        ) {
            let mut track = Track::<2>::default();
            for (at, total) in readings {
                track.push(BootNs(at), [total, None]);
                prop_assert_eq!(track.step(1), None);
                prop_assert_eq!(track.unended(0, 1, 1, 1), None);
                prop_assert!(track.samples.len() <= MOST);
            }
        }
    }
}
