//! Merging a snapshot into what live records have told: what was missed appears, what is gone goes.
//!
//! The caller has attached its probes before the look began and has applied every live record that was
//! in the ring when the look ended. A record that comes later is recognised by its time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::identity::{is_listener, is_mptcp_itself, is_verifiable, still_listens};
use super::listener::{Change, Listener, Previous};
use super::live::take_over;
use super::numbers::NumberSet;
use super::snapshot::{Group, Snapshot, View};
use super::table::{Entry, Located};
use super::{Inventory, RecentClose};
use crate::decode::record::{ProcessKey, SockId, SockInfo, TaskInfo, Who};
use crate::event::{Mechanism, Owner, Protocol};
use crate::time::BootNs;

/// Why somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeReason {
    /// The first look of this run: what it finds was there before.
    Start,
    /// Records were lost.
    Gap,
    /// The regular look.
    Beat,
    /// The quick look between two regular ones. Listeners that no descriptor ever referred to (the
    /// kernel's own) are not asked about: that takes a visit to every namespace.
    Glance,
    /// Something happened (a fork, an exit of an owner) that may have changed holders.
    Hint,
}

/// What a merge found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// To be told, in this order.
    pub changes: Vec<Change>,
    /// Listeners that nobody had told of.
    pub found: u64,
    /// Listeners that were gone without a word.
    pub vanished: u64,
    /// Listeners whose holders or backlog had changed.
    pub changed: u64,
    /// Sockets looked at.
    pub checked: u64,
}

/// A listener that no descriptor refers to. Only sock_diag can tell whether it lives on (in flight
/// between processes, in an io_uring, inside the kernel) or was closed unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The listener.
    pub sock: SockId,
    /// Its inode, which sock_diag knows it by.
    pub inode: u64,
    /// Its protocol, to ask the right table.
    pub protocol: Protocol,
    /// Its network namespace.
    pub netns: u32,
    /// When the look began that missed it.
    pub began: BootNs,
}

impl Inventory {
    /// Merges one look.
    ///
    /// A socket that only the snapshot has is told as present, unless it was closed after the look
    /// began, or its record may be on its way: then the look after [`Inventory::next_find`] decides. A listener that a complete look misses is closed if the look would have seen it, else it
    /// becomes a suspect: ask sock_diag for all of [`Inventory::suspects`] and call
    /// [`Inventory::resolve_suspects`]. A change of holders is told when two looks in a row agree.
    pub fn merge(&mut self, snapshot: &Snapshot, reason: MergeReason) -> Merged {
        let mut look = Look {
            began: snapshot.began,
            view: snapshot.view,
            waits_for_records: snapshot.view == View::Descriptors
                && !matches!(reason, MergeReason::Start | MergeReason::Gap),
            mechanism: match reason {
                MergeReason::Start => Mechanism::Snapshot,
                MergeReason::Gap | MergeReason::Beat | MergeReason::Glance | MergeReason::Hint => {
                    Mechanism::Reconcile
                }
            },
            closed: self.closed_since(snapshot.began),
            holders: HashMap::new(),
        };
        let mut merged = Merged::default();
        let groups = snapshot.groups();
        let mut seen = NumberSet::default();
        seen.reserve(groups.len());
        if reason == MergeReason::Start {
            self.table.reserve(groups.len().min(self.limit));
            merged.changes.reserve(groups.len());
        }
        for group in groups {
            merged.checked += 1;
            self.merge_group(group, &mut look, &mut seen, &mut merged);
        }
        self.drop_finds(snapshot.complete);
        self.suspects.clear();
        if snapshot.complete {
            self.missing(snapshot, reason, &seen, &mut merged);
        }
        merged
    }

    /// What the last merge could not decide.
    #[must_use]
    pub fn suspects(&self) -> &[Suspect] {
        &self.suspects
    }

