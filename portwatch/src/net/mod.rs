//! Connections to peers that may be slow, hostile, or somebody else: every step has an end, and certificates are checked.

mod endpoint;
pub mod http;
mod link;
mod tls;

pub use endpoint::Endpoint;
pub use link::Link;
pub use tls::{Identity, client};

use std::io;
use std::time::Duration;

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
