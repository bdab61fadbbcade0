//! Records about the life of processes, for the process table that outlives them.

use crate::header::Header;
use crate::task::{Image, Task};
use crate::wire;

wire! {
    /// A process replaced its image. Followed by the image's texts, as in
    /// [`crate::listener::ListenerRecord`].
    pub struct ExecRecord {
        /// Kind `PROCESS_EXEC`.
        pub header: Header,
        /// The process after the exec.
        pub task: Task,
        /// The new image.
        pub image: Image,
    } size 32 + 64 + 32
}

wire! {
    /// A process was made or ended.
    pub struct LifeRecord {
        /// Kind `PROCESS_FORK` (task is the child) or `PROCESS_EXIT`.
        pub header: Header,
        /// The process.
        pub task: Task,
        /// For a fork: start of the parent's group leader, nanoseconds since boot.
        pub parent_start_boot_ns: u64,
        /// For an exit: the wait status.
        pub exit_code: i32,
        /// Reserved, zero.
        pub reserved: u32,
    } size 32 + 64 + 16
}
