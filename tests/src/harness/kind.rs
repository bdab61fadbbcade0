//! Kinds of sockets: what the kernel calls them, what events call them, and what seeing them takes.

use super::rungs::Capability;

/// A kind of socket: the numbers for the kernel, and the words that events use for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `AF_*`, `SOCK_*` and protocol number.
    pub numbers: (i32, i32, i32),
    /// `socket.family`.
    pub family: &'static str,
    /// `socket.type`.
    pub kind: &'static str,
    /// `socket.protocol`.
    pub protocol: &'static str,
    /// What seeing it open takes.
    pub opening: Capability,
    /// What seeing it close takes.
    pub closing: Capability,
}

impl Kind {
    /// TCP over IPv4.
    pub const TCP4: Self = Self {
        numbers: (libc::AF_INET, libc::SOCK_STREAM, 0),
        family: "ipv4",
        kind: "stream",
        protocol: "tcp",
        opening: Capability::TcpListen,
        closing: Capability::TcpClose,
    };
    /// TCP over IPv6.
    pub const TCP6: Self = Self {
        numbers: (libc::AF_INET6, libc::SOCK_STREAM, 0),
        family: "ipv6",
        ..Self::TCP4
    };
    /// Multipath TCP.
    pub const MPTCP4: Self = Self {
        numbers: (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        protocol: "mptcp",
        ..Self::TCP4
    };
    /// SCTP, one-to-one style.
    pub const SCTP4: Self = Self {
        numbers: (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        protocol: "sctp",
        ..Self::TCP4
    };
    /// UDP over IPv4.
    pub const UDP4: Self = Self {
        numbers: (libc::AF_INET, libc::SOCK_DGRAM, 0),
        family: "ipv4",
        kind: "dgram",
        protocol: "udp",
        opening: Capability::UdpBind,
        closing: Capability::UdpClose,
    };
    /// UDP over IPv6.
    pub const UDP6: Self = Self {
        numbers: (libc::AF_INET6, libc::SOCK_DGRAM, 0),
        family: "ipv6",
        ..Self::UDP4
    };
    /// UDP-Lite.
    pub const UDPLITE4: Self = Self {
        numbers: (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        protocol: "udplite",
        ..Self::UDP4
    };
    /// A unix stream socket.
    pub const UNIX_STREAM: Self = Self {
        numbers: (libc::AF_UNIX, libc::SOCK_STREAM, 0),
        family: "unix",
        kind: "stream",
        protocol: "unix",
        opening: Capability::Unix,
        closing: Capability::UnixClose,
    };
    /// A unix sequenced-packet socket.
    pub const UNIX_SEQPACKET: Self = Self {
        numbers: (libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
        kind: "seqpacket",
        ..Self::UNIX_STREAM
    };
    /// A unix datagram socket.
    pub const UNIX_DGRAM: Self = Self {
        numbers: (libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        kind: "dgram",
        ..Self::UNIX_STREAM
    };
    /// A packet socket that takes every frame at once.
    pub const PACKET_ALL: Self = Self {
        numbers: (
            libc::AF_PACKET,
            libc::SOCK_RAW,
            (libc::ETH_P_ALL as u16).to_be() as i32,
        ),
        family: "packet",
        kind: "raw",
        protocol: "packet",
        opening: Capability::Packet,
        closing: Capability::PacketClose,
    };
    /// A packet socket that takes nothing until it is bound.
    pub const PACKET_NONE: Self = Self {
        numbers: (libc::AF_PACKET, libc::SOCK_RAW, 0),
        ..Self::PACKET_ALL
    };
    /// A raw socket for ICMP.
    pub const RAW_ICMP4: Self = Self {
        numbers: (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        family: "ipv4",
        kind: "raw",
        protocol: "raw",
        opening: Capability::Raw,
        closing: Capability::RawClose,
    };
    /// A raw socket for ICMPv6.
    pub const RAW_ICMP6: Self = Self {
        numbers: (libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
        family: "ipv6",
        ..Self::RAW_ICMP4
    };

    /// Does this kernel have it?
    #[must_use]
    pub fn is_available(self) -> bool {
        let (domain, kind, protocol) = self.numbers;
        crate::sys::socket(domain, kind, protocol).is_ok()
    }
}

/// A socket in an actor, as the actor's `/proc` describes it.
#[derive(Clone, Debug)]
pub struct Sock {
    /// Its slot.
    pub slot: String,
    /// Its kind.
    pub kind: Kind,
    /// Descriptor number.
    pub fd: u32,
    /// Inode in sockfs.
    pub inode: u64,
    /// Network namespace in which the actor was when it opened it.
    pub netns: u64,
}
