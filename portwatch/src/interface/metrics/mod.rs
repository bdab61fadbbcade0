//! Metrics for Prometheus: the figures of `portwatch status` as text, and a small server that tells them.

mod exposition;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod http;
pub mod listen;
pub mod page;
pub mod server;
pub mod textfile;

pub use exposition::Format;
