//! The files of a buffer as its two ends know them, and how many records are between two indices. Pure.

use std::collections::BTreeMap;

/// Where the disk does not tell how many records a file holds, the next index is the next multiple of this one. So none
/// is used twice, whatever comes to light when that file can be read again; and no file holds as many records.
pub(super) const LEAP: u64 = 1 << 40;

/// The files.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Index of the first record, and bytes that are whole records, or were found at the start; nothing where the disk
    /// did not tell.
    pub(super) files: BTreeMap<u64, Option<u64>>,
    /// The file that is written to; all others are complete.
    pub(super) current: Option<u64>,
    /// No record has an index from the value on up to the key. How many there are before the value may be an estimate.
    leaps: BTreeMap<u64, u64>,
}

impl List {
    pub(super) fn new(files: impl IntoIterator<Item = (u64, Option<u64>)>) -> Self {
        Self {
            files: files.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.values().flatten().sum()
    }

    /// Index of the first record of the file behind this one.
    pub(super) fn behind(&self, first: u64) -> Option<u64> {
        self.files.range(first + 1..).next().map(|(next, _)| *next)
    }

    /// How many records have an index from this one on, and before that one.
    pub(super) fn count(&self, from: u64, to: u64) -> u64 {
        let leaps = self.leaps.range(..=to).filter(|(next, _)| from < **next);
        let left_out: u64 = leaps.map(|(next, end)| next - (*end).max(from)).sum();
        to.saturating_sub(from).saturating_sub(left_out)
    }

    /// The records before `next` end here.
    pub(super) fn leap(&mut self, end: u64, next: u64) {
        self.leaps.insert(next, end.min(next));
    }

    /// The file before the one that begins with `next` was read to its end, so that what was an estimate is known.
    pub(super) fn ends(&mut self, end: u64, next: u64) {
        if let Some(estimate) = self.leaps.get_mut(&next) {
            *estimate = end.min(next);
        }
    }
}

/// The next index behind a file whose records end about here.
pub(super) const fn behind_unknown(end: u64) -> u64 {
    ((end + LEAP / 2) / LEAP + 1).saturating_mul(LEAP)
}

/// Does a file with this first index come behind one whose end was not known?
pub(super) const fn is_behind_unknown(first: u64) -> bool {
    first > 0 && first.is_multiple_of(LEAP)
}

/// How many records are in a file that cannot be read: as many as in the one before, of about the same size.
pub(super) fn estimate(first: u64, before: Option<u64>) -> u64 {
    let records = before.map_or(1, |before| first.saturating_sub(before));
    // More is a leap between them.
    match records < LEAP / 2 {
        true => records.max(1),
        false => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_counted() {
        let mut list = List::new([(0, Some(10)), (LEAP, None)]);
        assert_eq!(list.bytes(), 10);
        assert_eq!(list.count(3, 7), 4);
        list.leap(30, LEAP);
        assert_eq!(list.count(3, LEAP + 5), 32);
        assert_eq!(list.count(3, LEAP), 27);
        // There were more than was thought.
        assert_eq!(list.count(32, LEAP + 5), 5);
        assert_eq!(list.count(LEAP, LEAP + 5), 5);
        assert_eq!(list.count(7, 3), 0);
        list.ends(28, LEAP);
        assert_eq!(list.count(3, LEAP), 25);
        list.leap(LEAP + 9, 2 * LEAP);
        assert_eq!(list.count(3, 2 * LEAP + 1), 35);
    }

    #[test]
    fn there_is_room_for_every_record_that_may_come_to_light() {
        for end in [0, 1, LEAP / 2 - 1, LEAP / 2, LEAP - 1, LEAP, 5 * LEAP + 7] {
            let next = behind_unknown(end);
            assert!(is_behind_unknown(next));
            assert!(next - end >= LEAP / 2, "{end}");
        }
        assert!(!is_behind_unknown(0) && !is_behind_unknown(LEAP + 1));
    }

    #[test]
    fn a_file_that_cannot_be_read_holds_about_as_much_as_the_one_before() {
        assert_eq!(estimate(70, Some(30)), 40);
        assert_eq!(estimate(70, None), 1);
        assert_eq!(estimate(LEAP, Some(30)), 1);
    }
}
