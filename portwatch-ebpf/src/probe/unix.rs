//! Unix sockets: stream and seqpacket listen, datagram bind, and their end.
//!
//! Trap `abstract_and_autobind`: abstract names hold any bytes and have a length, and an autobind's name
//! exists only afterwards; so the name is read from the socket at exit. Paths can be relative: the
//! socket's own dentry says where it lies.

use core::ffi::c_void;

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;

use super::{ensure_cookie, enter, leave, result, traced};
use crate::emit::{self, Origin, Requested};
use crate::kernel::{Object, argument};
use crate::maps::Call;
use crate::sock;
use crate::spare::Turn;

const LISTEN: u8 = 10;

traced! {
    /// `int unix_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`; the address is the kernel's copy.
    fexit FExitContext "unix_bind": unix_bind_fexit / unix_bind_fexit_spare, UNIX_BIND, unix_bind_exit
}

#[inline(never)]
fn unix_bind_exit(context: *mut c_void, turn: Turn) -> i32 {
    let sk = sock::of_socket(argument(context, 0));
    let result = result(context, 3);
    if turn.is_mine(is_news(sk, result)) {
        let requested = Requested {
            address: argument(context, 1),
            length: argument(context, 2) & 0xffff_ffff,
            user: false,
        };
        bound(sk, requested, result, Mechanism::FEXIT);
    }
    0
}

/// Keeps the arguments for [`unix_bind_kretprobe`].
#[kprobe]
pub fn unix_bind_kprobe(context: ProbeContext) -> u32 {
    if let (Some(socket), Some(address), Some(length)) = (
        context.arg::<u64>(0),
        context.arg::<u64>(1),
        context.arg::<u64>(2),
    ) {
        enter(Call::UnixBind, socket, address, length & 0xffff_ffff);
    }
    0
}

/// As [`unix_bind_fexit`].
#[kretprobe]
pub fn unix_bind_kretprobe(context: RetProbeContext) -> u32 {
    let result: i32 = context.ret();
    if let Some(pending) = leave(Call::UnixBind)
        && is_news(sock::of_socket(pending.subject), result)
    {
        let requested = Requested {
            address: pending.address,
            length: pending.extra,
            user: false,
        };
        bound(
            sock::of_socket(pending.subject),
            requested,
            result,
            Mechanism::KRETPROBE,
        );
    }
    0
}

traced! {
    /// `int unix_listen(struct socket *sock, int backlog)`.
    fexit FExitContext "unix_listen": unix_listen_fexit / unix_listen_fexit_spare, UNIX_LISTEN, unix_listen_exit
}

#[inline(never)]
fn unix_listen_exit(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(true) {
        let sk = sock::of_socket(argument(context, 0));
        listened(sk, result(context, 2), Mechanism::FEXIT);
    }
    0
}

/// Keeps the socket for [`unix_listen_kretprobe`].
#[kprobe]
pub fn unix_listen_kprobe(context: ProbeContext) -> u32 {
    if let Some(socket) = context.arg::<u64>(0) {
        enter(Call::UnixListen, socket, 0, 0);
    }
    0
}

/// As [`unix_listen_fexit`].
#[kretprobe]
pub fn unix_listen_kretprobe(context: RetProbeContext) -> u32 {
    let result: i32 = context.ret();
    if let Some(pending) = leave(Call::UnixListen) {
        listened(
            sock::of_socket(pending.subject),
            result,
            Mechanism::KRETPROBE,
        );
    }
    0
}

/// For stream and seqpacket, listen is the news.
#[inline(always)]
fn is_news(sk: u64, result: i32) -> bool {
    result != 0 || sock::kind(sk) == sock::SOCK_DGRAM
}

/// A bind ended that is news.
#[inline(always)]
fn bound(sk: u64, requested: Requested, result: i32, mechanism: Mechanism) {
    let origin = Origin::of(result, mechanism, ListenerFlags::FROM_BIND);
    emit::listener(sk, origin, requested.if_refused(result));
}

/// A listen ended.
#[inline(always)]
fn listened(sk: u64, result: i32, mechanism: Mechanism) {
    let origin = Origin::of(result, mechanism, ListenerFlags::FROM_LISTEN);
    emit::listener(sk, origin, Requested::NOTHING);
}

traced! {
    /// `void unix_release_sock(struct sock *sk, int embrion)`: at entry the name is still there.
    fentry FEntryContext "unix_release_sock":
        unix_close_fentry / unix_close_fentry_spare, UNIX_CLOSE, unix_close_entry
}

#[inline(never)]
fn unix_close_entry(context: *mut c_void, turn: Turn) -> i32 {
    let sk = argument(context, 0);
    if turn.is_mine(is_listener(sk)) {
        // SAFETY: argument 0 is a `struct sock *`.
        unsafe { ensure_cookie(context, 0) };
        emit::close(sk, Mechanism::FENTRY);
    }
    0
}

/// As [`unix_close_fentry`].
#[kprobe]
pub fn unix_close_kprobe(context: ProbeContext) -> u32 {
    let sk = context.arg::<u64>(0).unwrap_or(0);
    if is_listener(sk) {
        emit::close(sk, Mechanism::KPROBE);
    }
    0
}

/// Was this reported? An accepted connection shares its listener's name, but not its state.
#[inline(always)]
pub fn is_listener(sk: impl Object) -> bool {
    sock::state(sk) == LISTEN || is_bound_datagram(sk)
}

/// A datagram socket receives as soon as it has a name.
#[inline(always)]
pub fn is_bound_datagram(sk: impl Object) -> bool {
    sock::kind(sk) == sock::SOCK_DGRAM && sock::has_unix_name(sk)
}
