//! portwatch's kernel probes: one body per signal, shared by the rungs of its ladder.
//!
//! What is read comes from kernel objects, never from system call arguments where the object can be
//! read; every record is counted before its place in the ring is reserved, so that a loss is a number.
#![no_std]
#![no_main]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics, asm_experimental_arch),
    expect(
        internal_features,
        reason = "no stable name for an atomic addition on this target"
    )
)]
#![expect(
    unreachable_pub,
    reason = "the program macros demand public functions, and the modules around them follow suit"
)]

#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod image;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod path;
#[cfg(target_arch = "bpf")]
mod probe;
#[cfg(target_arch = "bpf")]
mod share;
#[cfg(target_arch = "bpf")]
mod sock;
#[cfg(target_arch = "bpf")]
mod spare;
#[cfg(target_arch = "bpf")]
mod storm;
#[cfg(target_arch = "bpf")]
mod stream;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod verifier;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Never reached: the verifier refuses a program from which it could be. The loop is what a
    // program that cannot return needs to type-check.
    loop {}
}

/// The helpers for kernel memory are GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
