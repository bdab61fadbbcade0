//! From a kernel object to a record in a ring: count, reserve, fill, submit.
//!
//! `seen` is counted before the reserve: a record that finds the ring full is a number, never silence.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated};
use aya_ebpf::maps::RingBuf;
use aya_log_ebpf::{debug, warn};
use portwatch_common::counters::Ring;
use portwatch_common::header::{EventKind, Header, Mechanism};
use portwatch_common::listener::{CloseRecord, DATA_LEN, ListenerRecord};
use portwatch_common::process::{ExecRecord, LifeRecord};
use portwatch_common::socket::UNIX_NAME_LEN;

use crate::count::{add_one, counters};
use crate::kernel::offset;
use crate::maps::{CRITICAL, PROCESS, TRACKED};
use crate::path::{SLACK, choose, is_equal, not, walk};
use crate::verifier::{checkpoint, forget};
use crate::{image, share, sock, task};

/// `bpf_ringbuf_query`: bytes that wait to be read.
pub const AVAILABLE_DATA: u64 = 0;
/// `bpf_ringbuf_query`: size of the ring.
pub const RING_SIZE: u64 = 1;

/// A record with its data area and the slack that masked writes may reach.
#[repr(C)]
struct WithData<T> {
    fixed: T,
    data: [u8; DATA_LEN + SLACK],
}

/// The task that runs now.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: no arguments; always allowed.
    unsafe { generated::bpf_get_current_task() }
}

/// How a listener record came about.
#[derive(Clone, Copy)]
pub struct Origin {
    /// `LISTENER_OPENED` or `BIND_FAILED`.
    pub kind: EventKind,
    /// The rung.
    pub mechanism: Mechanism,
    /// What the kernel returned.
    pub ret: i32,
    /// Bits of `ListenerFlags`.
    pub flags: u32,
}

impl Origin {
    /// Opened when the kernel returned 0, else refused.
    #[inline(always)]
    pub fn of(ret: i32, mechanism: Mechanism, flags: u32) -> Self {
        // By arithmetic, as all that differs between the ways that lead to one record.
        let ret = forget(ret as u32 as u64) as u32;
        let (opened, failed) = (EventKind::LISTENER_OPENED.0, EventKind::BIND_FAILED.0);
        let is_opened = is_equal(ret as u64, 0);
        Self {
            kind: EventKind(choose(is_opened, opened as u64, failed as u64) as _),
            mechanism,
            ret: ret as i32,
            flags,
        }
    }
}

/// Reports that the socket opened or was refused, by the current task.
///
/// `requested` overrides address, port and unix name with what a refused call asked for, since the
/// socket of a refused bind has none.
///
/// The straight-line parts come first: whatever branches before them makes the verifier walk them again.
#[inline(always)]
pub fn listener(sk: u64, origin: Origin, requested: Requested) {
    let Some(slot) = reserve::<WithData<ListenerRecord>>(&CRITICAL, Ring::CRITICAL) else {
        return;
    };
    let task = current();
    // SAFETY: the slot is ours until it is submitted, and large enough for the type.
    unsafe {
        let record = &raw mut (*slot.place).fixed;
        let data = (&raw mut (*slot.place).data).cast::<u8>();
        // A cgroup program's socket is its context, with which nothing may be calculated: once it lies in
        // the record it is a plain number.
        (&raw mut (*record).sock.sk).write_volatile(sk);
        let unix_sk = (&raw const (*record).sock.sk).read_volatile();
        let used = image::fill(task, &raw mut (*record).image, data);
        // A unix socket bound to a path knows its dentry; every other socket has none to walk from.
        let is_unix = is_equal(sock::family(sk) as u64, sock::AF_UNIX as u64);
        let path = unix_sk
            .wrapping_mul(is_unix)
            .wrapping_add(offset!(unix_path) as u64);
        let bound = walk(path, data, used);
        let resolved_len = bound.len.wrapping_mul(not(bound.truncated as u64));
        task::fill(task, &raw mut (*record).task);
        task::fill_ancestors(task, &raw mut (*record).ancestors);
        (*record).ret = origin.ret;
        (*record).flags = origin.flags;
        sock::fill(sk, &raw mut (*record).sock);
        sock::fill_unix_name(sk, &raw mut (*record).unix);
        (*record).unix.resolved_len = resolved_len as u16;
        requested.apply(record);
        let length = size_of::<ListenerRecord>() as u64 + used + resolved_len;
        slot.submit(
            &raw mut (*record).header,
            origin.kind,
            origin.mechanism,
            length as u32,
            0,
        );
        debug!(
            (),
            "listener record: kind {} by mechanism {}, result {}, {} bytes",
            origin.kind.0,
            origin.mechanism.0,
            origin.ret,
            length
        );
    }
}

