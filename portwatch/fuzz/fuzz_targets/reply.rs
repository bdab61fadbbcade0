//! What an HTTP server says to a sink.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::reply(bytes));
