//! What sinks with a peer on the network have in common: where it is, certificates, and how long it may take. Pure.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::values::{Apply, absolute, secret_file, set, span, string, truth};
use crate::net;

/// How a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Certificates of authorities besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// How long one step may take.
    pub timeout: Duration,
    /// Everybody on the way may read and change what goes there.
    pub insecure: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            ca_file: None,
            cert_file: None,
            key_file: None,
            timeout: Duration::from_secs(10),
            insecure: false,
        }
    }
}

pub(super) const KEYS: &[(&str, Apply<Way>)] = &[
    ("ca_file", |way, value| {
        set(&mut way.ca_file, absolute(value).map(Some))
    }),
    ("cert_file", |way, value| {
        set(&mut way.cert_file, absolute(value).map(Some))
    }),
    ("key_file", |way, value| {
        set(&mut way.key_file, secret_file(value).map(Some))
    }),
    ("timeout", |way, value| {
        set(&mut way.timeout, span(value, 1, 120))
    }),
    ("insecure", |way, value| {
        set(&mut way.insecure, truth(value))
    }),
];

impl Way {
    /// May records go this way? Secrets never go without TLS, but on this host.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn permits(&self, is_tls: bool, is_here: bool, has_secret: bool) -> Result<(), String> {
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err("`cert_file` and `key_file` go together: give both".to_owned());
        }
        if is_tls || is_here {
            return Ok(());
        }
        if !self.insecure {
            return Err(
                "without TLS everybody on the way can read and change events: use TLS, or say \
                 `insecure = true`"
                    .to_owned(),
            );
        }
        match has_secret {
            true => Err("a secret never goes over a connection without TLS".to_owned()),
            false => Ok(()),
        }
    }
}

/// Where a peer is: `tls://host:port` or `tcp://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Within TLS.
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Address {
    /// Is it on this host?
    #[must_use]
    pub fn is_here(&self) -> bool {
        net::is_here(&self.host)
    }
}

/// Reads an address.
pub(super) fn address(value: &DeValue<'_>) -> Result<Address, String> {
    let wrong = || {
        "expected an address such as \"tls://siem.example.org:6514\", or \"tcp://…\" without TLS"
            .to_owned()
    };
    let text = string(value)?;
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let tls = match scheme {
        "tls" => true,
        "tcp" => false,
        _ => return Err(wrong()),
    };
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_right = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.len() <= 253 && host.bytes().all(plain)
        }
    };
    match is_right && port > 0 {
        true => Ok(Address {
            tls,
            host: bare.unwrap_or(host).to_owned(),
            port,
        }),
        false => Err(wrong()),
    }
}
