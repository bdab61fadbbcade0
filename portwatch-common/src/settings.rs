//! What user space tells the probes: constants fixed at load, and the one switch that changes later.

use crate::wire;

wire! {
    /// Read-only after load: the verifier folds these, so what is off costs nothing.
    pub struct Settings {
        /// 1 when `bpf_get_socket_cookie` may be called from tracing programs (5.12 and later).
        pub cookie_helper: u32,
        /// 1 when `inet_csk_listen_start` takes `(sk, backlog)` (before 5.17).
        pub listen_start_has_backlog: u32,
        /// Reserved, zero.
        pub reserved: u32,
        /// Superblock magic of sockfs (`SOCKFS_MAGIC`): tells a socket from a unix socket's path inode.
        pub sockfs_magic: u32,
    } size 16
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
