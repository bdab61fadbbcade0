//! Live records: openings, closings, and openings that the kernel has not validated yet.

use std::collections::HashSet;
use std::sync::Arc;

use super::identity::{has_backlog, is_mptcp_itself, is_synthetic};
use super::listener::{Change, Listener, Previous};
use super::table::{Entry, Located};
use super::{Counts, Inventory};
use crate::decode::record::{CloseSeen, ListenerSeen, SockId, SockInfo};
use crate::event::{Mechanism, Protocol};
use crate::time::BootNs;

/// After this long an unvalidated opening must be verified by looking: longer than a call takes, also one
/// whose task has to wait for others in the middle of it.
const TENTATIVE_NS: u64 = 30_000_000;
/// Unvalidated openings that may wait at once.
const TENTATIVE_LIMIT: usize = 16_384;
/// A listen that fails undoes its state within the same call, which never sleeps, but may be preempted. A
/// closing that comes later than this closed a listener that was real.
pub(super) const SAME_CALL_NS: u64 = 20_000_000;

impl Inventory {
    /// A listener was opened. Nothing comes back when another probe has already told of it, or when it
    /// still has to be validated ([`Inventory::confirm`]). An MPTCP socket and its subflow are one
    /// listener, told by whichever comes first.
    ///
    /// Where the address was used by another socket before, that one's closing was missed and comes first.
    pub fn opened(&mut self, seen: ListenerSeen) -> Vec<Change> {
        self.forget_find(seen.sock.id);
        if is_mptcp_itself(&seen.sock) && self.has_subflow(&seen) {
            self.counts.mptcp_twins += 1;
            return Vec::new();
        }
        if seen.tentative {
            self.wait_for_validation(seen);
            return Vec::new();
        }
        self.tentative.remove(&seen.sock.id);
        self.open(seen)
    }

    /// A listener was closed. Nothing comes back for a socket that was not known, and for one whose
    /// opening was not validated and is now known to have failed.
    pub fn closed(&mut self, seen: CloseSeen) -> Vec<Change> {
        let located = match self.table.locate(&seen.sock) {
            Located::Unknown if seen.sock.protocol == Protocol::Mptcp => self
                .table
                .half_of(&seen.sock, &HashSet::new())
                .map_or(Located::Unknown, Located::Same),
            located => located,
        };
        if !matches!(located, Located::Same(_)) {
            self.remember_close(seen.sock.id, seen.sock.inode, seen.at);
        }
        if let Some(opening) = self.tentative.remove(&seen.sock.id) {
            if seen.at.since(opening.at) <= SAME_CALL_NS {
                self.counts.failed_listens += 1;
                return Vec::new();
            }
            let mut changes = self.open(opening);
            changes.extend(self.close(seen.sock.id, seen.at, seen.mechanism));
            return changes;
        }
        let (id, mechanism) = match located {
            Located::Same(id) => (id, seen.mechanism),
            // Whatever sat at this address before is gone as well.
            Located::Replaced(id) => (id, Mechanism::Reconcile),
            Located::Unknown => {
                let found = self.close_find(&seen);
                self.counts.unknown_closes += u64::from(found.is_empty());
                return found;
            }
        };
        if self.get(id).is_some_and(|known| seen.at < known.first_seen) {
            self.counts.stale += 1;
            return Vec::new();
        }
        self.close(id, seen.at, mechanism).into_iter().collect()
    }

