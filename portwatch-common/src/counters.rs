//! Per-CPU counters that the probes keep and user space sums: transitions, and the conservation law
//! `seen = emitted + dropped + filtered` of each ring.

use crate::{wire, wire_enum};

wire_enum! {
    /// The rings, in the order of [`Counters::rings`].
    Ring: u32 {
        /// Listeners. Nothing else may fill it.
        CRITICAL = 0,
        /// Process exec, fork and exit: bursts of these must not push a listener out.
        PROCESS = 1,
        /// The connection stream.
        BULK = 2,
    }
}

/// Number of rings.
pub const RINGS: usize = 3;
/// Transition cells: `old * 16 + new`; kernel state numbers fit four bits.
pub const TRANSITIONS: usize = 256;

wire! {
    /// Conservation counters of one ring on one CPU. `seen` is written before the reserve, so that a
    /// record that never reached the ring is still counted.
    pub struct RingCounters {
        /// Records the probes wanted to send.
        pub seen: u64,
        /// Records that were submitted.
        pub emitted: u64,
        /// Records that found the ring full.
        pub dropped: u64,
        /// Records that a filter in the kernel held back on purpose.
        pub filtered: u64,
    } size 32
}

wire! {
    /// One CPU's counters; the single value of a per-CPU array.
    pub struct Counters {
        /// By [`Ring`].
        pub rings: [RingCounters; RINGS],
        /// Client ports the kernel chose for UDP sockets that never called bind: counted, not listeners.
        pub udp_autobinds: u64,
        /// Listener records that could not read an executable's path.
        pub image_failures: u64,
        /// Pending-call table was full: a bind or listen was seen at entry but not at exit.
        pub pending_overflow: u64,
        /// Tracked-listener table was full.
        pub tracked_overflow: u64,
        /// TCP state changes by `old * 16 + new`.
        pub transitions: [u64; TRANSITIONS],
    } size 96 + 32 + 8 * TRANSITIONS
}
