//! Storms: what is counted by listener, process and source, and the record that says that a rate is too high.
//!
//! Everything is bounded, and nothing here grows with the number of packets. With 2 CPUs the tables take: cells 1.6 MB when
//! all [`CELLS`] are in use (96 bytes a listener and CPU; made by user space for what listens, so a few KB on most hosts);
//! and, whatever happens, peers 0.8 MB, processes 0.5 MB, connects under way 0.5 MB, sources 1.1 MB, announcements 0.1 MB.

use crate::header::Header;
use crate::{wire, wire_enum};

/// Listeners that have a cell, at most.
pub const CELLS: u32 = 8192;
/// Senders of SYNs and peers of processes that are remembered, at most: the one seen longest ago gives way.
pub const PEERS: u32 = 8192;
/// Processes that connect, likewise.
pub const PROCESSES: u32 = 4096;
/// Connects whose outcome is awaited, likewise.
pub const CONNECTING: u32 = 4096;
/// Sources of knocks at closed ports, likewise.
pub const SOURCES: u32 = 4096;
/// Crossings that were announced lately.
pub const ANNOUNCED: u32 = 1024;
/// What a window should last, ns. It is a power of two of ticks that is near to it, for the kernel tells those for the
/// price of a load: 1.02 s with ticks of 1 or 4 ms.
pub const WINDOW_NS: u64 = 1_000_000_000;
/// Crossings that are announced in one window, at most.
pub const ANNOUNCED_A_WINDOW: u64 = 128;
/// Words of a source's bitmap of ports.
pub const BITMAP: usize = 16;
/// Ports of a source that are remembered as they are.
pub const SAMPLE: usize = 16;

wire_enum! {
    /// Which rate was crossed.
    StormRate: u32 {
        /// SYNs at a listener.
        SYN = 1,
        /// Completed connections of a listener.
        ACCEPT = 2,
        /// SYN-ACKs of a listener that were sent again.
        UNANSWERED = 3,
        /// Connections that a process opens.
        CONNECT = 4,
        /// Different ports that a source knocked at.
        PORTS = 5,
        /// Resets that connections of a listener received.
        RESET = 6,
    }
}

wire_enum! {
    /// What the probes of storms saw, in the order of [`crate::counters::Counters::storm`]. Connects, failed ones and
    /// completed connections are among the transitions.
    StormCount: u32 {
        /// SYNs at listeners with a cell.
        SYN = 0,
        /// SYN-ACKs sent again.
        UNANSWERED = 1,
        /// Resets received by connections of listeners.
        RESET = 2,
        /// TCP knocks at closed ports.
        KNOCK = 3,
        /// UDP knocks at closed ports.
        UDP_KNOCK = 4,
        /// Knocks of unknown sources that were left out, because there were too many of those.
        PASSED_OVER = 5,
        /// Crossings that were not announced, because there were too many.
        HELD_BACK = 6,
    }
}

/// Number of [`StormCount`]s.
pub const STORM_COUNTS: usize = 7;

wire! {
    /// A listener, as packets tell it.
    pub struct CellKey {
        /// Inode of the network namespace.
        pub netns: u32,
        /// Local port, host order.
        pub port: u16,
        /// Address family of the listener; of a process as a subject, 0.
        pub family: u16,
    } size 8
}

impl CellKey {
    /// A process as a subject of peers: its pid, and of its start as much as tells it from the last one that had the
    /// pid; no family.
    #[inline(always)]
    #[must_use]
    pub const fn of_process(process: ProcessId) -> Self {
        Self {
            netns: process.pid,
            port: (process.start >> 20) as u16,
            family: 0,
        }
    }
}

wire! {
    /// One rate of one listener on one CPU; written by one program alone.
    pub struct Gauge {
        /// Since the cell was made.
        pub total: u64,
        /// Number of the present window.
        pub window: u64,
        /// In the present window.
        pub count: u64,
    } size 24
}

wire! {
    /// One listener on one CPU; the value of a per-CPU hash map by [`CellKey`].
    pub struct Cell {
        /// SYNs.
        pub syn: Gauge,
        /// Completed connections.
        pub accept: Gauge,
        /// SYN-ACKs that were sent again.
        pub unanswered: Gauge,
        /// Resets that were received.
        pub reset: Gauge,
    } size 96
}

wire! {
    /// A process for ever.
    pub struct ProcessId {
        /// Thread group.
        pub pid: u32,
        /// Reserved, zero.
        pub reserved: u32,
        /// Start of the group leader, boot clock, ns.
        pub start: u64,
    } size 16
}

wire! {
    /// What a process connects to; the value of a hash map by [`ProcessId`].
    pub struct ProcessCell {
        /// Connects.
        pub connects: u64,
        /// Connects that failed: of the first [`TRACK_QUIET`] of a CPU in a window; where many fail, of more than those,
        /// estimated from one in [`TRACK_EVERY`].
        pub failed: u64,
        /// Number of the present window.
        pub window: u64,
        /// Connects in it.
        pub count: u64,
    } size 32
}

wire! {
    /// The connects of this CPU that their process was not told yet; the single value of a per-CPU array.
    pub struct Opening {
        /// Whose.
        pub process: ProcessId,
        /// In which window.
        pub window: u64,
        /// Connects that are not in its [`ProcessCell`] yet: fewer than [`SETTLE_EVERY`].
        pub pending: u64,
        /// Connects since this process had its turn, in this window.
        pub seen: u64,
        /// 1 when it connects so often that its peers are looked at.
        pub is_busy: u64,
        /// Connects of anybody in this window whose outcome is awaited.
        pub awaited: u64,
    } size 56
}

/// So many connects of one process on one CPU are told to its [`ProcessCell`] together.
pub const SETTLE_EVERY: u64 = 16;

