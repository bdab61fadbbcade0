//! One TCP state change, streamed on the bulk ring only while somebody asks.

use crate::header::Header;
use crate::socket::{Sock, TcpState};
use crate::task::{COMM_LEN, Task};
use crate::wire;

wire! {
    /// Who owns a connection, as recorded in process context (connect), or zero: `current` in a state
    /// change is whoever the softirq interrupted, and is never reported.
    pub struct Owner {
        /// Thread group id, 0 when not known.
        pub pid: u32,
        /// Thread id.
        pub tid: u32,
        /// Real user id.
        pub uid: u32,
        /// Real group id.
        pub gid: u32,
        /// Start of the group leader, nanoseconds since boot.
        pub start_boot_ns: u64,
        /// Name of the group leader.
        pub comm: [u8; COMM_LEN],
    } size 40
}

impl Owner {
    /// Nobody known.
    pub const NONE: Self = Self {
        pid: 0,
        tid: 0,
        uid: 0,
        gid: 0,
        start_boot_ns: 0,
        comm: [0; COMM_LEN],
    };

    /// The part of a task that a connection remembers.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        Self {
            pid: task.pid,
            tid: task.tid,
            uid: task.uid,
            gid: task.gid,
            start_boot_ns: task.start_boot_ns,
            comm: task.comm,
        }
    }
}

wire! {
    /// One transition of one TCP socket.
    pub struct StateRecord {
        /// Kind `CONNECTION_STATE`.
        pub header: Header,
        /// The socket; `state` is the new one.
        pub sock: Sock,
        /// The owner, when it was recorded.
        pub owner: Owner,
        /// State before.
        pub old: TcpState,
        /// State after.
        pub new: TcpState,
        /// Reserved, zero.
        pub reserved: [u8; 6],
    } size 32 + 80 + 40 + 8
}
