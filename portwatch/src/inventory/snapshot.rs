//! One look at every receiving socket, grouped by socket with its holders.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::listener::{choose_holder, owner};
use crate::decode::record::{Held, SockId, SockInfo, TaskInfo, UnixName};
use crate::event::Owner;
use crate::time::BootNs;

/// What a way of looking can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Descriptors of tasks (`iter/task_file`). A socket in flight (SCM_RIGHTS), a fixed file of
    /// io_uring and a kernel's own socket have no descriptor, and are not seen though they live.
    Descriptors,
    /// The sockets themselves (sock_diag, `/proc/net`): one that is not seen does not live.
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
}

impl Snapshot {
    /// The rows of a finished `iter/task_file` walk.
    #[must_use]
    pub const fn of_descriptors(began: BootNs, held: Vec<Held>, complete: bool) -> Self {
        Self {
            began,
            held,
            unheld: Vec::new(),
            complete,
            view: View::Descriptors,
        }
    }

    /// The sockets of this look in the order of their identities, each with every holder.
    #[must_use]
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut rows: HashMap<SockId, Vec<&Held>> = HashMap::new();
        for held in &self.held {
            rows.entry(held.sock.id).or_default().push(held);
        }
        let mut groups: Vec<Group<'_>> = rows.into_values().filter_map(group).collect();
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

fn group(rows: Vec<&Held>) -> Option<Group<'_>> {
    let first = rows.iter().copied().min_by_key(|held| held.at)?;
    let mut by_pid: BTreeMap<u32, &Held> = BTreeMap::new();
    for &held in &rows {
        let lowest = by_pid.entry(held.holder.key.pid).or_insert(held);
        if held.fd < lowest.fd {
            *lowest = held;
        }
    }
    Some(Group {
        at: first.at,
        sock: &first.sock,
        unix: rows.iter().find_map(|held| held.unix.as_ref()),
        owners: by_pid
            .values()
            .map(|held| owner(&held.holder, Some(held.fd)))
            .collect(),
        holder: choose_holder(by_pid.values().map(|held| &held.holder)),
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
