//! What a Kafka broker says to a sink.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::kafka(bytes));
