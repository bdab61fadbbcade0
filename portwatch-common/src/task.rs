//! Who did it: the identity of a task as the kernel had it at the moment of the event.

use crate::wire;

/// Length of a kernel task name with its terminating NUL (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;
/// Ancestors that a record carries: enough for service → shell → sudo → program chains.
pub const MAX_ANCESTORS: usize = 8;
/// `loginuid` of a task that no login made (`(uid_t)-1`).
pub const NO_LOGINUID: u32 = u32::MAX;

wire! {
    /// A task, in the ids of the initial namespaces. `(pid, start_boot_ns)` names a process for ever;
    /// a pid alone is reused.
    pub struct Task {
        /// Thread group id: the process. For an io_uring worker, its group leader's.
        pub pid: u32,
        /// Thread id.
        pub tid: u32,
        /// Thread group id of the real parent.
        pub ppid: u32,
        /// Real user id.
        pub uid: u32,
        /// Real group id.
        pub gid: u32,
        /// Audit login uid, or [`NO_LOGINUID`].
        pub loginuid: u32,
        /// Start of the group leader, nanoseconds since boot (`task_struct.start_boottime`).
        pub start_boot_ns: u64,
        /// cgroup2 id of the task, 0 where there is none.
        pub cgroup_id: u64,
        /// Name of the group leader, NUL-padded; any bytes.
        pub comm: [u8; COMM_LEN],
        /// 1 for a kernel thread.
        pub is_kthread: u8,
        /// Reserved, zero.
        pub reserved: [u8; 3],
        /// Inode of the task's pid namespace.
        pub pidns: u32,
    } size 64
}

wire! {
    /// One step up the chain of real parents.
    pub struct Ancestor {
        /// Thread group id.
        pub pid: u32,
        /// Reserved, zero.
        pub reserved: u32,
        /// Start of the group leader, nanoseconds since boot.
        pub start_boot_ns: u64,
        /// Name, NUL-padded; any bytes.
        pub comm: [u8; COMM_LEN],
    } size 32
}

wire! {
    /// The image a process runs, and what it was started with; the texts lie in the record's data area.
    ///
    /// Paths are stored leaf first, one NUL-terminated component after another, because a dentry knows
    /// only its parent; user space turns them round. `PATH_TRUNCATED` means that the walk was cut.
    pub struct Image {
        /// Inode number of the executable, 0 when there is none (kernel thread) or it could not be read.
        pub exe_inode: u64,
        /// Device of the executable's file system, kernel encoding (`major << 20 | minor`).
        pub exe_dev: u32,
        /// Links of the executable's inode; 0 means that the file was deleted (or is a memfd).
        pub exe_nlink: u32,
        /// Bytes of the executable's path, behind the arguments.
        pub exe_len: u16,
        /// Bytes of the working directory's path, right behind.
        pub cwd_len: u16,
        /// Bytes of the arguments (NUL-separated, as in `/proc/PID/cmdline`), at the start of the data area.
        pub args_len: u16,
        /// Bits of [`ImageFlags`].
        pub flags: u16,
        /// Whole length of the arguments in the process, which may be more than was copied.
        pub args_total: u32,
        /// Reserved, zero.
        pub reserved: u32,
    } size 32
}

/// Bits of [`Image::flags`].
pub struct ImageFlags;
impl ImageFlags {
    /// The executable's path did not fit.
    pub const EXE_TRUNCATED: u16 = 1;
    /// The working directory's path did not fit.
    pub const CWD_TRUNCATED: u16 = 2;
    /// The arguments could not be read (paged out, or a kernel thread).
    pub const ARGS_UNREADABLE: u16 = 4;
    /// The executable lives on the kernel's internal shm mount: a memfd.
    pub const EXE_MEMFD: u16 = 8;
}
