//! UDP and UDP-Lite: explicit binds are listeners, ports the kernel chose for clients are counted.
//!
//! Trap `autobind`: a client's first send binds a port too, without coming through `inet_bind`; so the
//! explicit bind is told by its hook, never by the socket having a port.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::{cgroup_sock, fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext, SockContext};
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;

use super::{enter, leave, result, traced};
use crate::count::{add_one, counters};
use crate::emit::{self, Origin, Requested, raw, track};
use crate::kernel::argument;
use crate::maps::{Call, TRACKED};
use crate::sock;
use crate::spare::Turn;

traced! {
    /// `int inet_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`; the address is the kernel's copy.
    fexit FExitContext "inet_bind": bind_fexit / bind_fexit_spare, BIND, bind_exit
}
traced! {
    /// `int inet6_bind(struct socket *sock, struct sockaddr *uaddr, int addr_len)`.
    fexit FExitContext "inet6_bind": bind6_fexit / bind6_fexit_spare, BIND6, bind_exit
}

#[inline(never)]
fn bind_exit(context: *mut c_void, turn: Turn) -> i32 {
    let sk = sock::of_socket(argument(context, 0));
    let result = result(context, 3);
    if !turn.is_mine(is_news(sk, result)) {
        return 0;
    }
    let requested = Requested {
        address: argument(context, 1),
        length: argument(context, 2) & 0xffff_ffff,
        user: false,
    };
    bound(sk, requested, result, Mechanism::FEXIT);
    0
}

macro_rules! bind_probe_pair {
    ($entry:ident, $exit:ident, $call:expr) => {
        /// Keeps the arguments for the exit.
        #[kprobe]
        pub fn $entry(context: ProbeContext) -> u32 {
            if let (Some(socket), Some(address), Some(length)) = (
                context.arg::<u64>(0),
                context.arg::<u64>(1),
                context.arg::<u64>(2),
            ) {
                enter($call, socket, address, length & 0xffff_ffff);
            }
            0
        }

        /// As the fexit of the same function.
        #[kretprobe]
        pub fn $exit(context: RetProbeContext) -> u32 {
            let result: i32 = context.ret();
            if let Some(pending) = leave($call)
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
    };
}
bind_probe_pair!(bind_kprobe, bind_kretprobe, Call::InetBind);
bind_probe_pair!(bind6_kprobe, bind6_kretprobe, Call::Inet6Bind);

/// Runs in `__inet_bind` after the port was taken; a bind that fails never gets here. Must return 1, or
/// the bind would be refused.
#[cgroup_sock(post_bind4)]
pub fn post_bind4(context: SockContext) -> i32 {
    post_bind(&context)
}

/// As [`post_bind4`].
#[cgroup_sock(post_bind6)]
pub fn post_bind6(context: SockContext) -> i32 {
    post_bind(&context)
}

#[inline(always)]
fn post_bind(context: &SockContext) -> i32 {
    // The context of a cgroup socket program is the socket itself.
    let sk = raw(context);
    // SAFETY: the context of a cgroup socket program.
    let protocol = unsafe {
        bpf_get_socket_cookie(sk);
        (*context.sock).protocol as u16
    };
    if is_reported(protocol) {
        track(sk as u64);
        report(sk as u64, Requested::NOTHING, 0, Mechanism::CGROUP);
    }
    1
}

/// TCP's successful bind is not news (listen is), its refusal is. Nor is one that takes no port (`IP_BIND_ADDRESS_NO_PORT`): that is
/// a client, who gets his port when he connects.
#[inline(always)]
fn is_news(sk: u64, result: i32) -> bool {
    result != 0 || (is_reported(sock::protocol(sk)) && sock::port(sk) != 0)
}

/// A bind ended that is news.
#[inline(always)]
fn bound(sk: u64, requested: Requested, result: i32, mechanism: Mechanism) {
    if result == 0 {
        track(sk);
    }
    report(sk, requested.if_refused(result), result, mechanism);
}

/// Datagram protocols whose bind makes a listener.
#[inline(always)]
pub fn is_reported(protocol: u16) -> bool {
    protocol == sock::IPPROTO_UDP || protocol == sock::IPPROTO_UDPLITE
}

#[inline(always)]
fn report(sk: u64, requested: Requested, result: i32, mechanism: Mechanism) {
    let origin = Origin::of(result, mechanism, ListenerFlags::FROM_BIND);
    emit::listener(sk, origin, requested);
}

traced! {
    /// `void udp_destroy_sock(struct sock *sk)`: only at the end of a UDP or UDP-Lite socket.
    fentry FEntryContext "udp_destroy_sock": udp_close_fentry / udp_close_fentry_spare, UDP_CLOSE, close_entry
}
traced! {
    /// `void udpv6_destroy_sock(struct sock *sk)`.
    fentry FEntryContext "udpv6_destroy_sock":
        udp6_close_fentry / udp6_close_fentry_spare, UDP6_CLOSE, close_entry
}

#[inline(never)]
fn close_entry(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(true) {
        closed(argument(context, 0), Mechanism::FENTRY);
    }
    0
}

/// As [`udp_close_fentry`].
#[kprobe]
pub fn udp_close_kprobe(context: ProbeContext) -> u32 {
    closed(context.arg::<u64>(0).unwrap_or(0), Mechanism::KPROBE);
    0
}

/// As [`udp6_close_fentry`].
#[kprobe]
pub fn udp6_close_kprobe(context: ProbeContext) -> u32 {
    closed(context.arg::<u64>(0).unwrap_or(0), Mechanism::KPROBE);
    0
}

/// A UDP socket ends: a listener's end is told, a client's is counted.
#[inline(always)]
pub fn closed(sk: u64, mechanism: Mechanism) {
    if TRACKED.get_ptr(sk).is_some() {
        emit::close(sk, mechanism);
    } else if sock::port(sk) != 0
        && let Some(counters) = counters()
    {
        // SAFETY: this CPU's own counters.
        unsafe { add_one(&raw mut (*counters).udp_autobinds) };
    }
}
