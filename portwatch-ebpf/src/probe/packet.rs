//! Packet sockets: who sniffs on this host.
//!
//! A packet socket receives from the moment it has a protocol: at creation, or at a later bind, which
//! also chooses the interface. Protocol 0 means that it only sends so far.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;

use super::{enter, leave, result};
use crate::emit::{self, Origin, Requested, raw};
use crate::kernel::argument;
use crate::maps::Call;
use crate::sock;

/// `int packet_create(struct net *net, struct socket *sock, int protocol, int kern)`.
#[fexit(function = "packet_create")]
pub fn packet_create_fexit(context: FExitContext) -> i32 {
    let context = raw(&context);
    if result(context, 4) == 0 {
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

/// `int packet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`.
#[fexit(function = "packet_bind")]
pub fn packet_bind_fexit(context: FExitContext) -> i32 {
    let context = raw(&context);
    if result(context, 3) == 0 {
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

/// `int packet_release(struct socket *sock)`.
#[fentry(function = "packet_release")]
pub fn packet_close_fentry(context: FEntryContext) -> i32 {
    emit::close(
        sock::of_socket(argument(raw(&context), 0)),
        Mechanism::FENTRY,
    );
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
