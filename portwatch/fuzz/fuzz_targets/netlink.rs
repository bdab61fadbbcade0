//! What the kernel answers to sock_diag.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::netlink(bytes));
