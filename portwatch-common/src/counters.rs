//! Per-CPU counters that the probes keep and user space sums: transitions, and the conservation law
//! `seen = emitted + dropped + filtered` of each ring.

use crate::storm::STORM_COUNTS;
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

wire_enum! {
    /// The hooks that two programs share where the kernel preempts probes, in the order of
    /// [`Counters::spares`].
    Hook: u32 {
        /// `inet_csk_listen_start`.
        LISTEN = 0,
        /// `inet_listen`.
        RELISTEN = 1,
        /// `inet_bind`.
        BIND = 2,
        /// `inet6_bind`.
        BIND6 = 3,
        /// `unix_bind`.
        UNIX_BIND = 4,
        /// `unix_listen`.
        UNIX_LISTEN = 5,
        /// `packet_create`.
        PACKET_CREATE = 6,
        /// `packet_bind`.
        PACKET_BIND = 7,
        /// `raw_hash_sk`.
        RAW_OPEN = 8,
        /// `udp_destroy_sock`.
        UDP_CLOSE = 9,
        /// `udpv6_destroy_sock`.
        UDP6_CLOSE = 10,
        /// `unix_release_sock`.
        UNIX_CLOSE = 11,
        /// `packet_release`.
        PACKET_CLOSE = 12,
        /// `raw_unhash_sk`.
        RAW_CLOSE = 13,
        /// `sched_process_exec`.
        EXEC = 14,
        /// `sched_process_fork`.
        FORK = 15,
        /// `sched_process_exit`.
        EXIT = 16,
        /// `inet_sock_set_state`: the changes of listeners alone.
        STATE = 17,
        /// Entry of `bind(2)`.
        BIND_ENTER = 18,
        /// Exit of `bind(2)`.
        BIND_EXIT = 19,
        /// Entry of `listen(2)`.
        LISTEN_ENTER = 20,
        /// Exit of `listen(2)`.
        LISTEN_EXIT = 21,
        /// Entry of `socket(2)`.
        SOCKET_ENTER = 22,
        /// Exit of `socket(2)`.
        SOCKET_EXIT = 23,
    }
}

/// Number of hooks with two programs.
pub const HOOKS: usize = 24;
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
    /// How two programs shared a hook. Runs that the kernel skipped of the first one, plus `left`, minus
    /// `covered`, are the calls that neither of them saw.
    pub struct SpareCounters {
        /// Calls that the first one saw and that are no news.
        pub left: u64,
        /// Calls that the spare one saw and that are no news, or that it told for the first one.
        pub covered: u64,
    } size 16
}

wire! {
    /// One CPU's counters; the single value of a per-CPU array.
    pub struct Counters {
        /// By [`Ring`].
        pub rings: [RingCounters; RINGS],
        /// Client ports the kernel chose for UDP sockets that never called bind: counted, not listeners.
        pub udp_autobinds: u64,
        /// Tracked-listener table was full.
        pub tracked_overflow: u64,
        /// TCP state changes by `old * 16 + new`.
        pub transitions: [u64; TRANSITIONS],
        /// By [`Hook`].
        pub spares: [SpareCounters; HOOKS],
        /// By [`crate::storm::StormCount`].
        pub storm: [u64; STORM_COUNTS],
    } size 96 + 16 + 8 * TRANSITIONS + 16 * HOOKS + 8 * STORM_COUNTS
}

#[cfg(feature = "user")]
impl Counters {
    /// The counters of all CPUs together. Sums wrap, as the counters do.
    #[must_use]
    pub fn sum(per_cpu: &[Self]) -> Self {
        let mut total = [0u64; size_of::<Self>() / 8];
        for cpu in per_cpu {
            let words: [u64; size_of::<Self>() / 8] = zerocopy::transmute!(*cpu);
            for (total, word) in total.iter_mut().zip(words) {
                *total = total.wrapping_add(word);
            }
        }
        zerocopy::transmute!(total)
    }
}
