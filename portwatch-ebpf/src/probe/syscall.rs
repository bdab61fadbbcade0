//! System call tracepoints: the rung for what no other hook shows on this kernel.
//!
//! Trap `io_uring_blind`: operations through io_uring make no system call; the report of this rung says so.
//! Trap `toctou`: a descriptor's socket is read from the descriptor table at exit, and its name from the
//! socket; another thread may have put another socket there, which is told only if it is what the call
//! makes: bound, or listening. Only a refused bind is told by its argument, because the socket has
//! nothing to read.
//!
//! Entries hold the system call's arguments from byte 16 on, exits the result at byte 16; the layout is
//! the tracepoint's published format.

use core::ffi::c_void;

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use portwatch_common::counters::Hook;
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;
use portwatch_common::settings::SyscallSignals;

use super::{enter, leave, listen, peek, udp, unix};
use crate::emit::{self, Origin, Requested, current, raw};
use crate::kernel::{read, setting};
use crate::maps::{Call, Pending};
use crate::sock;
use crate::spare::Turn;

const FIRST: usize = 16;
const SECOND: usize = 24;
const THIRD: usize = 32;
/// `SOCK_TYPE_MASK`.
const TYPE_MASK: u64 = 0xf;

/// A system call tracepoint with two programs of one body, see [`crate::spare`].
macro_rules! syscall {
    ($(#[$doc:meta])* $first:ident / $spare:ident, $hook:ident, $body:expr) => {
        $(#[$doc])*
        #[tracepoint]
        pub fn $first(context: TracePointContext) -> u32 {
            $body(raw(&context), Turn::first(Hook::$hook))
        }

        /// Stands in for the one above it.
        #[tracepoint]
        pub fn $spare(context: TracePointContext) -> u32 {
            $body(raw(&context), Turn::spare(Hook::$hook))
        }
    };
}

syscall! {
    /// `bind(int fd, struct sockaddr *umyaddr, int addrlen)`.
    bind_enter / bind_enter_spare, BIND_ENTER, bind_begins
}
syscall! {
    /// The end of `bind`.
    bind_exit / bind_exit_spare, BIND_EXIT, bound
}

#[inline(never)]
fn bind_begins(context: *mut c_void, turn: Turn) -> u32 {
    arguments(context, Call::SysBind, turn)
}

#[inline(never)]
fn bound(context: *mut c_void, turn: Turn) -> u32 {
    let Some((sk, pending, result)) = exit(context, Call::SysBind, turn) else {
        return 0;
    };
    let family = sock::family(sk);
    let wanted = if result != 0 {
        SyscallSignals::FAILURES
    } else if family == sock::AF_UNIX && unix::is_bound_datagram(sk) {
        SyscallSignals::UNIX_BIND
    } else if family == sock::AF_PACKET && sock::packet_protocol(sk) != 0 {
        SyscallSignals::PACKET
    } else if family != sock::AF_UNIX && udp::is_reported(sock::protocol(sk)) && sock::port(sk) != 0
    {
        SyscallSignals::UDP_BIND
    } else {
        0
    };
    if setting!(syscall_signals) & wanted == 0 {
        return 0;
    }
    if wanted == SyscallSignals::UDP_BIND {
        emit::track(sk);
    }
    let requested = Requested {
        address: pending.address,
        length: pending.extra & 0xffff_ffff,
        user: true,
    };
    let origin = Origin::of(result, Mechanism::TRACEPOINT, ListenerFlags::FROM_BIND);
    emit::listener(sk, origin, requested.if_refused(result));
    0
}

syscall! {
    /// `listen(int fd, int backlog)`.
    listen_enter / listen_enter_spare, LISTEN_ENTER, listen_begins
}
syscall! {
    /// The end of `listen`.
    listen_exit / listen_exit_spare, LISTEN_EXIT, listened
}

#[inline(never)]
fn listen_begins(context: *mut c_void, turn: Turn) -> u32 {
    arguments(context, Call::SysListen, turn)
}

#[inline(never)]
fn listened(context: *mut c_void, turn: Turn) -> u32 {
    let Some((sk, _, result)) = exit(context, Call::SysListen, turn) else {
        return 0;
    };
    let sk = if result == 0 { sock::listening(sk) } else { sk };
    let wanted = if result != 0 {
        SyscallSignals::FAILURES
    } else if sock::family(sk) == sock::AF_UNIX && unix::is_listener(sk) {
        SyscallSignals::UNIX_LISTEN
    } else if listen::is_news(sk) {
        SyscallSignals::INET_LISTEN
    } else {
        0
    };
    if setting!(syscall_signals) & wanted == 0 {
        return 0;
    }
    if wanted == SyscallSignals::INET_LISTEN {
        emit::track(sk);
    }
    let origin = Origin::of(result, Mechanism::TRACEPOINT, ListenerFlags::FROM_LISTEN);
    emit::listener(sk, origin, Requested::NOTHING);
    0
}

syscall! {
    /// `socket(int family, int type, int protocol)`: only packet and raw sockets are followed to the exit.
    socket_enter / socket_enter_spare, SOCKET_ENTER, socket_begins
}
syscall! {
    /// The end of `socket`: its result is the descriptor.
    socket_exit / socket_exit_spare, SOCKET_EXIT, socket_made
}

#[inline(never)]
fn socket_begins(context: *mut c_void, turn: Turn) -> u32 {
    let (family, kind) = (field(context, FIRST), field(context, SECOND));
    let signals = setting!(syscall_signals);
    let family = family as u32 as u16;
    let is_packet = family == sock::AF_PACKET && signals & SyscallSignals::PACKET != 0;
    let is_raw = (family == sock::AF_INET || family == sock::AF_INET6)
        && kind & TYPE_MASK == u64::from(sock::SOCK_RAW)
        && signals & SyscallSignals::RAW != 0;
    if turn.is_mine(is_packet || is_raw) {
        enter(Call::SysSocket, 0, 0, 0);
    }
    0
}

#[inline(never)]
fn socket_made(context: *mut c_void, turn: Turn) -> u32 {
    if taken(Call::SysSocket, turn).is_none() {
        return 0;
    }
    let fd = field(context, FIRST);
    if (fd as i64) < 0 {
        return 0;
    }
    let sk = sock::of_descriptor(current(), fd);
    // Looked at anew, for another thread may have put another socket there.
    let is_packet = sock::family(sk) == sock::AF_PACKET && sock::packet_protocol(sk) != 0;
    if is_packet || sock::kind(sk) == sock::SOCK_RAW && sock::family(sk) != sock::AF_PACKET {
        let origin = Origin::of(0, Mechanism::TRACEPOINT, ListenerFlags::FROM_CREATE);
        emit::listener(sk, origin, Requested::NOTHING);
    }
    0
}

/// Keeps three arguments for the exit.
#[inline(always)]
fn arguments(context: *mut c_void, call: Call, turn: Turn) -> u32 {
    if turn.is_mine(true) {
        let fd = field(context, FIRST) & 0xffff_ffff;
        enter(call, fd, field(context, SECOND), field(context, THIRD));
    }
    0
}

/// The socket, the kept arguments and the result at the exit of a call.
#[inline(always)]
fn exit(context: *mut c_void, call: Call, turn: Turn) -> Option<(u64, Pending, i32)> {
    let pending = taken(call, turn)?;
    let result = field(context, FIRST);
    let sk = sock::of_descriptor(current(), pending.subject);
    if sk == 0 {
        None
    } else {
        Some((sk, pending, result as i32))
    }
}

/// The kept arguments, for the program that is to tell the call. The last one to look takes them away.
#[inline(always)]
fn taken(call: Call, turn: Turn) -> Option<Pending> {
    let pending = if turn.is_last() {
        leave(call)
    } else {
        peek(call)
    };
    if turn.is_mine(pending.is_some()) {
        pending
    } else {
        None
    }
}

/// A number in the record of the tracepoint; 0 when it cannot be read.
#[inline(always)]
fn field(context: *mut c_void, offset: usize) -> u64 {
    read((context as u64).wrapping_add(offset as u64))
}
