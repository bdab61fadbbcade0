//! The bounded table of listeners and its indexes, kept consistent in one place.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::identity::{contradicts, fit};
use super::listener::Listener;
use super::numbers::NumberMap;
use crate::decode::record::{SockId, SockInfo};
use crate::event::{Owner, Protocol};
use crate::time::BootNs;

/// A listener and what the inventory remembers about it beside.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The listener, shared with the changes that tell of it: on a first look there are thousands of both.
    pub(super) listener: Arc<Listener>,
    /// The last time a live record spoke of it, or a snapshot brought it in.
    pub(super) touched: BootNs,
    /// Holders that one snapshot saw and that the next must confirm.
    pub(super) pending: Option<Vec<Owner>>,
    /// The other half of an MPTCP listener: the socket itself, or its subflow.
    pub(super) twin: Option<(SockId, Option<u64>)>,
}

impl Entry {
    /// An entry without history.
    pub(super) fn new(listener: Arc<Listener>) -> Self {
        Self {
            touched: listener.first_seen,
            listener,
            pending: None,
            twin: None,
        }
    }
}

/// What the table knows about a socket that somebody speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// It is this entry.
    Same(SockId),
    /// This entry sits at its address or inode, but is another socket: it must have been closed unseen.
    Replaced(SockId),
    /// Nothing.
    Unknown,
}

/// Entries by key, inode and port.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: NumberMap<SockId, Entry>,
    by_inode: NumberMap<u64, SockId>,
    by_port: NumberMap<(u32, u16), Vec<SockId>>,
    twins: NumberMap<SockId, SockId>,
}

impl Table {
    /// Number of listeners.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Makes room for this many entries in all, so that a large first look does not move them about.
    pub(super) fn reserve(&mut self, total: usize) {
        let more = total.saturating_sub(self.entries.len());
        self.entries.reserve(more);
        self.by_inode.reserve(more);
        self.by_port.reserve(more);
    }

    /// The entry with this key, or whose MPTCP twin has it.
    pub(super) fn get(&self, id: SockId) -> Option<&Entry> {
        self.entries.get(&self.canonical(id))
    }

    /// The same, to change what is not indexed.
    pub(super) fn get_mut(&mut self, id: SockId) -> Option<&mut Entry> {
        self.entries.get_mut(&self.canonical(id))
    }

