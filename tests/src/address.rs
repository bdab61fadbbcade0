//! Addresses to bind: one word in the actor's protocol, the bytes of a `sockaddr` for the kernel.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

/// What a socket is bound or connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6 with a port.
    Inet(SocketAddr),
    /// The bytes of `sun_path` exactly: a path, a NUL and an abstract name, or nothing (autobind).
    Unix(Vec<u8>),
    /// A packet socket's interface index and ethertype.
    Packet {
        /// 0 for any.
        ifindex: u32,
        /// Host order, 3 for all.
        ethertype: u16,
    },
    /// The family `AF_UNSPEC`, which dissolves an association.
    Unspecified,
}

impl Address {
    /// An inet address from its text.
    ///
    /// # Errors
    /// The text is no `address:port`.
    pub fn inet(text: &str) -> Result<Self> {
        Ok(Self::Inet(
            text.parse()
                .with_context(|| format!("{text:?} is no address:port"))?,
        ))
    }

    /// A unix path.
    #[must_use]
    pub fn path(path: &std::path::Path) -> Self {
        Self::Unix(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec())
    }

    /// An abstract unix name, given without its leading NUL.
    #[must_use]
    pub fn abstract_name(name: &[u8]) -> Self {
        Self::Unix([b"\0", name].concat())
    }

    /// The bytes of the `sockaddr`.
    #[must_use]
    pub fn to_sockaddr(&self) -> Vec<u8> {
        match self {
            Self::Inet(SocketAddr::V4(v4)) => {
                let mut bytes = family(libc::AF_INET);
                bytes.extend(v4.port().to_be_bytes());
                bytes.extend(v4.ip().octets());
                bytes.extend([0; 8]);
                bytes
            }
            Self::Inet(SocketAddr::V6(v6)) => {
                let mut bytes = family(libc::AF_INET6);
                bytes.extend(v6.port().to_be_bytes());
                bytes.extend(v6.flowinfo().to_be_bytes());
                bytes.extend(v6.ip().octets());
                bytes.extend(v6.scope_id().to_ne_bytes());
                bytes
            }
            Self::Unix(name) => {
                let mut bytes = family(libc::AF_UNIX);
                bytes.extend(name);
                bytes
            }
            Self::Packet { ifindex, ethertype } => {
                let mut bytes = family(libc::AF_PACKET);
                bytes.extend(ethertype.to_be_bytes());
                bytes.extend(ifindex.to_ne_bytes());
                bytes.extend([0; 12]);
                bytes
            }
            Self::Unspecified => {
                let mut bytes = family(libc::AF_UNSPEC);
                bytes.extend([0; 14]);
                bytes
            }
        }
    }

    /// Reads the bytes of a `sockaddr`.
    ///
    /// # Errors
    /// Too short, or of a family that the actor does not use.
    pub fn from_sockaddr(bytes: &[u8]) -> Result<Self> {
        let (head, rest) = bytes
            .split_first_chunk::<2>()
            .context("sockaddr without a family")?;
        let port = || -> Result<u16> {
            Ok(u16::from_be_bytes(
                *rest.first_chunk().context("sockaddr without a port")?,
            ))
        };
        match i32::from(u16::from_ne_bytes(*head)) {
            libc::AF_INET => {
                let ip: [u8; 4] = rest.get(2..6).context("short sockaddr_in")?.try_into()?;
                Ok(Self::Inet(SocketAddr::new(IpAddr::from(ip), port()?)))
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = rest.get(6..22).context("short sockaddr_in6")?.try_into()?;
                Ok(Self::Inet(SocketAddr::new(IpAddr::from(ip), port()?)))
            }
            libc::AF_UNIX => Ok(Self::Unix(rest.to_vec())),
            libc::AF_PACKET => {
                let index: [u8; 4] = rest.get(2..6).context("short sockaddr_ll")?.try_into()?;
                Ok(Self::Packet {
                    ifindex: u32::from_ne_bytes(index),
                    ethertype: port()?,
                })
            }
            other => bail!("address family {other} is not one the actor uses"),
        }
    }

    /// The port, where there is one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(inet) => Some(inet.port()),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(inet) => write!(f, "{inet}"),
            Self::Unix(name) => write!(f, "unix:{}", hex(name)),
            Self::Packet { ifindex, ethertype } => write!(f, "packet:{ifindex}:{ethertype}"),
            Self::Unspecified => f.write_str("unspecified"),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        if word == "unspecified" {
            return Ok(Self::Unspecified);
        }
        if let Some(digits) = word.strip_prefix("unix:") {
            return Ok(Self::Unix(unhex(digits)?));
        }
        if let Some(numbers) = word.strip_prefix("packet:") {
            let (ifindex, ethertype) = numbers.split_once(':').context("packet:IFINDEX:TYPE")?;
            return Ok(Self::Packet {
                ifindex: ifindex.parse()?,
                ethertype: ethertype.parse()?,
            });
        }
        Self::inet(word)
    }
}

/// Lower-case hexadecimal, so that any bytes are one word.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Reads [`hex`] back.
///
/// # Errors
/// Not hexadecimal, or half a byte.
pub fn unhex(digits: &str) -> Result<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        bail!("{digits:?} is no hexadecimal");
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            let pair = digits.get(at..at + 2).unwrap_or_default();
            u8::from_str_radix(pair, 16).with_context(|| format!("{pair:?} is no hexadecimal"))
        })
        .collect()
}

fn family(number: i32) -> Vec<u8> {
    u16::try_from(number).unwrap_or(0).to_ne_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn words_and_sockaddrs_read_back() {
        let all = [
            Address::inet("127.0.0.1:80").expect("v4"),
            Address::inet("[::1]:8080").expect("v6"),
            Address::inet("[::ffff:127.0.0.1]:1").expect("mapped"),
            Address::abstract_name(b"a\0 b\xff"),
            Address::Unix(Vec::new()),
            Address::Packet {
                ifindex: 1,
                ethertype: 3,
            },
        ];
        for address in all {
            assert_eq!(
                address.to_string().parse::<Address>().expect("word"),
                address
            );
            let read = Address::from_sockaddr(&address.to_sockaddr()).expect("sockaddr");
            assert_eq!(read, address);
        }
        assert!("unix:abc".parse::<Address>().is_err());
        assert!("nonsense".parse::<Address>().is_err());
    }
}
