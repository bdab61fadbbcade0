//! Packet sockets: who sniffs on this host.
//!
//! A packet socket receives from the moment it has a protocol: at creation, or at a later bind, which
//! also chooses the interface. Protocol 0 means that it only sends so far.

use core::ffi::c_void;

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;

use super::{enter, leave, result, traced};
use crate::emit::{self, Origin, Requested};
use crate::kernel::argument;
use crate::maps::Call;
use crate::sock;
use crate::spare::Turn;

traced! {
    /// `int packet_create(struct net *net, struct socket *sock, int protocol, int kern)`.
    fexit FExitContext "packet_create":
        packet_create_fexit / packet_create_fexit_spare, PACKET_CREATE, packet_create_exit
}

#[inline(never)]
fn packet_create_exit(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(result(context, 4) == 0) {
        opened(
            sock::of_socket(argument(context, 1)),
            Mechanism::FEXIT,
            ListenerFlags::FROM_CREATE,
        );
    }
    0
}

/// Keeps the socket for [`packet_create_kretprobe`].
#[kprobe]
pub fn packet_create_kprobe(context: ProbeContext) -> u32 {
    if let Some(socket) = context.arg::<u64>(1) {
        enter(Call::PacketCreate, socket, 0, 0);
    }
    0
}

/// As [`packet_create_fexit`].
#[kretprobe]
pub fn packet_create_kretprobe(context: RetProbeContext) -> u32 {
    let result: i32 = context.ret();
    if let Some(pending) = leave(Call::PacketCreate)
        && result == 0
    {
        opened(
            sock::of_socket(pending.subject),
            Mechanism::KRETPROBE,
            ListenerFlags::FROM_CREATE,
        );
    }
    0
}

traced! {
    /// `int packet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`.
    fexit FExitContext "packet_bind":
        packet_bind_fexit / packet_bind_fexit_spare, PACKET_BIND, packet_bind_exit
}

#[inline(never)]
fn packet_bind_exit(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(result(context, 3) == 0) {
        opened(
            sock::of_socket(argument(context, 0)),
            Mechanism::FEXIT,
            ListenerFlags::FROM_BIND,
        );
    }
    0
}

/// Keeps the socket for [`packet_bind_kretprobe`].
#[kprobe]
pub fn packet_bind_kprobe(context: ProbeContext) -> u32 {
    if let Some(socket) = context.arg::<u64>(0) {
        enter(Call::PacketBind, socket, 0, 0);
    }
    0
}

/// As [`packet_bind_fexit`].
#[kretprobe]
pub fn packet_bind_kretprobe(context: RetProbeContext) -> u32 {
    let result: i32 = context.ret();
    if let Some(pending) = leave(Call::PacketBind)
        && result == 0
    {
        opened(
            sock::of_socket(pending.subject),
            Mechanism::KRETPROBE,
            ListenerFlags::FROM_BIND,
        );
    }
    0
}

/// The socket was made or bound: it is news once it receives something.
#[inline(always)]
fn opened(sk: u64, mechanism: Mechanism, flags: u32) {
    if sock::packet_protocol(sk) != 0 {
        emit::listener(sk, Origin::of(0, mechanism, flags), Requested::NOTHING);
    }
}

traced! {
    /// `int packet_release(struct socket *sock)`.
    fentry FEntryContext "packet_release":
        packet_close_fentry / packet_close_fentry_spare, PACKET_CLOSE, packet_close_entry
}

#[inline(never)]
fn packet_close_entry(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(true) {
        emit::close(sock::of_socket(argument(context, 0)), Mechanism::FENTRY);
    }
    0
}

/// As [`packet_close_fentry`].
#[kprobe]
pub fn packet_close_kprobe(context: ProbeContext) -> u32 {
    emit::close(
        sock::of_socket(context.arg::<u64>(0).unwrap_or(0)),
        Mechanism::KPROBE,
    );
    0
}
