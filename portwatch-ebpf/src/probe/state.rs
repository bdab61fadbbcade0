//! Every TCP state change: always counted, streamed only while somebody asks; and the end of TCP listeners.
//!
//! Trap `softirq_current`: this runs wherever the packet was handled; `current` is whoever was
//! interrupted, and is used for nothing but connect and listen (CLOSE→SYN_SENT, CLOSE→LISTEN), which are the
//! caller's own.
//! Trap `mptcp_twin`: MPTCP sockets announce their own changes besides their subflow's; those, and what
//! SCTP and DCCP say in the same numbers, are not TCP's and are left out of the counts.
//! Trap `tracepoint_recursion`: a probe that is interrupted by itself is skipped; this one is short, and
//! user space reads `recursion_misses`.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use portwatch_common::connection::Owner;
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;
use portwatch_common::socket::TcpState;

use super::ensure_cookie;
use crate::count::counters;
use crate::emit::{self, Origin, Requested, current, raw};
use crate::kernel::{argument, setting};
use crate::maps::{CONTROL, OWNERS};
use crate::{sock, task};

const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// `void inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn state_tp_btf(context: BtfTracePointContext) -> i32 {
    let old = context.arg::<u64>(1) as u8;
    let new = context.arg::<u64>(2) as u8;
    let context = raw(&context);
    let sk = argument(context, 0);
    let protocol = sock::protocol(sk);
    if protocol == sock::IPPROTO_TCP {
        count(old, new);
        if is_listeners_own(old, new) {
            // SAFETY: argument 0 is a `struct sock *`.
            unsafe { listener_change(context, sk, new, true) };
        }
        stream(sk, old, new);
    } else if protocol == sock::IPPROTO_SCTP {
        // Trap `sctp_closing`: its sockets end in SCTP_SS_CLOSING, which has this number.
        let ends = old == LISTEN && new == CLOSE_WAIT;
        if ends || is_listeners_own(old, new) {
            // SAFETY: argument 0 is a `struct sock *`.
            unsafe { listener_change(context, sk, new, false) };
        }
    }
    0
}

/// Does a listener itself begin or end? Trap `child_of_a_listener`: an accepted connection is a copy of
/// its listener, and its first change reads LISTEN→SYN_RECV.
#[inline(always)]
fn is_listeners_own(old: u8, new: u8) -> bool {
    (new == LISTEN && old != LISTEN) || (old == LISTEN && new == CLOSE)
}

#[inline(always)]
fn count(old: u8, new: u8) {
    if let Some(counters) = counters() {
        let cell = (usize::from(old & 0xf) << 4) | usize::from(new & 0xf);
        // SAFETY: this CPU's own counters, and only this program's; eight bits index 256 cells.
        unsafe { (*counters).transitions[cell] += 1 };
    }
}

/// A listener begins or ends. The beginning is only told on the lowest rung (`listen_tentative`), where
/// nothing better says whether the kernel accepted it.
#[inline(always)]
unsafe fn listener_change(context: *mut core::ffi::c_void, sk: u64, new: u8, is_tcp: bool) {
    // SAFETY: the caller's promise.
    unsafe { ensure_cookie(context, 0) };
    if new != LISTEN {
        emit::close(sk, Mechanism::TP_BTF);
    } else if !is_tcp || setting!(listen_tentative) != 0 {
        let flags = ListenerFlags::FROM_LISTEN | ListenerFlags::TENTATIVE;
        emit::listener(
            sk,
            Origin::of(0, Mechanism::TP_BTF, flags),
            Requested::NOTHING,
        );
    }
}

/// Streams the change with its owner, while somebody asks.
#[inline(always)]
fn stream(sk: u64, old: u8, new: u8) {
    let Some(control) = CONTROL.get(0) else {
        return;
    };
    if control.stream_states == 0 {
        return;
    }
    let is_listener = is_listeners_own(old, new);
    let owner = if old == CLOSE && (new == SYN_SENT || new == LISTEN) {
        let owner = task::owner(current());
        let _ = OWNERS.insert(sk, owner, 0);
        owner
    } else {
        // SAFETY: a value of the map, copied at once.
        match OWNERS.get_ptr(sk).map(|place| unsafe { *place }) {
            Some(owner) => {
                if new == CLOSE {
                    let _ = OWNERS.remove(sk);
                }
                owner
            }
            None => Owner::NONE,
        }
    };
    emit::state(
        sk,
        (TcpState(old), TcpState(new)),
        owner,
        is_listener,
        Mechanism::TP_BTF,
    );
}
