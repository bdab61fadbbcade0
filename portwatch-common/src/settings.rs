//! What user space tells the probes: constants fixed at load, and the one switch that changes later.

use crate::wire;

wire! {
    /// Read-only after load: the verifier folds these, so what is off costs nothing.
    pub struct Settings {
        /// 1 when `bpf_get_socket_cookie` may be called from tracing programs (5.12 and later).
        pub cookie_helper: u32,
        /// 1 on the lowest rung: listens are announced before the kernel validated them.
        pub listen_tentative: u32,
        /// Bits of [`SyscallSignals`]: what the system call tracepoints report because no better rung does.
        pub syscall_signals: u32,
        /// Superblock magic of sockfs (`SOCKFS_MAGIC`): tells a socket from a unix socket's path inode.
        pub sockfs_magic: u32,
        /// 1 when two programs share each hook, because the kernel may preempt one of them.
        pub spares: u32,
        /// Bits of [`SockOpsSignals`]: what the socket operations program reports because no better rung does.
        pub sock_ops: u32,
        /// Length of a tick, ns.
        pub tick_ns: u32,
        /// A window of storms is two to the power of this many ticks.
        pub window_shift: u32,
        /// 1 when a program of a tracepoint may run within itself, in an interrupt (before 6.1).
        pub nests: u32,
    } size 36
}

wire! {
    /// Changes while running; the single value of an array map.
    pub struct Control {
        /// 1 while somebody asks for `connection.state`.
        pub stream_states: u32,
        /// 1 to make the inventory iterator show connections too (for owners at the start of a stream).
        pub inventory_connections: u32,
        /// Bytes that may wait in the bulk ring before the reader is woken.
        pub bulk_wakeup_bytes: u64,
    } size 16
}

/// Bits of [`Settings::sock_ops`].
pub struct SockOpsSignals;
impl SockOpsSignals {
    /// TCP and MPTCP listen.
    pub const LISTEN: u32 = 1;
    /// SYNs at listeners.
    pub const SYN: u32 = 2;
}

/// Bits of [`Settings::syscall_signals`].
pub struct SyscallSignals;
impl SyscallSignals {
    /// Refused binds and listens.
    pub const FAILURES: u32 = 1;
    /// unix bind of datagram sockets.
    pub const UNIX_BIND: u32 = 2;
    /// unix listen.
    pub const UNIX_LISTEN: u32 = 4;
    /// Packet sockets: creation with a protocol, and bind.
    pub const PACKET: u32 = 8;
    /// UDP bind.
    pub const UDP_BIND: u32 = 16;
    /// Raw socket creation.
    pub const RAW: u32 = 32;
    /// TCP and SCTP listen: confirmation of tentative records, and repeated listens.
    pub const INET_LISTEN: u32 = 64;
}
