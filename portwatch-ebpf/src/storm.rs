//! Rates of listeners, processes and sources; a rate that goes over its threshold is announced at once.
//!
//! The hot path is the change of a connection's state: of the ten or so that a connection makes, one looks a cell up (its
//! listener's, when it is completed) and one adds to a count of its CPU (when it is begun); an ephemeral port never
//! makes an entry. Whoever invents addresses finds only LRU tables to fill, and those one time in many.
//!
//! Spare programs ([`crate::spare`]) are not needed here: what the kernel skips is a count that is too low by one, and
//! no listener that is missed. The programs of these hooks run in softirqs but for connect.
//!
//! Trap `rate_by_cpu`: a window's count is kept by CPU, for want of atomic operations that return a value. User space sets
//! thresholds for one CPU, and looks at the sum when one is crossed.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use aya_ebpf::maps::RingBuf;
use portwatch_common::counters::Ring;
use portwatch_common::header::{EventKind, Mechanism};
use portwatch_common::storm::{
    ANNOUNCED_A_WINDOW, Announcement, Cell, CellKey, Connecting, CrossingRecord, FOLLOWED, Failing,
    Gauge, Opening, PEER_EVERY, PeerKey, ProcessCell, ProcessId, SETTLE_EVERY, StormCount,
    StormRate, StormSubject, TRACK_ALL, TRACK_EVERY, TRACK_QUIET, Thresholds,
};

use crate::count::{add, add_one, add_one_alone, counters};
use crate::emit::{current, reserve_unshared, thread};
use crate::kernel::{Object, Typed, field, offset, setting};
use crate::maps::{
    ANNOUNCED, BUDGET, CELLS, CONNECTING, CRITICAL, FAILING, OPENING, PEERS, PROCESSES, THRESHOLDS,
};
use crate::sock;

const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const CLOSE: u8 = 7;
/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;

/// No process.
pub const NOBODY: ProcessId = ProcessId {
    pid: 0,
    reserved: 0,
    start: 0,
};
/// No listener.
pub const NOWHERE: CellKey = CellKey {
    netns: 0,
    port: 0,
    family: 0,
};

/// A TCP state changed.
#[inline(always)]
pub fn state(sk: Typed, old: u8, new: u8) {
    if old == SYN_RECV && new == ESTABLISHED {
        completed(sk);
    } else if old == CLOSE && new == SYN_SENT {
        connect(sk);
    } else if old == SYN_SENT {
        outcome(sk.address(), new == CLOSE);
    }
}

/// Nanoseconds since boot.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments; always allowed.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The limits that user space set.
#[inline(always)]
pub fn thresholds() -> Option<*const Thresholds> {
    THRESHOLDS.get_ptr(0)
}

/// The number of the window that this moment is in. Ticks are near enough: a clock costs ten times as much.
#[inline(always)]
pub fn window() -> u64 {
    // SAFETY: no arguments; always allowed.
    unsafe { bpf_jiffies64() >> setting!(window_shift) }
}

/// As [`note`], for what one program alone counts.
#[inline(always)]
pub fn note_alone(what: StormCount) {
    if let Some(counters) = counters() {
        // SAFETY: this CPU's own counters, and only this program's; the index is one of few constants.
        unsafe { add_one_alone(&raw mut (*counters).storm[what.0 as usize]) };
    }
}

/// Counts what the probes of storms saw; for what several programs count.
#[inline(always)]
pub fn note(what: StormCount) {
    if let Some(counters) = counters() {
        // SAFETY: this CPU's own counters; the index is one of few constants.
        unsafe { add_one(&raw mut (*counters).storm[what.0 as usize]) };
    }
}

/// The key of the listener that this socket is, or belongs to.
#[inline(always)]
pub fn key_of(sk: impl Object) -> CellKey {
    CellKey {
        netns: sock::netns(sk),
        port: sock::port(sk),
        family: sock::family(sk),
    }
}

/// This CPU's cell of a listener; none for ports that nobody listens at.
#[inline(always)]
pub fn cell(key: &CellKey) -> Option<*mut Cell> {
    CELLS.get_ptr_mut(key)
}

