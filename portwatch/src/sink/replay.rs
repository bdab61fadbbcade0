//! The last events, kept for readers that ask for `--since`. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::queue::Limits;
use crate::event::Event;
use crate::sink::Line;

/// The newest lines that fit; never `connection.state`.
#[derive(Debug)]
pub(super) struct Replay {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    limits: Limits,
    /// Time of the newest line that had to make room.
    forgotten: Option<Timestamp>,
}

/// What a reader that asks for the past gets of it.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Oldest first.
    pub(super) lines: VecDeque<Arc<Line>>,
    /// Time of the oldest line still held, when the wish reached further back than that.
    pub(super) starts_at: Option<String>,
}

impl Replay {
    pub(super) const fn new(limits: Limits) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            limits,
            forgotten: None,
        }
    }

    pub(super) fn push(&mut self, line: &Arc<Line>) {
        if line.is_state() {
            return;
        }
        self.bytes += memory(line);
        self.lines.push_back(Arc::clone(line));
        while (self.lines.len() > self.limits.lines || self.bytes > self.limits.bytes)
            && let Some(old) = self.lines.pop_front()
        {
            self.bytes -= memory(&old);
            self.forgotten = self.forgotten.max(time_of(&old));
        }
    }

    /// Every line from `cutoff` on. A line whose time cannot be read is kept rather than withheld.
    pub(super) fn since(&self, cutoff: Timestamp) -> Past {
        let lines = self
            .lines
            .iter()
            .filter(|line| time_of(line).is_none_or(|at| at >= cutoff))
            .map(Arc::clone)
            .collect();
        let is_short = self.forgotten.is_some_and(|at| at >= cutoff);
        Past {
            lines,
            starts_at: self
                .lines
                .front()
                .filter(|_| is_short)
                .map(|line| line.event().ts.clone()),
        }
    }
}

/// What a line takes while it is kept: its JSON, the event, and the event's texts, which are about as
/// long as the JSON.
fn memory(line: &Line) -> usize {
    size_of::<Event>() + 2 * line.weight()
}

fn time_of(line: &Line) -> Option<Timestamp> {
    line.event().ts.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::testing::{opened, state};

    fn at(seq: u64) -> Timestamp {
        opened(seq).event().ts.parse().expect("RFC 3339")
    }

    fn seqs(past: &Past) -> Vec<u64> {
        past.lines.iter().map(|line| line.seq()).collect()
    }

    #[test]
    fn gives_what_is_asked_for_and_says_when_it_cannot() {
        let mut replay = Replay::new(Limits {
            lines: 3,
            bytes: 1 << 20,
        });
        for seq in 1..=3 {
            replay.push(&opened(seq));
        }
        assert_eq!(seqs(&replay.since(at(2))), [2, 3]);
        assert_eq!(replay.since(at(1)).starts_at, None);

        replay.push(&state(4));
        replay.push(&opened(5));
        let all = replay.since(at(1));
        assert_eq!(seqs(&all), [2, 3, 5]);
        assert_eq!(all.starts_at.as_ref(), Some(&opened(2).event().ts));
        assert_eq!(replay.since(at(2)).starts_at, None);
    }

    #[test]
    fn bytes_bound_it_too() {
        let weight = memory(&opened(1));
        assert!(weight > opened(1).json().len() + size_of::<Event>());
        let mut replay = Replay::new(Limits {
            lines: 100,
            bytes: weight * 2,
        });
        for seq in 1..=9 {
            replay.push(&opened(seq));
        }
        assert_eq!(seqs(&replay.since(at(1))), [8, 9]);
    }
}
