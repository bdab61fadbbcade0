//! One published event with its JSON, made once and shared by every reader.

use std::sync::{Arc, OnceLock};

use crate::event::{Event, EventType};
use crate::sink::encode_line;

/// An event on its way to the readers.
#[derive(Debug)]
pub struct Line {
    event: Arc<Event>,
    json: OnceLock<Box<[u8]>>,
}

impl Line {
    /// Wraps an event. Nothing is serialized yet.
    #[must_use]
    pub fn new(event: Arc<Event>) -> Arc<Self> {
        Arc::new(Self {
            event,
            json: OnceLock::new(),
        })
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Position in the daemon's stream; [`crate::sink::Numbering`] gives the one in an output.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.event.seq
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> EventType {
        self.event.kind
    }

    /// A `connection.state`: only for readers that asked for those, and never replayed.
    #[must_use]
    pub fn is_state(&self) -> bool {
        self.event.kind == EventType::ConnectionState
    }

    /// The JSON line with its newline and the number of the daemon's stream; short enough for every
    /// other number too. The first caller pays for it, so that a connection that every reader's filter
    /// turns away is never serialized.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        self.json
            .get_or_init(|| encode_line(&self.event).into_boxed_slice())
    }

    /// What it costs a bounded queue, in bytes: the JSON of a listener event; of a connection event,
    /// whose JSON may never be made, the event itself.
    pub(super) fn weight(&self) -> usize {
        if self.is_state() {
            size_of::<Event>() + self.event.message.len()
        } else {
            self.json().len()
        }
    }
}
