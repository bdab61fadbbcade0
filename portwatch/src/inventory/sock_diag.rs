//! The kernel's own tables of sockets, asked for over netlink (sock_diag), in the calling thread's
//! network namespace.
//!
//! Raw and ping sockets are left to `/proc/net`: asking for them makes the kernel load a module.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portwatch_common::socket::TcpState;
use rustix::net::netlink::SOCK_DIAG;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::identity::{is_listener, synthetic_id};
use super::netlink::{Ask, Netlink, attribute, attributes, read_u32};
use crate::decode::record::{SockInfo, UnixName};
use crate::decode::{protocol_of, unix_name_of};
use crate::event::Family;
use crate::storm::TcpSocket;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_PACKET: u8 = 17;
const INET_DIAG_REQ_PROTOCOL: u16 = 3;
const INET_DIAG_SKV6ONLY: u16 = 11;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_RQLEN: u16 = 4;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const PACKET_DIAG_INFO: u16 = 0;
const PACKET_SHOW_INFO: u32 = 1;

const LISTENING: u32 = 1 << 10;
/// Bound and not connected; unix datagram sockets and UDP have this state.
const UNCONNECTED: u32 = 1 << 7;
const CONNECTED: u32 = 1 << 1;

/// One table that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Inet sockets of a family, `SOCK_*` type and protocol, in these states.
    Inet {
        family: u8,
        kind: u16,
        protocol: u16,
        states: u32,
    },
    /// Unix sockets.
    Unix,
    /// Packet sockets.
    Packet,
}

impl Table {
    /// Every table. Connected UDP sockets are included: one may have been a listener before it
    /// connected, and lives on.
    pub(super) fn all() -> Vec<Self> {
        let kinds = [
            (1, 6, LISTENING),
            (1, 262, LISTENING),
            (2, 17, UNCONNECTED | CONNECTED),
            (2, 136, UNCONNECTED | CONNECTED),
        ];
        let inet = [AF_INET, AF_INET6].into_iter().flat_map(|family| {
            kinds.map(|(kind, protocol, states)| Self::Inet {
                family,
                kind,
                protocol,
                states,
            })
        });
        inet.chain([Self::Unix, Self::Packet]).collect()
    }

    /// Does it hold UDP or UDP-Lite sockets?
    pub(super) fn is_datagram(self) -> bool {
        matches!(self, Self::Inet { kind: 2, .. })
    }

    /// Does it hold TCP or MPTCP listeners?
    pub(super) fn is_stream(self) -> bool {
        matches!(self, Self::Inet { kind: 1, .. })
    }
}

/// A socket and its unix name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) sock: SockInfo,
    pub(super) unix: Option<UnixName>,
}

/// A connection to the kernel's tables.
pub(super) struct SockDiag {
    netlink: Netlink,
    netns: u32,
}

impl SockDiag {
    /// Opens one in the calling thread's namespace, whose inode is `netns`.
    pub(super) fn open(netns: u32) -> io::Result<Self> {
        let netlink = Netlink::open(Some(SOCK_DIAG))?;
        Ok(Self { netlink, netns })
    }

    /// The rows of one table that receive or once did. Rows that this version does not understand are
    /// left out.
    ///
    /// # Errors
    /// `NotFound` where the kernel has no such table.
    pub(super) fn rows(&mut self, table: Table) -> io::Result<Vec<Row>> {
        let netns = self.netns;
        let mut rows = Vec::new();
        let mut keep = |row: Option<Row>| rows.extend(row);
        match table {
            Table::Inet {
                family,
                kind,
                protocol,
                states,
            } => {
                let mut request = InetRequest::new_zeroed();
                request.family = family;
                // A protocol above 255 does not fit; the attribute counts then.
                request.protocol = u8::try_from(protocol).unwrap_or(u8::MAX);
                request.states = states;
                let wide = attribute(INET_DIAG_REQ_PROTOCOL, &u32::from(protocol).to_ne_bytes());
                let extra = if protocol > 255 { wide } else { Vec::new() };
                let payload = [request.as_bytes(), &extra].concat();
                self.dump(&payload, |reply| {
                    keep(inet_row(reply, kind, protocol, netns));
                })?;
            }
            Table::Unix => {
                let request = UnixRequest {
                    states: LISTENING | UNCONNECTED | CONNECTED,
                    show: UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN,
                    ..UnixRequest::about(0)
                };
                self.dump(request.as_bytes(), |reply| keep(unix_row(reply, netns)))?;
            }
            Table::Packet => {
                let mut request = PacketRequest::new_zeroed();
                request.family = AF_PACKET;
                request.show = PACKET_SHOW_INFO;
                self.dump(request.as_bytes(), |reply| keep(packet_row(reply, netns)))?;
            }
        }
        Ok(rows)
    }

