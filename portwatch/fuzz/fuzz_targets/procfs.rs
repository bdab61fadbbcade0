//! The texts of /proc.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::procfs(bytes));
