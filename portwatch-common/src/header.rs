//! The first 32 bytes of every ring record: what it is, how it was seen, when and where.

use crate::{wire, wire_enum};

wire_enum! {
    /// What a record tells.
    EventKind: u16 {
        /// A socket became able to receive ([`crate::listener::ListenerRecord`]).
        LISTENER_OPENED = 1,
        /// A listener can no longer receive ([`crate::listener::CloseRecord`]).
        LISTENER_CLOSED = 2,
        /// A bind or listen was refused ([`crate::listener::ListenerRecord`], `ret` negative).
        BIND_FAILED = 3,
        /// A process replaced its image ([`crate::process::ExecRecord`]).
        PROCESS_EXEC = 4,
        /// The last thread of a process ended ([`crate::process::LifeRecord`]).
        PROCESS_EXIT = 5,
        /// A process was made ([`crate::process::LifeRecord`]).
        PROCESS_FORK = 6,
        /// One TCP state change ([`crate::connection::StateRecord`]).
        CONNECTION_STATE = 7,
        /// One socket held by one task, from the inventory iterator ([`crate::listener::HeldRecord`]).
        SOCKET_HELD = 8,
        /// A rate went over its threshold ([`crate::storm::CrossingRecord`]).
        RATE_CROSSED = 9,
    }
}

wire_enum! {
    /// The kernel mechanism that produced a record: the rung of the ladder.
    Mechanism: u8 {
        /// BPF trampoline at function exit.
        FEXIT = 1,
        /// BPF trampoline at function entry.
        FENTRY = 2,
        /// Return probe.
        KRETPROBE = 3,
        /// Entry probe.
        KPROBE = 4,
        /// BTF-typed raw tracepoint.
        TP_BTF = 5,
        /// Perf tracepoint (system calls).
        TRACEPOINT = 6,
        /// cgroup2 hook (sock_create, post_bind, sock_ops, sock_release).
        CGROUP = 7,
        /// BPF iterator.
        ITERATOR = 8,
    }
}

wire! {
    /// Leads every record. All integers are in the host's byte order.
    pub struct Header {
        /// What follows.
        pub kind: EventKind,
        /// How it was seen.
        pub mechanism: Mechanism,
        /// Reserved, zero.
        pub reserved: u8,
        /// Length of the whole record in bytes, this header included.
        pub len: u32,
        /// `bpf_ktime_get_boot_ns`: nanoseconds since boot, suspend included.
        pub boot_ns: u64,
        /// CPU that ran the probe.
        pub cpu: u32,
        /// Reserved, zero.
        pub reserved2: u32,
        /// This CPU's count of records on this ring before this one (seen, not emitted), to look at in a dump;
        /// probes that interrupt each other may read the same number.
        pub cpu_seq: u64,
    } size 32
}
