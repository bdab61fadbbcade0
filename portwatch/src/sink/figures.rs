//! How a sink does, for whoever asks, without waiting for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chain::Head;

/// Where something may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This host's disk.
    Disk,
    /// The peer.
    Peer,
}

/// Counters of one sink since the start of the daemon.
#[derive(Debug, Default)]
pub struct Figures {
    delivered: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    errors: [Mutex<Option<String>>; 2],
    head: Mutex<Option<Head>>,
}

impl Figures {
    /// The peer, or the file, has so many more.
    pub(super) fn delivered(&self, events: u64) {
        if events > 0 {
            self.delivered.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// The peer will never take one.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more were damaged on disk, or missed by a reader of the bus that has ended.
    pub(crate) fn lost(&self, events: u64) {
        self.lost.fetch_add(events, Ordering::Relaxed);
    }

    /// All is well there, or this is not. Tells whether that is news.
    pub(super) fn judge(&self, side: Side, error: Option<String>) -> bool {
        let mut last = lock(&self.errors[side as usize]);
        let is_news = last.is_some() != error.is_some();
        *last = error;
        is_news
    }

    /// The chain has come so far.
    pub(super) fn sealed(&self, head: Head) {
        *lock(&self.head) = Some(head);
    }

    /// Events that the peer, or the file, has.
    #[must_use]
    pub fn all_delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Events that the peer will never take.
    #[must_use]
    pub fn all_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Events that were damaged on disk, or missed by readers of the bus before the present one.
    #[must_use]
    pub fn all_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// What went wrong last; nothing while all is well.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.errors.iter().find_map(|error| lock(error).clone())
    }

    /// Where the chain is, where there is one.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        *lock(&self.head)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
