//! One look at every receiving socket, grouped by socket with its holders.

use std::collections::HashSet;

use super::listener::{choose_holder, owner};
use crate::decode::record::{Held, SockInfo, TaskInfo, UnixName};
use crate::event::Owner;
use crate::time::BootNs;

/// What a way of looking can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Descriptors of tasks (`iter/task_file`). A socket in flight (SCM_RIGHTS), a fixed file of
    /// io_uring and a kernel's own socket have no descriptor, and are not seen though they live.
    Descriptors,
    /// The sockets themselves (sock_diag, `/proc/net`): one that is not seen does not live, in the
    /// namespaces that were visited.
    Sockets,
}

/// A socket that no descriptor refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheld {
    /// When it was seen.
    pub at: BootNs,
    /// The socket.
    pub sock: SockInfo,
    /// Its unix name.
    pub unix: Option<UnixName>,
}

/// One look at every receiving socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When the look began: sockets that opened or closed later may or may not be in it.
    pub began: BootNs,
    /// One row for each descriptor of each task.
    pub held: Vec<Held>,
    /// Sockets without a descriptor (only from [`View::Sockets`]).
    pub unheld: Vec<Unheld>,
    /// Nothing was cut short or refused: what is missing is not there.
    pub complete: bool,
    /// What this way of looking sees.
    pub view: View,
    /// Network namespaces that were visited (only from [`View::Sockets`]; descriptors are seen in all).
    pub namespaces: HashSet<u32>,
}

impl Snapshot {
    /// The rows of a finished `iter/task_file` walk.
    #[must_use]
    pub fn of_descriptors(began: BootNs, held: Vec<Held>, complete: bool) -> Self {
        Self {
            began,
            held,
            unheld: Vec::new(),
            complete,
            view: View::Descriptors,
            namespaces: HashSet::new(),
        }
    }

    /// Does this look show every socket of a namespace, so that one it misses is gone?
    pub(super) fn decides_on(&self, netns: u32) -> bool {
        self.view == View::Sockets && self.namespaces.contains(&netns)
    }

    /// The sockets of this look in the order of their identities, each with every holder.
    #[must_use]
    pub fn groups(&self) -> Vec<Group<'_>> {
        // Sorting keys beside each other is several times as fast as sorting rows where they lie.
        let keyed = |(index, held): (usize, &Held)| {
            let Held {
                sock, holder, fd, ..
            } = held;
            (sock.id, holder.key.pid, *fd, index)
        };
        let mut order: Vec<_> = self.held.iter().enumerate().map(keyed).collect();
        order.sort_unstable();
        let rows: Vec<&Held> = order
            .iter()
            .filter_map(|&(.., index)| self.held.get(index))
            .collect();
        let same_socket = |a: &&Held, b: &&Held| a.sock.id == b.sock.id;
        let mut groups: Vec<Group<'_>> = rows.chunk_by(same_socket).filter_map(group).collect();
        if self.unheld.is_empty() {
            return groups;
        }
        groups.extend(self.unheld.iter().map(|unheld| Group {
            at: unheld.at,
            sock: &unheld.sock,
            unix: unheld.unix.as_ref(),
            owners: Vec::new(),
            holder: None,
        }));
        groups.sort_by_key(|group| group.sock.id);
        groups
    }
}

/// One socket of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    /// When it was first passed.
    pub at: BootNs,
    /// The socket.
    pub sock: &'a SockInfo,
    /// Its unix name.
    pub unix: Option<&'a UnixName>,
    /// Every process that holds it, by pid, each with its lowest descriptor.
    pub owners: Vec<Owner>,
    /// The holder that stands for it.
    pub holder: Option<&'a TaskInfo>,
}

/// Groups the rows of one socket, which come sorted by process and descriptor.
fn group<'a>(rows: &[&'a Held]) -> Option<Group<'a>> {
    let first = rows.iter().min_by_key(|held| held.at)?;
    let by_pid = || rows.chunk_by(|a, b| a.holder.key.pid == b.holder.key.pid);
    let lowest = || by_pid().filter_map(<[&Held]>::first);
    Some(Group {
        at: first.at,
        sock: &first.sock,
        unix: rows.iter().find_map(|held| held.unix.as_ref()),
        owners: lowest()
            .map(|held| owner(&held.holder, Some(held.fd)))
            .collect(),
        holder: choose_holder(lowest().map(|held| &held.holder)),
    })
}

#[cfg(test)]
mod tests {
    use super::Snapshot;
    use crate::inventory::fixture::{held, tcp};
    use crate::time::BootNs;

    #[test]
    fn rows_are_grouped_by_socket_and_process() {
        let rows = vec![
            held(30, tcp(1, 11, 80), 7, 9),
            held(20, tcp(1, 11, 80), 7, 4),
            held(25, tcp(1, 11, 80), 3, 5),
            held(26, tcp(2, 12, 81), 7, 3),
        ];
        let snapshot = Snapshot::of_descriptors(BootNs(10), rows, true);
        let groups = snapshot.groups();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].at, BootNs(20));
        let owners: Vec<_> = groups[0].owners.iter().map(|o| (o.pid, o.fd)).collect();
        assert_eq!(owners, [(3, Some(5)), (7, Some(4))]);
        assert_eq!(groups[1].owners.len(), 1);
    }
}
