//! A peer on the network: where it is, whether TLS leads there, and how long one step with it may take.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::{Link, told};

/// A peer.
#[derive(Clone)]
pub struct Endpoint {
    /// Name or address. Its certificate must be for it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How TLS is begun; none without.
    pub tls: Option<Arc<ClientConfig>>,
    /// How long one step may take.
    pub patience: Duration,
}

impl Endpoint {
    /// Connects, within TLS where it is to be.
    ///
    /// # Errors
    /// Why not, in a sentence that begins with the peer.
    pub fn open(&self) -> Result<Link, String> {
        let link = self.connect()?;
        self.secure(link)
    }

    /// Connects, without TLS yet.
    ///
    /// # Errors
    /// Why not, in a sentence that begins with the peer.
    pub fn connect(&self) -> Result<Link, String> {
        Link::tcp(&self.host, self.port, self.patience).map_err(|error| self.broken(&error))
    }

    /// Begins TLS on a connection with it, where it is to be.
    ///
    /// # Errors
    /// Why not, in a sentence that begins with the peer.
    pub fn secure(&self, link: Link) -> Result<Link, String> {
        match &self.tls {
            None => Ok(link),
            Some(config) => {
                let secured = link.secure(&self.host, config, self.patience);
                secured.map_err(|why| self.says(&why))
            }
        }
    }

    /// Writes all of it, within the time of one step.
    ///
    /// # Errors
    /// Why not, in a sentence that begins with the peer.
    pub fn write(&self, link: &mut Link, bytes: &[u8]) -> Result<(), String> {
        link.wait_until(Instant::now() + self.patience);
        let written = link.write_all(bytes).and_then(|()| link.flush());
        written.map_err(|error| self.broken(&error))
    }

    /// What is wrong with a connection to it.
    #[must_use]
    pub fn broken(&self, error: &io::Error) -> String {
        self.says(&told(error, self.patience))
    }

    /// This about it.
    #[must_use]
    pub fn says(&self, what: &str) -> String {
        format!("{self}: {what}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self}, tls: {})", self.tls.is_some())
    }
}