    /// Decides the suspects: those whose inode is in `alive` live on without a holder, the others were
    /// closed unseen. `at` is the time of the answer.
    pub fn resolve_suspects(&mut self, alive: &HashSet<u64>, at: BootNs) -> Vec<Change> {
        let mut changes = Vec::new();
        for suspect in std::mem::take(&mut self.suspects) {
            let lives = alive.contains(&suspect.inode);
            let opening = self.tentative.get(&suspect.sock);
            let is_tentative = opening.is_some_and(|opening| opening.at < suspect.began);
            let entry = self.table.get(suspect.sock);
            let is_missing = entry.is_some_and(|entry| entry.touched < suspect.began);
            match (is_tentative, is_missing, lives) {
                (true, _, true) => changes.extend(self.confirm(suspect.sock, None, at)),
                (true, _, false) => self.refute(suspect.sock),
                (_, true, true) => {
                    changes.extend(self.owners_seen(suspect.sock, Vec::new(), at));
                }
                (_, true, false) => {
                    changes.extend(self.close(suspect.sock, at, Mechanism::Reconcile));
                }
                // A live record has spoken since.
                (false, false, _) => {}
            }
        }
        changes
    }

    fn merge_group(
        &mut self,
        group: Group<'_>,
        look: &mut Look,
        seen: &mut NumberSet<SockId>,
        merged: &mut Merged,
    ) {
        let began = look.began;
        match self.locate_or_pair(&group) {
            Located::Same(id) => seen.extend(self.merge_known(id, group, look, merged)),
            Located::Replaced(id) => {
                // The table may have moved on since the look passed.
                if self
                    .table
                    .get(id)
                    .is_some_and(|entry| entry.touched < began)
                {
                    merged.vanished += 1;
                    merged
                        .changes
                        .extend(self.close(id, began, Mechanism::Reconcile));
                    self.merge_unknown(group, look, seen, merged);
                } else {
                    seen.insert(id);
                }
            }
            Located::Unknown => self.merge_unknown(group, look, seen, merged),
        }
    }

    /// Locates a socket; one half of an MPTCP listener is also found by the other.
    fn locate_or_pair(&mut self, group: &Group<'_>) -> Located {
        let located = self.table.locate(group.sock);
        if located != Located::Unknown || group.sock.protocol != Protocol::Mptcp {
            return located;
        }
        let pids = group.owners.iter().map(|owner| owner.pid).collect();
        match self.table.half_of(group.sock, &pids) {
            Some(id) => {
                self.table.set_twin(id, group.sock);
                Located::Same(id)
            }
            None => Located::Unknown,
        }
    }

    /// Takes over what the look knows better; the key that the listener has now comes back.
    fn merge_known(
        &mut self,
        id: SockId,
        group: Group<'_>,
        look: &mut Look,
        merged: &mut Merged,
    ) -> Option<SockId> {
        let entry = self.table.get_mut(id)?;
        let is_untouched = entry.touched < look.began;
        if is_untouched && !still_listens(group.sock) {
            merged.vanished += 1;
            let closing = self.close(id, look.began, Mechanism::Reconcile);
            merged.changes.extend(closing);
            return None;
        }
        if entry.listener.unix.is_none() && group.unix.is_some() {
            Arc::make_mut(&mut entry.listener).unix = group.unix.cloned();
        }
        if entry.listener.opener.is_none() && is_other(entry.listener.holder.as_deref(), &group) {
            Arc::make_mut(&mut entry.listener).holder = group.holder.map(|task| look.who(task));
        }
        let is_same_half = is_mptcp_itself(&entry.listener.sock) == is_mptcp_itself(group.sock);
        // Only the text tables of `/proc/net` give no cookie, and those lack backlog and interface.
        let is_whole = look.view == View::Descriptors || group.sock.cookie.is_some();
        let previous = if is_untouched && is_same_half && is_whole {
            take_over(&mut Arc::make_mut(&mut entry.listener).sock, group.sock)
        } else {
            Previous::default()
        };
        let id = self.learn(id, group.sock);
        let owners = self.owners_seen(id, group.owners, group.at);
        let described = (!previous.is_empty()).then_some(previous);
        let described = described.zip(self.shared(id));
        let described = described.map(|(previous, listener)| Change::Changed {
            listener,
            previous,
            at: group.at,
            mechanism: Mechanism::Reconcile,
        });
        merged.changed += u64::from(described.is_some() || owners.is_some());
        merged.changes.extend(described);
        merged.changes.extend(owners);
        Some(id)
    }

