//! How a sink hands over what its buffer holds; each kind of peer has a file of its own.

#[cfg(any(test, fuzzing))]
mod fuzz;
pub mod http;
pub mod journald;
pub mod kafka;
pub mod nats;
pub mod relp;
pub mod syslog;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use uuid::Uuid;

use crate::event::{EventType, Severity};

/// One record as a peer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Id of the event: a peer that can tell repetitions apart is given it.
    pub id: Uuid,
    /// When the kernel saw it, ns since 1970.
    pub ts_ns: i64,
    /// What happened.
    pub kind: EventType,
    /// How much it matters.
    pub severity: Severity,
    /// The line in the sink's format, without its newline; never empty, never longer than [`super::MAX_LINE`].
    pub line: Vec<u8>,
}

/// Why a peer did not take everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Perhaps it takes it later: it is away, busy, or did not answer. Nobody knows whether it has what was sent.
    Later(String),
    /// As [`Trouble::Later`], and it asked not to be tried before this span is over (`Retry-After`).
    After(String, Duration),
    /// It will never take the first record that it has not acknowledged; the ones behind it may be fine.
    Refused(String),
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// So many records from the front have been acknowledged by the peer; where its protocol has no acknowledgement,
    /// were handed to the kernel whole.
    pub taken: usize,
    /// Why not all of them.
    pub trouble: Option<Trouble>,
}

impl Delivery {
    /// Everything was.
    #[must_use]
    pub const fn all(taken: usize) -> Self {
        Self {
            taken,
            trouble: None,
        }
    }

    /// This many, and not the rest for now.
    #[must_use]
    pub const fn later(taken: usize, why: String) -> Self {
        Self {
            taken,
            trouble: Some(Trouble::Later(why)),
        }
    }

    /// This many, and never the one after them.
    #[must_use]
    pub const fn refused(taken: usize, why: String) -> Self {
        Self {
            taken,
            trouble: Some(Trouble::Refused(why)),
        }
    }
}

/// A way to a peer. It runs on a thread of its own that may wait, and every wait in it ends by itself.
pub trait Transport: Send {
    /// Hands records over, in order. Called again with those that were not taken.
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery;

    /// There was nothing to do for a while: a connection that is not needed may go.
    fn rest(&mut self) {}
}
