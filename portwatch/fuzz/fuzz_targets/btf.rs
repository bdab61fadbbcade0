//! The kernel's types, and where the probes' fields lie in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::btf(bytes));
