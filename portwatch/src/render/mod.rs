//! Events in the words of other models, for collectors that have one: an event in, one line out. Pure.
//!
//! Each rendering says what its model has a field for, and puts the rest under a key of our own, so that nothing
//! is lost on the way; docs/siem.md has the tables. A line is at most [`MAX_LINE`] bytes with its newline, keys
//! that are not known are absent, and keys come in one order.

pub mod cef;
pub mod ecs;
mod facts;
pub mod ocsf;
mod own;
pub mod rfc5424;

use crate::event::Event;
use crate::sink::chain;
use crate::sink::encode::{self, MAX_LINE};

/// Whose program it is, as the models ask.
pub(crate) const VENDOR: &str = "portwatch";
/// The program.
pub(crate) const PRODUCT: &str = "portwatch";
/// Its version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How a line tells an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Our own JSON, `portwatch.event/1`.
    Json,
    /// Elastic Common Schema, JSON.
    Ecs,
    /// Open Cybersecurity Schema Framework, JSON.
    Ocsf,
    /// Common Event Format.
    Cef,
    /// Syslog as RFC 5424 has it, with structured data.
    Rfc5424,
}

impl Format {
    /// Every format, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Json, Self::Ecs, Self::Ocsf, Self::Cef, Self::Rfc5424];

    /// Its name in options and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
            Self::Rfc5424 => "rfc5424",
        }
    }

    /// Appends the event as a line, newline included; at most [`MAX_LINE`] bytes. What does not fit is left out
    /// as [`encode::encode_line`] leaves it out.
    pub fn append(self, event: &Event, out: &mut Vec<u8>) {
        match self {
            Self::Json => out.extend(encode::encode_line(event)),
            Self::Ecs => fitted(event, out, ecs::write),
            Self::Ocsf => fitted(event, out, ocsf::write),
            Self::Cef => fitted(event, out, cef::write),
            Self::Rfc5424 => fitted(event, out, rfc5424::write),
        }
    }

    /// The same as a line of its own.
    #[must_use]
    pub fn line(self, event: &Event) -> Vec<u8> {
        let mut out = Vec::new();
        self.append(event, &mut out);
        out
    }
}

/// Appends what `write` makes of the event, and a newline; of a shortened one when it does not fit.
fn fitted(event: &Event, out: &mut Vec<u8>, write: fn(&Event, &mut Vec<u8>)) {
    let start = out.len();
    encode::fit(event, |event| {
        out.truncate(start);
        write(event, out);
        out.push(b'\n');
        out.len() - start <= MAX_LINE - chain::GROWTH
    });
}
