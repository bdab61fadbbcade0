//! The approved set of listeners: what an administrator has seen and found right.
//!
//! A listener that no rule decides on is of the baseline when its identity is approved, and new otherwise.

pub mod difference;
mod fold;
pub mod identity;
pub mod store;

pub use difference::{Difference, differences};
pub use identity::{Frame, Identity};
pub use store::{Store, StoreError};

use std::collections::HashSet;

use crate::event::Event;

/// The approved identities in memory, to judge by.
#[derive(Clone, Debug)]
pub struct Baseline {
    approved: HashSet<Identity>,
    frame: Frame,
}

impl Baseline {
    /// These, on this host.
    #[must_use]
    pub fn new(approved: Vec<Identity>, frame: Frame) -> Self {
        Self {
            approved: approved.into_iter().collect(),
            frame,
        }
    }

    /// Is the listener of this event approved?
    #[must_use]
    pub fn contains(&self, event: &Event) -> bool {
        !self.approved.is_empty()
            && Identity::of(event, &self.frame).is_some_and(|one| self.approved.contains(&one))
    }

    /// The host.
    #[must_use]
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Approves one more.
    pub fn insert(&mut self, identity: Identity) {
        self.approved.insert(identity);
    }

    /// Approves these and nothing else.
    pub fn replace(&mut self, approved: HashSet<Identity>) {
        self.approved = approved;
    }
}