/// Adds one to a rate; gives its count in this window.
///
/// # Safety
/// `gauge` must lie in a cell of this CPU, and no other program may write to it.
#[inline(always)]
pub unsafe fn bump(gauge: *mut Gauge, window: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        add_one_alone(&raw mut (*gauge).total);
        let count = if (*gauge).window == window {
            (*gauge).count + 1
        } else {
            1
        };
        (*gauge).window = window;
        (*gauge).count = count;
        count
    }
}

/// Remembers whom a busy listener or process has to do with, one time in [`PEER_EVERY`].
#[inline(always)]
pub fn peer(subject: CellKey, address: [u8; 16]) {
    let key = PeerKey {
        subject,
        address: prefix(address),
    };
    if let Some(count) = PEERS.get_ptr_mut(&key) {
        // SAFETY: a value of the map; other CPUs add to it too.
        unsafe { add(count, PEER_EVERY) };
    } else {
        let _ = PEERS.insert(&key, PEER_EVERY, 0);
    }
}

/// The first half of an IPv6 address, which is all that a network has of its own; an IPv4 address whole.
#[inline(always)]
fn prefix(mut address: [u8; 16]) -> [u8; 16] {
    if !is_mapped(&address) {
        let mut index = 8;
        while index < 16 {
            address[index] = 0;
            index += 1;
        }
    }
    address
}

#[inline(always)]
fn is_mapped(address: &[u8; 16]) -> bool {
    let mut any = 0;
    let mut index = 0;
    while index < 10 {
        any |= address[index];
        index += 1;
    }
    any == 0 && address[10] == 0xff && address[11] == 0xff
}

