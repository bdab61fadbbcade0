//! Every listener now: live records and snapshots merged without a duplicate or a miss.
//!
//! Pure, but for the modules that look at the running system (`collect`, `holders`, `interfaces`,
//! `namespaces`, `netlink`, `proc_net`, `sock_diag`, `tcp`). The key of a listener is the address of its kernel socket while
//! records come from probes; snapshots from sock_diag know only the inode and get a synthetic key until
//! a record tells the address.

pub mod collect;
mod described;
pub mod exposure;
mod finds;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod holders;
mod identity;
pub mod interfaces;
mod listener;
mod live;
mod merge;
mod namespaces;
mod netlink;
mod numbers;
mod proc_net;
pub mod snapshot;
mod sock_diag;
mod table;
pub mod tcp;
mod unix_path;

#[cfg(test)]
mod collect_test;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod live_test;
#[cfg(test)]
mod merge_test;
#[cfg(test)]
mod model_test;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

pub use described::described;
pub use exposure::{Interface, Interfaces, exposure};
pub use holders::still_holds;
pub use identity::{
    has_backlog, is_listener, is_mptcp_itself, is_synthetic, is_verifiable, synthetic_id,
};
pub use listener::{Change, Listener, Previous};
pub use merge::{MergeReason, Merged, Suspect};
pub use snapshot::Snapshot;
pub use unix_path::absolute;

use self::finds::Finds;
use self::numbers::NumberMap;
use self::table::Table;
use crate::decode::record::{ListenerSeen, SockId};
use crate::event::Process;
use crate::time::BootNs;

/// Listeners that the table holds at most, unless told otherwise.
pub const DEFAULT_LIMIT: usize = 200_000;
/// Closings that are remembered, so that a snapshot that began before them does not bring them back.
const RECENT_CLOSES: usize = 16_384;

/// What the inventory could not do, or did on purpose; all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Listeners that found the table full: they were told of when seen opening, but are not tracked.
    pub untracked: u64,
    /// Closings of sockets that the table did not know.
    pub unknown_closes: u64,
    /// Records that were older than what the table already knew.
    pub stale: u64,
    /// Openings that turned out to have failed.
    pub failed_listens: u64,
    /// Records of an MPTCP socket whose TCP subflow tells the same.
    pub mptcp_twins: u64,
    /// Unvalidated openings that found no place to wait; the next snapshot finds those that were real.
    pub tentative_overflow: u64,
    /// Sockets of a snapshot that were left for the next one, because too many closings had come
    /// between to be sure.
    pub postponed: u64,
}

/// The inventory.
#[derive(Debug)]
pub struct Inventory {
    limit: usize,
    table: Table,
    tentative: NumberMap<SockId, ListenerSeen>,
    finds: Finds,
    closes: VecDeque<RecentClose>,
    /// Time of the latest closing that `closes` has forgotten.
    forgotten: Option<BootNs>,
    suspects: Vec<Suspect>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct RecentClose {
    id: SockId,
    inode: Option<u64>,
    at: BootNs,
}

impl Default for Inventory {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

impl Inventory {
    /// An empty inventory that tracks at most `limit` listeners.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            table: Table::default(),
            tentative: NumberMap::default(),
            finds: Finds::default(),
            closes: VecDeque::new(),
            forgotten: None,
            suspects: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The listener with this key.
    #[must_use]
    pub fn get(&self, id: SockId) -> Option<&Listener> {
        self.table.get(id).map(|entry| &*entry.listener)
    }

    /// Every listener, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> + Clone {
        self.table.iter().map(|entry| &*entry.listener)
    }

    /// Number of listeners.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// No listener at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What could not be done, so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Remembers the resolved process of the listener that was there `at` that time; false when it is
    /// gone. Look-ups take their time, and the kernel gives a socket's address to the next one at once: a
    /// listener that came later is another one.
    pub fn set_process(&mut self, id: SockId, at: BootNs, process: Arc<Process>) -> bool {
        let entry = self.table.get_mut(id);
        entry
            .filter(|entry| entry.listener.first_seen <= at)
            .is_some_and(|entry| {
                Arc::make_mut(&mut entry.listener).process = Some(process);
                true
            })
    }

    /// The TCP or MPTCP listener that took a connection to `local`: the one on that very address, else
    /// the wildcard of its family, else the IPv6 wildcard that also takes IPv4. Where several share the
    /// port (`SO_REUSEPORT`), the kernel chose by a hash that nobody tells; this is then the newest. Without
    /// that option the newest proves that those before it have gone, told or not.
    #[must_use]
    pub fn find_listener(&self, netns: u32, local: IpAddr, port: u16) -> Option<&Listener> {
        self.table
            .find_listener(netns, local, port)
            .map(|entry| &*entry.listener)
    }

    /// The same, to be told of.
    fn shared(&self, id: SockId) -> Option<Arc<Listener>> {
        let entry = self.table.get(id)?;
        Some(Arc::clone(&entry.listener))
    }

    fn remember_close(&mut self, id: SockId, inode: Option<u64>, at: BootNs) {
        if self.closes.len() >= RECENT_CLOSES
            && let Some(oldest) = self.closes.pop_front()
        {
            self.forgotten = self.forgotten.max(Some(oldest.at));
        }
        self.closes.push_back(RecentClose { id, inode, at });
    }
}
