//! What arrives at listeners: SYNs, the silence after a SYN-ACK, and resets.
//!
//! Trap `half_open_is_no_state`: a half-open connection changes no state that a tracepoint shows; a flood of SYNs is
//! seen where the kernel answers them, or not at all.
//! Trap `syn_is_no_request`: socket operations run for each request that the kernel makes and attaches to its listener: not for a
//! SYN that it answers by a cookie (its request has no listener), nor for one that it drops since a queue is full.

use aya_ebpf::macros::{btf_tracepoint, fentry, kprobe, sock_ops};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, ProbeContext, SockOpsContext};
use portwatch_common::header::Mechanism;
use portwatch_common::storm::{CellKey, PEER_EVERY, StormCount, StormRate, WINDOW_SHIFT};

use super::knock::sender;
use crate::emit::raw;
use crate::kernel::{argument, read};
use crate::{sock, storm};

/// `BPF_SOCK_OPS_RWND_INIT`.
const RWND_INIT: u32 = 2;
/// `TCP_NEW_SYN_RECV`.
const NEW_SYN_RECV: u8 = 12;

/// `int tcp_conn_request(struct request_sock_ops *rsk_ops, const struct tcp_request_sock_ops *af_ops, struct sock *sk,
/// struct sk_buff *skb)`: every SYN at a listener, whatever becomes of it.
#[fentry(function = "tcp_conn_request")]
pub fn syn_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    arrived(argument(context, 2), argument(context, 3), Mechanism::FENTRY);
    0
}

/// As [`syn_fentry`].
#[kprobe]
pub fn syn_kprobe(context: ProbeContext) -> u32 {
    let listener = context.arg::<u64>(2).unwrap_or(0);
    arrived(listener, context.arg::<u64>(3).unwrap_or(0), Mechanism::KPROBE);
    0
}

#[inline(always)]
fn arrived(listener: u64, skb: u64, by: Mechanism) {
    let key = storm::key_of(listener);
    if is_looked_at(key, by) {
        storm::peer(key, sender(skb));
    }
}

/// Each request of a connection asks for its first window (`tcp_openreq_init_rwin`); so does each `connect`, by a socket
/// of another state.
#[sock_ops]
pub fn syn_sockops(context: SockOpsContext) -> u32 {
    if context.op() == RWND_INIT {
        // `struct bpf_sock_ops_kern` begins with the socket; as memory it is a plain number.
        let request = read::<u64>(raw(&context) as u64);
        if sock::state(request) == NEW_SYN_RECV {
            let key = storm::key_of(request);
            if is_looked_at(key, Mechanism::CGROUP) {
                storm::peer(key, storm::far_end(request));
            }
        }
    }
    1
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
    storm::note(StormCount::SYN);
    let window = storm::now() >> WINDOW_SHIFT;
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
    let key = storm::key_of(argument(raw(&context), 0));
    let Some(cell) = storm::cell(&key) else {
        return 0;
    };
    let Some(limits) = storm::thresholds() else {
        return 0;
    };
    storm::note(StormCount::UNANSWERED);
    let window = storm::now() >> WINDOW_SHIFT;
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
    let key = storm::key_of(argument(raw(&context), 0));
    let Some(cell) = storm::cell(&key) else {
        return 0;
    };
    let Some(limits) = storm::thresholds() else {
        return 0;
    };
    storm::note(StormCount::RESET);
    let window = storm::now() >> WINDOW_SHIFT;
    // SAFETY: as above, for resets.
    unsafe {
        let count = storm::bump(&raw mut (*cell).reset, window);
        if count == (*limits).reset {
            storm::listener_crossed(key, StormRate::RESET, window, count, Mechanism::TP_BTF);
        }
    }
    0
}
