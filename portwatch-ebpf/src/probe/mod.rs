//! One file per signal: why this hook, which traps, the kernel's prototype, and one body for all rungs.

pub mod inventory;
pub mod knock;
pub mod listen;
pub mod packet;
pub mod process;
pub mod raw;
pub mod state;
pub mod syn;
pub mod syscall;
pub mod udp;
pub mod unix;

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;

use crate::emit::thread;
use crate::kernel::{argument, setting};
use crate::maps::{Call, PENDING, Pending, PendingKey};

/// A traced function or tracepoint with two programs of one body, see [`crate::spare`].
///
/// `traced!(fexit FExitContext "function": program / spare program, HOOK, body)`
macro_rules! traced {
    ($(#[$doc:meta])* $kind:ident $context:ident $function:literal: $first:ident / $spare:ident, $hook:ident, $body:ident) => {
        $(#[$doc])*
        #[$kind(function = $function)]
        pub fn $first(context: $context) -> i32 {
            $body(
                $crate::emit::raw(&context),
                $crate::spare::Turn::first(portwatch_common::counters::Hook::$hook),
            )
        }

        /// Stands in for the one above it.
        #[$kind(function = $function)]
        pub fn $spare(context: $context) -> i32 {
            $body(
                $crate::emit::raw(&context),
                $crate::spare::Turn::spare(portwatch_common::counters::Hook::$hook),
            )
        }
    };
}
use traced;

/// Keeps a call's arguments for its exit.
#[inline(always)]
fn enter(call: Call, subject: u64, address: u64, extra: u64) {
    // The table is LRU: an insert only fails for want of memory, and then the exit finds nothing.
    let _ = PENDING.insert(
        key(call),
        Pending {
            subject,
            address,
            extra,
        },
        0,
    );
}

/// Takes back what [`enter`] kept.
#[inline(always)]
fn leave(call: Call) -> Option<Pending> {
    let pending = peek(call)?;
    let _ = PENDING.remove(key(call));
    Some(pending)
}

/// What [`enter`] kept, which stays.
#[inline(always)]
fn peek(call: Call) -> Option<Pending> {
    // SAFETY: a value of the map, copied.
    PENDING.get_ptr(key(call)).map(|place| unsafe { *place })
}

#[inline(always)]
fn key(call: Call) -> PendingKey {
    PendingKey {
        thread: thread(),
        call: call as u64,
    }
}

/// The result of a traced function, from the slot behind its arguments.
///
/// `bpf_get_func_ret` would need 5.17; the slot is there since trampolines exist.
#[inline(always)]
fn result(context: *mut core::ffi::c_void, parameters: usize) -> i32 {
    argument(context, parameters) as i32
}

/// Makes sure that the socket has a cookie, where a tracing program may ask for one (5.12 and later).
///
/// # Safety
/// Argument `index` of the traced function must be a `struct sock *`.
#[inline(always)]
unsafe fn ensure_cookie(context: *mut core::ffi::c_void, index: usize) {
    if setting!(cookie_helper) != 0 {
        // SAFETY: the verifier knows the argument as a socket; the typed load keeps that knowledge.
        unsafe {
            let sk = *context.cast::<*mut core::ffi::c_void>().add(index);
            bpf_get_socket_cookie(sk);
        }
    }
}
