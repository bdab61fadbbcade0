//! portwatch against running kernels: a scripted process that opens sockets (the actor), a reader of
//! portwatch's own output (the watch), and what each mechanism is expected to see (the rungs).
//!
//! Nothing here uses portwatch's library: the suite judges the program from outside, by its JSON lines.
//! Nothing here needs a shell or a tool of the host, so that the scenarios run unchanged in a bare VM.

pub mod actor;
pub mod address;
pub mod channel;
pub mod harness;
pub mod sys;