wire! {
    /// How many connects fail on the whole host; the single value of an array map. CPUs write to it at the same time.
    pub struct Failing {
        /// Number of the present window.
        pub window: u64,
        /// Connects that failed in it.
        pub count: u64,
        /// Up to this window many fail.
        pub until: u64,
        /// Connects whose outcome is awaited: while there are none, none is looked for.
        pub awaited: u64,
    } size 32
}

/// Connects on one CPU in one window whose outcome is awaited while few fail: to wait is what costs most.
pub const TRACK_QUIET: u64 = 64;
/// Failed connects of the host in one window which are many, where a storm of them is no fewer.
pub const FOLLOW_FROM: u64 = 16;
/// For how many windows after the last such one it stays so.
pub const FOLLOWED: u64 = 16;
/// While many fail: connects of a process on one CPU in one window whose outcome is awaited each.
pub const TRACK_ALL: u64 = 32;
/// Beyond those, one in this many, which counts for all of them.
pub const TRACK_EVERY: u64 = 16;
/// SYNs of a busy listener whose sender is looked at: one in this many, which counts for all of them.
pub const PEER_EVERY: u64 = 8;
/// Knocks on one CPU in one window from which on only one in [`SOURCE_EVERY`] new sources is remembered.
pub const SOURCE_FLOOD: u64 = 2048;
/// See [`SOURCE_FLOOD`].
pub const SOURCE_EVERY: u64 = 16;

wire! {
    /// A connect whose outcome is awaited; the value of a hash map by the socket's address.
    pub struct Connecting {
        /// Whose.
        pub process: ProcessId,
        /// For how many connects it stands.
        pub weight: u64,
    } size 24
}

wire! {
    /// A sender of SYNs, or a peer that a process connects to. Its value is a count.
    pub struct PeerKey {
        /// The listener, or the process: see [`CellKey::of_process`].
        pub subject: CellKey,
        /// IPv4 address (v4-mapped), or the first 64 bits of an IPv6 one.
        pub address: [u8; 16],
    } size 24
}

wire! {
    /// Who knocks where.
    pub struct SourceKey {
        /// Inode of the namespace that is knocked at.
        pub netns: u32,
        /// 6 or 17.
        pub protocol: u32,
        /// Address, IPv4 as v4-mapped.
        pub address: [u8; 16],
    } size 24
}

wire! {
    /// One source of knocks at closed ports. CPUs write to it at the same time: a sketch, which may miss a knock.
    pub struct Source {
        /// First knock, boot clock, ns.
        pub first: u64,
        /// Last knock.
        pub last: u64,
        /// Knocks.
        pub count: u64,
        /// Bits of `bitmap` that are set.
        pub ports: u32,
        /// Ports that are in `sample`.
        pub sampled: u32,
        /// A bit for one in 1024 classes of ports.
        pub bitmap: [u64; BITMAP],
        /// The first different ports.
        pub sample: [u16; SAMPLE],
    } size 32 + 128 + 32
}

/// A source that was silent for so long begins anew, ns: an hour and a half.
pub const SOURCE_FORGOTTEN: u64 = 90 * 60 * 1_000_000_000;

wire! {
    /// From which rate on a crossing is announced; the single value of an array map. 0 switches off.
    ///
    /// Rates are counted by CPU. User space divides what is told of the whole host by the number of CPUs: then no
    /// rate that is too high goes unnoticed, and one that is not, is recognised by a look at the sum.
    pub struct Thresholds {
        /// SYNs of a listener on one CPU in a window.
        pub syn: u64,
        /// Completed connections, likewise.
        pub accept: u64,
        /// SYN-ACKs that were sent again, likewise.
        pub unanswered: u64,
        /// Resets received by connections of a listener, likewise.
        pub reset: u64,
        /// Connects of a process in a window, on all CPUs.
        pub connect: u64,
        /// Different ports of a source; and again at each doubling.
        pub ports: u64,
        /// SYNs of a listener on one CPU in a window, or connects of a process, from which on peers are looked at.
        pub peer_floor: u64,
        /// Failed connects of the host in a window from which on outcomes are awaited of more than the first ones.
        pub failed: u64,
    } size 64
}

wire! {
    /// What may still be announced in a window; the single value of an array map.
    pub struct Budget {
        /// Number of the window.
        pub window: u64,
        /// Announced in it.
        pub announced: u64,
    } size 16
}

wire! {
    /// Who or what a crossing is about. What does not belong is zero.
    pub struct StormSubject {
        /// Listener: all three fields. Source: its namespace.
        pub listener: CellKey,
        /// Process.
        pub process: ProcessId,
        /// Source.
        pub address: [u8; 16],
    } size 40
}

wire! {
    /// An announcement; the key of a hash map, so that there is one of each in a window.
    pub struct Announcement {
        /// About whom.
        pub subject: StormSubject,
        /// Which rate.
        pub rate: StormRate,
        /// Of a source: 6 or 17.
        pub protocol: u32,
        /// Number of the window; of a source, its ports.
        pub window: u64,
    } size 56
}

wire! {
    /// A rate went over its threshold. On the ring of listeners, which it cannot fill: one a subject, rate and
    /// window, and [`ANNOUNCED_A_WINDOW`] of all.
    pub struct CrossingRecord {
        /// Kind `RATE_CROSSED`.
        pub header: Header,
        /// About whom.
        pub subject: StormSubject,
        /// Which rate.
        pub rate: StormRate,
        /// Of a source: 6 or 17.
        pub protocol: u32,
        /// How many in this window so far, on this CPU (process and source: on all).
        pub count: u64,
        /// Length of a window, ns.
        pub window_ns: u64,
    } size 32 + 40 + 8 + 8 + 8
}
