//! The bounded queue between the bus and one reader. When it is full the newest lines are refused, and
//! a hole marks the exact place. Pure.

use std::collections::VecDeque;

use super::gap::Hole;
use super::item::Item;

/// Bounds of a queue or buffer; whichever is reached first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events.
    pub lines: usize,
    /// Bytes of those events.
    pub bytes: usize,
}

impl Limits {
    /// What may wait for one reader.
    pub const READER: Self = Self {
        lines: 8192,
        bytes: 4 << 20,
    };
    /// What is kept for `--since`; bytes of memory, not of JSON.
    pub const REPLAY: Self = Self {
        lines: 4096,
        bytes: 3 << 20,
    };
}

impl Limits {
    /// What may wait for a reader that asked for states: a busy machine makes half a million of them a
    /// second while the reader waits for its turn. Readers share the batches.
    #[must_use]
    pub const fn for_states(self) -> Self {
        Self {
            lines: self.lines.saturating_mul(16),
            bytes: self.bytes.saturating_mul(4),
        }
    }
}

/// Events about losses that a full queue still takes.
const LOSSES: usize = 256;

/// Events that wait for one reader, in order, with its holes.
#[derive(Debug)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    lines: usize,
    bytes: usize,
    limits: Limits,
    /// Full, and not yet drained to half: one long hole is worth more than many short ones.
    refusing: bool,
    /// Of the entries, those that were taken in spite of that.
    losses: usize,
}

#[derive(Debug)]
enum Entry {
    Item {
        item: Item,
        weight: usize,
        /// Taken although there was no room.
        in_spite: bool,
    },
    Hole(Hole),
}

