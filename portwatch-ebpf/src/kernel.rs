//! Typed reads of kernel memory by offset: the one place that dereferences what the kernel points to.
//!
//! Every read goes through `bpf_probe_read_kernel`, which cannot fault, at an offset that user space
//! resolved from this kernel's BTF. An absent field reads as nothing.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use portwatch_common::offsets::{ABSENT, Offsets};
use portwatch_common::settings::Settings;

/// Set at load, read-only afterwards: the verifier folds each offset into the program.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ALL_ABSENT;

/// Set at load, read-only afterwards.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings {
    cookie_helper: 0,
    listen_tentative: 0,
    syscall_signals: 0,
    sockfs_magic: 0,
};

/// The offset of a kernel field.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::constant(&$crate::kernel::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// A setting, read like an offset.
macro_rules! setting {
    ($field:ident) => {
        $crate::kernel::constant(&$crate::kernel::SETTINGS.$field)
    };
}
pub(crate) use setting;

/// Reads a constant that is set at load. Volatile, or the compiler would fold the placeholder in.
#[inline(always)]
pub fn constant(place: &'static u32) -> u32 {
    // SAFETY: a shared reference is aligned and initialised.
    unsafe { core::ptr::read_volatile(place) }
}

/// Reads a `T` at a kernel address; `None` when the kernel refuses.
#[inline(always)]
pub fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the destination is a local of the size that is passed; the source is checked by the helper.
    let result = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const core::ffi::c_void,
        )
    };
    if result == 0 {
        // SAFETY: the helper filled it whole.
        Some(unsafe { value.assume_init() })
    } else {
        None
    }
}

/// Reads a field; `None` when this kernel does not have it.
#[inline(always)]
pub fn field<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == ABSENT {
        None
    } else {
        read(base.wrapping_add(u64::from(offset)))
    }
}

/// Follows a pointer field; `None` for a null pointer too.
#[inline(always)]
pub fn follow(base: u64, offset: u32) -> Option<u64> {
    match field::<u64>(base, offset) {
        Some(0) | None => None,
        pointer => pointer,
    }
}

/// Reads bits inside one byte of a bit-field.
#[inline(always)]
pub fn bits(base: u64, bit_offset: u32, mask: u8) -> u8 {
    if bit_offset == ABSENT {
        return 0;
    }
    match read::<u8>(base.wrapping_add(u64::from(bit_offset / 8))) {
        Some(byte) => (byte >> (bit_offset % 8)) & mask,
        None => 0,
    }
}

/// Copies kernel memory into a place in a map or ring record.
///
/// # Safety
/// `destination` must be writable for `N` bytes.
#[inline(always)]
pub unsafe fn copy<const N: usize>(destination: *mut [u8; N], address: u64) -> bool {
    // SAFETY: the caller's promise; the source is checked by the helper.
    let result = unsafe {
        bpf_probe_read_kernel(
            destination.cast(),
            N as u32,
            address as *const core::ffi::c_void,
        )
    };
    result == 0
}

/// An argument of a traced function, as a number: read from the context's memory, because the typed
/// pointer the verifier would hand out may not be calculated with or stored everywhere.
#[inline(always)]
pub fn argument(context: *mut core::ffi::c_void, index: usize) -> Option<u64> {
    read::<u64>((context as u64).wrapping_add(8 * index as u64))
}