    fn merge_unknown(
        &mut self,
        group: Group<'_>,
        look: &mut Look,
        seen: &mut NumberSet<SockId>,
        merged: &mut Merged,
    ) {
        if !is_listener(group.sock, group.unix) || look.closed.has(group.sock) {
            return;
        }
        if let Some(id) = self.waiting(group.sock) {
            merged.found += 1;
            merged
                .changes
                .extend(self.confirm(id, group.sock.port, group.at));
            if let Located::Same(id) = self.table.locate(group.sock) {
                seen.insert(id);
                self.learn(id, group.sock);
            }
            return;
        }
        if look.closed.is_cut_short {
            self.count(|counts| counts.postponed += 1);
            return;
        }
        if self.table.len() >= self.limit {
            self.count(|counts| counts.untracked += 1);
            return;
        }
        let listener = Arc::new(Listener {
            sock: group.sock.clone(),
            unix: group.unix.cloned(),
            opener: None,
            holder: group.holder.map(|task| look.who(task)),
            process: None,
            owners: group.owners,
            opened_at: None,
            first_seen: group.at,
            mechanism: look.mechanism,
        });
        if look.waits_for_records && self.hold_find(&listener) {
            return;
        }
        seen.insert(listener.id());
        self.table.insert(Entry::new(Arc::clone(&listener)));
        merged.found += 1;
        merged.changes.push(Change::Present {
            listener,
            at: group.at,
        });
    }

    /// The unvalidated opening of this socket, by address or by inode.
    fn waiting(&self, sock: &SockInfo) -> Option<SockId> {
        if self.tentative.contains_key(&sock.id) {
            return Some(sock.id);
        }
        let inode = sock.inode?;
        self.tentative
            .values()
            .find(|seen| seen.sock.inode == Some(inode))
            .map(|seen| seen.sock.id)
    }

    /// Closes or suspects what a complete look did not show.
    fn missing(
        &mut self,
        snapshot: &Snapshot,
        reason: MergeReason,
        seen: &NumberSet<SockId>,
        merged: &mut Merged,
    ) {
        let began = snapshot.began;
        let is_quick = matches!(reason, MergeReason::Glance | MergeReason::Hint);
        let is_left_out = |listener: &Listener| {
            is_quick && listener.owners.is_empty() && listener.opener.is_none()
        };
        let missing = self.table.ids(|entry| {
            entry.touched < began
                && !seen.contains(&entry.listener.id())
                && !is_left_out(&entry.listener)
        });
        for id in missing {
            let Some(entry) = self.table.get(id) else {
                continue;
            };
            let can_verify = is_verifiable(entry.listener.sock.protocol);
            let by_kernel = entry
                .listener
                .opener
                .as_ref()
                .is_some_and(|who| who.task.is_kthread);
            let decides = snapshot.decides_on(entry.listener.sock.netns);
            match (decides, can_verify, suspect(entry, began)) {
                (false, true, Some(suspect)) => self.suspects.push(suspect),
                // Neither view shows a socket of the kernel's own without an inode, nor does sock_diag
                // show protocols that it has no table for.
                (false, _, _) if by_kernel => {}
                (true, false, _) => {}
                _ => {
                    merged.vanished += 1;
                    merged
                        .changes
                        .extend(self.close(id, began, Mechanism::Reconcile));
                }
            }
        }
        let waiting: Vec<_> = self
            .tentative
            .values()
            .filter(|opening| opening.at < began)
            .map(|opening| (opening.sock.id, opening.sock.clone()))
            .collect();
        for (id, sock) in waiting {
            match sock.inode {
                Some(inode) if !snapshot.decides_on(sock.netns) => self.suspects.push(Suspect {
                    sock: id,
                    inode,
                    protocol: sock.protocol,
                    netns: sock.netns,
                    began,
                }),
                _ => self.refute(id),
            }
        }
    }

