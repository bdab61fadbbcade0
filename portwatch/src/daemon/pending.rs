//! Events in order, each held until its slow look-ups are answered or its time is up. Pure.
//!
//! Architecture invariant: events leave in the order in which they came. One that waits holds up those
//! behind it, for a bounded time, because events of one socket must never be reordered.

use std::collections::VecDeque;

use crate::decode::record::SockId;
use crate::enrich::{Answer, Waits};
use crate::event::Event;
use crate::time::BootNs;

/// Events that wait, at most; beyond, the first one leaves as it is.
const MAX: usize = 8_192;

/// An event that is complete but for its number, its id, its sentence and what is still looked up.
#[derive(Debug)]
pub(super) struct Draft {
    /// The event.
    pub(super) event: Event,
    /// When the kernel saw it.
    pub(super) at: BootNs,
    /// The listener whose process this resolves.
    pub(super) sock: Option<SockId>,
    /// The look-ups it waits for.
    pub(super) waits: Waits,
}

/// Until when an event waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For its arguments, without which it says little.
    pub(super) args: BootNs,
    /// For everything else.
    pub(super) rest: BootNs,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<(Draft, Patience)>,
}

impl Pending {
    /// Puts an event at the end; it leaves when its patience ends at the latest.
    pub(super) fn push(&mut self, draft: Draft, patience: Patience) {
        self.queue.push_back((draft, patience));
    }

    /// Every event that waited for this answer, and from now on does not.
    pub(super) fn settle(&mut self, answer: &Answer) -> impl Iterator<Item = &mut Draft> {
        let ticket = answer.ticket();
        self.queue
            .iter_mut()
            .map(|(draft, _)| draft)
            .filter_map(move |draft| draft.waits.settle(ticket).then_some(draft))
    }

    /// The next event, if nothing keeps it.
    pub(super) fn pop(&mut self, now: BootNs) -> Option<Draft> {
        let (draft, _) = self.queue.front()?;
        if !draft.waits.is_over() && self.deadline().is_some_and(|deadline| now < deadline) {
            return None;
        }
        self.queue.pop_front().map(|(draft, _)| draft)
    }

    /// The first event, when too many wait.
    pub(super) fn pop_excess(&mut self) -> Option<Draft> {
        if self.queue.len() <= MAX {
            return None;
        }
        self.pop_any()
    }

    /// The next event, kept or not: on the way out.
    pub(super) fn pop_any(&mut self) -> Option<Draft> {
        self.queue.pop_front().map(|(draft, _)| draft)
    }

    /// Does any event wait for a look-up?
    pub(super) fn is_waiting(&self) -> bool {
        self.queue.iter().any(|(draft, _)| !draft.waits.is_over())
    }

    /// When the first event leaves at the latest.
    pub(super) fn deadline(&self) -> Option<BootNs> {
        let (draft, patience) = self.queue.front()?;
        Some(if draft.waits.for_args() {
            patience.args
        } else {
            patience.rest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Draft, MAX, Patience, Pending};
    use crate::enrich::Waits;
    use crate::event::EventType;
    use crate::sink::testing;
    use crate::time::BootNs;

    #[test]
    fn when_too_many_wait_the_first_one_leaves() {
        let mut pending = Pending::default();
        let mut left = Vec::new();
        for seq in 1..=MAX as u64 + 2 {
            let draft = Draft {
                event: testing::event(seq, EventType::ListenerPresent),
                at: BootNs(0),
                sock: None,
                waits: Waits::default(),
            };
            let patience = Patience {
                args: BootNs(u64::MAX),
                rest: BootNs(u64::MAX),
            };
            pending.push(draft, patience);
            left.extend(pending.pop_excess().map(|draft| draft.event.seq));
        }
        assert_eq!(left, [1, 2]);
        assert!(pending.pop_excess().is_none());
    }
}