/// An IPv4 address as IPv6 has it.
#[inline(always)]
pub fn mapped(address: u32) -> [u8; 16] {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The far end of a socket.
#[inline(always)]
pub fn far_end(sk: impl Object) -> [u8; 16] {
    if sock::family(sk) == sock::AF_INET6 {
        let mut address = [0; 16];
        let halves: [u64; 2] = [
            sk.field(offset!(sk_v6_daddr)),
            sk.field(offset!(sk_v6_daddr) + 8),
        ];
        let mut index = 0;
        while index < 8 {
            address[index] = halves[0].to_ne_bytes()[index];
            address[8 + index] = halves[1].to_ne_bytes()[index];
            index += 1;
        }
        address
    } else {
        mapped(sk.field(offset!(sk_daddr)))
    }
}

/// Announces that a rate of a listener went over its threshold.
#[inline(always)]
pub fn listener_crossed(key: CellKey, rate: StormRate, window: u64, count: u64, by: Mechanism) {
    let announcement = Announcement {
        subject: StormSubject {
            listener: key,
            process: NOBODY,
            address: [0; 16],
        },
        rate,
        protocol: u32::from(sock::IPPROTO_TCP),
        window,
    };
    announce(&announcement, count, by);
}

/// Puts a crossing into the ring of listeners: one of each in a window, and so many of all. What the ring is shared
/// out by when it is crowded does not count: in a softirq the current task has nothing to do with the packet.
#[inline(never)]
pub fn announce(announcement: &Announcement, count: u64, by: Mechanism) -> i32 {
    let Some(budget) = BUDGET.get_ptr_mut(0) else {
        return 0;
    };
    let window = window();
    // SAFETY: a value of the map. CPUs that begin a window at once announce one too much each, no more.
    unsafe {
        if (*budget).window != window {
            (*budget).window = window;
            (*budget).announced = 0;
        }
        if (*budget).announced >= ANNOUNCED_A_WINDOW {
            note(StormCount::HELD_BACK);
            return 0;
        }
    }
    if ANNOUNCED.insert(announcement, 1, NOEXIST).is_err() {
        return 0;
    }
    // SAFETY: as above.
    unsafe { add_one(&raw mut (*budget).announced) };
    let ring: &'static RingBuf = &CRITICAL;
    let Some(slot) = reserve_unshared::<CrossingRecord>(ring, Ring::CRITICAL) else {
        return 0;
    };
    // SAFETY: the slot is ours until it is submitted.
    unsafe {
        let record = slot.place;
        (*record).subject = announcement.subject;
        (*record).rate = announcement.rate;
        (*record).protocol = announcement.protocol;
        (*record).count = count;
        (*record).window_ns = (setting!(tick_ns) as u64) << setting!(window_shift);
        slot.submit(
            &raw mut (*record).header,
            EventKind::RATE_CROSSED,
            by,
            size_of::<CrossingRecord>() as u32,
            0,
        );
    }
    0
}

/// A connection of a listener is complete.
#[inline(always)]
fn completed(sk: Typed) {
    let key = key_of(sk);
    let Some(cell) = cell(&key) else {
        return;
    };
    let Some(limits) = thresholds() else {
        return;
    };
    let window = window();
    // SAFETY: this CPU's cell, and only the program of state changes completes; a value of a map.
    unsafe {
        let count = bump(&raw mut (*cell).accept, window);
        if count == (*limits).accept {
            listener_crossed(key, StormRate::ACCEPT, window, count, Mechanism::TP_BTF);
        }
    }
}

/// The current process connects: CLOSE→SYN_SENT is made by `connect` itself. Who connects often is told to the table of
/// processes once in [`SETTLE_EVERY`] times: to find it there costs more than all the rest.
#[inline(never)]
fn connect(sk: Typed) -> i32 {
    let Some(opening) = OPENING.get_ptr_mut(0) else {
        return 0;
    };
    let thread = thread();
    let pid = (thread >> 32) as u32;
    let window = window();
    // SAFETY: this CPU's own, and only this program's.
    let (process, seen, is_busy) = unsafe {
        if (*opening).process.pid != pid || (*opening).window != window {
            settle(opening);
            (*opening).process = ProcessId {
                pid,
                reserved: 0,
                start: start_of(thread),
            };
            if (*opening).window != window {
                (*opening).awaited = 0;
            }
            (*opening).window = window;
            (*opening).seen = 0;
            (*opening).is_busy = 0;
        }
        (*opening).pending += 1;
        (*opening).seen += 1;
        if (*opening).pending >= SETTLE_EVERY {
            settle(opening);
        }
        let (process, seen) = ((*opening).process, (*opening).seen);
        follow(opening, sk.address(), process, seen, window);
        (process, seen, (*opening).is_busy)
    };
    if is_busy != 0 && seen % PEER_EVERY == 0 {
        peer(CellKey::of_process(process), far_end(sk));
    }
    0
}

/// When the thread group of a thread began, boot clock, ns. Most of those that connect lead it.
#[inline(always)]
fn start_of(thread: u64) -> u64 {
    let task = current();
    let leader = if (thread >> 32) as u32 == thread as u32 {
        task
    } else {
        field(task, offset!(task_group_leader))
    };
    field(leader, offset!(task_start_boottime))
}

/// Tells the table of processes what this CPU counted.
///
/// # Safety
/// `opening` must be this CPU's.
#[inline(never)]
unsafe fn settle(opening: *mut Opening) -> i32 {
    // SAFETY: the caller's promise.
    let (process, window, pending) = unsafe {
        let pending = (*opening).pending;
        (*opening).pending = 0;
        ((*opening).process, (*opening).window, pending)
    };
    if pending == 0 {
        return 0;
    }
    let new = ProcessCell {
        connects: pending,
        failed: 0,
        window,
        count: pending,
    };
    // Another CPU may make it in between, with what has failed so far.
    let (before, after) = match PROCESSES.get_ptr_mut(&process) {
        // SAFETY: a value of the map.
        Some(cell) => unsafe { add_connects(cell, window, pending) },
        None if PROCESSES.insert(&process, new, NOEXIST).is_ok() => (0, pending),
        None => match PROCESSES.get_ptr_mut(&process) {
            // SAFETY: as above.
            Some(cell) => unsafe { add_connects(cell, window, pending) },
            None => (0, pending),
        },
    };
    let Some(limits) = thresholds() else {
        return 0;
    };
    // SAFETY: a value of the map, and the caller's promise.
    let limit = unsafe {
        (*opening).is_busy = (after > (*limits).peer_floor) as u64;
        (*limits).connect
    };
    if before < limit && limit <= after {
        let announcement = Announcement {
            subject: StormSubject {
                listener: NOWHERE,
                process,
                address: [0; 16],
            },
            rate: StormRate::CONNECT,
            protocol: u32::from(sock::IPPROTO_TCP),
            window,
        };
        announce(&announcement, after, Mechanism::TP_BTF);
    }
    0
}

/// Adds connects; gives what the window of these had before them and has with them. CPUs that write at once may lose a count
/// of the window, not of the total; one whose window is over adds to the total alone.
///
/// # Safety
/// `cell` must be a value of its map.
#[inline(always)]
unsafe fn add_connects(cell: *mut ProcessCell, window: u64, pending: u64) -> (u64, u64) {
    // SAFETY: the caller's promise.
    unsafe {
        add(&raw mut (*cell).connects, pending);
        let newest = (*cell).window;
        if newest > window {
            return (0, pending);
        }
        let before = if newest == window { (*cell).count } else { 0 };
        (*cell).window = window;
        (*cell).count = before + pending;
        (before, before + pending)
    }
}

/// Remembers whose this connect is, for its outcome comes in a softirq: of the first ones in a window, and of a part of
/// the others while many fail.
///
/// # Safety
/// `opening` must be this CPU's.
#[inline(always)]
unsafe fn follow(opening: *mut Opening, sk: u64, process: ProcessId, seen: u64, window: u64) {
    let Some(failing) = FAILING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the caller's promise, and a value of a map, which other CPUs write to as well.
    unsafe {
        let do_many_fail = (*failing).until >= window;
        let is_sampled = seen > TRACK_ALL && do_many_fail;
        let is_followed = if do_many_fail {
            seen <= TRACK_ALL || seen % TRACK_EVERY == 0
        } else {
            (*opening).awaited < TRACK_QUIET
        };
        if !is_followed {
            return;
        }
        (*opening).awaited += 1;
        let weight = if is_sampled { TRACK_EVERY } else { 1 };
        // Before it can be looked for. What gives way in the table stays counted: then more are looked for than there are.
        add_one(&raw mut (*failing).awaited);
        let _ = CONNECTING.insert(&sk, Connecting { process, weight }, 0);
    }
}

/// A connect has ended one way or the other.
#[inline(always)]
fn outcome(sk: u64, has_failed: bool) {
    let Some(failing) = FAILING.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a value of the map.
    unsafe {
        if has_failed {
            failed(failing);
        }
        if (*failing).awaited != 0 {
            attribute(failing, sk, has_failed);
        }
    }
}

/// One more has failed.
///
/// # Safety
/// `failing` must be the value of its map. CPUs that write at once may lose a count.
#[inline(always)]
unsafe fn failed(failing: *mut Failing) {
    let window = window();
    // SAFETY: the caller's promise.
    unsafe {
        let count = if (*failing).window == window {
            (*failing).count + 1
        } else {
            1
        };
        (*failing).window = window;
        (*failing).count = count;
        if thresholds().is_some_and(|limits| count >= (*limits).failed) {
            (*failing).until = window + FOLLOWED;
        }
    }
}

/// Whose connect was it?
///
/// # Safety
/// `failing` must be the value of its map.
#[inline(never)]
unsafe fn attribute(failing: *mut Failing, sk: u64, has_failed: bool) -> i32 {
    let Some(awaited) = CONNECTING.get_ptr(&sk) else {
        return 0;
    };
    // SAFETY: a value of the map, copied.
    let awaited = unsafe { *awaited };
    if CONNECTING.remove(&sk).is_ok() {
        // SAFETY: the caller's promise. One less.
        unsafe { add(&raw mut (*failing).awaited, u64::MAX) };
    }
    if !has_failed {
        return 0;
    }
    if let Some(cell) = PROCESSES.get_ptr_mut(&awaited.process) {
        // SAFETY: a value of the map; other CPUs add to it too.
        unsafe { add(&raw mut (*cell).failed, awaited.weight) };
    } else {
        // Its connects are not settled yet.
        let new = ProcessCell {
            connects: 0,
            failed: awaited.weight,
            window: window(),
            count: 0,
        };
        let _ = PROCESSES.insert(&awaited.process, new, NOEXIST);
    }
    0
}
