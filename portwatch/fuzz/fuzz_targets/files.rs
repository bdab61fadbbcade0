//! Package databases, and the names of users, groups and services.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::files(bytes));
