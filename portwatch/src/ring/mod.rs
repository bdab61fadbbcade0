//! Ring buffer readers and the counters beside them.

pub mod ledger;
pub mod skipped;
