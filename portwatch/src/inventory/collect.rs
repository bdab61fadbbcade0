//! The look at every socket where the kernel has no iterators: sock_diag and `/proc/net` in every
//! network namespace, holders from the descriptors in `/proc`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use super::Suspect;
use super::holders::{Holders, holders};
use super::namespaces::{current, namespaces, within};
use super::proc_net::{ALWAYS, instead_of, read};
use super::snapshot::{Snapshot, Unheld, View};
use super::sock_diag::{Row, SockDiag, Table};
use crate::decode::record::{Held, SockInfo};
use crate::event::Protocol;
use crate::time::BootNs;

/// A snapshot and what could not be looked at.
#[derive(Debug)]
pub struct Collected {
    /// The snapshot; not complete when something was refused.
    pub snapshot: Snapshot,
    /// One sentence for each table, namespace or process list that was refused.
    pub refused: Vec<String>,
    /// The descriptors of every process could be read: what none of them refers to is held by nobody.
    pub knows_holders: bool,
}

/// Looks at every socket that receives, in every network namespace that a process lives in.
///
/// # Errors
/// `/proc` cannot be read at all.
pub fn collect() -> io::Result<Collected> {
    let began = BootNs::now();
    let mut refused = Vec::new();
    let mut rows = Vec::new();
    let spaces = namespaces()?;
    if !spaces.complete {
        refused.push("there are more network namespaces than one look visits".to_owned());
    }
    let home = current()?;
    let mut here = tables(home);
    rows.append(&mut here.rows);
    refused.append(&mut here.refused);
    for (&netns, &pid) in spaces.pid_of.iter().filter(|(netns, _)| **netns != home) {
        match within(netns, pid, || tables(netns)) {
            Ok(mut there) => {
                rows.append(&mut there.rows);
                refused.append(&mut there.refused);
            }
            Err(error) => refused.push(format!(
                "the network namespace {netns} cannot be entered: {error}"
            )),
        }
    }
    let wanted = rows.iter().filter_map(|row| row.sock.inode).collect();
    let holders = holders(&wanted)?;
    if !holders.complete {
        refused.push("the descriptors of some processes cannot be read; run as root".to_owned());
    }
    let knows_holders = holders.complete;
    let mut snapshot = assemble(began, one_row_a_socket(rows, &holders), holders);
    let enter = |netns: u32| match netns == home {
        true => Ok(datagrams(netns)),
        false => match spaces.pid_of.get(&netns) {
            Some(&pid) => within(netns, pid, || datagrams(netns)),
            None => Err(io::ErrorKind::NotFound.into()),
        },
    };
    still_there(&mut snapshot.unheld, |netns| enter(netns).ok().flatten());
    let mut namespaces: HashSet<u32> = spaces.pid_of.keys().copied().collect();
    namespaces.insert(home);
    snapshot.complete = refused.is_empty();
    snapshot.namespaces = namespaces;
    Ok(Collected {
        snapshot,
        refused,
        knows_holders,
    })
}

/// Leaves out datagram sockets that are gone: clients come and go, and one that was closed between the look at the tables and
/// the look at descriptors has none, as the kernel's own have none. `now` tells the inodes that a namespace has; where it cannot,
/// none is believed.
pub(super) fn still_there(unheld: &mut Vec<Unheld>, now: impl Fn(u32) -> Option<HashSet<u64>>) {
    let mut known: HashMap<u32, HashSet<u64>> = HashMap::new();
    unheld.retain(|one| {
        let Some(inode) = one.sock.inode.filter(|_| one.sock.protocol.is_datagram()) else {
            return true;
        };
        let netns = one.sock.netns;
        let there = known
            .entry(netns)
            .or_insert_with(|| now(netns).unwrap_or_default());
        there.contains(&inode)
    });
}

/// The inodes of the datagram sockets of the calling thread's namespace; nothing where the kernel refuses a table.
fn datagrams(netns: u32) -> Option<HashSet<u64>> {
    let mut diag = SockDiag::open(netns).ok();
    let mut found = HashSet::new();
    for table in Table::all().into_iter().filter(|table| table.is_datagram()) {
        let rows = diag.as_mut().map(|diag| diag.rows(table));
        let rows = match rows {
            Some(Ok(rows)) => rows,
            _ => read(instead_of(table)?, netns).ok()?,
        };
        found.extend(rows.into_iter().filter_map(|row| row.sock.inode));
    }
    Some(found)
}

/// Which of the suspects still live: for [`super::Inventory::resolve_suspects`]. One that cannot be
/// asked about, because its namespace cannot be entered or its table is refused, counts as alive. One
/// whose namespace no process lives in lives only if a descriptor refers to it.
///
/// # Errors
/// `/proc` cannot be read at all.
pub fn alive(suspects: &[Suspect]) -> io::Result<HashSet<u64>> {
    let mut alive = HashSet::new();
    if suspects.is_empty() {
        return Ok(alive);
    }
    let mut by_netns: BTreeMap<u32, Vec<Suspect>> = BTreeMap::new();
    for suspect in suspects {
        by_netns.entry(suspect.netns).or_default().push(*suspect);
    }
    let home = current()?;
    let spaces = namespaces()?;
    for (netns, suspects) in by_netns {
        let answer = if netns == home {
            Ok(alive_here(netns, &suspects))
        } else if let Some(&pid) = spaces.pid_of.get(&netns) {
            within(netns, pid, || alive_here(netns, &suspects))
        } else if spaces.complete {
            let wanted = suspects.iter().map(|suspect| suspect.inode).collect();
            holders(&wanted).map(|holders| holders.by_inode.into_keys().collect())
        } else {
            Err(io::ErrorKind::NotFound.into())
        };
        let everyone = || suspects.iter().map(|suspect| suspect.inode).collect();
        alive.extend(answer.unwrap_or_else(|_| everyone()));
    }
    Ok(alive)
}

