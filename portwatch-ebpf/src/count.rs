//! This CPU's counters, and how they are added to.
//!
//! Trap `preempted_counter`: a per-CPU value has several writers. A probe in an interrupt runs between the
//! load and the store of the one that it interrupted, and kernels with full or lazy preemption let
//! another task's probe run there too. So shared counters are added to undivided (`XADD`, which every
//! kernel has; fetching operations came with 5.12). What one program alone writes needs no such thing:
//! the kernel skips a program that runs on this CPU already.
//! Trap `nested_tracepoint`: before 6.1 it does not skip those of tracepoints; then nothing is written alone.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use portwatch_common::counters::Counters;

use crate::kernel::setting;
use crate::maps::COUNTERS;

/// This CPU's counters.
#[inline(always)]
pub fn counters() -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(0)
}

/// Adds one.
///
/// # Safety
/// `counter` must lie in this CPU's counters.
#[inline(always)]
pub unsafe fn add_one(counter: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { add(counter, 1) };
}

/// Adds one to what one program alone writes.
///
/// # Safety
/// `place` must lie in a per-CPU value of a map, and no other program may write to it.
#[inline(always)]
pub unsafe fn add_one_alone(place: *mut u64) {
    // SAFETY: the caller's promise; and this program does not interrupt itself where it is a plain one.
    unsafe {
        if setting!(nests) != 0 {
            add(place, 1);
        } else {
            *place += 1;
        }
    }
}

/// Adds to a value that others add to at the same time.
///
/// # Safety
/// `place` must lie in the value of a map.
#[inline(always)]
pub unsafe fn add(place: *mut u64, amount: u64) {
    // SAFETY: the caller's promise. The order does not matter, and any stricter one would be compiled to
    // a fetching operation.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(place, amount);
    }
}
