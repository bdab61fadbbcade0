//! One TCP state change, streamed on the bulk ring only while somebody asks.

use crate::header::Header;
use crate::socket::{Sock, TcpState};
use crate::task::{COMM_LEN, Task};
use crate::wire;

wire! {
    /// Who owns a connection, as seen in process context (connect, listen): `current` in any other state
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
    /// One transition of one TCP socket. Its length in the ring, with the ring's own eight bytes, is two
    /// cache lines: this is the record that comes half a million times a second.
    pub struct StateRecord {
        /// Kind `CONNECTION_STATE`; its length tells whether this is an [`OwnedStateRecord`].
        pub header: Header,
        /// The socket; `state` is the new one.
        pub sock: Sock,
        /// State before.
        pub old: TcpState,
        /// State after.
        pub new: TcpState,
        /// Reserved, zero.
        pub reserved: [u8; 6],
    } size 32 + 80 + 8
}

wire! {
    /// A transition made by a process itself (connect, listen): user space remembers whose socket it is,
    /// for the transitions that softirqs make.
    pub struct OwnedStateRecord {
        /// The transition.
        pub state: StateRecord,
        /// Who connects or listens.
        pub owner: Owner,
    } size 120 + 40
}
