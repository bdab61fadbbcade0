//! Ring buffer readers and the counters beside them.
