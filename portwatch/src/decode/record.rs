//! What the rest of user space works with: owned, typed, in process-independent units.
//!
//! Bytes stay bytes here (names, paths and arguments are hostile); they become text where an event is made.

use std::net::IpAddr;

use portwatch_common::socket::TcpState;

use crate::event::{Family, Mechanism, Protocol, SocketType};
use crate::storm::Crossing;
use crate::time::BootNs;

/// A process for ever: a pid alone is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Thread group id.
    pub pid: u32,
    /// Start of the group leader.
    pub start: BootNs,
}

/// Address of the kernel's `struct sock`: a socket's identity while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SockId(pub u64);

/// Decoded [`portwatch_common::task::Task`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskInfo {
    /// The process.
    pub key: ProcessKey,
    /// Calling thread.
    pub tid: u32,
    /// Parent process.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Audit login uid, when a login led here.
    pub loginuid: Option<u32>,
    /// cgroup2 id, 0 when there is none.
    pub cgroup_id: u64,
    /// Name without padding; any bytes.
    pub comm: Vec<u8>,
    /// A kernel thread.
    pub is_kthread: bool,
}

/// Decoded [`portwatch_common::task::Image`] with its texts, paths turned the right way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// Absolute path of the executable; absent when it could not be read whole.
    pub exe: Option<Vec<u8>>,
    /// Inode of the executable, 0 when not known.
    pub exe_inode: u64,
    /// Device of the executable, kernel encoding (`major << 20 | minor`).
    pub exe_dev: u32,
    /// The file has no name any more.
    pub exe_deleted: bool,
    /// The executable is a memfd.
    pub exe_memfd: bool,
    /// Absolute path of the working directory; absent when it could not be read whole.
    pub cwd: Option<Vec<u8>>,
    /// Arguments; absent when they could not be read.
    pub args: Option<Vec<Vec<u8>>>,
    /// There were more arguments than the record holds.
    pub args_truncated: bool,
}

/// One step up the chain of parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AncestorInfo {
    /// The process.
    pub key: ProcessKey,
    /// Name without padding; any bytes.
    pub comm: Vec<u8>,
}

/// Who did something, complete in itself: the process may be gone by the time this is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The task.
    pub task: TaskInfo,
    /// Its image, when the record carried one.
    pub image: Option<ImageInfo>,
    /// Its parents, nearest first.
    pub ancestors: Vec<AncestorInfo>,
}

/// Decoded [`portwatch_common::socket::Sock`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SockInfo {
    /// Identity while it lives.
    pub id: SockId,
    /// Cookie, when there is one.
    pub cookie: Option<u64>,
    /// Inode in sockfs, when there is one.
    pub inode: Option<u64>,
    /// Network namespace.
    pub netns: u32,
    /// Address family.
    pub family: Family,
    /// Socket type.
    pub kind: SocketType,
    /// Protocol as portwatch names it.
    pub protocol: Protocol,
    /// IP protocol number of a raw socket, ethertype of a packet socket; 262 for an MPTCP socket itself
    /// (its TCP subflow, through which it listens, has none).
    pub protocol_number: Option<u16>,
    /// Local address (inet).
    pub local: Option<IpAddr>,
    /// Local port (inet with ports).
    pub port: Option<u16>,
    /// Remote address (connections).
    pub peer: Option<IpAddr>,
    /// Remote port (connections).
    pub peer_port: Option<u16>,
    /// Kernel state.
    pub state: TcpState,
    /// Accept queue limit.
    pub backlog: u32,
    /// Bound interface index, when bound to one.
    pub ifindex: Option<u32>,
    /// `IPV6_V6ONLY`.
    pub v6only: bool,
    /// `SO_REUSEPORT`.
    pub reuseport: bool,
}

/// The name of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnixName {
    /// A path: as bound, and resolved to absolute when that was possible.
    Path {
        /// The bytes given to bind, without a terminating NUL.
        as_bound: Vec<u8>,
        /// Absolute.
        resolved: Option<Vec<u8>>,
    },
    /// An abstract name without its leading NUL.
    Abstract(Vec<u8>),
}

/// A listener was opened, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSeen {
    /// When.
    pub at: BootNs,
    /// How.
    pub mechanism: Mechanism,
    /// The socket.
    pub sock: SockInfo,
    /// Its unix name.
    pub unix: Option<UnixName>,
    /// Who called.
    pub who: Who,
    /// errno of a refusal, positive; 0 for success.
    pub errno: u32,
    /// Seen before the kernel validated it.
    pub tentative: bool,
}

/// A listener can no longer receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseSeen {
    /// When.
    pub at: BootNs,
    /// How.
    pub mechanism: Mechanism,
    /// The socket.
    pub sock: SockInfo,
}

/// One descriptor of one task that refers to a receiving socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// When the iterator passed.
    pub at: BootNs,
    /// The socket.
    pub sock: SockInfo,
    /// Its unix name.
    pub unix: Option<UnixName>,
    /// The holder.
    pub holder: TaskInfo,
    /// Descriptor number.
    pub fd: u32,
}

/// A process replaced its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSeen {
    /// When.
    pub at: BootNs,
    /// The process after the exec.
    pub task: TaskInfo,
    /// The new image.
    pub image: ImageInfo,
}

/// A process was made or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeSeen {
    /// When.
    pub at: BootNs,
    /// The process (for a fork, the child).
    pub task: TaskInfo,
    /// For a fork: the parent.
    pub parent: Option<ProcessKey>,
    /// For an exit: the wait status.
    pub exit_code: i32,
}

/// Where a record stood in its ring: a CPU's records count on without a hole, or some were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPlace {
    /// The CPU that made it.
    pub cpu: u32,
    /// Records that this CPU made for the ring before it, lost ones included.
    pub before: u64,
}

/// One TCP state change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSeen {
    /// When.
    pub at: BootNs,
    /// Its place in the ring.
    pub place: RingPlace,
    /// How.
    pub mechanism: Mechanism,
    /// The socket.
    pub sock: SockInfo,
    /// The owner, when it made the change itself (connect, listen): task without image.
    pub owner: Option<TaskInfo>,
    /// State before.
    pub old: TcpState,
    /// State after.
    pub new: TcpState,
}

/// Any record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A listener opened.
    Opened(Box<ListenerSeen>),
    /// A bind or listen was refused.
    Refused(Box<ListenerSeen>),
    /// A listener closed.
    Closed(Box<CloseSeen>),
    /// A process replaced its image.
    Exec(Box<ExecSeen>),
    /// A process was made.
    Fork(Box<LifeSeen>),
    /// A process ended.
    Exit(Box<LifeSeen>),
    /// A TCP state change.
    State(Box<StateSeen>),
    /// A held socket.
    Held(Box<Held>),
    /// A rate went over its threshold.
    Crossed(Box<Crossing>),
}
