//! TCP in every network namespace, asked for when somebody wants to know: sockets in given states, and the counters that
//! each namespace keeps.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};

use super::holders::holders;
use super::namespaces::{Namespaces, current, namespaces, within};
use super::sock_diag::SockDiag;
use crate::decode::record::TaskInfo;
use crate::storm::{Mib, TcpSocket, ephemeral_ports};

/// Every state there is.
pub const ALL_STATES: u32 = 0xffff;
/// Namespaces whose counters are read in one look, at most.
const MAX_SPACES: usize = 256;
/// More than any of the files of counters is long.
const MAX_BYTES: u64 = 64 * 1024;
/// What the longest of them takes today.
const ROOM: usize = 8 * 1024;

/// The counters of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What the namespace counts.
    pub mib: Mib,
    /// Ports from which `connect` chooses.
    pub ephemeral_ports: Option<u32>,
}

/// What a look found, besides the sockets that it handed over.
#[derive(Debug, Default)]
pub struct Looked {
    /// The namespace of this process.
    pub home: u32,
    /// By inode of the namespace.
    pub spaces: BTreeMap<u32, Space>,
    /// A namespace was not where it had been found.
    pub has_moved: bool,
    /// A sentence for everything that could not be looked at.
    pub refused: Vec<String>,
}

/// The network namespaces of this host, and a process by which each is reached. To find them, every process is looked at.
#[derive(Clone, Debug)]
pub struct Spaces {
    home: u32,
    all: Namespaces,
}

impl Spaces {
    /// Finds them.
    ///
    /// # Errors
    /// `/proc` cannot be read at all.
    pub fn find() -> io::Result<Self> {
        Ok(Self {
            home: current()?,
            all: namespaces()?,
        })
    }

    /// Reads every namespace's counters, and hands over every TCP socket in these states (a bit each, `1 << state`; none for
    /// the counters alone).
    #[must_use]
    pub fn look(&self, states: u32, take: &mut (dyn FnMut(TcpSocket) + Send)) -> Looked {
        let (home, spaces) = (self.home, &self.all);
        let mut looked = Looked {
            home,
            ..Looked::default()
        };
        if !spaces.complete || spaces.pid_of.len() > MAX_SPACES {
            let sentence = "there are more network namespaces than one look visits";
            looked.refused.push(sentence.to_owned());
        }
        looked.visit(home, here(home, states, take));
        let others = spaces.pid_of.iter().filter(|(netns, _)| **netns != home);
        for (&netns, &pid) in others.take(MAX_SPACES) {
            let found = within(netns, pid, || here(netns, states, take)).and_then(|found| found);
            looked.visit(netns, found);
        }
        looked
    }
}

/// Finds the namespaces, and looks.
///
/// # Errors
/// `/proc` cannot be read at all.
pub fn look(states: u32, take: &mut (dyn FnMut(TcpSocket) + Send)) -> io::Result<Looked> {
    Ok(Spaces::find()?.look(states, take))
}

/// The lowest process that holds each of these sockets.
///
/// # Errors
/// `/proc` cannot be read at all.
pub fn owners(inodes: &HashSet<u64>) -> io::Result<HashMap<u64, TaskInfo>> {
    let holders = holders(inodes)?;
    let first = |(inode, by): (u64, Vec<super::holders::Holder>)| {
        let lowest = by.into_iter().min_by_key(|holder| holder.task.key.pid)?;
        Some((inode, lowest.task))
    };
    Ok(holders.by_inode.into_iter().filter_map(first).collect())
}

impl Looked {
    fn visit(&mut self, netns: u32, found: io::Result<Space>) {
        match found {
            Ok(space) => {
                self.spaces.insert(netns, space);
            }
            // Its last process has just ended, or the one that it was known by.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.has_moved = true,
            Err(error) => self.refused.push(format!(
                "TCP of the network namespace {netns} cannot be looked at: {error}"
            )),
        }
    }
}

/// In the calling thread's namespace.
fn here(netns: u32, states: u32, take: &mut (dyn FnMut(TcpSocket) + Send)) -> io::Result<Space> {
    if states != 0 {
        SockDiag::open(netns)?.tcp(states, take)?;
    }
    let read = |name: &str| text(&format!("/proc/thread-self/net/{name}"));
    Ok(Space {
        mib: Mib::parse(&read("netstat"), &read("snmp"), &read("sockstat")),
        ephemeral_ports: ephemeral_ports(&text("/proc/sys/net/ipv4/ip_local_port_range")),
    })
}

/// What cannot be read is empty.
fn text(path: &str) -> String {
    // `netstat` has 4 KiB: without the room, it is read in nine pieces.
    let mut text = String::with_capacity(ROOM);
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    if let Err(error) = read {
        tracing::debug!(path, %error, "counters cannot be read");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use portwatch_common::socket::TcpState;

    use super::{ALL_STATES, Spaces, look};

    #[test]
    fn sockets_and_counters_of_this_namespace_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let _waiting = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connected");
        let mut found = Vec::new();
        let looked = look(ALL_STATES, &mut |socket| found.push(socket)).expect("looked");
        let space = looked.spaces.get(&looked.home).expect("home");
        assert!(space.mib.resets_sent.is_some() && space.ephemeral_ports.is_some());
        let of = |state| {
            let home = looked.home;
            let mut all = found.iter();
            all.find(|one| one.port == port && one.state == state && one.netns == home)
        };
        assert!(!looked.has_moved, "no process that was known has ended");
        let listening = of(TcpState::LISTEN).expect("listens");
        assert_eq!((listening.queue.0, listening.is_remnant), (1, false));
        assert!(listening.inode != 0 && !listening.is_v6);
        let accepted = of(TcpState::ESTABLISHED).expect("connected");
        assert!(accepted.peer.is_loopback());
    }

    #[test]
    fn a_namespace_whose_process_has_ended_is_told_to_have_moved() {
        let mut spaces = Spaces::find().expect("found");
        // No process has this number, and no namespace that one.
        spaces.all.pid_of.insert(1, 0);
        let looked = spaces.look(0, &mut |_| {});
        assert!(looked.has_moved && !looked.spaces.contains_key(&1));
    }
}
