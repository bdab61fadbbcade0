//! The control socket: protocol, bounded server, client.

pub mod client;
mod human;
pub mod peer;
pub mod protocol;
mod seats;
pub mod server;
mod session;
pub mod socket;
pub mod status;
