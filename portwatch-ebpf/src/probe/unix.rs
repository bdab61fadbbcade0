//! Unix sockets: stream and seqpacket listen, datagram bind, and their end.
//!
//! Trap `abstract_and_autobind`: abstract names hold any bytes and have a length, and an autobind's name
//! exists only afterwards; so the name is read from the socket at exit. Paths can be relative: the
//! socket's own dentry says where it lies.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use portwatch_common::header::{EventKind, Mechanism};
use portwatch_common::listener::ListenerFlags;

use super::{ensure_cookie, enter, leave, result};
use crate::emit::{self, Origin, Requested, raw};
use crate::kernel::argument;
use crate::maps::Call;
use crate::sock;

const LISTEN: u8 = 10;

/// `int unix_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`; the address is the kernel's copy.
#[fexit(function = "unix_bind")]
pub fn unix_bind_fexit(context: FExitContext) -> i32 {
    let context = raw(&context);
    if let (Some(socket), Some(address), Some(length)) = (
        argument(context, 0),
        argument(context, 1),
        argument(context, 2),
    ) {
        let requested = Requested {
            address,
            length: length & 0xffff_ffff,
            user: false,
        };
        bound(
            sock::of_socket(socket),
            requested,
            result(context, 3),
            Mechanism::FEXIT,
        );
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
    let sk = argument(context, 0).and_then(sock::of_socket);
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
pub fn bound(sk: Option<u64>, requested: Requested, result: i32, mechanism: Mechanism) {
    let Some(sk) = sk else { return };
    if result != 0 {
        let origin = Origin {
            kind: EventKind::BIND_FAILED,
            mechanism,
            ret: result,
            flags: ListenerFlags::FROM_BIND,
        };
        emit::listener(sk, origin, Some(requested));
    } else if sock::kind(sk) == sock::SOCK_DGRAM {
        opened(sk, mechanism, ListenerFlags::FROM_BIND);
    }
}

/// A listen ended.
#[inline(always)]
pub fn listened(sk: Option<u64>, result: i32, mechanism: Mechanism) {
    let Some(sk) = sk else { return };
    if result == 0 {
        opened(sk, mechanism, ListenerFlags::FROM_LISTEN);
    } else {
        let origin = Origin {
            kind: EventKind::BIND_FAILED,
            mechanism,
            ret: result,
            flags: ListenerFlags::FROM_LISTEN,
        };
        emit::listener(sk, origin, None);
    }
}

#[inline(always)]
fn opened(sk: u64, mechanism: Mechanism, flags: u32) {
    let origin = Origin {
        kind: EventKind::LISTENER_OPENED,
        mechanism,
        ret: 0,
        flags,
    };
    emit::listener(sk, origin, None);
}

/// `void unix_release_sock(struct sock *sk, int embrion)`: at entry the name is still there.
#[fentry(function = "unix_release_sock")]
pub fn unix_close_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    let Some(sk) = argument(context, 0) else {
        return 0;
    };
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
    if let Some(sk) = context.arg::<u64>(0)
        && is_listener(sk)
    {
        emit::close(sk, Mechanism::KPROBE);
    }
    0
}

/// Was this reported? An accepted connection shares its listener's name, but not its state.
#[inline(always)]
pub fn is_listener(sk: u64) -> bool {
    sock::state(sk) == LISTEN || (sock::kind(sk) == sock::SOCK_DGRAM && sock::has_unix_name(sk))
}
