//! What keeps the verifier from walking the same code again and again.
//!
//! It follows every way through a program, and gives one up where it has been before, knowing no more than now. Filling a record
//! is thousands of instructions to it, and each way that leads there was walked to the end: all of that is paid at each start.
//! Kernels before 6.3 never take two places in a ring for the same; so ways must meet before the place is reserved.

use core::arch::asm;
use core::hint::black_box;

use crate::emit::current;

/// A place where the verifier remembers what it knows, and compares: it does so at targets of jumps, after two jumps or calls
/// and eight instructions. The jump goes to the next instruction, and the kernel takes it out again.
#[inline(always)]
pub fn checkpoint() {
    // SAFETY: it does nothing.
    unsafe { asm!("goto +0", options(nomem, nostack, preserves_flags)) };
}

/// The same value, of which the verifier knows nothing any more: what it knew would keep apart ways that differ by it.
#[inline(always)]
pub fn forget(value: u64) -> u64 {
    let any = current();
    value ^ black_box(any) ^ black_box(any)
}
