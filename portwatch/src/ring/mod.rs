//! Ring buffer readers and the counters beside them.

pub mod ledger;