/// Those of these sockets that listen on TCP or MPTCP now, by inode, with the port that they really got:
/// for [`super::Inventory::confirm`]. One that is not in the answer does not listen.
///
/// # Errors
/// No process lives in the namespace, it cannot be entered, or the kernel refuses its tables.
pub fn listening(netns: u32, inodes: &HashSet<u64>) -> io::Result<HashMap<u64, SockInfo>> {
    let look = || {
        let mut diag = SockDiag::open(netns)?;
        let mut found = HashMap::new();
        for table in Table::all().into_iter().filter(|table| table.is_stream()) {
            match diag.rows(table) {
                // The kernel has no such protocol.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                rows => found.extend(rows?.into_iter().filter_map(|row| {
                    let inode = row.sock.inode.filter(|inode| inodes.contains(inode))?;
                    Some((inode, row.sock))
                })),
            }
        }
        Ok(found)
    };
    if netns == current()? {
        return look();
    }
    let spaces = namespaces()?;
    let pid = spaces.pid_of.get(&netns).ok_or(io::ErrorKind::NotFound)?;
    within(netns, *pid, look)?
}

/// Asks for unix sockets one by one, because their table is long, and for the others by table.
fn alive_here(netns: u32, suspects: &[Suspect]) -> HashSet<u64> {
    let (unix, others): (Vec<&Suspect>, Vec<&Suspect>) = suspects
        .iter()
        .partition(|suspect| suspect.protocol == Protocol::Unix);
    let mut alive = HashSet::new();
    let mut diag = SockDiag::open(netns).ok();
    for suspect in unix {
        let answer = diag.as_mut().map(|diag| diag.unix_lives(suspect.inode));
        if !matches!(answer, Some(Ok(false))) {
            alive.insert(suspect.inode);
        }
    }
    if !others.is_empty() {
        let tables = tables(netns);
        if tables.refused.is_empty() {
            alive.extend(tables.rows.iter().filter_map(|row| row.sock.inode));
        } else {
            alive.extend(others.iter().map(|suspect| suspect.inode));
        }
    }
    alive
}

/// What one namespace's tables show.
#[derive(Debug, Default)]
struct Tables {
    rows: Vec<Row>,
    refused: Vec<String>,
}

/// Every table of the calling thread's namespace: over netlink, else as text.
fn tables(netns: u32) -> Tables {
    let mut found = Tables::default();
    let mut diag = SockDiag::open(netns);
    for table in Table::all() {
        let rows = match &mut diag {
            Ok(diag) => diag.rows(table),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        let rows = rows.or_else(|error| match instead_of(table) {
            Some(text) => read(text, netns),
            // The kernel has no such protocol.
            None if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            None => Err(error),
        });
        found.take(rows, || format!("{table:?}"), netns);
    }
    for text in ALWAYS {
        found.take(read(text, netns), || format!("{text:?}"), netns);
    }
    found
}

impl Tables {
    fn take(&mut self, rows: io::Result<Vec<Row>>, name: impl Fn() -> String, netns: u32) {
        match rows {
            Ok(mut rows) => self.rows.append(&mut rows),
            Err(error) => self.refused.push(format!(
                "the table {} of the network namespace {netns} cannot be read: {error}",
                name()
            )),
        }
    }
}

/// Leaves out the TCP subflows of MPTCP listeners. On newer kernels a subflow shares the inode of its
/// socket; on older ones it has its own, which no descriptor refers to.
fn one_row_a_socket(rows: Vec<Row>, holders: &Holders) -> Vec<Row> {
    let place = |row: &Row| (row.sock.netns, row.sock.local, row.sock.port);
    let multipath: HashMap<_, _> = rows
        .iter()
        .filter(|row| row.sock.protocol == Protocol::Mptcp)
        .map(|row| (place(row), row.sock.inode))
        .collect();
    let is_subflow = |row: &Row| {
        let of = multipath.get(&place(row));
        let is_held = |inode: u64| holders.by_inode.contains_key(&inode);
        row.sock.protocol == Protocol::Tcp
            && of.is_some_and(|&inode| {
                inode == row.sock.inode || !row.sock.inode.is_some_and(is_held)
            })
    };
    let subflows: Vec<bool> = rows.iter().map(is_subflow).collect();
    let both = rows.into_iter().zip(subflows);
    both.filter(|(_, is_subflow)| !is_subflow)
        .map(|(row, _)| row)
        .collect()
}

fn assemble(began: BootNs, rows: Vec<Row>, mut holders: Holders) -> Snapshot {
    let at = BootNs::now();
    let mut held = Vec::new();
    let mut unheld = Vec::new();
    for row in rows {
        let by = row
            .sock
            .inode
            .and_then(|inode| holders.by_inode.remove(&inode));
        let Row { sock, unix } = row;
        match by {
            None => unheld.push(Unheld { at, sock, unix }),
            Some(by) => held.extend(by.into_iter().map(|holder| Held {
                at,
                sock: sock.clone(),
                unix: unix.clone(),
                holder: holder.task,
                fd: holder.fd,
            })),
        }
    }
    Snapshot {
        began,
        held,
        unheld,
        complete: true,
        view: View::Sockets,
        namespaces: HashSet::new(),
    }
}
