//! TCP and MPTCP listen.
//!
//! Trap `listen_entry_too_early`: `inet_csk_listen_start` sets LISTEN before `get_port`. At entry an
//! unbound socket has port 0, and a refused one is announced anyway. So the record is made at exit, with
//! result 0, and reads port and backlog then.
//! Trap `repeated_listen`: a second `listen()` does not come here at all; `inet_listen` sees it.

use core::ffi::c_void;

use aya_ebpf::macros::{fexit, kprobe, kretprobe, sock_ops};
use aya_ebpf::programs::{FExitContext, ProbeContext, RetProbeContext, SockOpsContext};
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;
use portwatch_common::settings::SockOpsSignals;

use super::{ensure_cookie, enter, leave, result, syn, traced};
use crate::emit::{self, Origin, Requested, raw, track};
use crate::kernel::{argument, read, setting};
use crate::maps::{Call, TRACKED};
use crate::sock;
use crate::spare::Turn;

/// `BPF_SOCK_OPS_RWND_INIT`.
const RWND_INIT: u32 = 2;
/// `BPF_SOCK_OPS_TCP_LISTEN_CB`.
const TCP_LISTEN_CB: u32 = 11;
/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

traced! {
    /// `int inet_csk_listen_start(struct sock *sk)`, from 5.17.
    fexit FExitContext "inet_csk_listen_start": listen_fexit / listen_fexit_spare, LISTEN, listen_exit
}
traced! {
    /// `int inet_csk_listen_start(struct sock *sk, int backlog)`, before 5.17: the result moved.
    fexit FExitContext "inet_csk_listen_start":
        listen_backlog_fexit / listen_backlog_fexit_spare, LISTEN, listen_backlog_exit
}

#[inline(never)]
fn listen_exit(context: *mut c_void, turn: Turn) -> i32 {
    exited(context, result(context, 1), turn)
}

#[inline(never)]
fn listen_backlog_exit(context: *mut c_void, turn: Turn) -> i32 {
    exited(context, result(context, 2), turn)
}

#[inline(always)]
fn exited(context: *mut c_void, result: i32, turn: Turn) -> i32 {
    if turn.is_mine(true) {
        // SAFETY: argument 0 is a `struct sock *`.
        unsafe { ensure_cookie(context, 0) };
        started(argument(context, 0), result, Mechanism::FEXIT);
    }
    0
}

/// Keeps the socket for [`listen_kretprobe`].
#[kprobe]
pub fn listen_kprobe(context: ProbeContext) -> u32 {
    if let Some(sk) = context.arg::<u64>(0) {
        enter(Call::ListenStart, sk, 0, 0);
    }
    0
}

/// As [`listen_fexit`].
#[kretprobe]
pub fn listen_kretprobe(context: RetProbeContext) -> u32 {
    let result: i32 = context.ret();
    if let Some(pending) = leave(Call::ListenStart) {
        started(pending.subject, result, Mechanism::KRETPROBE);
    }
    0
}

traced! {
    /// `int inet_listen(struct socket *sock, int backlog)`.
    fexit FExitContext "inet_listen": relisten_fexit / relisten_fexit_spare, RELISTEN, relisten_exit
}

#[inline(never)]
fn relisten_exit(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(true) {
        let sk = sock::of_socket(argument(context, 0));
        repeated(sk, result(context, 2), Mechanism::FEXIT);
    }
    0
}

/// Keeps the socket for [`relisten_kretprobe`].
#[kprobe]
pub fn relisten_kprobe(context: ProbeContext) -> u32 {
    if let Some(socket) = context.arg::<u64>(0) {
        enter(Call::InetListen, socket, 0, 0);
    }
    0
}

/// As [`relisten_fexit`].
#[kretprobe]
pub fn relisten_kretprobe(context: RetProbeContext) -> u32 {
    let result: i32 = context.ret();
    if let Some(pending) = leave(Call::InetListen) {
        repeated(
            sock::of_socket(pending.subject),
            result,
            Mechanism::KRETPROBE,
        );
    }
    0
}

/// The socket operations hook of the root cgroup: `inet_listen` calls it after success, in process
/// context, for io_uring too. Requests of connections come here as well ([`syn::requested`]), in the same program: a
/// connection passes this hook nine times, and a second program would cost more than what it does.
#[sock_ops]
pub fn tcp_sockops(context: SockOpsContext) -> u32 {
    if context.op() == RWND_INIT {
        if setting!(sock_ops) & SockOpsSignals::SYN != 0 {
            syn::requested(&context);
        }
    } else if context.op() == TCP_LISTEN_CB && setting!(sock_ops) & SockOpsSignals::LISTEN != 0 {
        // SAFETY: the context of a socket operations program.
        unsafe { aya_ebpf::helpers::generated::bpf_get_socket_cookie(raw(&context)) };
        // `struct bpf_sock_ops_kern` begins with the socket; as memory it is a plain number.
        started(read::<u64>(raw(&context) as u64), 0, Mechanism::CGROUP);
    }
    1
}

/// A first listen ended.
#[inline(always)]
fn started(sk: u64, result: i32, mechanism: Mechanism) {
    if result == 0 {
        track(sk);
    }
    report(sk, result, mechanism);
}

/// Any listen ended: only a changed backlog is news.
#[inline(always)]
fn repeated(sk: u64, result: i32, mechanism: Mechanism) {
    if result == 0 && is_news(sk) {
        track(sk);
        report(sk, 0, mechanism);
    }
}

/// Does this socket listen with a backlog that was not told yet?
#[inline(always)]
pub fn is_news(sk: u64) -> bool {
    // SAFETY: a plain number in a map.
    let known = TRACKED.get_ptr(sk).map(|place| unsafe { *place });
    sock::state(sk) == LISTEN && known != Some(sock::backlog(sk) as u64)
}

#[inline(always)]
fn report(sk: u64, result: i32, mechanism: Mechanism) {
    let origin = Origin::of(result, mechanism, ListenerFlags::FROM_LISTEN);
    emit::listener(sk, origin, Requested::NOTHING);
}
