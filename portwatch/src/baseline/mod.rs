//! The approved set of listeners: what an administrator has seen and found right.
//!
//! A listener that no rule decides on is of the baseline when its identity is approved, and new otherwise.

mod accepted;
pub mod difference;
mod error;
mod fold;
pub mod identity;
pub mod store;

pub use accepted::{Accepted, What};
pub use difference::{Difference, differences};
pub use error::StoreError;
pub use identity::{Frame, Identity};
pub use store::{Approved, Store};

use std::collections::HashSet;

use jiff::Timestamp;

use crate::event::Event;

/// What is approved and accepted, in memory, to judge by.
#[derive(Clone, Debug)]
pub struct Baseline {
    approved: HashSet<Identity>,
    accepted: Vec<Accepted>,
    frame: Frame,
}

/// What the baseline knows of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// Somebody accepted it.
    Accepted(&'a Accepted),
    /// It is of the approved set.
    Approved,
}

impl Baseline {
    /// Nothing is approved, on this host.
    #[must_use]
    pub fn empty(frame: Frame) -> Self {
        Self::new(Approved::default(), frame)
    }

    /// This is approved and accepted, on this host.
    #[must_use]
    pub fn new(all: Approved, frame: Frame) -> Self {
        Self {
            approved: all.identities.into_iter().collect(),
            accepted: all.accepted,
            frame,
        }
    }

    /// What is known of the listener of this event.
    #[must_use]
    pub fn knows(&self, event: &Event) -> Option<Known<'_>> {
        if self.approved.is_empty() && self.accepted.is_empty() {
            return None;
        }
        let identity = Identity::of(event, &self.frame);
        let mut accepted = self.accepted.iter();
        accepted
            .find(|one| one.admits(event, identity.as_ref()))
            .map(Known::Accepted)
            .or_else(|| {
                let is_approved = identity.is_some_and(|one| self.approved.contains(&one));
                is_approved.then_some(Known::Approved)
            })
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

    /// This counts, and nothing else.
    pub fn replace(&mut self, all: Approved) {
        *self = Self::new(all, self.frame.clone());
    }

    /// What was accepted for a time that is over no longer counts; it comes back, to be told.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Accepted> {
        self.accepted
            .extract_if(.., |one| one.is_over(now))
            .collect()
    }
}
