//! What a RELP server says to a sink.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::relp(bytes));
