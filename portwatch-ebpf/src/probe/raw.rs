//! Raw IP sockets: they receive every packet of their protocol from the moment they are hashed.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::{cgroup_sock, fentry, fexit, kprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, SockContext};
use portwatch_common::header::Mechanism;
use portwatch_common::listener::ListenerFlags;

use super::{ensure_cookie, result, traced, udp};
use crate::emit::{self, Origin, Requested, raw};
use crate::kernel::argument;
use crate::sock;
use crate::spare::Turn;

traced! {
    /// `int raw_hash_sk(struct sock *sk)`: IPv4 and IPv6.
    fexit FExitContext "raw_hash_sk": raw_open_fexit / raw_open_fexit_spare, RAW_OPEN, raw_open_exit
}

/// Each new network namespace gets some of the kernel's own, one after another to send by, which are hashed and taken out again
/// in the same call (`inet_ctl_sock_create`): whoever starts a container would be told to listen to all its packets.
#[inline(always)]
fn is_news(sk: u64) -> bool {
    !sock::is_kernels(sk)
}

#[inline(never)]
fn raw_open_exit(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(result(context, 1) == 0 && is_news(argument(context, 0))) {
        // SAFETY: argument 0 is a `struct sock *`.
        unsafe { ensure_cookie(context, 0) };
        opened(argument(context, 0), Mechanism::FEXIT);
    }
    0
}

/// As [`raw_open_fexit`], at entry: `raw_hash_sk` cannot fail.
#[kprobe]
pub fn raw_open_kprobe(context: ProbeContext) -> u32 {
    let sk = context.arg::<u64>(0).unwrap_or(0);
    if is_news(sk) {
        opened(sk, Mechanism::KPROBE);
    }
    0
}

/// Runs at the end of `inet_create`, for every inet socket: all but raw ones leave at the first
/// comparison. Must return 1, or the socket would be refused.
#[cgroup_sock(sock_create)]
pub fn sock_create(context: SockContext) -> i32 {
    // SAFETY: the context of a cgroup socket program.
    if unsafe { (*context.sock).type_ } == u32::from(sock::SOCK_RAW) {
        // SAFETY: as above.
        unsafe { bpf_get_socket_cookie(raw(&context)) };
        opened(raw(&context) as u64, Mechanism::CGROUP);
    }
    1
}

traced! {
    /// `void raw_unhash_sk(struct sock *sk)`.
    fentry FEntryContext "raw_unhash_sk": raw_close_fentry / raw_close_fentry_spare, RAW_CLOSE, raw_close_entry
}

#[inline(never)]
fn raw_close_entry(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(is_news(argument(context, 0))) {
        emit::close(argument(context, 0), Mechanism::FENTRY);
    }
    0
}

/// As [`raw_close_fentry`].
#[kprobe]
pub fn raw_close_kprobe(context: ProbeContext) -> u32 {
    let sk = context.arg::<u64>(0).unwrap_or(0);
    if is_news(sk) {
        emit::close(sk, Mechanism::KPROBE);
    }
    0
}

/// The end of any inet socket that has a file: raw and UDP ones are ours, TCP's end is a state change.
#[cgroup_sock(sock_release)]
pub fn sock_release(context: SockContext) -> i32 {
    // SAFETY: the context of a cgroup socket program.
    let kind = unsafe { (*context.sock).type_ } as u16;
    if kind == sock::SOCK_RAW {
        emit::close(raw(&context) as u64, Mechanism::CGROUP);
    } else if kind == sock::SOCK_DGRAM {
        udp::closed(raw(&context) as u64, Mechanism::CGROUP);
    }
    1
}

#[inline(always)]
fn opened(sk: u64, mechanism: Mechanism) {
    let origin = Origin::of(0, mechanism, ListenerFlags::FROM_CREATE);
    emit::listener(sk, origin, Requested::NOTHING);
}