    /// Hands over every TCP socket in these states (a bit each, `1 << state`).
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn tcp(&mut self, states: u32, take: &mut dyn FnMut(TcpSocket)) -> io::Result<()> {
        let netns = self.netns;
        for family in [AF_INET, AF_INET6] {
            let mut request = InetRequest::new_zeroed();
            request.family = family;
            request.protocol = 6;
            request.states = states;
            let dumped = self.dump(request.as_bytes(), |reply| {
                tcp_socket(reply, netns).into_iter().for_each(&mut *take);
            });
            match dumped {
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                dumped => dumped?,
            }
        }
        Ok(())
    }

    /// Does the unix socket with this inode live? One question, no dump.
    ///
    /// # Errors
    /// What the kernel says, when it is neither yes nor no.
    pub(super) fn unix_lives(&mut self, inode: u64) -> io::Result<bool> {
        let Ok(inode) = u32::try_from(inode) else {
            return Ok(false);
        };
        let request = UnixRequest::about(inode);
        let mut lives = false;
        let answer = self.netlink.ask(
            Ask::One,
            SOCK_DIAG_BY_FAMILY,
            request.as_bytes(),
            SOCK_DIAG_BY_FAMILY,
            |_| lives = true,
        );
        match answer {
            Ok(_) => Ok(lives),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn dump(&mut self, payload: &[u8], each: impl FnMut(&[u8])) -> io::Result<()> {
        let kind = SOCK_DIAG_BY_FAMILY;
        self.netlink.ask(Ask::Dump, kind, payload, kind, each)?;
        Ok(())
    }
}

/// `struct inet_diag_req_v2`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct InetRequest {
    family: u8,
    protocol: u8,
    ext: u8,
    pad: u8,
    states: u32,
    id: InetId,
}

/// `struct inet_diag_sockid`; ports and addresses in network order.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct InetId {
    port: [u8; 2],
    peer_port: [u8; 2],
    local: [u8; 16],
    peer: [u8; 16],
    ifindex: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_msg`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct InetReply {
    family: u8,
    state: u8,
    timer: u8,
    retrans: u8,
    id: InetId,
    expires: u32,
    /// Of a listener: the queue now.
    rqueue: u32,
    /// Of a listener: `sk_max_ack_backlog`.
    wqueue: u32,
    uid: u32,
    inode: u32,
}

/// `struct unix_diag_req`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct UnixRequest {
    family: u8,
    protocol: u8,
    pad: u16,
    states: u32,
    inode: u32,
    show: u32,
    cookie: [u32; 2],
}

impl UnixRequest {
    /// About one socket, whatever its cookie.
    const fn about(inode: u32) -> Self {
        Self {
            family: AF_UNIX,
            protocol: 0,
            pad: 0,
            states: u32::MAX,
            inode,
            show: 0,
            cookie: [u32::MAX; 2],
        }
    }
}

/// `struct packet_diag_req`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct PacketRequest {
    family: u8,
    protocol: u8,
    pad: u16,
    inode: u32,
    show: u32,
    cookie: [u32; 2],
}

/// The common layout of `struct unix_diag_msg` (family, type, state, pad) and `struct packet_diag_msg`
/// (family, type, 16-bit ethertype).
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
struct LocalReply {
    family: u8,
    kind: u8,
    rest: [u8; 2],
    inode: u32,
    cookie: [u32; 2],
}

pub(super) fn inet_row(reply: &[u8], kind: u16, protocol: u16, netns: u32) -> Option<Row> {
    let (reply, rest) = InetReply::read_from_prefix(reply).ok()?;
    if !matches!(reply.family, AF_INET | AF_INET6) {
        return None;
    }
    let v6only = attributes(rest).any(|(kind, value)| kind == INET_DIAG_SKV6ONLY && value == [1]);
    let mut sock = bare(u16::from(reply.family), kind, protocol, reply.inode, netns)?;
    let address = |bytes: [u8; 16]| match sock.family {
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(bytes)),
        _ => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
    };
    let port = |bytes: [u8; 2]| Some(u16::from_be_bytes(bytes)).filter(|&port| port != 0);
    let peer = address(reply.id.peer);
    sock.local = Some(address(reply.id.local));
    sock.peer = (!peer.is_unspecified()).then_some(peer);
    sock.port = port(reply.id.port);
    sock.peer_port = port(reply.id.peer_port);
    sock.cookie = cookie(reply.id.cookie);
    sock.state = TcpState(reply.state);
    sock.ifindex = Some(reply.id.ifindex).filter(|&index| index != 0);
    sock.v6only = v6only;
    if sock.state == TcpState::LISTEN {
        sock.backlog = reply.wqueue;
    }
    Some(Row { sock, unix: None })
}

/// Timer of what is left of a connection (`inet_diag_msg.idiag_timer`).
const TIMER_TIME_WAIT: u8 = 3;

pub(super) fn tcp_socket(reply: &[u8], netns: u32) -> Option<TcpSocket> {
    let (reply, _) = InetReply::read_from_prefix(reply).ok()?;
    let state = TcpState(reply.state);
    let is_v6 = reply.family == AF_INET6;
    if !TcpState::ALL.contains(&state) || !(is_v6 || reply.family == AF_INET) {
        return None;
    }
    let [a, b, c, d, ..] = reply.id.peer;
    Some(TcpSocket {
        netns,
        is_v6,
        state,
        is_remnant: reply.timer == TIMER_TIME_WAIT && state != TcpState::LISTEN,
        port: u16::from_be_bytes(reply.id.port),
        peer: match is_v6 {
            true => IpAddr::V6(Ipv6Addr::from(reply.id.peer)).to_canonical(),
            false => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        },
        peer_port: u16::from_be_bytes(reply.id.peer_port),
        inode: reply.inode,
        queue: (reply.rqueue, reply.wqueue),
    })
}

pub(super) fn unix_row(reply: &[u8], netns: u32) -> Option<Row> {
    let (reply, rest) = LocalReply::read_from_prefix(reply).ok()?;
    let mut sock = bare(
        u16::from(AF_UNIX),
        u16::from(reply.kind),
        0,
        reply.inode,
        netns,
    )?;
    let mut unix = None;
    for (kind, value) in attributes(rest) {
        match kind {
            UNIX_DIAG_NAME => unix = unix_name_of(value, None),
            // Two numbers; of a listener the second is the longest queue allowed.
            UNIX_DIAG_RQLEN => sock.backlog = read_u32(value, 4).unwrap_or_default(),
            _ => {}
        }
    }
    sock.state = TcpState(reply.rest[0]);
    sock.cookie = cookie(reply.cookie);
    if sock.state != TcpState::LISTEN {
        sock.backlog = 0;
    }
    is_listener(&sock, unix.as_ref()).then_some(Row { sock, unix })
}

pub(super) fn packet_row(reply: &[u8], netns: u32) -> Option<Row> {
    let (reply, rest) = LocalReply::read_from_prefix(reply).ok()?;
    let ethertype = u16::from_ne_bytes(reply.rest);
    let kind = u16::from(reply.kind);
    let mut sock = bare(u16::from(AF_PACKET), kind, ethertype, reply.inode, netns)?;
    sock.protocol_number = Some(ethertype);
    sock.cookie = cookie(reply.cookie);
    let info = attributes(rest).find(|(kind, _)| *kind == PACKET_DIAG_INFO);
    let ifindex = info.and_then(|(_, value)| read_u32(value, 0));
    sock.ifindex = ifindex.filter(|&index| index != 0);
    Some(Row { sock, unix: None })
}

/// A socket with its names and its synthetic identity; the rest is not known yet. None for a socket
/// without an inode, which nothing could tell from another.
pub(super) fn bare(
    family: u16,
    kind: u16,
    number: u16,
    inode: u32,
    netns: u32,
) -> Option<SockInfo> {
    let (family, kind, protocol) = protocol_of(family, kind, number).ok()?;
    let inode = Some(u64::from(inode)).filter(|&inode| inode != 0)?;
    Some(SockInfo {
        id: synthetic_id(inode),
        cookie: None,
        inode: Some(inode),
        netns,
        family,
        kind,
        protocol,
        protocol_number: (number == crate::decode::IPPROTO_MPTCP).then_some(number),
        local: None,
        port: None,
        peer: None,
        peer_port: None,
        state: TcpState::CLOSE,
        backlog: 0,
        ifindex: None,
        v6only: false,
        reuseport: false,
    })
}

/// Two halves, the lower first.
fn cookie([low, high]: [u32; 2]) -> Option<u64> {
    let cookie = u64::from(high) << 32 | u64::from(low);
    (cookie != 0 && cookie != u64::MAX).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::{AF_INET, AF_INET6, AF_PACKET, AF_UNIX, InetReply, inet_row};
    use crate::event::Family;

    #[test]
    fn an_inet_socket_is_of_an_inet_family() {
        let family_of = |family| {
            let mut reply = InetReply::new_zeroed();
            reply.family = family;
            reply.inode = 4242;
            inet_row(reply.as_bytes(), 1, 6, 1).map(|row| row.sock.family)
        };
        assert_eq!(family_of(AF_INET), Some(Family::Ipv4));
        assert_eq!(family_of(AF_INET6), Some(Family::Ipv6));
        assert_eq!((family_of(AF_UNIX), family_of(AF_PACKET)), (None, None));
    }
}
