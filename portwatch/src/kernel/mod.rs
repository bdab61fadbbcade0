//! What the running kernel is and permits: BTF, field offsets, features, preflight.

pub mod btf;
pub mod offsets;
