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

use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;
use portwatch_common::settings::SyscallSignals;

use super::{enter, leave, listen, udp, unix};
use crate::emit::{self, Origin, Requested, current};
use crate::kernel::setting;
use crate::maps::{Call, Pending};
use crate::sock;

const FIRST: usize = 16;
const SECOND: usize = 24;
const THIRD: usize = 32;
/// `SOCK_TYPE_MASK`.
const TYPE_MASK: u64 = 0xf;

/// `bind(int fd, struct sockaddr *umyaddr, int addrlen)`.
#[tracepoint]
pub fn bind_enter(context: TracePointContext) -> u32 {
    arguments(&context, Call::SysBind)
}

/// The end of `bind`.
#[tracepoint]
pub fn bind_exit(context: TracePointContext) -> u32 {
    let Some((sk, pending, result)) = exit(&context, Call::SysBind) else {
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

/// `listen(int fd, int backlog)`.
#[tracepoint]
pub fn listen_enter(context: TracePointContext) -> u32 {
    arguments(&context, Call::SysListen)
}

/// The end of `listen`.
#[tracepoint]
pub fn listen_exit(context: TracePointContext) -> u32 {
    let Some((sk, _, result)) = exit(&context, Call::SysListen) else {
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

/// `socket(int family, int type, int protocol)`: only packet and raw sockets are followed to the exit.
#[tracepoint]
pub fn socket_enter(context: TracePointContext) -> u32 {
    // SAFETY: inside the tracepoint's record.
    let (Ok(family), Ok(kind)) = (unsafe {
        (
            context.read_at::<u64>(FIRST),
            context.read_at::<u64>(SECOND),
        )
    }) else {
        return 0;
    };
    let signals = setting!(syscall_signals);
    let family = family as u32 as u16;
    let is_packet = family == sock::AF_PACKET && signals & SyscallSignals::PACKET != 0;
    let is_raw = (family == sock::AF_INET || family == sock::AF_INET6)
        && kind & TYPE_MASK == u64::from(sock::SOCK_RAW)
        && signals & SyscallSignals::RAW != 0;
    if is_packet || is_raw {
        enter(Call::SysSocket, 0, 0, 0);
    }
    0
}

/// The end of `socket`: its result is the descriptor.
#[tracepoint]
pub fn socket_exit(context: TracePointContext) -> u32 {
    if leave(Call::SysSocket).is_none() {
        return 0;
    }
    // SAFETY: inside the tracepoint's record.
    let Ok(fd) = (unsafe { context.read_at::<i64>(FIRST) }) else {
        return 0;
    };
    if fd < 0 {
        return 0;
    }
    let sk = sock::of_descriptor(current(), fd as u64);
    if sk != 0 && (sock::family(sk) != sock::AF_PACKET || sock::packet_protocol(sk) != 0) {
        let origin = Origin::of(0, Mechanism::TRACEPOINT, ListenerFlags::FROM_CREATE);
        emit::listener(sk, origin, Requested::NOTHING);
    }
    0
}

/// Keeps three arguments for the exit.
#[inline(always)]
fn arguments(context: &TracePointContext, call: Call) -> u32 {
    // SAFETY: inside the tracepoint's record.
    let (Ok(fd), Ok(second), Ok(third)) = (unsafe {
        (
            context.read_at::<u64>(FIRST),
            context.read_at::<u64>(SECOND),
            context.read_at::<u64>(THIRD),
        )
    }) else {
        return 0;
    };
    enter(call, fd & 0xffff_ffff, second, third);
    0
}

/// The socket, the kept arguments and the result at the exit of a call.
#[inline(always)]
fn exit(context: &TracePointContext, call: Call) -> Option<(u64, Pending, i32)> {
    let pending = leave(call)?;
    // SAFETY: inside the tracepoint's record.
    let result = unsafe { context.read_at::<i64>(FIRST) }.ok()?;
    let sk = sock::of_descriptor(current(), pending.subject);
    if sk == 0 {
        None
    } else {
        Some((sk, pending, result as i32))
    }
}
