//! The wire between the kernel probes and user space: what a ring record looks like, byte for byte.
//!
//! `no_std`, `repr(C)`, no implicit padding: every gap is a named field, every size is asserted at
//! compile time, so that a probe built today and a daemon built tomorrow either agree or do not
//! build. Enums travel as integer newtypes, because a record is data from another program: a value
//! that is not known must be representable before it can be refused.
//!
//! User space enables the `user` feature and parses with checked `zerocopy`, never by transmute.
#![no_std]

pub mod connection;
pub mod counters;
pub mod header;
pub mod listener;
pub mod offsets;
pub mod process;
pub mod settings;
pub mod share;
pub mod socket;
pub mod storm;
pub mod task;

/// Marks a wire type as readable by checked parsing in user space; nothing on the kernel side.
#[cfg(feature = "user")]
macro_rules! wire {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $ty:ty,)* } size $size:expr) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}
/// Marks a wire type as readable by checked parsing in user space; nothing on the kernel side.
#[cfg(not(feature = "user"))]
macro_rules! wire {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $ty:ty,)* } size $size:expr) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
    };
}
pub(crate) use wire;

/// Declares an enum that travels as an integer newtype.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident: $int:ty { $($(#[$vmeta:meta])* $variant:ident = $value:expr,)* }) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
        pub struct $name(pub $int);
        impl $name {
            $($(#[$vmeta])* pub const $variant: Self = Self($value);)*
            /// Every value this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}
pub(crate) use wire_enum;
