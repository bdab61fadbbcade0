//! What can go wrong when a service is asked, in words that fit behind a colon.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::event::message::span;
use crate::text::{clip, escape};

/// Longest part of an answer that is shown, in characters.
const SHOWN: usize = 80;

/// Why a check failed. What a server said is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// The name of its host could not be resolved.
    #[error("its name has no address: {0}")]
    Name(String),
    /// It could not be reached.
    #[error("{0}")]
    Connection(String),
    /// It could not be reached in time.
    #[error("no connection within {}", spoken(.0))]
    Unconnected(Duration),
    /// It took the connection and said too little in time.
    #[error("no answer within {}", spoken(.0))]
    Silent(Duration),
    /// It hung up before it had answered.
    #[error("it hung up without an answer")]
    HungUp,
    /// It said something else than a healthy service of this kind does.
    #[error("it said: {0}")]
    Said(String),
    /// It said much and nothing to the point.
    #[error("no answer in the first {0} bytes")]
    TooMuch(usize),
    /// It does not speak TLS, or none that is safe to speak.
    #[error("TLS: {0}")]
    Tls(String),
    /// An answer that is none in this protocol.
    #[error("it sent {0}")]
    Malformed(&'static str),
    /// portwatch itself could not make the check.
    #[error("the check could not be made: {0}")]
    Unmade(String),
}

impl Failure {
    /// It said this.
    #[must_use]
    pub fn said(line: &[u8]) -> Self {
        Self::Said(shown(line))
    }

    /// The connection failed like this.
    #[must_use]
    pub fn connection(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            // Only unix sockets refuse in this way.
            return Self::Connection("its queue of connections is full".to_owned());
        }
        if error.kind() == io::ErrorKind::PermissionDenied {
            // It is us who lack something, be it a capability or a leave of the service manager.
            return Self::Unmade(reason(error));
        }
        Self::Connection(reason(error))
    }

    /// The same of a connection to a host: there a firewall on the way says by EACCES that it lets nobody through (ICMPv6
    /// "administratively prohibited"), and that we may not is EPERM.
    #[must_use]
    pub fn host(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EACCES) => Self::Connection(reason(error)),
            _ => Self::connection(error),
        }
    }

    /// It says nothing about who should answer.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Unmade(_))
    }

    /// Its TLS failed like this; the words may hold what it sent.
    pub(super) fn tls(error: &io::Error) -> Self {
        Self::Tls(shown(error.to_string().as_bytes()))
    }
}

/// The reason in words, without the number that the kernel has for it.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    // "Connection refused" stands in the middle of a sentence.
    let first = letters.next().map(|first| first.to_lowercase().to_string());
    shown(format!("{}{}", first.unwrap_or_default(), letters.as_str()).as_bytes())
}

fn shown(bytes: &[u8]) -> String {
    let start = bytes.get(..SHOWN * 4).unwrap_or(bytes);
    clip(&escape(start), SHOWN, |_| 1).into_owned()
}

fn spoken(duration: &Duration) -> String {
    match duration.as_millis() {
        // Whole seconds need no fraction.
        ms if ms % 1_000 == 0 && ms < 60_000 => format!("{} s", ms / 1_000),
        ms => span(u64::try_from(ms).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A firewall on the way is not us.
    #[test]
    fn who_lets_nobody_through_is_not_us_who_may_not() {
        let of = io::Error::from_raw_os_error;
        assert!(!Failure::host(&of(libc::EACCES)).is_ours());
        assert!(Failure::host(&of(libc::EPERM)).is_ours());
        assert!(Failure::connection(&of(libc::EACCES)).is_ours());
    }

    #[test]
    fn failures_are_short_and_plain() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(
            Failure::connection(&refused).to_string(),
            "connection refused"
        );
        assert_eq!(
            Failure::Silent(Duration::from_secs(5)).to_string(),
            "no answer within 5 s"
        );
        assert_eq!(
            Failure::Unconnected(Duration::from_millis(1_500)).to_string(),
            "no connection within 1.5 s"
        );
        let said = Failure::said(&[b'\x1b'; 4_000]).to_string();
        assert!(
            said.starts_with(r"it said: \x1b\x1b") && said.chars().count() < 100,
            "{said}"
        );
    }
}