    /// Every entry, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.entries.values()
    }

    /// The keys of those entries that `wanted` picks, oldest first, so that what follows from them is
    /// told in a stable order.
    pub(super) fn ids(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<SockId> {
        let picked = self.entries.values().filter(|entry| wanted(entry));
        let mut ids: Vec<(BootNs, SockId)> = picked
            .map(|entry| (entry.listener.first_seen, entry.listener.id()))
            .collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Which entry a socket is.
    pub(super) fn locate(&self, sock: &SockInfo) -> Located {
        let id = self.canonical(sock.id);
        if let Some(entry) = self.entries.get(&id) {
            let is_twin = id != sock.id;
            return if !is_twin && contradicts(&entry.listener.sock, sock) {
                Located::Replaced(id)
            } else {
                Located::Same(id)
            };
        }
        let Some(&id) = sock.inode.and_then(|inode| self.by_inode.get(&inode)) else {
            return Located::Unknown;
        };
        // One inode at two addresses is an inode number that was used again, unless one side of the
        // comparison never knew the address, or the two are the halves of an MPTCP listener: there
        // newer kernels give the subflow the file of the socket itself.
        let is_other_half = self.entries.get(&id).is_some_and(|entry| {
            let known = &entry.listener.sock;
            known.protocol == Protocol::Mptcp
                && sock.protocol == Protocol::Mptcp
                && super::is_mptcp_itself(known) != super::is_mptcp_itself(sock)
        });
        if is_other_half || super::is_synthetic(id) || super::is_synthetic(sock.id) {
            Located::Same(id)
        } else {
            Located::Replaced(id)
        }
    }

    /// An MPTCP listener on the same address and port that has no other half yet. Where the port may be
    /// shared, one of `pids` must already answer for it.
    pub(super) fn half_of(&self, sock: &SockInfo, pids: &HashSet<u32>) -> Option<SockId> {
        let ids = self.by_port.get(&(sock.netns, sock.port?))?;
        ids.iter().copied().find(|id| {
            self.entries.get(id).is_some_and(|entry| {
                let known = &entry.listener.sock;
                let is_shared = known.reuseport || sock.reuseport;
                let is_same_owner = entry
                    .listener
                    .owners
                    .iter()
                    .any(|owner| pids.contains(&owner.pid));
                known.protocol == Protocol::Mptcp
                    && entry.twin.is_none()
                    && known.local == sock.local
                    && super::is_mptcp_itself(known) != super::is_mptcp_itself(sock)
                    && (!is_shared || is_same_owner)
            })
        })
    }

    /// Makes `sock` the other half of the entry `id`, in place of the one that it may have had: that one
    /// was closed unseen, and what comes to its address next is another listener.
    pub(super) fn set_twin(&mut self, id: SockId, sock: &SockInfo) {
        self.update(id, |entry| entry.twin = Some((sock.id, sock.inode)));
    }

    /// Adds an entry whose socket is [`Located::Unknown`].
    pub(super) fn insert(&mut self, entry: Entry) {
        let sock = &entry.listener.sock;
        let id = sock.id;
        if let Some(inode) = sock.inode {
            self.by_inode.insert(inode, id);
        }
        if let Some(port) = sock.port {
            self.by_port.entry((sock.netns, port)).or_default().push(id);
        }
        if let Some((twin, inode)) = entry.twin {
            self.twins.insert(twin, id);
            if let Some(inode) = inode {
                self.by_inode.insert(inode, id);
            }
        }
        self.entries.insert(id, entry);
    }

    /// Takes an entry out, with all that pointed to it.
    pub(super) fn remove(&mut self, id: SockId) -> Option<Entry> {
        let id = self.canonical(id);
        let entry = self.entries.remove(&id)?;
        let sock = &entry.listener.sock;
        let (twin, twin_inode) = entry.twin.unzip();
        for inode in [sock.inode, twin_inode.flatten()].into_iter().flatten() {
            // Another entry has it by now, if this one was closed unseen.
            if self.by_inode.get(&inode) == Some(&id) {
                self.by_inode.remove(&inode);
            }
        }
        if let Some(twin) = twin {
            self.twins.remove(&twin);
        }
        if let Some(port) = sock.port
            && let Some(ids) = self.by_port.get_mut(&(sock.netns, port))
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_port.remove(&(sock.netns, port));
            }
        }
        Some(entry)
    }

    /// Changes fields that are indexed.
    pub(super) fn update(&mut self, id: SockId, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.remove(id) {
            change(&mut entry);
            self.insert(entry);
        }
    }

    /// The stream listener that took a connection to `local`, by the kernel's order of preference.
    pub(super) fn find_listener(&self, netns: u32, local: IpAddr, port: u16) -> Option<&Entry> {
        let ids = self.by_port.get(&(netns, port))?;
        ids.iter()
            .filter_map(|id| self.entries.get(id))
            .filter(|entry| {
                matches!(
                    entry.listener.sock.protocol,
                    Protocol::Tcp | Protocol::Mptcp
                )
            })
            .filter_map(|entry| Some((fit(&entry.listener.sock, local)?, entry)))
            .min_by_key(|(fit, entry)| (*fit, Reverse(entry.listener.first_seen)))
            .map(|(_, entry)| entry)
    }

    fn canonical(&self, id: SockId) -> SockId {
        self.twins.get(&id).copied().unwrap_or(id)
    }

    /// Every index leads to an entry that leads back; otherwise a later listener hides behind it.
    #[cfg(any(test, fuzzing))]
    pub(super) fn assert_consistent(&self) {
        for (key, entry) in &self.entries {
            let sock = &entry.listener.sock;
            assert_eq!(*key, sock.id, "an entry is not where its key says");
            let is_by_port = |port| {
                let ids = self.by_port.get(&(sock.netns, port));
                ids.is_some_and(|ids| ids.contains(key))
            };
            assert!(sock.port.is_none_or(is_by_port), "not found by its port");
            let twin = entry.twin.map(|(twin, _)| twin);
            assert!(
                twin.is_none_or(|twin| self.twins.get(&twin) == Some(key)),
                "not found by its other half"
            );
        }
        for (twin, id) in &self.twins {
            let entry = self.entries.get(id).and_then(|entry| entry.twin);
            assert_eq!(entry.map(|(twin, _)| twin), Some(*twin), "a stale half");
        }
        for id in self
            .by_inode
            .values()
            .chain(self.by_port.values().flatten())
        {
            assert!(self.entries.contains_key(id), "a stale index");
        }
    }
}
