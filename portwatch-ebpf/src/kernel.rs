//! Typed reads of kernel memory by offset: the one place that dereferences what the kernel points to.
//!
//! Every read goes through `bpf_probe_read_kernel`, which cannot fault, at an offset that user space
//! resolved from this kernel's BTF; or, where each nanosecond counts, through a pointer whose type the
//! verifier knows ([`Typed`]), which the kernel makes as safe; or from a copy of the object's beginning
//! ([`Copied`]). An absent field reads as nothing.

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
    spares: 0,
    sock_ops: 0,
    tick_ns: 0,
    window_shift: 0,
    nests: 0,
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
pub fn bits(base: impl Object, bit_offset: u32, mask: u8) -> u8 {
    if bit_offset == ABSENT {
        return 0;
    }
    (base.field::<u8>(bit_offset / 8) >> (bit_offset % 8)) & mask
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

/// A kernel object, however its fields are had.
pub trait Object: Copy {
    /// Where it lies in the kernel.
    fn address(self) -> u64;
    /// Reads a field; zero when this kernel does not have it.
    fn field<T: Plain>(self, offset: u32) -> T;
    /// Reads a field of the structure that a pointer in this one leads to.
    #[inline(always)]
    fn behind<T: Plain>(self, pointer: u32, offset: u32) -> T {
        field(self.field(pointer), offset)
    }
}

/// An address: each field is a call of the helper.
impl Object for u64 {
    #[inline(always)]
    fn address(self) -> u64 {
        self
    }

    #[inline(always)]
    fn field<T: Plain>(self, offset: u32) -> T {
        field(self, offset)
    }
}

/// A kernel object of which the first bytes were copied by one call of the helper, which costs little more
/// than one for a single field. What lies behind them is read from the object itself.
#[derive(Clone, Copy)]
pub struct Copied {
    address: u64,
    bytes: *const u8,
}

impl Copied {
    /// The part of `struct sock` that has most of what is read, in four cache lines. All of it would be thirteen: on a
    /// host with thousands of sockets none of them is in a cache, and waiting for them is what a walk costs.
    pub const LEN: usize = 256;

    /// Copies the beginning of the object at `address` to `place`.
    ///
    /// # Safety
    /// `place` must stay as it is while this is in use.
    #[inline(always)]
    pub unsafe fn of(address: u64, place: *mut CopyPlace) -> Self {
        // SAFETY: the length is that of the place; the source is checked by the helper.
        unsafe {
            bpf_probe_read_kernel(
                place.cast(),
                Self::LEN as u32,
                address as *const core::ffi::c_void,
            );
        }
        Self {
            address,
            bytes: place.cast(),
        }
    }
}

impl Object for Copied {
    #[inline(always)]
    fn address(self) -> u64 {
        self.address
    }

    /// The verifier knows the offset, and so which of the two it is.
    #[inline(always)]
    fn field<T: Plain>(self, offset: u32) -> T {
        if offset == ABSENT {
            T::ZERO
        } else if offset as usize > Self::LEN - size_of::<T>() {
            read(self.address.wrapping_add(offset as u64))
        } else {
            // SAFETY: inside the copy. A field is aligned in its object as in the copy.
            unsafe { core::ptr::read_volatile(self.bytes.add(offset as usize).cast::<T>()) }
        }
    }
}

/// See [`Typed::field`]: only of this very structure.
impl Object for Typed {
    #[inline(always)]
    fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn field<T: Plain>(self, offset: u32) -> T {
        Self::field(self, offset)
    }

    /// Two loads instead of one and a call of the helper.
    #[inline(always)]
    fn behind<T: Plain>(self, pointer: u32, offset: u32) -> T {
        if pointer == ABSENT {
            return T::ZERO;
        }
        // SAFETY: the caller names a pointer to a kernel structure, or the verifier refuses the load behind it.
        unsafe { self.follow(pointer) }.field(offset)
    }
}

/// A place for [`Copied`].
pub type CopyPlace = [u64; Copied::LEN / 8];

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

    /// The structure that a pointer in this one leads to.
    ///
    /// # Safety
    /// The field must be a pointer to a kernel structure.
    #[inline(always)]
    pub unsafe fn follow(self, offset: u32) -> Self {
        // SAFETY: the verifier refuses a program that reads beyond the field; the caller's promise.
        Self(unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast::<*const u8>()) })
    }

    /// Nothing: the kernel passes none.
    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0.is_null()
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
