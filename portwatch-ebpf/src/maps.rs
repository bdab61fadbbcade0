//! The maps: three rings, the counters beside them, small tables, and those of storms.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use portwatch_common::counters::Counters;
use portwatch_common::listener::HeldRecord;
use portwatch_common::settings::Control;
use portwatch_common::share::{SHARES, Share};
use portwatch_common::storm::{
    self, Announcement, Budget, Cell, CellKey, Connecting, Failing, Opening, PeerKey, ProcessCell,
    ProcessId, Source, SourceKey, Thresholds,
};

use crate::kernel::CopyPlace;

/// Listeners only: nothing that floods may push one out. User space sets the sizes at load.
#[map]
pub static CRITICAL: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Process exec, fork and exit.
#[map]
pub static PROCESS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// The connection stream.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// One value per CPU, so that counting needs no atomic operation.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// The switches that change while running.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// Sockets that were reported as listeners, by `struct sock` address, with their backlog: tells a
/// UDP listener's close from a client's, and a repeated `listen()` with a new backlog from the first.
#[map]
pub static TRACKED: HashMap<u64, u64> = HashMap::with_max_entries(65_536, 0);

/// What each cgroup took of a crowded ring of listeners, by cgroup id. LRU: who makes cgroups to no end
/// evicts accounts, and gains by that one share an account.
#[map]
pub static CROWD: LruHashMap<u64, Share> = LruHashMap::with_max_entries(SHARES, 0);

/// Calls between entry and exit. LRU, so that an exit that never comes cannot fill it.
#[map]
pub static PENDING: LruHashMap<PendingKey, Pending> = LruHashMap::with_max_entries(4_096, 0);

/// Calls that the first of two programs on one hook told, by thread. LRU, because a mark stays when the other
/// one was skipped.
#[map]
pub static TURNS: LruHashMap<PendingKey, u32> = LruHashMap::with_max_entries(4_096, 0);

/// Where the inventory iterator builds a record; it has one reader, so one place is enough.
#[map]
pub static HELD: Array<HeldPlace> = Array::with_max_entries(1, 0);

/// What listeners get, by namespace, family and port. User space alone makes and removes cells, so no traffic can; memory
/// is taken for those there are.
#[map]
pub static CELLS: PerCpuHashMap<CellKey, Cell> =
    PerCpuHashMap::with_max_entries(storm::CELLS, BPF_F_NO_PREALLOC);

/// Who sends to busy listeners, and whom busy processes connect to. LRU, as the four behind it: a flood of invented
/// addresses evicts peers and nothing else.
#[map]
pub static PEERS: LruHashMap<PeerKey, u64> = LruHashMap::with_max_entries(storm::PEERS, 0);

/// Processes that connect.
#[map]
pub static PROCESSES: LruHashMap<ProcessId, ProcessCell> =
    LruHashMap::with_max_entries(storm::PROCESSES, 0);

/// Connects of this CPU that are not told yet.
#[map]
pub static OPENING: PerCpuArray<Opening> = PerCpuArray::with_max_entries(1, 0);

/// How many connects fail.
#[map]
pub static FAILING: Array<Failing> = Array::with_max_entries(1, 0);

/// Connects whose outcome is awaited, by socket.
#[map]
pub static CONNECTING: LruHashMap<u64, Connecting> =
    LruHashMap::with_max_entries(storm::CONNECTING, 0);

/// Who knocks at closed ports.
#[map]
pub static SOURCES: LruHashMap<SourceKey, Source> = LruHashMap::with_max_entries(storm::SOURCES, 0);

/// What was announced in this window.
#[map]
pub static ANNOUNCED: LruHashMap<Announcement, u32> =
    LruHashMap::with_max_entries(storm::ANNOUNCED, 0);

/// How much may still be announced.
#[map]
pub static BUDGET: Array<Budget> = Array::with_max_entries(1, 0);

/// From which rate on something is announced.
#[map]
pub static THRESHOLDS: Array<Thresholds> = Array::with_max_entries(1, 0);

/// Knocks of this CPU: number of the window, and how many in it.
#[map]
pub static KNOCKS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// The record of the descriptor that was passed last, and the walk in which it was.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HeldPlace {
    /// The record.
    pub record: HeldRecord,
    /// `bpf_iter_meta.session_id`.
    pub session: u64,
    /// The socket that is looked at.
    pub sock: CopyPlace,
}

/// Which call of which thread is between entry and exit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PendingKey {
    /// `bpf_get_current_pid_tgid`.
    pub thread: u64,
    /// A [`Call`], so that nested calls of different kinds do not meet.
    pub call: u64,
}

/// The arguments of a call, kept for its exit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// `struct sock *`, `struct socket *` or a descriptor, as the call has it.
    pub subject: u64,
    /// The address argument.
    pub address: u64,
    /// The length or backlog argument.
    pub extra: u64,
}

/// Calls that need both ends.
#[repr(u64)]
#[derive(Clone, Copy)]
pub enum Call {
    /// `inet_csk_listen_start`.
    ListenStart = 1,
    /// `inet_listen`.
    InetListen = 2,
    /// `inet_bind`.
    InetBind = 3,
    /// `inet6_bind`.
    Inet6Bind = 4,
    /// `unix_bind`.
    UnixBind = 5,
    /// `unix_listen`.
    UnixListen = 6,
    /// `packet_create`.
    PacketCreate = 7,
    /// `packet_bind`.
    PacketBind = 8,
    /// `bind(2)`.
    SysBind = 9,
    /// `listen(2)`.
    SysListen = 10,
    /// `socket(2)`.
    SysSocket = 11,
}
