//! Every TCP state change: always counted, streamed only while somebody asks; and the end of TCP listeners.
//!
//! Trap `softirq_current`: this runs wherever the packet was handled; `current` is whoever was
//! interrupted, and is used for nothing but connect and listen (CLOSE→SYN_SENT, CLOSE→LISTEN), which are the
//! caller's own.
//! Trap `mptcp_twin`: MPTCP sockets announce their own changes besides their subflow's; those, and what
//! SCTP and DCCP say in the same numbers, are not TCP's and are left out of the counts.
//! Trap `tracepoint_recursion`: a probe that is interrupted by itself is skipped; this one is short, and
//! user space reads `recursion_misses`. Where the kernel preempts probes, listeners have a pair of programs of
//! their own ([`crate::spare`]): connections are many, and would keep the one program busy for both.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use portwatch_common::counters::Hook;
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;

use super::ensure_cookie;
use crate::count::{add_one_alone, counters};
use crate::emit::{self, Origin, Requested, raw};
use crate::kernel::{Typed, argument, offset, setting};
use crate::maps::CONTROL;
use crate::spare::Turn;
use crate::{sock, storm, stream};

const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// `void inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
///
/// While nobody streams, most changes of a connection cost two plain loads and two look-ups in arrays; three of
/// them one more in a table ([`storm`]).
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn state_tp_btf(context: BtfTracePointContext) -> i32 {
    let old = context.arg::<u64>(1) as u8;
    let new = context.arg::<u64>(2) as u8;
    let context = raw(&context);
    // SAFETY: argument 0 is a `struct sock *`.
    let sk = unsafe { Typed::argument(context, 0) };
    let protocol: u16 = sk.field(offset!(sk_protocol));
    if protocol == sock::IPPROTO_TCP {
        count(old, new);
        storm::state(sk, old, new);
    }
    // A constant of this load: where the pair below is attached, nothing is left of this.
    if setting!(spares) == 0 && is_listeners_own(protocol, old, new) {
        listener_change(context, new, protocol, Turn::first(Hook::STATE));
    }
    if protocol == sock::IPPROTO_TCP {
        stream(sk, old, new);
    }
    0
}

/// The part of [`state_tp_btf`] that is about listeners, for kernels that preempt probes.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn listener_state_tp_btf(context: BtfTracePointContext) -> i32 {
    listener_state(&context, Turn::first(Hook::STATE))
}

/// Stands in for it.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn listener_state_tp_btf_spare(context: BtfTracePointContext) -> i32 {
    listener_state(&context, Turn::spare(Hook::STATE))
}

#[inline(always)]
fn listener_state(context: &BtfTracePointContext, turn: Turn) -> i32 {
    let old = context.arg::<u64>(1) as u8;
    let new = context.arg::<u64>(2) as u8;
    let context = raw(context);
    // SAFETY: argument 0 is a `struct sock *`.
    let sk = unsafe { Typed::argument(context, 0) };
    let touches_listeners = old == LISTEN || new == LISTEN;
    if touches_listeners {
        let protocol: u16 = sk.field(offset!(sk_protocol));
        if is_listeners_own(protocol, old, new) {
            return listener_change(context, new, protocol, turn);
        }
    }
    // No news, which both programs account for: the kernel counts what it skips without knowing that.
    turn.is_mine(false);
    0
}

/// Does a listener itself begin or end? Trap `child_of_a_listener`: an accepted connection is a copy of
/// its listener, and its first change reads LISTEN→SYN_RECV. Trap `sctp_closing`: SCTP's sockets end in
/// SCTP_SS_CLOSING, which has the number of CLOSE_WAIT.
#[inline(always)]
fn is_listeners_own(protocol: u16, old: u8, new: u8) -> bool {
    let is_sctp = protocol == sock::IPPROTO_SCTP;
    let begins = new == LISTEN && old != LISTEN;
    let ends = old == LISTEN && (new == CLOSE || (is_sctp && new == CLOSE_WAIT));
    (begins || ends) && (is_sctp || protocol == sock::IPPROTO_TCP)
}

#[inline(always)]
fn count(old: u8, new: u8) {
    if let Some(counters) = counters() {
        let cell = (usize::from(old & 0xf) << 4) | usize::from(new & 0xf);
        // SAFETY: this CPU's own counters, and only this program's; eight bits index 256 cells.
        unsafe { add_one_alone(&raw mut (*counters).transitions[cell]) };
    }
}

/// A listener begins or ends. The beginning is only told on the lowest rung (`listen_tentative`), where
/// nothing better says whether the kernel accepted it.
#[inline(never)]
fn listener_change(context: *mut c_void, new: u8, protocol: u16, turn: Turn) -> i32 {
    let is_told = protocol == sock::IPPROTO_SCTP || setting!(listen_tentative) != 0;
    if !turn.is_mine(new != LISTEN || is_told) {
        return 0;
    }
    // SAFETY: argument 0 is a `struct sock *`.
    unsafe { ensure_cookie(context, 0) };
    let sk = argument(context, 0);
    if new != LISTEN {
        emit::close(sk, Mechanism::TP_BTF);
    } else {
        let flags = ListenerFlags::FROM_LISTEN | ListenerFlags::TENTATIVE;
        emit::listener(
            sk,
            Origin::of(0, Mechanism::TP_BTF, flags),
            Requested::NOTHING,
        );
    }
    0
}

/// Streams the change while somebody asks; with its owner where the owner makes it.
#[inline(always)]
fn stream(sk: Typed, old: u8, new: u8) {
    let Some(control) = CONTROL.get(0) else {
        return;
    };
    if control.stream_states == 0 {
        return;
    }
    if is_listeners_own(sock::IPPROTO_TCP, old, new) {
        stream::listener_state(sk, old, new, new == LISTEN);
    } else if old == CLOSE && new == SYN_SENT {
        stream::owned_state(sk, old, new, control.bulk_wakeup_bytes);
    } else {
        stream::state(sk, old, new, control.bulk_wakeup_bytes);
    }
}
