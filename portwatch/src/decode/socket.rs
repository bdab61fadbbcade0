//! A socket's numbers to the names that events use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portwatch_common::socket::{Sock, SockFlags};

use super::DecodeError;
use super::record::{SockId, SockInfo};
use crate::event::{Family, Protocol, SocketType};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_PACKET: u16 = 17;
const AF_VSOCK: u16 = 40;

const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
const SOCK_RAW: u16 = 3;
const SOCK_SEQPACKET: u16 = 5;
/// The old way to open a packet socket; it sees the link header, as `SOCK_RAW` does.
const SOCK_PACKET: u16 = 10;

const IPPROTO_ICMP: u16 = 1;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_ICMPV6: u16 = 58;
const IPPROTO_SCTP: u16 = 132;
const IPPROTO_UDPLITE: u16 = 136;
/// The MPTCP socket itself, which a program holds; it listens through a TCP subflow.
pub const IPPROTO_MPTCP: u16 = 262;

/// A socket.
pub(super) fn sock(wire: &Sock) -> Result<SockInfo, DecodeError> {
    let (family, kind, protocol) = protocol_of(wire.family, wire.kind, wire.protocol)?;
    let has = |flag: u8| wire.flags & flag != 0;
    let is_inet = matches!(family, Family::Ipv4 | Family::Ipv6);
    let nonzero = |port: u16| (protocol.has_ports() && port != 0).then_some(port);
    let peer = address(family, wire.peer);
    // A subflow shares its MPTCP socket's inode, but has a cookie that its owner never sees.
    let is_subflow = protocol == Protocol::Tcp && has(SockFlags::MPTCP);
    Ok(SockInfo {
        id: SockId(wire.sk),
        cookie: (wire.cookie != 0 && !is_subflow).then_some(wire.cookie),
        inode: (wire.inode != 0).then_some(wire.inode),
        netns: wire.netns,
        family,
        kind,
        protocol: if is_subflow {
            Protocol::Mptcp
        } else {
            protocol
        },
        protocol_number: match protocol {
            Protocol::Raw | Protocol::Packet | Protocol::Mptcp => Some(wire.protocol),
            _ => None,
        },
        local: is_inet.then(|| address(family, wire.local)),
        port: nonzero(wire.port),
        peer: (is_inet && !peer.is_unspecified()).then_some(peer),
        peer_port: nonzero(wire.peer_port),
        state: wire.state,
        backlog: wire.backlog,
        ifindex: (wire.ifindex != 0).then_some(wire.ifindex),
        v6only: family == Family::Ipv6 && has(SockFlags::V6ONLY),
        reuseport: has(SockFlags::REUSEPORT),
    })
}

