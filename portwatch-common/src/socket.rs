//! The socket as the kernel object holds it, never as a system call's arguments claimed it.

use crate::{wire, wire_enum};

/// Bytes of a unix socket name (`sun_path`); abstract names may hold any of them.
pub const UNIX_NAME_LEN: usize = 108;

wire_enum! {
    /// TCP states with the kernel's numbers (`include/net/tcp_states.h`).
    TcpState: u8 {
        /// Connected.
        ESTABLISHED = 1,
        /// SYN sent.
        SYN_SENT = 2,
        /// SYN received.
        SYN_RECV = 3,
        /// We closed first.
        FIN_WAIT1 = 4,
        /// Our FIN was acknowledged.
        FIN_WAIT2 = 5,
        /// Waiting out old segments.
        TIME_WAIT = 6,
        /// No connection.
        CLOSE = 7,
        /// The peer closed first.
        CLOSE_WAIT = 8,
        /// Our FIN after the peer's.
        LAST_ACK = 9,
        /// Accepting connections.
        LISTEN = 10,
        /// Both closed at once.
        CLOSING = 11,
        /// A request socket.
        NEW_SYN_RECV = 12,
    }
}

wire! {
    /// A socket. An unknown number is 0 unless the field says otherwise.
    pub struct Sock {
        /// Address of the kernel's `struct sock`: its identity while it lives (cookies can change, pids lie).
        pub sk: u64,
        /// Socket cookie, 0 when none was generated.
        pub cookie: u64,
        /// Inode in sockfs, 0 when the socket has no file.
        pub inode: u64,
        /// Inode of the network namespace.
        pub netns: u32,
        /// `AF_INET`, `AF_INET6`, `AF_UNIX`, `AF_PACKET`, `AF_VSOCK`.
        pub family: u16,
        /// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_RAW`, `SOCK_SEQPACKET`.
        pub kind: u16,
        /// `IPPROTO_*` for inet sockets; the ethertype in host order for packet sockets.
        pub protocol: u16,
        /// Local port in host order.
        pub port: u16,
        /// Remote port in host order.
        pub peer_port: u16,
        /// Kernel state number ([`TcpState`] for inet; unix uses the same numbers).
        pub state: TcpState,
        /// Bits of [`SockFlags`].
        pub flags: u8,
        /// `sk_max_ack_backlog`.
        pub backlog: u32,
        /// Bound interface index, 0 for any.
        pub ifindex: u32,
        /// Local address; IPv4 in the first four bytes.
        pub local: [u8; 16],
        /// Remote address; IPv4 in the first four bytes.
        pub peer: [u8; 16],
    } size 80
}

/// Bits of [`Sock::flags`].
pub struct SockFlags;
impl SockFlags {
    /// `IPV6_V6ONLY` is set.
    pub const V6ONLY: u8 = 1;
    /// `SO_REUSEPORT` is set.
    pub const REUSEPORT: u8 = 2;
    /// The port was asked for by number (`SOCK_BINDPORT_LOCK`).
    pub const BINDPORT_LOCK: u8 = 4;
    /// MPTCP: the subflow of an MPTCP socket.
    pub const MPTCP: u8 = 8;
}
