//! TCP sockets counted as they are handed over: by state, listener, process and peer. Pure; bounded, whatever there is.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use portwatch_common::socket::TcpState;

use super::kept::{Counts, STATES};
use super::reading::ListenerKey;

/// Local ports, peers and files that are told apart, each at most; what is beyond is counted by state alone.
const MAX_KEYS: usize = 262_144;

/// One TCP socket, or what the kernel keeps in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Network namespace.
    pub netns: u32,
    /// An IPv6 socket, perhaps with IPv4 addresses.
    pub is_v6: bool,
    /// State; a half-open connection is in SYN_RECV.
    pub state: TcpState,
    /// Nothing but a timer: TIME_WAIT, or FIN_WAIT2 of a socket that is gone.
    pub is_remnant: bool,
    /// Local port.
    pub port: u16,
    /// Far end; v4-mapped addresses are IPv4.
    pub peer: IpAddr,
    /// Port of the far end.
    pub peer_port: u16,
    /// Inode in sockfs, 0 without a file.
    pub inode: u32,
    /// Of a listener: connections that wait, and how many may.
    pub queue: (u32, u32),
}

/// Sockets at one local port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtPort {
    /// Sockets that listen.
    pub listening: u32,
    /// Half-open connections.
    pub half_open: u32,
    /// Connections that are established.
    pub established: u32,
    /// Everything else, TIME_WAIT as well.
    pub other: u32,
    /// The fullest queue of those that listen, and how many it may have.
    pub queue: (u32, u32),
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By namespace and state number.
    pub spaces: BTreeMap<u32, [u64; STATES]>,
    /// Whole sockets, without remnants, by state number: what transitions tell.
    pub whole: Counts,
    /// By local port.
    pub ports: HashMap<ListenerKey, AtPort>,
    /// Sockets by peer, listeners left out.
    pub peers: HashMap<IpAddr, u64>,
    /// State by inode.
    pub files: HashMap<u64, TcpState>,
    /// Sockets for which one of the tables had no room.
    pub beyond: u64,
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, socket: &TcpSocket) {
        let state = usize::from(socket.state.0);
        let space = self.spaces.entry(socket.netns).or_default();
        if let Some(count) = space.get_mut(state) {
            *count += 1;
        }
        if !socket.is_remnant
            && let Some(count) = self.whole.get_mut(state)
        {
            *count += 1;
        }
        let key = ListenerKey {
            netns: socket.netns,
            is_v6: socket.is_v6,
            port: socket.port,
        };
        let mut has_room = true;
        match room(&self.ports, &key) {
            Some(()) => self.ports.entry(key).or_default().add(socket),
            None => has_room = false,
        }
        if socket.state != TcpState::LISTEN {
            match room(&self.peers, &socket.peer) {
                Some(()) => *self.peers.entry(socket.peer).or_default() += 1,
                None => has_room = false,
            }
        }
        if socket.inode != 0 {
            let inode = u64::from(socket.inode);
            match room(&self.files, &inode) {
                Some(()) => drop(self.files.insert(inode, socket.state)),
                None => has_room = false,
            }
        }
        self.beyond += u64::from(!has_room);
    }
}

impl AtPort {
    fn add(&mut self, socket: &TcpSocket) {
        match socket.state {
            TcpState::LISTEN => {
                self.listening += 1;
                self.queue = self.queue.max(socket.queue);
            }
            TcpState::SYN_RECV => self.half_open += 1,
            TcpState::ESTABLISHED => self.established += 1,
            _ => self.other += 1,
        }
    }
}

/// Room for the value of a key; none when it is new and there are as many as may be.
fn room<K: Hash + Eq, V>(map: &HashMap<K, V>, key: &K) -> Option<()> {
    (map.len() < MAX_KEYS || map.contains_key(key)).then_some(())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use portwatch_common::socket::TcpState;
    use proptest::prelude::*;

    use super::{AtPort, Tally, TcpSocket};
    use crate::storm::ListenerKey;

    fn socket(state: TcpState) -> TcpSocket {
        TcpSocket {
            netns: 1,
            is_v6: false,
            state,
            is_remnant: false,
            port: 80,
            peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            peer_port: 0,
            inode: 0,
            queue: (0, 0),
        }
    }

    #[test]
    fn remnants_are_in_a_state_and_no_sockets() {
        let mut tally = Tally::default();
        let remnant = TcpSocket {
            is_remnant: true,
            ..socket(TcpState::FIN_WAIT2)
        };
        tally.add(&remnant);
        tally.add(&socket(TcpState::FIN_WAIT2));
        let state = usize::from(TcpState::FIN_WAIT2.0);
        assert_eq!(tally.spaces[&1][state], 2);
        assert_eq!(tally.whole[state], 1);
    }

    #[test]
    fn a_port_has_its_listeners_and_connections() {
        let mut tally = Tally::default();
        let listener = TcpSocket {
            queue: (3, 128),
            inode: 7,
            ..socket(TcpState::LISTEN)
        };
        for one in [
            listener,
            socket(TcpState::SYN_RECV),
            socket(TcpState::SYN_RECV),
            socket(TcpState::ESTABLISHED),
            socket(TcpState::TIME_WAIT),
        ] {
            tally.add(&one);
        }
        let key = ListenerKey {
            netns: 1,
            is_v6: false,
            port: 80,
        };
        let expected = AtPort {
            listening: 1,
            half_open: 2,
            established: 1,
            other: 1,
            queue: (3, 128),
        };
        assert_eq!(tally.ports[&key], expected);
        assert_eq!(
            tally.peers.values().sum::<u64>(),
            4,
            "a listener has no peer"
        );
        assert_eq!(tally.files[&7], TcpState::LISTEN);
    }

    proptest! {
        #[test]
        fn every_socket_is_in_one_state(states in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut tally = Tally::default();
            for state in &states {
                tally.add(&socket(TcpState(state % 16)));
            }
            let total: u64 = tally.spaces.values().flatten().sum();
            prop_assert_eq!(total, states.len() as u64);
        }
    }
}