/// Names a socket's family, type and protocol by the kernel's numbers: `AF_*`, `SOCK_*` and, for inet
/// sockets, `IPPROTO_*` (0 is the type's own protocol, as for `socket(2)`).
///
/// # Errors
/// Names the number that portwatch does not watch.
pub fn protocol_of(
    family: u16,
    kind: u16,
    protocol: u16,
) -> Result<(Family, SocketType, Protocol), DecodeError> {
    let family_name = match family {
        AF_UNIX => Family::Unix,
        AF_INET => Family::Ipv4,
        AF_INET6 => Family::Ipv6,
        AF_PACKET => Family::Packet,
        AF_VSOCK => Family::Vsock,
        other => return Err(DecodeError::UnknownFamily(other)),
    };
    let kind_name = match (family, kind) {
        (_, SOCK_STREAM) => SocketType::Stream,
        (_, SOCK_DGRAM) => SocketType::Dgram,
        (_, SOCK_RAW) | (AF_PACKET, SOCK_PACKET) => SocketType::Raw,
        (_, SOCK_SEQPACKET) => SocketType::Seqpacket,
        _ => return Err(DecodeError::UnknownSocketType { family, kind }),
    };
    let protocol_name = match (family_name, kind_name) {
        (Family::Unix, _) => Protocol::Unix,
        (Family::Packet, _) => Protocol::Packet,
        (Family::Vsock, _) => Protocol::Vsock,
        (_, SocketType::Raw) => Protocol::Raw,
        (_, SocketType::Stream) if matches!(protocol, 0 | IPPROTO_TCP) => Protocol::Tcp,
        (_, SocketType::Stream) if protocol == IPPROTO_MPTCP => Protocol::Mptcp,
        (_, SocketType::Stream | SocketType::Seqpacket) if protocol == IPPROTO_SCTP => {
            Protocol::Sctp
        }
        (_, SocketType::Dgram) if matches!(protocol, 0 | IPPROTO_UDP) => Protocol::Udp,
        (_, SocketType::Dgram) if protocol == IPPROTO_UDPLITE => Protocol::Udplite,
        (_, SocketType::Dgram) if matches!(protocol, IPPROTO_ICMP | IPPROTO_ICMPV6) => {
            Protocol::Icmp
        }
        _ => {
            return Err(DecodeError::UnknownProtocol {
                family,
                kind,
                protocol,
            });
        }
    };
    Ok((family_name, kind_name, protocol_name))
}

/// An address as the wire keeps it: IPv4 in the first four bytes. A v4-mapped one stays IPv6, because
/// the socket is.
fn address(family: Family, bytes: [u8; 16]) -> IpAddr {
    if family == Family::Ipv6 {
        IpAddr::V6(Ipv6Addr::from(bytes))
    } else {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }
}

#[cfg(test)]
mod tests {
    use super::protocol_of;
    use crate::decode::DecodeError;
    use crate::event::{Family, Protocol, SocketType};

    #[test]
    fn every_watched_protocol_has_its_name() {
        let cases = [
            (2, 1, 6, Family::Ipv4, SocketType::Stream, Protocol::Tcp),
            (
                10,
                1,
                262,
                Family::Ipv6,
                SocketType::Stream,
                Protocol::Mptcp,
            ),
            (2, 2, 17, Family::Ipv4, SocketType::Dgram, Protocol::Udp),
            (
                10,
                2,
                136,
                Family::Ipv6,
                SocketType::Dgram,
                Protocol::Udplite,
            ),
            (2, 1, 132, Family::Ipv4, SocketType::Stream, Protocol::Sctp),
            (
                2,
                5,
                132,
                Family::Ipv4,
                SocketType::Seqpacket,
                Protocol::Sctp,
            ),
            (2, 3, 1, Family::Ipv4, SocketType::Raw, Protocol::Raw),
            (2, 2, 1, Family::Ipv4, SocketType::Dgram, Protocol::Icmp),
            (10, 2, 58, Family::Ipv6, SocketType::Dgram, Protocol::Icmp),
            (1, 5, 0, Family::Unix, SocketType::Seqpacket, Protocol::Unix),
            (17, 3, 3, Family::Packet, SocketType::Raw, Protocol::Packet),
            (17, 10, 3, Family::Packet, SocketType::Raw, Protocol::Packet),
            (40, 1, 0, Family::Vsock, SocketType::Stream, Protocol::Vsock),
        ];
        for (family, kind, number, name, kind_name, protocol) in cases {
            assert_eq!(
                protocol_of(family, kind, number),
                Ok((name, kind_name, protocol))
            );
        }
    }

    #[test]
    fn an_unknown_number_is_named() {
        assert_eq!(protocol_of(16, 3, 0), Err(DecodeError::UnknownFamily(16)));
        assert_eq!(
            protocol_of(2, 6, 33),
            Err(DecodeError::UnknownSocketType { family: 2, kind: 6 })
        );
        let refused = protocol_of(2, 2, 115).expect_err("L2TP is not watched");
        assert!(refused.to_string().contains("115"), "{refused}");
    }
}
