//! Finds: listeners that a look saw before their record came.
//!
//! Between the moment at which the kernel lets a socket listen and the one at which the probe on that call has
//! written its record, a look on another processor sees the socket; a task that the scheduler stops just there makes
//! the moment long. Told at once, such a find would be a listener that was there before, and that it was
//! opened, and by whom, would never be told. It might also be one whose `listen` is about to fail.

use std::sync::Arc;

use super::Inventory;
use super::listener::{Change, Listener};
use super::live::SAME_CALL_NS;
use super::numbers::{NumberMap, NumberSet};
use super::table::Entry;
use crate::decode::record::{CloseSeen, SockId};
use crate::event::Protocol;
use crate::time::BootNs;

/// How long a record may take from the call to the reader: many time slices, no time for a person.
const FIND_NS: u64 = 100_000_000;
/// Finds that wait at once. More than these come from no race, but from a hook that does not work.
const FINDS_LIMIT: usize = 1_024;

/// Finds that wait for their record.
#[derive(Debug, Default)]
pub(super) struct Finds {
    /// The protocols whose openings a hook tells.
    hooked: Vec<Protocol>,
    waiting: NumberMap<SockId, Arc<Listener>>,
    /// Those that the look under way has seen again.
    seen: NumberSet<SockId>,
}

impl Inventory {
    /// Openings of these protocols are told by records, which a find has to wait for.
    pub fn expect_records_of(&mut self, protocols: Vec<Protocol>) {
        self.finds.hooked = protocols;
    }

    /// When to look again, to see whether what was found is still there.
    #[must_use]
    pub fn next_find(&self) -> Option<BootNs> {
        let oldest = self.finds.waiting.values().map(|find| find.first_seen);
        Some(BootNs(oldest.min()?.0.saturating_add(FIND_NS)))
    }

    /// Keeps a find back; true when it is not to be told yet.
    pub(super) fn hold_find(&mut self, find: &Arc<Listener>) -> bool {
        let finds = &mut self.finds;
        let id = find.id();
        if !finds.hooked.contains(&find.sock.protocol) {
            return false;
        }
        // The kernel gives an address to the next socket at once.
        let is_it = |first: &&Arc<Listener>| first.sock.inode == find.sock.inode;
        match finds.waiting.get(&id).filter(is_it) {
            Some(first) if find.first_seen.since(first.first_seen) >= FIND_NS => {
                finds.waiting.remove(&id);
                return false;
            }
            Some(_) => {}
            None if finds.waiting.len() >= FINDS_LIMIT => return false,
            None => {
                finds.waiting.insert(id, Arc::clone(find));
            }
        }
        finds.seen.insert(id);
        true
    }

    /// A look is over: what it did not show was gone before anybody could be told, or does not listen.
    pub(super) fn drop_finds(&mut self, is_complete: bool) {
        let Finds { waiting, seen, .. } = &mut self.finds;
        if is_complete {
            waiting.retain(|id, _| seen.contains(id));
        }
        seen.clear();
    }

    /// The record of this socket has come.
    pub(super) fn forget_find(&mut self, id: SockId) {
        if !self.finds.waiting.is_empty() {
            self.finds.waiting.remove(&id);
        }
    }

    /// A find is closed whose opening no record told: it was a listener, unless its `listen` failed.
    pub(super) fn close_find(&mut self, seen: &CloseSeen) -> Vec<Change> {
        if self.finds.waiting.is_empty() {
            return Vec::new();
        }
        let Some(listener) = self.finds.waiting.remove(&seen.sock.id) else {
            return Vec::new();
        };
        let at = listener.first_seen;
        if seen.at.since(at) <= SAME_CALL_NS {
            return Vec::new();
        }
        let id = listener.id();
        self.table.insert(Entry::new(Arc::clone(&listener)));
        let closing = self.close(id, seen.at, seen.mechanism);
        [Change::Present { listener, at }]
            .into_iter()
            .chain(closing)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{closing, held, opening, tcp, udp};
    use super::super::live_test::kinds;
    use super::super::{Inventory, MergeReason, Snapshot};
    use super::FIND_NS;
    use crate::decode::record::SockInfo;
    use crate::event::Protocol;
    use crate::time::BootNs;

    const LATER: u64 = 10 + FIND_NS;

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.expect_records_of(vec![Protocol::Tcp]);
        inventory
    }

    fn look(inventory: &mut Inventory, at: u64, sock: Option<SockInfo>) -> String {
        let held = sock.map(|sock| held(at, sock, 7, 3));
        let look = Snapshot::of_descriptors(BootNs(at), held.into_iter().collect(), true);
        kinds(&inventory.merge(&look, MergeReason::Glance).changes)
    }

    #[test]
    fn the_record_that_comes_late_tells_the_opening() {
        let mut inventory = inventory();
        assert_eq!(look(&mut inventory, 10, Some(tcp(1, 11, 80))), "");
        assert_eq!(inventory.next_find(), Some(BootNs(LATER)));
        assert_eq!(kinds(&inventory.opened(opening(5, tcp(1, 11, 80)))), "O");
        assert_eq!(inventory.next_find(), None);
        assert_eq!(look(&mut inventory, LATER, Some(tcp(1, 11, 80))), "");
    }

    #[test]
    fn what_is_still_there_was_missed() {
        let mut inventory = inventory();
        assert_eq!(look(&mut inventory, 10, Some(tcp(1, 11, 80))), "");
        assert_eq!(look(&mut inventory, 20, Some(tcp(1, 11, 80))), "");
        assert_eq!(look(&mut inventory, LATER, Some(tcp(1, 11, 80))), "P");
        assert_eq!(look(&mut inventory, LATER + 1, Some(tcp(1, 11, 80))), "");
        assert_eq!((inventory.next_find(), inventory.len()), (None, 1));
    }

    /// Its state is that of a listener until the kernel finds that the port is taken.
    #[test]
    fn a_listen_that_fails_is_never_told() {
        let mut inventory = inventory();
        assert_eq!(look(&mut inventory, 10, Some(tcp(1, 11, 80))), "");
        assert_eq!(kinds(&inventory.closed(closing(20, tcp(1, 11, 80)))), "");
        assert_eq!(look(&mut inventory, 30, Some(tcp(2, 12, 80))), "");
        assert_eq!(look(&mut inventory, 40, None), "");
        assert_eq!((inventory.next_find(), inventory.len()), (None, 0));
    }

    #[test]
    fn a_life_without_an_opening_is_told_at_its_end() {
        let mut inventory = inventory();
        assert_eq!(look(&mut inventory, 10, Some(tcp(1, 11, 80))), "");
        let closed = inventory.closed(closing(LATER, tcp(1, 11, 80)));
        assert_eq!(kinds(&closed), "PX");
        assert!(inventory.is_empty());
    }

    #[test]
    fn what_no_hook_tells_is_told_at_once() {
        let mut inventory = inventory();
        assert_eq!(look(&mut inventory, 10, Some(udp(1, 11, 53))), "P");
    }

    #[test]
    fn after_a_loss_nothing_waits() {
        let mut inventory = inventory();
        let held = vec![held(10, tcp(1, 11, 80), 7, 3)];
        let look = Snapshot::of_descriptors(BootNs(10), held, true);
        let merged = inventory.merge(&look, MergeReason::Gap);
        assert_eq!(kinds(&merged.changes), "P");
    }
}
