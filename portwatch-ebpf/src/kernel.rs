//! Typed reads of kernel memory by offset: the one place that dereferences what the kernel points to.
//!
//! Every read goes through `bpf_probe_read_kernel`, which cannot fault, at an offset that user space
//! resolved from this kernel's BTF; or, where each nanosecond counts, through a pointer whose type the
//! verifier knows ([`Typed`]), which the kernel makes as safe. An absent field reads as nothing.

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

/// Plain numbers and byte arrays: any bytes are a value, and zero is "nothing".
pub trait Plain: Copy {
    /// What a refused read gives.
    const ZERO: Self;
}
macro_rules! plain {
    ($($ty:ty: $zero:expr),*) => { $(impl Plain for $ty { const ZERO: Self = $zero; })* };
}
plain!(u8: 0, u16: 0, u32: 0, u64: 0, i32: 0, [u8; 16]: [0; 16]);

/// Reads a `T` at a kernel address; zero when the kernel refuses.
///
/// Deliberately without a branch on the result: each branch doubles the paths that the verifier walks
/// through everything behind it, and the helper clears its destination when it fails.
#[inline(always)]
pub fn read<T: Plain>(address: u64) -> T {
    let mut value = T::ZERO;
    // SAFETY: the destination is a local of the size that is passed; the source is checked by the helper.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            address as *const core::ffi::c_void,
        );
    }
    value
}

/// Reads a field; zero when this kernel does not have it. A null `base` reads as zero too, so chains of
/// pointers need no checks between.
#[inline(always)]
pub fn field<T: Plain>(base: u64, offset: u32) -> T {
    if offset == ABSENT {
        T::ZERO
    } else {
        read(base.wrapping_add(offset as u64))
    }
}

/// Reads bits inside one byte of a bit-field.
#[inline(always)]
pub fn bits(base: u64, bit_offset: u32, mask: u8) -> u8 {
    if bit_offset == ABSENT {
        return 0;
    }
    let byte: u8 = read(base.wrapping_add((bit_offset / 8) as u64));
    (byte >> (bit_offset % 8)) & mask
}

/// Copies kernel memory into a place in a map or ring record; clears it when the kernel refuses.
///
/// # Safety
/// `destination` must be writable for `N` bytes.
#[inline(always)]
pub unsafe fn copy<const N: usize>(destination: *mut [u8; N], base: u64, offset: u32) {
    let address = if offset == ABSENT {
        0
    } else {
        base.wrapping_add(offset as u64)
    };
    // SAFETY: the caller's promise; the source is checked by the helper.
    unsafe {
        bpf_probe_read_kernel(
            destination.cast(),
            N as u32,
            address as *const core::ffi::c_void,
        );
    }
}

/// An argument of a traced function, as a number: read from the context's memory, because the typed
/// pointer the verifier would hand out may not be calculated with or stored everywhere.
#[inline(always)]
pub fn argument(context: *mut core::ffi::c_void, index: usize) -> u64 {
    read::<u64>((context as u64).wrapping_add(8 * index as u64))
}

/// A kernel object whose type the verifier knows: the argument of a typed tracepoint. A load through it
/// is one instruction, checked against BTF when the program is loaded; a fault reads as zero.
#[derive(Clone, Copy)]
pub struct Typed(*const u8);

impl Typed {
    /// Argument `index` of the traced function.
    ///
    /// # Safety
    /// It must be a pointer to a kernel structure.
    #[inline(always)]
    pub unsafe fn argument(context: *mut core::ffi::c_void, index: usize) -> Self {
        // SAFETY: inside the context; the caller's promise.
        Self(unsafe { *context.cast::<*const u8>().add(index) })
    }

    /// Reads a field of this very structure; zero when this kernel does not have it. `T` must be as long
    /// as the field, or lie within an array.
    #[inline(always)]
    pub fn field<T: Plain>(self, offset: u32) -> T {
        if offset == ABSENT {
            return T::ZERO;
        }
        // SAFETY: the verifier refuses a program that reads beyond the field.
        unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast::<T>()) }
    }

    /// Reads bits inside one byte of a bit-field.
    #[inline(always)]
    pub fn bits(self, bit_offset: u32, mask: u8) -> u8 {
        if bit_offset == ABSENT {
            return 0;
        }
        (self.field::<u8>(bit_offset / 8) >> (bit_offset % 8)) & mask
    }

    /// The address, as a number.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }
}
