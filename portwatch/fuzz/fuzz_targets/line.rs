//! A ring record on its way to a line of JSON and a line for people.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::line(bytes));