/// What a refused bind asked for.
#[derive(Clone, Copy)]
pub struct Requested {
    /// The `sockaddr`; 0 when the socket speaks for itself.
    pub address: u64,
    /// Its length.
    pub length: u64,
    /// It lies in user memory (system call tracepoints), not in the kernel's copy.
    pub user: bool,
}

impl Requested {
    /// Nothing: the socket has what it asked for.
    pub const NOTHING: Self = Self {
        address: 0,
        length: 0,
        user: false,
    };

    /// A call that succeeded is told by its socket.
    #[inline(always)]
    pub fn if_refused(self, result: i32) -> Self {
        let is_refused = not(is_equal(forget(result as u32 as u64) & 0xffff_ffff, 0));
        Self {
            address: self.address.wrapping_mul(is_refused),
            ..self
        }
    }

    /// Writes the requested address over the (empty) one of the socket.
    #[inline(always)]
    unsafe fn apply(self, record: *mut ListenerRecord) {
        // Two bytes of family come first.
        if self.address == 0 || self.length < 3 {
            return;
        }
        let used = if self.length - 2 > UNIX_NAME_LEN as u64 {
            UNIX_NAME_LEN as u32
        } else {
            (self.length - 2) as u32 & 0x7f
        };
        // SAFETY: the record is ours; at most `UNIX_NAME_LEN` bytes go into an array of that length, and
        // the helpers check the source.
        unsafe {
            let scratch = (&raw mut (*record).unix.bytes).cast();
            let source = self.address.wrapping_add(2) as *const core::ffi::c_void;
            if self.user {
                generated::bpf_probe_read_user(scratch, used, source);
            } else {
                generated::bpf_probe_read_kernel(scratch, used, source);
            }
            let bytes = &raw const (*record).unix.bytes;
            if (*record).sock.family == sock::AF_UNIX {
                (*record).unix.len = used as u16;
                return;
            }
            (*record).sock.port = ((*bytes)[0] as u16) << 8 | (*bytes)[1] as u16;
            if (*record).sock.family == sock::AF_INET {
                let mut index = 0;
                while index < 4 {
                    (*record).sock.local[index] = (*bytes)[2 + index];
                    index += 1;
                }
            } else if (*record).sock.family == sock::AF_INET6 {
                let mut index = 0;
                while index < 16 {
                    (*record).sock.local[index] = (*bytes)[6 + index];
                    index += 1;
                }
            }
        }
    }
}

/// Reports that a listener can no longer receive, and forgets it.
#[inline(always)]
pub fn close(sk: u64, mechanism: Mechanism) {
    let _ = TRACKED.remove(sk);
    let Some(slot) = reserve::<CloseRecord>(&CRITICAL, Ring::CRITICAL) else {
        return;
    };
    // SAFETY: the slot is ours until it is submitted.
    unsafe {
        let record = slot.place;
        sock::fill(sk, &raw mut (*record).sock);
        task::fill(current(), &raw mut (*record).task);
        slot.submit(
            &raw mut (*record).header,
            EventKind::LISTENER_CLOSED,
            mechanism,
            size_of::<CloseRecord>() as u32,
            0,
        );
    }
}

/// Remembers a reported listener; a full table is counted, and reconciliation takes over.
#[inline(always)]
pub fn track(sk: u64) {
    let backlog = u64::from(sock::backlog(sk));
    if TRACKED.insert(sk, backlog, 0).is_err()
        && let Some(counters) = counters()
    {
        // SAFETY: this CPU's own counters.
        unsafe { add_one(&raw mut (*counters).tracked_overflow) };
    }
}

/// Reports an exec of `task`, which must be current.
#[inline(always)]
pub fn exec(task_address: u64, mechanism: Mechanism) {
    let Some(slot) = reserve::<WithData<ExecRecord>>(&PROCESS, Ring::PROCESS) else {
        return;
    };
    // SAFETY: the slot is ours until it is submitted.
    unsafe {
        let record = &raw mut (*slot.place).fixed;
        let data = (&raw mut (*slot.place).data).cast::<u8>();
        let used = image::fill(task_address, &raw mut (*record).image, data);
        task::fill(task_address, &raw mut (*record).task);
        let length = (size_of::<ExecRecord>() as u64 + used) as u32;
        slot.submit(
            &raw mut (*record).header,
            EventKind::PROCESS_EXEC,
            mechanism,
            length,
            lazy_wakeup(&PROCESS, 0),
        );
    }
}

