//! Every listener now: live records and snapshots merged without a duplicate or a miss.
