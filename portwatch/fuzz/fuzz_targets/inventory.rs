//! Records one after another, as a ring and an iterator hand them over, into the inventory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portwatch::fuzzing::inventory(bytes));
