//! The bounded queue between the bus and one reader. When it is full the newest lines are refused, and
//! a hole marks the exact place. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::gap::Hole;
use crate::sink::Line;

/// Bounds of a queue or buffer; whichever is reached first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Lines.
    pub lines: usize,
    /// Bytes of those lines.
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

/// Lines that wait for one reader, in order, with its holes.
#[derive(Debug)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    lines: usize,
    bytes: usize,
    limits: Limits,
    /// Full, and not yet drained to half: one long hole is worth more than many short ones.
    refusing: bool,
}

#[derive(Debug)]
enum Entry {
    Line { line: Arc<Line>, weight: usize },
    Hole(Hole),
}

/// What became of a line that was offered.
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
        }
    }

    pub(super) fn offer(&mut self, line: &Arc<Line>) -> Offered {
        let weight = line.weight();
        if self.has_room(weight) {
            let was_empty = self.entries.is_empty();
            self.refusing = false;
            self.lines += 1;
            self.bytes += weight;
            let line = Arc::clone(line);
            self.entries.push_back(Entry::Line { line, weight });
            return if was_empty {
                Offered::First
            } else {
                Offered::Queued
            };
        }
        self.refusing = true;
        match self.entries.back_mut() {
            Some(Entry::Hole(hole)) => hole.extend(line),
            _ => self.entries.push_back(Entry::Hole(Hole::new(line))),
        }
        Offered::Refused
    }

    /// Takes lines from the front until `bytes` are reached; a hole comes out as its `gap`.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<Arc<Line>> {
        let mut taken = Vec::new();
        let mut size = 0;
        while size < bytes
            && let Some(entry) = self.entries.pop_front()
        {
            match entry {
                Entry::Line { line, weight } => {
                    self.lines -= 1;
                    self.bytes -= weight;
                    size += weight;
                    taken.push(line);
                }
                Entry::Hole(hole) => taken.push(hole.into_line()),
            }
        }
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lines waiting.
    pub(super) const fn len(&self) -> usize {
        self.lines
    }

    /// Full, and the reader has not drained half of it since.
    pub(super) const fn is_refusing(&self) -> bool {
        self.refusing
    }

    fn has_room(&self, weight: usize) -> bool {
        let Limits { lines, bytes } = self.limits;
        if self.lines == 0 {
            // Even a line heavier than the bound: else it could never pass.
            true
        } else if self.refusing {
            self.lines <= lines / 2 && self.bytes <= bytes / 2
        } else {
            self.lines < lines && self.bytes + weight <= bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::EventType;
    use crate::sink::testing::{opened, state};

    const FOUR: Limits = Limits {
        lines: 4,
        bytes: 1 << 20,
    };

    fn seqs(lines: &[Arc<Line>]) -> Vec<u64> {
        lines.iter().map(|line| line.seq()).collect()
    }

    #[test]
    fn the_hole_stands_where_the_lines_are_missing() {
        let mut queue = Queue::new(FOUR);
        assert_eq!(queue.offer(&opened(1)), Offered::First);
        for seq in 2..=4 {
            assert_eq!(queue.offer(&opened(seq)), Offered::Queued);
        }
        for seq in 5..=9 {
            assert_eq!(queue.offer(&opened(seq)), Offered::Refused);
        }
        // One free place is not enough: refused until half is drained.
        assert_eq!(seqs(&queue.take(1)), [1]);
        assert_eq!(queue.offer(&opened(10)), Offered::Refused);
        assert!(queue.is_refusing());
        assert_eq!(seqs(&queue.take(1)), [2]);
        assert_eq!(queue.offer(&opened(11)), Offered::Queued);
        assert!(!queue.is_refusing());

        let rest = queue.take(usize::MAX);
        assert_eq!(seqs(&rest), [3, 4, 5, 11]);
        let gap = rest[2].event();
        assert_eq!(gap.kind, EventType::Gap);
        let told = gap.gap.as_ref().expect("gap");
        assert_eq!(told.lost, 6);
        assert_eq!(told.from, opened(5).event().ts);
        assert_eq!(told.to, opened(10).event().ts);
    }

    #[test]
    fn bytes_bound_it_too() {
        let weight = opened(1).json().len();
        let mut queue = Queue::new(Limits {
            lines: 100,
            bytes: weight * 2,
        });
        assert_eq!(queue.offer(&opened(1)), Offered::First);
        assert_eq!(queue.offer(&opened(2)), Offered::Queued);
        assert_eq!(queue.offer(&opened(3)), Offered::Refused);
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
        fn nothing_is_lost_without_a_word(steps in proptest::collection::vec((0_u64..9, 0_usize..3000), 1..60)) {
            let mut queue = Queue::new(FOUR);
            let mut offered = 0;
            let mut got = Vec::new();
            for (offers, bytes) in steps {
                for _ in 0..offers {
                    offered += 1;
                    queue.offer(&opened(offered));
                }
                prop_assert!(queue.len() <= FOUR.lines);
                got.extend(queue.take(bytes));
            }
            got.extend(queue.take(usize::MAX));
            let mut next = 1;
            for line in got {
                prop_assert_eq!(line.seq(), next);
                next += line.event().gap.as_ref().map_or(1, |gap| gap.lost);
            }
            prop_assert_eq!(next, offered + 1);
            prop_assert!(queue.is_empty());
        }
    }
}
