//! Connections to peers that may be slow, hostile, or somebody else: every step has an end, and certificates are checked.

mod endpoint;
pub mod http;
mod link;
mod tls;

pub use endpoint::Endpoint;
pub use link::Link;
pub use tls::{Identity, client};

use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Is this name or address one of this host, so that nobody is on the way to it?
#[must_use]
pub fn is_here(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What is wrong with a connection, as a clause about the peer.
#[must_use]
pub fn told(error: &io::Error, patience: Duration) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("nothing came of it within {patience:?}")
        }
        io::ErrorKind::UnexpectedEof => "it hung up".to_owned(),
        _ => error.to_string(),
    }
}
