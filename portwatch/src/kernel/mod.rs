//! What the running kernel is and permits: BTF, field offsets, features, preflight.

pub mod btf;
pub mod capability;
pub mod features;
mod mount;
pub mod offsets;
pub mod permitted;
mod preemption;
pub mod preflight;
mod read;
pub mod tracefs;
