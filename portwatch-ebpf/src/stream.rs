//! Records of the connection stream: short, read by plain loads, with as few wake-ups as may be.
//!
//! At the machine's maximum every second thing that happens to a connection comes through here, so each
//! nanosecond is paid half a million times a second. What lies in `struct sock` itself is loaded through
//! the tracepoint's typed pointer; helpers read only what lies elsewhere.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use portwatch_common::connection::{OwnedStateRecord, StateRecord};
use portwatch_common::counters::Ring;
use portwatch_common::header::{EventKind, Mechanism};
use portwatch_common::offsets::ABSENT;
use portwatch_common::socket::{Sock, SockFlags, TcpState};

use crate::emit::{Slot, current, lazy_wakeup, reserve};
use crate::kernel::{Typed, bits, offset};
use crate::maps::{BULK, CRITICAL};
use crate::{sock, task};

/// A CPU looks whether the reader must be woken once in so many records.
const LOOK_EVERY: u64 = 128;

/// Sends a change that a softirq may have made: whose socket it is, is not known here.
#[inline(always)]
pub fn state(sk: Typed, old: u8, new: u8, wakeup_bytes: u64) {
    let Some(slot) = reserve::<StateRecord>(&BULK, Ring::BULK) else {
        return;
    };
    // SAFETY: the slot is ours until it is submitted.
    unsafe {
        fill(sk, old, new, slot.place);
        let flags = wakeup(slot.cpu_seq, wakeup_bytes);
        let header = &raw mut (*slot.place).header;
        submit(slot, header, size_of::<StateRecord>(), flags);
    }
}

/// Sends a change that the process itself makes by connect, with that process.
#[inline(always)]
pub fn owned_state(sk: Typed, old: u8, new: u8, wakeup_bytes: u64) {
    let Some(slot) = reserve::<OwnedStateRecord>(&BULK, Ring::BULK) else {
        return;
    };
    let flags = wakeup(slot.cpu_seq, wakeup_bytes);
    // SAFETY: the slot is ours until it is submitted.
    unsafe { fill_owned_and_submit(sk, old, new, slot, flags) }
}

/// Sends a listener's own change the way of its other records, so that the records of one socket stay in
/// order. A listener begins in the process that listens; who ends it is not told.
#[inline(always)]
pub fn listener_state(sk: Typed, old: u8, new: u8, begins: bool) {
    if begins {
        if let Some(slot) = reserve::<OwnedStateRecord>(&CRITICAL, Ring::CRITICAL) {
            // SAFETY: the slot is ours until it is submitted.
            unsafe { fill_owned_and_submit(sk, old, new, slot, 0) }
        }
    } else if let Some(slot) = reserve::<StateRecord>(&CRITICAL, Ring::CRITICAL) {
        // SAFETY: the slot is ours until it is submitted.
        unsafe {
            fill(sk, old, new, slot.place);
            let header = &raw mut (*slot.place).header;
            submit(slot, header, size_of::<StateRecord>(), 0);
        }
    }
}

/// # Safety
/// `slot` must be a reserved place.
#[inline(always)]
unsafe fn fill_owned_and_submit(
    sk: Typed,
    old: u8,
    new: u8,
    slot: Slot<OwnedStateRecord>,
    flags: u64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        fill(sk, old, new, &raw mut (*slot.place).state);
        (*slot.place).owner = task::owner(current());
        let header = &raw mut (*slot.place).state.header;
        submit(slot, header, size_of::<OwnedStateRecord>(), flags);
    }
}

/// # Safety
/// `header` must lie in the slot, which must have been filled.
#[inline(always)]
unsafe fn submit<T>(
    slot: Slot<T>,
    header: *mut portwatch_common::header::Header,
    length: usize,
    flags: u64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        slot.submit(
            header,
            EventKind::CONNECTION_STATE,
            Mechanism::TP_BTF,
            length as u32,
            flags,
        );
    }
}

/// Most records ask nobody whether the reader sleeps; the reader looks on a timer too.
#[inline(always)]
fn wakeup(cpu_seq: u64, threshold: u64) -> u64 {
    if cpu_seq % LOOK_EVERY == 0 {
        lazy_wakeup(&BULK, threshold)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// # Safety
/// `record` must be writable.
#[inline(always)]
unsafe fn fill(sk: Typed, old: u8, new: u8, record: *mut StateRecord) {
    // SAFETY: the caller's promise.
    unsafe {
        fill_socket(sk, &raw mut (*record).sock);
        (*record).sock.state = TcpState(new);
        (*record).old = TcpState(old);
        (*record).new = TcpState(new);
        (*record).reserved = [0; 6];
    }
}

/// As [`sock::fill`], for the TCP socket of a typed tracepoint.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
unsafe fn fill_socket(sk: Typed, out: *mut Sock) {
    let family: u16 = sk.field(offset!(sk_family));
    let mut flags = (sk.bits(offset!(sk_reuseport_bit), 1) * SockFlags::REUSEPORT)
        | (bits(sk.address(), offset!(tcp_is_mptcp_bit), 1) * SockFlags::MPTCP);
    let mut port: u16 = sk.field(offset!(sk_num));
    if port == 0 {
        // The end of a connection gives its port back before it is announced.
        port = sock::last_port(sk.address());
    }
    // Half of all changes are of sockets that have no file yet, or none any more.
    let inode = sock::typed_inode(sk);
    // SAFETY: `out` is writable; plain integers and byte arrays, which lie on multiples of eight.
    unsafe {
        (*out).sk = sk.address();
        (*out).cookie = sk.field(offset!(sk_cookie));
        (*out).inode = inode;
        (*out).netns = sock::netns(sk);
        (*out).family = family;
        (*out).kind = sk.field(offset!(sk_type));
        (*out).protocol = sock::IPPROTO_TCP;
        (*out).port = port;
        (*out).peer_port = sk.field::<u16>(offset!(sk_dport)).swap_bytes();
        (*out).backlog = sk.field(offset!(sk_max_ack_backlog));
        (*out).ifindex = sk.field(offset!(sk_bound_dev_if));
        let local = (&raw mut (*out).local).cast::<[u64; 2]>();
        let peer = (&raw mut (*out).peer).cast::<[u64; 2]>();
        if family == sock::AF_INET6 && offset!(sk_v6_rcv_saddr) != ABSENT {
            flags |= sk.bits(offset!(sk_ipv6only_bit), 1) * SockFlags::V6ONLY;
            *local = sixteen(sk, offset!(sk_v6_rcv_saddr));
            *peer = sixteen(sk, offset!(sk_v6_daddr));
        } else {
            *local = [u64::from(sk.field::<u32>(offset!(sk_rcv_saddr))), 0];
            *peer = [u64::from(sk.field::<u32>(offset!(sk_daddr))), 0];
        }
        (*out).flags = flags;
    }
}

/// An IPv6 address, as it lies in memory.
#[inline(always)]
fn sixteen(sk: Typed, offset: u32) -> [u64; 2] {
    [sk.field(offset), sk.field(offset + 8)]
}
