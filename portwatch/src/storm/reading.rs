//! What the detector is given: the counts of the kernel at one moment, and the news that a rate was crossed.
//!
//! Counts are totals since the cell was made, and only grow; whoever reads them takes differences, and takes a smaller
//! number for a new cell. A part that this kernel cannot tell is absent: `None` is not zero.

use std::net::IpAddr;

use crate::time::BootNs;

/// Which listener: what a packet that arrives can be told by. Listeners on several addresses of one port share a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerKey {
    /// Inode of the network namespace.
    pub netns: u32,
    /// An IPv6 socket; its IPv4 clients are counted there as well.
    pub is_v6: bool,
    /// Local port.
    pub port: u16,
}

/// Everything that was counted, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// When.
    pub at: BootNs,
    /// Listeners with a cell.
    pub listeners: Vec<ListenerReading>,
    /// Processes that open connections, or hold ones that their peer has closed.
    pub processes: Vec<ProcessReading>,
    /// Network namespaces.
    pub namespaces: Vec<NamespaceReading>,
    /// Who knocked at closed ports; empty when nobody has since the last reading.
    pub sources: Vec<SourceReading>,
    /// SYNs were counted by the requests that they made.
    pub sees_requests: bool,
    /// What the probes keep could not be read: what is missing is not quiet.
    pub is_blind: bool,
}

/// One listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerReading {
    /// Which one.
    pub key: ListenerKey,
    /// SYNs that arrived, cookies or not.
    pub syns: Option<u64>,
    /// Connections that were completed.
    pub accepted: Option<u64>,
    /// SYN-ACKs that were sent again, because nobody answered; silent while cookies are sent.
    pub unanswered: Option<u64>,
    /// Resets that were received by connections of this listener.
    pub resets: Option<u64>,
    /// Half-open connections now; counted now and then while there is reason to think of a flood.
    pub half_open: Option<u32>,
    /// Connections that wait for `accept` now, and how many may: of the fullest socket, where several share the port.
    pub accept_queue: Option<(u32, u32)>,
    /// Half-open connections that all sockets of the port together have room for.
    pub backlog: Option<u32>,
    /// Who sends the SYNs, the most frequent first; kept by the kernel once the listener is busy, and estimated from one
    /// SYN in eight.
    pub peers: Vec<PeerReading>,
}

/// One sender, or a prefix of senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerReading {
    /// An IPv4 address, or the first 64 bits of an IPv6 one.
    pub address: IpAddr,
    /// SYNs since it was first seen.
    pub count: u64,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessReading {
    /// Thread group.
    pub pid: u32,
    /// Start of the group leader on the boot clock, ns; with the pid it is an identity.
    pub start: u64,
    /// `connect` calls of TCP that sent a SYN.
    pub connects: Option<u64>,
    /// Of those, the ones that got no connection; where there are many, estimated from one in sixteen.
    pub failed: Option<u64>,
    /// Sockets in CLOSE_WAIT now.
    pub close_wait: Option<u32>,
    /// Peers it connects to, the most frequent first.
    pub peers: Vec<PeerReading>,
}

/// One network namespace: counters of its MIB, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceReading {
    /// Inode.
    pub netns: u32,
    /// TcpExt `SyncookiesSent`.
    pub cookies_sent: Option<u64>,
    /// TcpExt `SyncookiesRecv`: cookies that came back, and made connections.
    pub cookies_received: Option<u64>,
    /// TcpExt `ListenOverflows`: an accept queue was full.
    pub listen_overflows: Option<u64>,
    /// TcpExt `ListenDrops`.
    pub listen_drops: Option<u64>,
    /// TcpExt `TCPReqQFullDoCookies` and `TCPReqQFullDrop` together.
    pub syn_queue_full: Option<u64>,
    /// Tcp `OutRsts`.
    pub resets_sent: Option<u64>,
    /// Tcp `AttemptFails`: connections that came to nothing, both those of `connect` and half-open ones that were reset.
    pub refused: Option<u64>,
    /// Connections that ended in an error.
    pub reset_connections: Option<u64>,
    /// Udp `NoPorts`: datagrams to ports where nothing is bound.
    pub udp_no_ports: Option<u64>,
    /// Sockets in TIME_WAIT now.
    pub time_wait: Option<u32>,
    /// Sockets that no process holds now, of the whole host: the kernel does not count them by namespace.
    pub orphans: Option<u32>,
    /// Local ports from which `connect` chooses.
    pub ephemeral_ports: Option<u32>,
    /// The peer towards which most of them are taken; looked for only while many sockets are in TIME_WAIT.
    pub busiest: Option<PortUse>,
}

/// Local ports that are taken towards one peer, by connections and in TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortUse {
    /// Its address.
    pub peer: IpAddr,
    /// Its port.
    pub port: u16,
    /// How many.
    pub taken: u32,
}

/// One address that knocked at ports where nothing listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReading {
    /// Inode of the namespace that was knocked at.
    pub netns: u32,
    /// IPv4 address, or IPv6 address.
    pub address: IpAddr,
    /// UDP, not TCP.
    pub is_udp: bool,
    /// Different ports, as far as the sketch tells them apart.
    pub ports: u32,
    /// Knocks.
    pub count: u64,
    /// Some of the ports, in rising order.
    pub sample: Vec<u16>,
    /// First and last knock.
    pub first: BootNs,
    /// See `first`.
    pub last: BootNs,
}

/// What crossed a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A listener.
    Listener(ListenerKey),
    /// A process, by pid and start.
    Process(u32, u64),
    /// A source of knocks: namespace and address.
    Source(u32, IpAddr),
    /// A namespace.
    Namespace(u32),
}

/// Which rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rate {
    /// SYNs at a listener.
    Syn,
    /// Completed connections of a listener.
    Accept,
    /// Unanswered SYN-ACKs of a listener.
    Unanswered,
    /// Connections that a process opens.
    Connect,
    /// Different ports that a source knocked at.
    Ports,
    /// Resets of a namespace.
    Reset,
}

/// The kernel saw a rate go over its threshold, and said so at once: one for each subject, rate and window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// When.
    pub at: BootNs,
    /// Who or what.
    pub subject: Subject,
    /// Of which rate.
    pub rate: Rate,
    /// UDP, not TCP; of ports alone.
    pub is_udp: bool,
    /// How many in this window so far.
    pub count: u64,
    /// Length of the window, ns; 0 for the ports of a source, which are counted since its first knock.
    pub window_ns: u64,
}
