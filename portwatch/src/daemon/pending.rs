//! Events in order, each held until its slow look-ups are answered or its time is up. Pure.
//!
//! Architecture invariant: events leave in the order in which they came. One that waits holds up those
//! behind it, for a bounded time, because events of one socket must never be reordered.

use std::collections::VecDeque;

use crate::decode::record::SockId;
use crate::enrich::Ticket;
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
    /// The look-up it waits for.
    pub(super) ticket: Option<Ticket>,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<(Draft, BootNs)>,
}

impl Pending {
    /// Puts an event at the end; it leaves at `deadline` at the latest.
    pub(super) fn push(&mut self, draft: Draft, deadline: BootNs) {
        self.queue.push_back((draft, deadline));
    }

    /// Every event that waits for this look-up.
    pub(super) fn waiting_for(&mut self, ticket: Ticket) -> impl Iterator<Item = &mut Draft> {
        self.queue
            .iter_mut()
            .map(|(draft, _)| draft)
            .filter(move |draft| draft.ticket == Some(ticket))
    }

    /// The next event, if nothing keeps it.
    pub(super) fn pop(&mut self, now: BootNs) -> Option<Draft> {
        let (draft, deadline) = self.queue.front()?;
        if draft.ticket.is_some() && now < *deadline {
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
    pub(super) fn has_tickets(&self) -> bool {
        self.queue.iter().any(|(draft, _)| draft.ticket.is_some())
    }

    /// When the first event leaves at the latest.
    pub(super) fn deadline(&self) -> Option<BootNs> {
        self.queue.front().map(|(_, deadline)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::{Draft, MAX, Pending};
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
                ticket: None,
            };
            pending.push(draft, BootNs(u64::MAX));
            left.extend(pending.pop_excess().map(|draft| draft.event.seq));
        }
        assert_eq!(left, [1, 2]);
        assert!(pending.pop_excess().is_none());
    }
}
