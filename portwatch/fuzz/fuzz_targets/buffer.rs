//! Files of the disk buffer of a sink.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::buffer(bytes));
