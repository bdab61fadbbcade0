//! The control socket: protocol, bounded server, client; and metrics.

mod ask;
pub mod client;
mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod human;
pub mod metrics;
pub mod peer;
pub mod protocol;
mod seats;
pub mod server;
mod session;
pub mod socket;
pub mod stats;
pub mod status;
