//! When two views speak of the same socket, and when a socket is a listener at all.

use std::net::IpAddr;

use portwatch_common::socket::TcpState;

use crate::decode::IPPROTO_MPTCP;
use crate::decode::record::{SockId, SockInfo, UnixName};
use crate::event::{Protocol, SocketType};

/// Bits 63 and 62 of a synthetic identity. No kernel address looks like that: on every 64-bit machine
/// the upper bits of one are all ones.
const SYNTHETIC: u64 = 0b10 << 62;

/// The identity of a socket of which only the inode is known (sock_diag and `/proc` never tell the
/// kernel's address).
#[must_use]
pub const fn synthetic_id(inode: u64) -> SockId {
    SockId(SYNTHETIC | inode & !(0b11 << 62))
}

/// Was this identity made from an inode?
#[must_use]
pub const fn is_synthetic(id: SockId) -> bool {
    id.0 >> 62 == 0b10
}

/// Can this socket receive from anyone, now? A stream socket must listen; a connected datagram socket
/// receives from its peer alone; a packet socket with ethertype 0 receives nothing.
#[must_use]
pub fn is_listener(sock: &SockInfo, unix: Option<&UnixName>) -> bool {
    match (sock.protocol, sock.kind) {
        (Protocol::Tcp | Protocol::Mptcp | Protocol::Sctp, _)
        | (
            Protocol::Unix | Protocol::Vsock,
            SocketType::Stream | SocketType::Seqpacket | SocketType::Raw,
        ) => sock.state == TcpState::LISTEN,
        (Protocol::Unix, SocketType::Dgram) => unix.is_some(),
        (Protocol::Udp | Protocol::Udplite | Protocol::Vsock, _) => {
            sock.port.is_some() && sock.peer.is_none()
        }
        (Protocol::Packet, _) => sock.protocol_number != Some(0),
        (Protocol::Raw | Protocol::Icmp, _) => true,
    }
}

/// Does a socket that was a listener still receive, given a later look at it? A datagram socket that
/// was connected later stays one until it is closed: nothing tells of a disconnection.
#[must_use]
pub(super) fn still_listens(sock: &SockInfo) -> bool {
    !has_backlog(sock) || sock.state == TcpState::LISTEN
}

/// Does `listen` apply to this socket? Elsewhere the kernel's backlog number means nothing.
#[must_use]
pub fn has_backlog(sock: &SockInfo) -> bool {
    match sock.protocol {
        Protocol::Tcp | Protocol::Mptcp | Protocol::Sctp => true,
        Protocol::Unix | Protocol::Vsock => sock.kind != SocketType::Dgram,
        _ => false,
    }
}

/// Is this the MPTCP socket that a program holds, and not the TCP subflow through which it listens?
#[must_use]
pub fn is_mptcp_itself(sock: &SockInfo) -> bool {
    sock.protocol == Protocol::Mptcp && sock.protocol_number == Some(IPPROTO_MPTCP)
}

/// Could sock_diag vouch for this socket by its inode?
#[must_use]
pub fn is_verifiable(protocol: Protocol) -> bool {
    !matches!(protocol, Protocol::Vsock | Protocol::Sctp)
}

/// Two looks at one address: do they contradict each other about which socket lives there?
pub(super) fn contradicts(known: &SockInfo, other: &SockInfo) -> bool {
    let differs = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a != b);
    differs(known.inode, other.inode)
        .or_else(|| differs(known.cookie, other.cookie))
        .unwrap_or(false)
}

/// How well a listener's local address fits a connection's; lower is better, absent is not at all.
/// The order is the kernel's: the very address, the wildcard of the family, the dual-stack wildcard.
pub(super) fn fit(listener: &SockInfo, local: IpAddr) -> Option<u8> {
    let bound = listener.local?;
    if bound == local || bound.to_canonical() == local.to_canonical() {
        return Some(0);
    }
    let is_v4 = local.to_canonical().is_ipv4();
    match (bound.is_unspecified(), bound, local) {
        (true, IpAddr::V4(_), IpAddr::V4(_)) => Some(1),
        (true, IpAddr::V6(_), _) if !is_v4 => Some(1),
        (true, IpAddr::V6(_), _) if !listener.v6only => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_listener, is_synthetic, synthetic_id};
    use crate::decode::record::SockId;
    use crate::event::{Protocol, SocketType};
    use crate::inventory::fixture::{tcp, udp, unix_path, unix_stream};
    use portwatch_common::socket::TcpState;

    #[test]
    fn a_synthetic_identity_is_never_an_address() {
        assert!(is_synthetic(synthetic_id(u64::MAX)));
        for address in [
            0xffff_8880_1234_5678,
            0xffff_0000_0000_0000,
            0xffff_ffc0_0000_0000,
        ] {
            assert!(!is_synthetic(SockId(address)));
        }
        assert_ne!(synthetic_id(1), synthetic_id(2));
    }

    #[test]
    fn only_what_can_receive_from_anyone_is_a_listener() {
        let mut stream = tcp(1, 1, 80);
        assert!(is_listener(&stream, None));
        stream.state = TcpState::ESTABLISHED;
        assert!(!is_listener(&stream, None));

        let mut datagram = udp(2, 2, 53);
        assert!(is_listener(&datagram, None));
        datagram.peer = datagram.local;
        assert!(!is_listener(&datagram, None));

        let mut local = unix_stream(3, 3);
        assert!(is_listener(&local, None));
        local.kind = SocketType::Dgram;
        assert!(!is_listener(&local, None));
        assert!(is_listener(&local, Some(&unix_path("/run/x"))));

        let mut packet = udp(4, 4, 0);
        packet.protocol = Protocol::Packet;
        packet.protocol_number = Some(0);
        assert!(!is_listener(&packet, None));
        packet.protocol_number = Some(3);
        assert!(is_listener(&packet, None));
    }
}
