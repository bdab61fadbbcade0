//! The control socket: protocol, bounded server, client.

pub mod client;
mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod human;
pub mod peer;
pub mod protocol;
mod seats;
pub mod server;
mod session;
pub mod socket;
pub mod stats;
pub mod status;
