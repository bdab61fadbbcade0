//! What arrives at listeners: SYNs, the silence after a SYN-ACK, and resets.
//!
//! Trap `half_open_is_no_state`: a half-open connection changes no state that a tracepoint shows; a flood of SYNs is
//! seen where the kernel answers them, or not at all.
//! Trap `syn_is_no_request`: socket operations run for each request that the kernel makes and attaches to its listener: not for a
//! SYN that it answers by a cookie (its request has no listener), nor for one that it drops since a queue is full.

use aya_ebpf::macros::{btf_tracepoint, fentry, kprobe};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, ProbeContext, SockOpsContext};
use portwatch_common::header::Mechanism;
use portwatch_common::storm::{CellKey, PEER_EVERY, StormCount, StormRate};

use super::knock::sender;
use crate::emit::raw;
use crate::kernel::{Typed, argument, field, offset, read};
use crate::storm;

/// `int tcp_conn_request(struct request_sock_ops *rsk_ops, const struct tcp_request_sock_ops *af_ops, struct sock *sk,
/// struct sk_buff *skb)`: every SYN at a listener, whatever becomes of it.
#[fentry(function = "tcp_conn_request")]
pub fn syn_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    // SAFETY: argument 2 is a `struct sock *`.
    let key = storm::key_of(unsafe { Typed::argument(context, 2) });
    arrived(key, argument(context, 3), Mechanism::FENTRY);
    0
}

/// As [`syn_fentry`].
#[kprobe]
pub fn syn_kprobe(context: ProbeContext) -> u32 {
    let listener = context.arg::<u64>(2).unwrap_or(0);
    let key = storm::key_of(listener);
    arrived(key, context.arg::<u64>(3).unwrap_or(0), Mechanism::KPROBE);
    0
}

#[inline(always)]
fn arrived(key: CellKey, skb: u64, by: Mechanism) {
    if is_looked_at(key, by) {
        storm::peer(key, sender(skb));
    }
}

/// The first window of a connection is asked for, by its request (`tcp_openreq_init_rwin`), which is no whole socket; or by
/// the socket of a `connect`.
#[inline(always)]
pub fn requested(context: &SockOpsContext) {
    // SAFETY: the context of a socket operations program.
    let (is_whole, family, port) = unsafe {
        let ops = context.ops;
        ((*ops).is_fullsock, (*ops).family, (*ops).local_port)
    };
    if is_whole != 0 {
        return;
    }
    // `struct bpf_sock_ops_kern` begins with the socket; as memory it is a plain number.
    let request = read::<u64>(raw(context) as u64);
    let key = CellKey {
        netns: field(field(request, offset!(sk_net)), offset!(net_inum)),
        port: port as u16,
        family: family as u16,
    };
    if is_looked_at(key, Mechanism::CGROUP) {
        storm::peer(key, storm::far_end(request));
    }
}

/// Counts a SYN. Tells whether its sender is to be remembered.
#[inline(always)]
fn is_looked_at(key: CellKey, by: Mechanism) -> bool {
    let Some(cell) = storm::cell(&key) else {
        return false;
    };
    let Some(limits) = storm::thresholds() else {
        return false;
    };
    storm::note_alone(StormCount::SYN);
    let window = storm::window();
    // SAFETY: this CPU's cell, and one program alone counts SYNs; a value of a map.
    unsafe {
        let count = storm::bump(&raw mut (*cell).syn, window);
        if count == (*limits).syn {
            storm::listener_crossed(key, StormRate::SYN, window, count, by);
        }
        count > (*limits).peer_floor && count % PEER_EVERY == 0
    }
}

/// `void tcp_retransmit_synack(const struct sock *sk, const struct request_sock *req)`: nobody answered for a second, and
/// then for two, four … Cookies are sent once, so this is silent while they are.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn synack_tp_btf(context: BtfTracePointContext) -> i32 {
    // SAFETY: argument 0 is a `struct sock *`.
    let key = storm::key_of(unsafe { Typed::argument(raw(&context), 0) });
    let Some(cell) = storm::cell(&key) else {
        return 0;
    };
    let Some(limits) = storm::thresholds() else {
        return 0;
    };
    storm::note_alone(StormCount::UNANSWERED);
    let window = storm::window();
    // SAFETY: as above, for SYN-ACKs.
    unsafe {
        let count = storm::bump(&raw mut (*cell).unanswered, window);
        if count == (*limits).unanswered {
            storm::listener_crossed(key, StormRate::UNANSWERED, window, count, Mechanism::TP_BTF);
        }
    }
    0
}

/// `void tcp_receive_reset(struct sock *sk)`: a connection was reset by its peer. Those of listeners have their port.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn received_reset_tp_btf(context: BtfTracePointContext) -> i32 {
    // SAFETY: argument 0 is a `struct sock *`.
    let key = storm::key_of(unsafe { Typed::argument(raw(&context), 0) });
    let Some(cell) = storm::cell(&key) else {
        return 0;
    };
    let Some(limits) = storm::thresholds() else {
        return 0;
    };
    storm::note_alone(StormCount::RESET);
    let window = storm::window();
    // SAFETY: as above, for resets.
    unsafe {
        let count = storm::bump(&raw mut (*cell).reset, window);
        if count == (*limits).reset {
            storm::listener_crossed(key, StormRate::RESET, window, count, Mechanism::TP_BTF);
        }
    }
    0
}
