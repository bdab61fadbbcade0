//! The control protocol: what a client asks, and what a daemon answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::control(bytes));
