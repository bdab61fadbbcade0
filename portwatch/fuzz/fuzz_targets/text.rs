//! The escaping of hostile bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::text(bytes));