    /// Two looks in a row must agree on a change of holders: between fork and exec, or while a
    /// descriptor is in flight, one look shows what nobody means.
    fn owners_seen(&mut self, id: SockId, owners: Vec<Owner>, at: BootNs) -> Option<Change> {
        let entry = self.table.get_mut(id)?;
        if is_same_set(&entry.listener.owners, &owners) {
            entry.pending = None;
            // The same processes may have other names and descriptors by now.
            if entry.listener.owners != owners {
                Arc::make_mut(&mut entry.listener).owners = owners;
            }
            return None;
        }
        let agreed = entry
            .pending
            .take()
            .is_some_and(|pending| is_same_set(&pending, &owners));
        if !agreed {
            entry.pending = Some(owners);
            return None;
        }
        let known = &mut Arc::make_mut(&mut entry.listener).owners;
        let before = std::mem::replace(known, owners);
        Some(Change::Changed {
            listener: Arc::clone(&entry.listener),
            previous: Previous {
                owners: Some(before),
                ..Previous::default()
            },
            at,
            mechanism: Mechanism::Reconcile,
        })
    }

    fn closed_since(&self, began: BootNs) -> ClosedSince {
        let mut closed = ClosedSince {
            ids: HashSet::new(),
            inodes: HashSet::new(),
            is_cut_short: self.forgotten.is_some_and(|at| at >= began),
        };
        for RecentClose { id, inode, .. } in self.closes.iter().filter(|close| close.at >= began) {
            match inode {
                Some(inode) => closed.inodes.insert(*inode),
                None => closed.ids.insert(*id),
            };
        }
        closed
    }
}

/// What holds for every socket of one look.
struct Look {
    began: BootNs,
    view: View,
    /// What it finds may have a record on its way ([`super::finds`]).
    waits_for_records: bool,
    /// How events of found listeners say they were seen.
    mechanism: Mechanism,
    closed: ClosedSince,
    /// Those who stand for listeners: a server with a thousand of them is kept once.
    holders: HashMap<ProcessKey, Arc<Who>>,
}

impl Look {
    fn who(&mut self, task: &TaskInfo) -> Arc<Who> {
        let known = self.holders.get(&task.key);
        match known.filter(|who| who.task == *task) {
            Some(who) => Arc::clone(who),
            None => {
                let who = Arc::new(Who {
                    task: task.clone(),
                    image: None,
                    ancestors: Vec::new(),
                });
                self.holders.insert(task.key, Arc::clone(&who));
                who
            }
        }
    }
}

/// Sockets that were closed after a look began.
struct ClosedSince {
    /// Those whose inode nobody knew.
    ids: HashSet<SockId>,
    inodes: HashSet<u64>,
    /// There were more than could be remembered.
    is_cut_short: bool,
}

impl ClosedSince {
    fn has(&self, sock: &SockInfo) -> bool {
        self.ids.contains(&sock.id) || sock.inode.is_some_and(|inode| self.inodes.contains(&inode))
    }
}

/// The same processes, whatever their names and descriptors are by now.
fn is_same_set(a: &[Owner], b: &[Owner]) -> bool {
    a.iter()
        .map(|owner| owner.pid)
        .eq(b.iter().map(|owner| owner.pid))
}

/// Does somebody else stand for a listener by now, or somebody changed?
fn is_other(known: Option<&Who>, group: &Group<'_>) -> bool {
    known.map(|who| &who.task) != group.holder
}

/// An MPTCP listener is verified by the socket that a program holds, when that is known.
fn suspect(entry: &Entry, began: BootNs) -> Option<Suspect> {
    let sock = &entry.listener.sock;
    let twin_inode = entry.twin.and_then(|(_, inode)| inode);
    Some(Suspect {
        sock: sock.id,
        inode: twin_inode.or(sock.inode)?,
        protocol: sock.protocol,
        netns: sock.netns,
        began,
    })
}
