//! Numbers that a broker knows repeated records by: an id that it gave us, and a count for the partition. Pure.

use uuid::Uuid;

use crate::sink::transport::Parcel;

/// What a batch says of who made it, and where in that one's count it begins; −1 where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    /// Id of the producer.
    pub(super) producer: i64,
    /// How often that id was given anew.
    pub(super) epoch: i16,
    /// Number of the first record.
    pub(super) sequence: i32,
}

impl Numbered {
    /// Says nothing: records may be there twice.
    pub(super) const NOT: Self = Self {
        producer: -1,
        epoch: -1,
        sequence: -1,
    };
}

/// A count for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    partition: i32,
    /// Of the next batch.
    next: Numbered,
    /// The batch that went with these numbers, and of which nobody knows whether it arrived.
    unsure: Option<Sent>,
}

/// What was in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    ids: Vec<Uuid>,
}

impl Numbers {
    /// A new count of what this producer puts into this partition.
    pub(super) const fn new(partition: i32, producer: i64, epoch: i16) -> Self {
        let next = Numbered {
            producer,
            epoch,
            sequence: 0,
        };
        Self {
            partition,
            next,
            unsure: None,
        }
    }

    /// No count at all.
    pub(super) const fn none(partition: i32) -> Self {
        Self {
            partition,
            next: Numbered::NOT,
            unsure: None,
        }
    }

    /// Can the count go on in this partition with these records? A broker knows a batch again that is the same, and
    /// where one may have arrived, it has to come next.
    pub(super) fn fits(&self, partition: i32, parcels: &[Parcel]) -> bool {
        self.partition == partition && self.unsure.as_ref().is_none_or(|sent| sent.begins(parcels))
    }

    /// Is there a count?
    pub(super) fn is_counting(&self) -> bool {
        self.next != Numbered::NOT
    }

    /// How many records from the front are the batch that comes next; none when that may be chosen.
    pub(super) fn again(&self) -> Option<usize> {
        self.unsure.as_ref().map(|sent| sent.ids.len())
    }

    /// These go now.
    pub(super) fn send(&mut self, parcels: &[Parcel]) -> Numbered {
        if self.is_counting() {
            let ids = parcels.iter().map(|parcel| parcel.id).collect();
            self.unsure = Some(Sent { ids });
        }
        self.next
    }

    /// So many that went have arrived.
    pub(super) fn arrived(&mut self, count: usize) {
        self.unsure = None;
        if self.is_counting() {
            self.next.sequence = after(self.next.sequence, count);
        }
    }

    /// What went has not arrived, and never will.
    pub(super) fn refused(&mut self) {
        self.unsure = None;
    }
}

impl Sent {
    fn begins(&self, parcels: &[Parcel]) -> bool {
        let begin = parcels.get(..self.ids.len());
        begin.is_some_and(|begin| begin.iter().map(|parcel| &parcel.id).eq(&self.ids))
    }
}

/// After the largest number comes 0.
const fn after(sequence: i32, count: usize) -> i32 {
    ((sequence as u64 + count as u64) % (1 << 31)) as i32
}

#[cfg(test)]
mod tests {
    use super::{Numbered, Numbers, after};
    use crate::sink::transport::testing::parcels;

    #[test]
    fn what_may_have_arrived_comes_again_with_the_same_numbers() {
        let all = parcels(20);
        let mut numbers = Numbers::new(3, 77, 1);
        assert!(numbers.fits(3, &all) && !numbers.fits(4, &all));
        let first = numbers.send(&all[..8]);
        assert_eq!((first.producer, first.epoch, first.sequence), (77, 1, 0));
        assert_eq!(numbers.again(), Some(8));
        assert!(numbers.fits(3, &all[..8]) && numbers.fits(3, &all));
        // Others took their place, or one is missing.
        assert!(!numbers.fits(3, &all[1..]) && !numbers.fits(3, &all[..7]));
        assert_eq!(numbers.send(&all[..8]), first);
        numbers.arrived(8);
        assert!(numbers.again().is_none() && numbers.fits(3, &all[8..]));
        assert_eq!(numbers.send(&all[8..]).sequence, 8);
        numbers.refused();
        assert!(numbers.fits(3, &all[9..]));
        assert_eq!(numbers.send(&all[9..]).sequence, 8);
    }

    #[test]
    fn without_numbers_nothing_is_known_again() {
        let all = parcels(4);
        let mut numbers = Numbers::none(0);
        assert_eq!(numbers.send(&all), Numbered::NOT);
        assert_eq!(numbers.again(), None);
        numbers.arrived(4);
        assert_eq!(numbers.send(&all), Numbered::NOT);
        assert!(!numbers.is_counting());
    }

    #[test]
    fn a_count_begins_again_after_its_largest_number() {
        assert_eq!(after(i32::MAX, 1), 0);
        assert_eq!(after(i32::MAX - 1, 5), 3);
        assert_eq!(after(0, 1024), 1024);
    }
}
