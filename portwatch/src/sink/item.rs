//! What goes through the bus: a single event, or a batch of state changes.

use std::sync::Arc;

use super::line::Line;
use super::states::States;
use crate::event::{EventType, Host};

/// One thing that a reader takes from its queue.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event.
    Line(Arc<Line>),
    /// State changes of connections.
    States(Arc<States>),
}

/// When and where the events of an item belong, for the `gap` that may take their place.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) first_seq: u64,
    pub(super) first_ts: String,
    pub(super) earliest: String,
    pub(super) latest: String,
    pub(super) host: Arc<Host>,
}

impl Item {
    /// How many events.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Line(_) => 1,
            Self::States(states) => states.count(),
        }
    }

    /// What it costs a bounded queue, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Line(line) => line.weight(),
            Self::States(states) => states.weight(),
        }
    }

    /// Is it for those alone who asked for `connection.state`?
    pub(super) fn is_state(&self) -> bool {
        match self {
            Self::Line(line) => line.is_state(),
            Self::States(_) => true,
        }
    }

    /// Does it say that something was not, or will not be, seen?
    pub(super) fn tells_of_loss(&self) -> bool {
        matches!(self, Self::Line(line) if matches!(
            line.kind(),
            EventType::Gap | EventType::GapReconciled | EventType::SensorDegraded
        ))
    }

    pub(super) fn extent(&self) -> Extent {
        match self {
            Self::Line(line) => {
                let event = line.event();
                Extent {
                    first_seq: event.seq,
                    first_ts: event.ts.clone(),
                    earliest: event.ts.clone(),
                    latest: event.ts.clone(),
                    host: Arc::clone(&event.host),
                }
            }
            Self::States(states) => {
                let (first, earliest, latest) = states.times();
                let text = |at| states.occasion.clock.rfc3339(at);
                Extent {
                    first_seq: states.first_seq(),
                    first_ts: text(first),
                    earliest: text(earliest),
                    latest: text(latest),
                    host: Arc::clone(&states.occasion.host),
                }
            }
        }
    }
}

impl From<Arc<Line>> for Item {
    fn from(line: Arc<Line>) -> Self {
        Self::Line(line)
    }
}
