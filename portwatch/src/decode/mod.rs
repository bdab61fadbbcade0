//! Ring bytes to typed records: checked parsing, no I/O, no panic on any input.

pub mod record;