/// What became of an item that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// The queue was empty: its reader must be woken.
    First,
    /// It waits behind others.
    Queued,
    /// There was no room; it is part of a hole now.
    Refused,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            entries: VecDeque::new(),
            lines: 0,
            bytes: 0,
            limits,
            refusing: false,
            losses: 0,
        }
    }

    /// A batch of state changes is taken whole or refused whole. What tells of a loss is taken even by a
    /// full queue: the flood that fills it is what loses events elsewhere too, and a reader that missed
    /// the `gap` would take silence for quiet.
    pub(super) fn offer(&mut self, item: &Item) -> Offered {
        let (weight, count) = (item.weight(), item.count());
        let has_room = self.has_room(weight, count);
        let in_spite = !has_room && item.tells_of_loss() && self.losses < LOSSES;
        if has_room || in_spite {
            let was_empty = self.entries.is_empty();
            self.refusing = in_spite;
            self.losses += usize::from(in_spite);
            self.lines += count;
            self.bytes += weight;
            let item = item.clone();
            self.entries.push_back(Entry::Item {
                item,
                weight,
                in_spite,
            });
            return if was_empty {
                Offered::First
            } else {
                Offered::Queued
            };
        }
        self.refusing = true;
        match self.entries.back_mut() {
            Some(Entry::Hole(hole)) => hole.extend(item),
            _ => self.entries.push_back(Entry::Hole(Hole::new(item))),
        }
        Offered::Refused
    }

    /// Takes items from the front until `bytes` are reached; a hole comes out as its `gap`.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<Item> {
        let mut taken = Vec::new();
        let mut size = 0;
        while size < bytes
            && let Some(entry) = self.entries.pop_front()
        {
            match entry {
                Entry::Item {
                    item,
                    weight,
                    in_spite,
                } => {
                    self.losses -= usize::from(in_spite);
                    self.lines -= item.count();
                    self.bytes -= weight;
                    size += weight;
                    taken.push(item);
                }
                Entry::Hole(hole) => taken.push(hole.into_line().into()),
            }
        }
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Events waiting.
    pub(super) const fn len(&self) -> usize {
        self.lines
    }

    /// Full, and the reader has not drained half of it since.
    pub(super) const fn is_refusing(&self) -> bool {
        self.refusing
    }

    fn has_room(&self, weight: usize, count: usize) -> bool {
        let Limits { lines, bytes } = self.limits;
        // Even an item heavier than the bound: else it could never pass.
        let fits = self.lines + count <= lines && self.bytes + weight <= bytes;
        let is_drained = self.lines <= lines / 2 && self.bytes <= bytes / 2;
        self.lines == 0 || fits && (is_drained || !self.refusing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::EventType;
    use crate::sink::Line;
    use crate::sink::testing::{event, opened, seqs, state, states, ts};

    const FOUR: Limits = Limits {
        lines: 4,
        bytes: 1 << 20,
    };

    fn line(seq: u64) -> Item {
        opened(seq).into()
    }

    #[test]
    fn the_hole_stands_where_the_lines_are_missing() {
        let mut queue = Queue::new(FOUR);
        assert_eq!(queue.offer(&line(1)), Offered::First);
        for seq in 2..=4 {
            assert_eq!(queue.offer(&line(seq)), Offered::Queued);
        }
        for seq in 5..=9 {
            assert_eq!(queue.offer(&line(seq)), Offered::Refused);
        }
        // One free place is not enough: refused until half is drained.
        assert_eq!(seqs(&queue.take(1)), [1]);
        assert_eq!(queue.offer(&line(10)), Offered::Refused);
        assert!(queue.is_refusing());
        assert_eq!(seqs(&queue.take(1)), [2]);
        assert_eq!(queue.offer(&line(11)), Offered::Queued);
        assert!(!queue.is_refusing());

        let rest = queue.take(usize::MAX);
        assert_eq!(seqs(&rest), [3, 4, 5, 11]);
        let Item::Line(gap) = &rest[2] else {
            panic!("not a line");
        };
        assert_eq!(gap.kind(), EventType::Gap);
        let told = gap.event().gap.as_ref().expect("gap");
        assert_eq!(told.lost, 6);
        assert_eq!((&told.from, &told.to), (&ts(5), &ts(10)));
    }

    #[test]
    fn what_tells_of_a_loss_passes_a_full_queue() {
        let mut queue = Queue::new(FOUR);
        let gap: Item = Line::new(event(6, EventType::Gap).into()).into();
        for seq in 1..=5 {
            queue.offer(&line(seq));
        }
        assert_eq!(queue.offer(&gap), Offered::Queued);
        assert!(queue.is_refusing());
        assert_eq!(queue.offer(&line(7)), Offered::Refused);
        assert_eq!(seqs(&queue.take(usize::MAX)), [1, 2, 3, 4, 5, 6, 7]);

        // Bounded all the same.
        for _ in 0..FOUR.lines + LOSSES {
            assert_ne!(queue.offer(&gap), Offered::Refused);
        }
        assert_eq!(queue.offer(&gap), Offered::Refused);
        queue.take(usize::MAX);
        assert_eq!((queue.len(), queue.losses), (0, 0));
    }

    #[test]
    fn a_batch_is_taken_or_refused_as_a_whole() {
        let mut queue = Queue::new(FOUR);
        assert_eq!(queue.offer(&states(1, 3)), Offered::First);
        assert_eq!(queue.offer(&states(4, 2)), Offered::Refused);
        assert_eq!(queue.offer(&line(6)), Offered::Refused);
        assert_eq!(queue.len(), 3);
        let taken = queue.take(usize::MAX);
        assert_eq!(seqs(&taken), [1, 2, 3, 4]);
        let Some(Item::Line(gap)) = taken.last() else {
            panic!("not a line");
        };
        let told = gap.event().gap.as_ref().expect("gap");
        assert_eq!((told.lost, &told.from, &told.to), (3, &ts(4), &ts(6)));
        assert_eq!(
            queue.offer(&states(7, 9)),
            Offered::First,
            "larger than all"
        );
    }

    #[test]
    fn bytes_bound_it_too() {
        let weight = opened(1).json().len();
        let mut queue = Queue::new(Limits {
            lines: 100,
            bytes: weight * 2,
        });
        assert_eq!(queue.offer(&line(1)), Offered::First);
        assert_eq!(queue.offer(&line(2)), Offered::Queued);
        assert_eq!(queue.offer(&line(3)), Offered::Refused);
    }

    #[test]
    fn a_connection_is_weighed_without_being_serialized() {
        let line = state(1);
        assert!(line.weight() >= size_of::<crate::event::Event>());
        assert!(format!("{line:?}").contains("json: OnceLock(<uninit>)"));
    }

    proptest! {
        /// Whatever the rhythm of the two sides: order stays strict, and delivered + lost = offered.
        #[test]
        fn nothing_is_lost_without_a_word(
            steps in proptest::collection::vec((0_u64..9, 0_usize..4, 0_usize..3000), 1..60),
        ) {
            let mut queue = Queue::new(FOUR);
            let mut offered = 0;
            let mut got = Vec::new();
            for (offers, batch, bytes) in steps {
                for _ in 0..offers {
                    if batch == 0 {
                        queue.offer(&line(offered + 1));
                    } else {
                        queue.offer(&states(offered + 1, batch));
                    }
                    offered += batch.max(1) as u64;
                }
                prop_assert!(queue.len() <= FOUR.lines);
                got.extend(queue.take(bytes));
            }
            got.extend(queue.take(usize::MAX));
            let mut next = 1;
            for item in got {
                prop_assert_eq!(seqs(std::slice::from_ref(&item))[0], next);
                next += match &item {
                    Item::Line(line) => line.event().gap.as_ref().map_or(1, |gap| gap.lost),
                    Item::States(states) => states.count() as u64,
                };
            }
            prop_assert_eq!(next, offered + 1);
            prop_assert!(queue.is_empty());
        }
    }
}