/// Reports that a process was made or ended.
#[inline(always)]
pub fn life(
    task_address: u64,
    kind: EventKind,
    mechanism: Mechanism,
    parent_start_boot_ns: u64,
    exit_code: i32,
) {
    let Some(slot) = reserve::<LifeRecord>(&PROCESS, Ring::PROCESS) else {
        return;
    };
    // SAFETY: the slot is ours until it is submitted.
    unsafe {
        let record = slot.place;
        task::fill(task_address, &raw mut (*record).task);
        (*record).parent_start_boot_ns = parent_start_boot_ns;
        (*record).exit_code = exit_code;
        (*record).reserved = 0;
        slot.submit(
            &raw mut (*record).header,
            kind,
            mechanism,
            size_of::<LifeRecord>() as u32,
            lazy_wakeup(&PROCESS, 0),
        );
    }
}

/// Process and thread id of the caller, as one number.
#[inline(always)]
pub fn thread() -> u64 {
    bpf_get_current_pid_tgid()
}

/// A reserved place in a ring.
pub struct Slot<T: 'static> {
    /// Where it lies.
    pub place: *mut T,
    ring: Ring,
    /// This CPU's records on the ring before it.
    pub cpu_seq: u64,
}

/// Counts the record as seen and reserves its place; counts the drop when there is none.
#[inline(always)]
pub fn reserve<T>(ring: &'static RingBuf, name: Ring) -> Option<Slot<T>> {
    reserve_as(ring, name, name.0 == Ring::CRITICAL.0)
}

/// As [`reserve`], for a record that no task made and that another limit holds down.
#[inline(always)]
pub fn reserve_unshared<T>(ring: &'static RingBuf, name: Ring) -> Option<Slot<T>> {
    reserve_as(ring, name, false)
}

#[inline(always)]
fn reserve_as<T>(ring: &'static RingBuf, name: Ring, is_shared: bool) -> Option<Slot<T>> {
    let counters = counters()?;
    let index = name.0 as usize;
    // SAFETY: this CPU's own counters; `index` is one of three constants.
    let cpu_seq = unsafe {
        let seen = &raw mut (*counters).rings[index].seen;
        let before = *seen;
        add_one(seen);
        before
    };
    let reserved = if is_shared && !share::admits(ring, size_of::<T>() as u64) {
        None
    } else {
        checkpoint();
        ring.reserve_bytes(size_of::<T>(), 0)
    };
    match reserved {
        Some(mut entry) => {
            let place = entry.as_mut_ptr().cast::<T>();
            core::mem::forget(entry);
            Some(Slot {
                place,
                ring: name,
                cpu_seq,
            })
        }
        None => {
            // SAFETY: as above.
            unsafe { add_one(&raw mut (*counters).rings[index].dropped) };
            if is_shared {
                share::lost();
            }
            warn!(
                (),
                "ring {} is full: a record of {} bytes was dropped",
                name.0,
                size_of::<T>()
            );
            None
        }
    }
}

impl<T> Slot<T> {
    /// Writes the header and hands the record over.
    ///
    /// # Safety
    /// `header` must lie in this slot, and everything up to `length` must have been written.
    #[inline(always)]
    pub unsafe fn submit(
        self,
        header: *mut Header,
        kind: EventKind,
        mechanism: Mechanism,
        length: u32,
        flags: u64,
    ) {
        // SAFETY: the caller's promise; the place came from `bpf_ringbuf_reserve` and is submitted once.
        unsafe {
            (*header).kind = kind;
            (*header).mechanism = mechanism;
            (*header).reserved = 0;
            (*header).len = length;
            (*header).boot_ns = generated::bpf_ktime_get_boot_ns();
            (*header).cpu = generated::bpf_get_smp_processor_id();
            (*header).reserved2 = 0;
            (*header).cpu_seq = self.cpu_seq;
            if let Some(counters) = counters() {
                add_one(&raw mut (*counters).rings[self.ring.0 as usize].emitted);
            }
            generated::bpf_ringbuf_submit(self.place.cast(), flags);
        }
    }
}

/// Wakes the reader only when this much waits (0: an eighth of the ring); it looks on a timer too.
///
/// Waking for each record is the largest single cost of a stream: it must pay for itself.
#[inline(always)]
pub fn lazy_wakeup(ring: &'static RingBuf, threshold: u64) -> u64 {
    let limit = if threshold == 0 {
        ring.query(RING_SIZE) / 8
    } else {
        threshold
    };
    if ring.query(AVAILABLE_DATA) >= limit {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// The context as the helpers want it.
#[inline(always)]
pub fn raw<C: EbpfContext>(context: &C) -> *mut core::ffi::c_void {
    context.as_ptr()
}