    /// Unvalidated openings that have waited for longer than a call takes: look at each (sock_diag by inode), then
    /// call [`Inventory::confirm`] or [`Inventory::refute`].
    #[must_use]
    pub fn tentative_due(&self, now: BootNs) -> Vec<SockId> {
        let mut due: Vec<(BootNs, SockId)> = self
            .tentative
            .values()
            .filter(|seen| now.since(seen.at) > TENTATIVE_NS)
            .map(|seen| (seen.at, seen.sock.id))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// When the oldest unvalidated opening will be due.
    #[must_use]
    pub fn next_tentative(&self) -> Option<BootNs> {
        let oldest = self.tentative.values().map(|seen| seen.at).min()?;
        Some(BootNs(oldest.0.saturating_add(TENTATIVE_NS + 1)))
    }

    /// The unvalidated opening of this socket.
    #[must_use]
    pub fn tentative(&self, id: SockId) -> Option<&ListenerSeen> {
        self.tentative.get(&id)
    }

    /// An unvalidated opening is real, on this port when it is known better by now. The opening keeps
    /// its own time, unless that lies behind `at`.
    pub fn confirm(&mut self, id: SockId, port: Option<u16>, at: BootNs) -> Vec<Change> {
        let Some(mut seen) = self.tentative.remove(&id) else {
            return Vec::new();
        };
        seen.tentative = false;
        seen.at = seen.at.min(at);
        seen.sock.port = port.or(seen.sock.port);
        self.open(seen)
    }

    /// An unvalidated opening is known to have failed.
    pub fn refute(&mut self, id: SockId) {
        if self.tentative.remove(&id).is_some() {
            self.counts.failed_listens += 1;
        }
    }

    fn wait_for_validation(&mut self, seen: ListenerSeen) {
        if matches!(self.table.locate(&seen.sock), Located::Same(_)) {
            // A better placed probe was faster.
            return;
        }
        if self.tentative.len() >= TENTATIVE_LIMIT && !self.tentative.contains_key(&seen.sock.id) {
            self.counts.tentative_overflow += 1;
            return;
        }
        self.tentative.insert(seen.sock.id, seen);
    }

    /// A validated opening.
    fn open(&mut self, seen: ListenerSeen) -> Vec<Change> {
        match self.table.locate(&seen.sock) {
            Located::Same(id) if self.is_other_port(id, &seen.sock) => self.replace(id, seen),
            Located::Same(id) => self.again(id, seen).into_iter().collect(),
            Located::Replaced(id) => self.replace(id, seen),
            Located::Unknown => {
                let pids = HashSet::from([seen.who.task.key.pid]);
                if seen.sock.protocol == Protocol::Mptcp
                    && let Some(id) = self.table.half_of(&seen.sock, &pids)
                {
                    self.table.set_twin(id, &seen.sock);
                    return self.again(id, seen).into_iter().collect();
                }
                vec![self.add(Arc::new(Listener::opened(seen)))]
            }
        }
    }

    /// The same socket on another port listened, was shut down unseen, and listens again.
    fn is_other_port(&self, id: SockId, sock: &SockInfo) -> bool {
        let known = self.get(id).and_then(|listener| listener.sock.port);
        known.zip(sock.port).is_some_and(|(a, b)| a != b)
    }

    /// Another socket was known where this one opened.
    fn replace(&mut self, id: SockId, seen: ListenerSeen) -> Vec<Change> {
        if self.get(id).is_some_and(|known| seen.at < known.first_seen) {
            // The record is the older one: its socket came and went before the known one.
            self.counts.stale += 1;
            let at = seen.at;
            let listener = Arc::new(Listener::opened(seen));
            let closing = Change::closed(Arc::clone(&listener), at, Mechanism::Reconcile);
            return vec![Change::Opened { listener }, closing];
        }
        let gone = self.close(id, seen.at, Mechanism::Reconcile);
        let opening = self.add(Arc::new(Listener::opened(seen)));
        gone.into_iter().chain([opening]).collect()
    }

    /// A known listener is told of again: by a second probe, by a second `listen` or `bind`, or late
    /// because a snapshot found it first.
    fn again(&mut self, id: SockId, seen: ListenerSeen) -> Option<Change> {
        let entry = self.table.get_mut(id)?;
        let newer = seen.at >= entry.touched;
        let listener = Arc::make_mut(&mut entry.listener);
        // A record of before it was found, or of the call in which it was, is of its opening; a later one only says that it was
        // listened on again.
        let is_opening = seen.at.since(listener.first_seen) <= SAME_CALL_NS;
        if is_opening && listener.opener.is_none() && listener.opened_at.is_none() {
            listener.opened_at = Some(seen.at);
            listener.first_seen = listener.first_seen.min(seen.at);
            listener.opener = Some(Arc::new(seen.who));
        }
        if listener.unix.is_none() {
            listener.unix = seen.unix;
        }
        let previous = if newer {
            entry.touched = seen.at;
            take_over(&mut listener.sock, &seen.sock)
        } else {
            Previous::default()
        };
        let id = self.learn(id, &seen.sock);
        let listener = self.shared(id)?;
        (!previous.is_empty()).then_some(Change::Changed {
            listener,
            previous,
            at: seen.at,
            mechanism: seen.mechanism,
        })
    }

    /// Is the subflow that listens for this MPTCP socket known, or does it wait for its validation?
    fn has_subflow(&mut self, seen: &ListenerSeen) -> bool {
        let sock = &seen.sock;
        let known = match self.table.locate(sock) {
            Located::Same(id) => Some(id),
            Located::Replaced(_) => None,
            Located::Unknown => {
                let pids = HashSet::from([seen.who.task.key.pid]);
                self.table.half_of(sock, &pids)
            }
        };
        if let Some(id) = known {
            let is_subflow = self
                .get(id)
                .is_some_and(|known| !is_mptcp_itself(&known.sock));
            if is_subflow {
                self.table.set_twin(id, sock);
            }
            return is_subflow;
        }
        self.tentative.values().any(|waiting| {
            let half = &waiting.sock;
            half.protocol == Protocol::Mptcp
                && (half.netns, half.local, half.port) == (sock.netns, sock.local, sock.port)
                && waiting.who.task.key.pid == seen.who.task.key.pid
        })
    }

    /// Puts a new listener into the table, as far as there is room.
    fn add(&mut self, listener: Arc<Listener>) -> Change {
        if self.table.len() >= self.limit {
            self.counts.untracked += 1;
        } else {
            self.table.insert(Entry::new(Arc::clone(&listener)));
        }
        Change::Opened { listener }
    }

    /// Takes a listener out of the table, and remembers that for looks that began before.
    pub(super) fn close(&mut self, id: SockId, at: BootNs, mechanism: Mechanism) -> Option<Change> {
        let entry = self.table.remove(id)?;
        self.remember_close(entry.listener.id(), entry.listener.sock.inode, at);
        if let Some((twin, inode)) = entry.twin {
            self.remember_close(twin, inode, at);
        }
        Some(Change::closed(entry.listener, at, mechanism))
    }

    /// Learns what a later look knows and the table does not (address, inode, cookie, port); the key
    /// that the listener has now comes back.
    pub(super) fn learn(&mut self, id: SockId, sock: &SockInfo) -> SockId {
        let Some(entry) = self.table.get(id) else {
            return id;
        };
        let known = &entry.listener.sock;
        let key = known.id;
        let tells_key = is_synthetic(key) && !is_synthetic(sock.id);
        let tells_more = tells_key
            || known.inode.is_none() && sock.inode.is_some()
            || known.cookie.is_none() && sock.cookie.is_some()
            || known.port.is_none() && sock.port.is_some();
        if !tells_more || is_mptcp_itself(known) != is_mptcp_itself(sock) {
            return key;
        }
        self.table.update(key, |entry| {
            let known = &mut Arc::make_mut(&mut entry.listener).sock;
            known.id = if tells_key { sock.id } else { key };
            known.inode = known.inode.or(sock.inode);
            known.cookie = known.cookie.or(sock.cookie);
            known.port = known.port.or(sock.port);
        });
        if tells_key { sock.id } else { key }
    }

    pub(super) fn count(&mut self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.counts);
    }
}

/// Takes over what may change while a socket listens; what was different comes back.
pub(super) fn take_over(known: &mut SockInfo, now: &SockInfo) -> Previous {
    let mut previous = Previous::default();
    if has_backlog(known) && known.backlog != now.backlog {
        previous.backlog = Some(known.backlog);
        known.backlog = now.backlog;
    }
    if known.ifindex != now.ifindex {
        previous.ifindex = Some(known.ifindex);
        known.ifindex = now.ifindex;
    }
    if known.protocol != Protocol::Mptcp && known.protocol_number != now.protocol_number {
        previous.protocol_number = Some(known.protocol_number);
        known.protocol_number = now.protocol_number;
    }
    if known.local != now.local && now.local.is_some() {
        previous.local = Some(known.local);
        known.local = now.local;
    }
    previous
}
