//! Unix sockets: stream and seqpacket listen, datagram bind, and their end.
//!
//! Trap `abstract_and_autobind`: abstract names hold any bytes and have a length, and an autobind's name
//! exists only afterwards; so the name is read from the socket at exit. Paths can be relative: the
//! socket's own dentry says where it lies.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;

use super::{ensure_cookie, enter, leave, result};
use crate::emit::{self, Origin, Requested, raw};
use crate::kernel::{Object, argument};
use crate::maps::Call;
use crate::sock;

const LISTEN: u8 = 10;

/// `int unix_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`; the address is the kernel's copy.
#[fexit(function = "unix_bind")]
pub fn unix_bind_fexit(context: FExitContext) -> i32 {
    let context = raw(&context);
    let requested = Requested {
        address: argument(context, 1),
        length: argument(context, 2) & 0xffff_ffff,
        user: false,
    };
    let sk = sock::of_socket(argument(context, 0));
    bound(sk, requested, result(context, 3), Mechanism::FEXIT);
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
    if let Some(pending) = leave(Call::UnixBind) {
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

/// `int unix_listen(struct socket *sock, int backlog)`.
#[fexit(function = "unix_listen")]
pub fn unix_listen_fexit(context: FExitContext) -> i32 {
    let context = raw(&context);
    let sk = sock::of_socket(argument(context, 0));
    listened(sk, result(context, 2), Mechanism::FEXIT);
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

/// A bind ended. For stream and seqpacket, listen is the news.
#[inline(always)]
fn bound(sk: u64, requested: Requested, result: i32, mechanism: Mechanism) {
    if result != 0 || sock::kind(sk) == sock::SOCK_DGRAM {
        let origin = Origin::of(result, mechanism, ListenerFlags::FROM_BIND);
        emit::listener(sk, origin, requested.if_refused(result));
    }
}

/// A listen ended.
#[inline(always)]
fn listened(sk: u64, result: i32, mechanism: Mechanism) {
    let origin = Origin::of(result, mechanism, ListenerFlags::FROM_LISTEN);
    emit::listener(sk, origin, Requested::NOTHING);
}

/// `void unix_release_sock(struct sock *sk, int embrion)`: at entry the name is still there.
#[fentry(function = "unix_release_sock")]
pub fn unix_close_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    let sk = argument(context, 0);
    if is_listener(sk) {
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
