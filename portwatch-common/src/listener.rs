//! Records about listeners: opened or refused, closed, and found by the inventory iterator.

use crate::header::Header;
use crate::socket::{Sock, UNIX_NAME_LEN};
use crate::task::{Ancestor, Image, MAX_ANCESTORS, Task};
use crate::wire;

/// Bytes of the data area behind the fixed part of a record that carries an image.
///
/// Order in the area: arguments, executable, working directory, resolved unix path.
pub const DATA_LEN: usize = 2048;
/// Bytes of arguments at most, one less than this; longer ones are completed from `/proc`.
pub const ARGS_LEN: usize = 1024;

wire! {
    /// The name of a unix socket. `len` is the kernel's length without the family: 0 for an unnamed
    /// socket. An abstract name starts with NUL; a pathname is stored with or without its NUL.
    pub struct UnixName {
        /// Bytes used in `bytes`.
        pub len: u16,
        /// 1 when the name is relative to `Image`'s working directory and `resolved_len` bytes of the
        /// resolved path (leaf first, like an image's paths) end the data area.
        pub resolved_len: u16,
        /// The bytes as bound.
        pub bytes: [u8; UNIX_NAME_LEN],
    } size 112
}

wire! {
    /// A socket opened, or was refused. Followed by up to [`DATA_LEN`] bytes: the image's texts
    /// (arguments, executable, working directory, resolved unix path, in this order).
    pub struct ListenerRecord {
        /// Kind `LISTENER_OPENED` or `BIND_FAILED`.
        pub header: Header,
        /// The socket. For a refusal, the address and port that were asked for.
        pub sock: Sock,
        /// The task that called.
        pub task: Task,
        /// Its image.
        pub image: Image,
        /// Name of a unix socket.
        pub unix: UnixName,
        /// Chain of real parents, nearest first; `pid` 0 ends it.
        pub ancestors: [Ancestor; MAX_ANCESTORS],
        /// What the kernel returned: 0, or a negative errno.
        pub ret: i32,
        /// Bits of [`ListenerFlags`].
        pub flags: u32,
    } size 32 + 80 + 64 + 32 + 112 + 256 + 8
}

/// Bits of [`ListenerRecord::flags`].
pub struct ListenerFlags;
impl ListenerFlags {
    /// Seen before the kernel validated it: user space confirms before it tells anyone.
    pub const TENTATIVE: u32 = 1;
    /// From `bind`, not from `listen` or creation.
    pub const FROM_BIND: u32 = 2;
    /// From `listen`.
    pub const FROM_LISTEN: u32 = 4;
    /// From the creation of a raw or packet socket.
    pub const FROM_CREATE: u32 = 8;
}

wire! {
    /// A listener can no longer receive.
    pub struct CloseRecord {
        /// Kind `LISTENER_CLOSED`.
        pub header: Header,
        /// The socket as it was just before.
        pub sock: Sock,
        /// The current task: who closed it, when this ran in process context. Not an owner.
        pub task: Task,
    } size 32 + 80 + 64
}

wire! {
    /// One descriptor of one task that refers to a receiving socket (inventory).
    pub struct HeldRecord {
        /// Kind `SOCKET_HELD`.
        pub header: Header,
        /// The socket.
        pub sock: Sock,
        /// The holder.
        pub task: Task,
        /// Name of a unix socket; `resolved_len` is always 0 here.
        pub unix: UnixName,
        /// Descriptor number in the holder.
        pub fd: u32,
        /// Reserved, zero.
        pub reserved: u32,
    } size 32 + 80 + 64 + 112 + 8
}
