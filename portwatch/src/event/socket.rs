//! The `socket` object of an event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A socket, as the kernel object had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Socket {
    /// Address family.
    pub family: Family,
    /// Socket type.
    #[serde(rename = "type")]
    pub kind: SocketType,
    /// Protocol.
    pub protocol: Protocol,
    /// Local address: IPv4 or IPv6 text, without brackets. A v4-mapped address is shown as IPv4 in `::ffff:` form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// Local port.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// Remote address (`connection.state`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer_address: Option<String>,
    /// Remote port (`connection.state`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer_port: Option<u16>,
    /// Resolved, absolute path of a unix socket; invalid UTF-8 and control bytes as `\xNN`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The path as it was bound, when it differs from `path`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_as_bound: Option<String>,
    /// Abstract name without its leading NUL; bytes that are not printable UTF-8 as `\xNN`.
    #[serde(rename = "abstract", skip_serializing_if = "Option::is_none", default)]
    pub abstract_name: Option<String>,
    /// Longest accept queue asked for (`listen`'s argument, as the kernel clamped it).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backlog: Option<u32>,
    /// Socket cookie.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookie: Option<u64>,
    /// Inode in sockfs, as in `/proc/PID/fd`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<u64>,
    /// Inode of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub netns: Option<u32>,
    /// Name of the interface that the socket is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
    /// Its index in the socket's network namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ifindex: Option<u32>,
    /// IP protocol number of a raw socket (for example 1, ICMP), or ethertype of a packet socket (3: all).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol_number: Option<u16>,
    /// IPv6 only: the socket takes no IPv4 (`IPV6_V6ONLY`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub v6only: Option<bool>,
    /// The port may be shared (`SO_REUSEPORT`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reuseport: Option<bool>,
    /// Service name of the port, from `/etc/services`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// Who can reach it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exposure: Option<Exposure>,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// `AF_INET`.
    Ipv4,
    /// `AF_INET6`.
    Ipv6,
    /// `AF_UNIX`.
    Unix,
    /// `AF_PACKET`.
    Packet,
    /// `AF_VSOCK`.
    Vsock,
}

/// Socket type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SocketType {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Dgram,
    /// `SOCK_RAW`.
    Raw,
    /// `SOCK_SEQPACKET`.
    Seqpacket,
}

/// Protocol of a socket.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// Multipath TCP.
    Mptcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    Udplite,
    /// SCTP.
    Sctp,
    /// A raw IP socket.
    Raw,
    /// A ping socket.
    Icmp,
    /// A unix socket.
    Unix,
    /// A packet socket.
    Packet,
    /// A vsock socket.
    Vsock,
}

impl Protocol {
    /// UDP and UDP-Lite, of whose sockets no state tells whether they are a server's.
    #[must_use]
    pub const fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::Udplite)
    }

    /// Are its sockets told apart by ports? A vsock has ports as well, of 32 bits.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        !matches!(self, Self::Raw | Self::Icmp | Self::Unix | Self::Packet)
    }
}

/// Who can reach a listener, from the narrowest to the widest.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Exposure {
    /// This host only: a loopback address, or a unix socket.
    Loopback,
    /// One link: a link-local address.
    LinkLocal,
    /// Only through one interface or address that is private (RFC 1918, RFC 4193, RFC 6598).
    PrivateInterface,
    /// One public address of this host.
    PublicInterface,
    /// Every interface: a wildcard address, or a packet or raw socket that is bound to none.
    AllInterfaces,
    /// It listens in a network namespace that is not the host's; its reach depends on how that one is connected.
    OtherNamespace,
}

/// A TCP state, by the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Connected.
    Established,
    /// SYN sent.
    SynSent,
    /// SYN received.
    SynRecv,
    /// We closed first.
    #[serde(rename = "FIN_WAIT1")]
    FinWait1,
    /// Our FIN was acknowledged.
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
    /// Waiting out old segments.
    TimeWait,
    /// No connection.
    Close,
    /// The peer closed first.
    CloseWait,
    /// Our FIN after the peer's.
    LastAck,
    /// Accepting connections.
    Listen,
    /// Both closed at once.
    Closing,
    /// A request socket.
    NewSynRecv,
}
