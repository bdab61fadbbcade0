//! The control protocol: one request line, one reply line, then lines of data. Pure.
//!
//! ```text
//! → {"portwatch":1,"request":"tail","filter":"tcp port:80","states":false,"since_ms":600000}
//! ← {"ok":true,"portwatch":1,"version":"0.1.0"}          or {"error":{"code":64,"message":"…"}}
//! ← {"schema":"portwatch.event/1",…,"seq":1,…}           one line an event; `seq` counts those of this answer
//! ← {"end":true}                                         the daemon ends the stream on purpose
//! ```
//! `list` and `storms` answer with lines of events (of the present listeners; of episodes and scans) and `end`, `status`, `stats` and `reload` with one line and `end`.
//! An error may also stand in place of a line of data; it is always the last line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// Longest request, its newline included, in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Longest filter, in bytes.
pub const MAX_FILTER: usize = 8 * 1024;
/// Farthest a request may look back: a week, in milliseconds.
pub const MAX_SINCE_MS: u64 = 7 * 24 * 3600 * 1000;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Events as they come.
    Tail,
    /// Every listener now.
    List,
    /// Counters and mechanisms.
    Status,
    /// TCP sockets by state, listener, process and peer.
    Stats,
    /// Storms and scans, those that go on first.
    Storms,
    /// Read the configuration anew; for root alone.
    Reload,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `portwatch.event/1`; other formats are made from it by the client.
    #[default]
    Json,
    /// The same, but `connection.state` comes in blocks ([`crate::sink::block`]) that only a client of the same
    /// version can take apart.
    Compact,
}

/// The one line that a client sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub portwatch: u32,
    /// What is asked for.
    pub request: Verb,
    /// Filter expression (`tail`, `list`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filter: Option<String>,
    /// `tail`: `connection.state` as well.
    #[serde(skip_serializing_if = "is_false", default)]
    pub states: bool,
    /// `tail`: first the events of this many last milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_ms: Option<u64>,
    /// How events are written.
    #[serde(default)]
    pub format: Format,
}

/// A line of the server that is not data. Readers ignore keys that they do not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request was understood; data follows.
    #[serde(skip_serializing_if = "is_false", default)]
    pub ok: bool,
    /// Protocol version of the server.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub portwatch: Option<u32>,
    /// Version of the program that serves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// `since_ms` reached further back than what is kept: time of the oldest event there is (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replay_from: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Fault>,
    /// Nothing follows.
    #[serde(skip_serializing_if = "is_false", default)]
    pub end: bool,
}

/// What a new configuration has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Always [`Reloaded::SCHEMA`]: a line of data has one.
    pub schema: String,
    /// Rules that are in force now.
    pub rules: u64,
    /// Sections that differ from what is in force, and take effect at the next start.
    pub at_restart: Vec<String>,
}

impl Reloaded {
    /// The name of this schema.
    pub const SCHEMA: &str = "portwatch.reloaded/1";
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration applied: {} rules in force", self.rules)?;
        if !self.at_restart.is_empty() {
            let sections = self.at_restart.join("], [");
            write!(
                f,
                "; [{sections}] changed, and takes effect at the next start"
            )?;
        }
        Ok(())
    }
}

/// Why a request was refused or a stream was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The exit code that the client should end with (sysexits).
    pub code: u8,
    /// One sentence.
    pub message: String,
}

/// Usage: the request is wrong.
pub const CODE_USAGE: u8 = 64;
/// The service cannot be had now.
pub const CODE_UNAVAILABLE: u8 = 69;
/// A bug: what came is not what was agreed.
pub const CODE_SOFTWARE: u8 = 70;
/// Reading or writing failed.
pub const CODE_IO: u8 = 74;
/// Not permitted.
pub const CODE_NOT_PERMITTED: u8 = 77;

impl Request {
    /// A request without options.
    #[must_use]
    pub const fn new(request: Verb) -> Self {
        Self {
            portwatch: VERSION,
            request,
            filter: None,
            states: false,
            since_ms: None,
            format: Format::Json,
        }
    }

    /// Parses and checks a request line, its newline taken off.
    ///
    /// # Errors
    /// A [`Fault`] with code 64 that says what is wrong.
    pub fn parse(line: &[u8]) -> Result<Self, Fault> {
        // The version first, so that a newer client hears that and not of a key unknown here.
        let spoken: Spoken = serde_json::from_slice(line).map_err(|error| {
            Fault::usage(format!(
                "this is not a portwatch request (one line of JSON with \"portwatch\":{VERSION}): {}",
                crate::text::escape(error.to_string().as_bytes())
            ))
        })?;
        if spoken.portwatch != VERSION {
            return Err(Fault::usage(format!(
                "the client speaks protocol {}, this daemon (portwatch {}) speaks {VERSION}: use the same version for both",
                spoken.portwatch,
                env!("CARGO_PKG_VERSION")
            )));
        }
        let request: Self = serde_json::from_slice(line).map_err(|error| {
            Fault::usage(format!(
                "the request cannot be read: {}",
                crate::text::escape(error.to_string().as_bytes())
            ))
        })?;
        request.check()?;
        Ok(request)
    }

    /// Sizes, and options that belong to another verb.
    fn check(&self) -> Result<(), Fault> {
        let filter = self.filter.as_ref().map_or(0, String::len);
        let since = self.since_ms.unwrap_or(0);
        let refusal = if filter > MAX_FILTER {
            format!("the filter has {filter} bytes; at most {MAX_FILTER} are taken")
        } else if since > MAX_SINCE_MS {
            "since reaches back more than a week".to_owned()
        } else if self.request != Verb::Tail && (self.states || self.since_ms.is_some()) {
            "states and since_ms belong to tail".to_owned()
        } else if matches!(
            self.request,
            Verb::Status | Verb::Stats | Verb::Storms | Verb::Reload
        ) && self.filter.is_some()
        {
            "only tail and list take a filter".to_owned()
        } else {
            return Ok(());
        };
        Err(Fault::usage(refusal))
    }
}

impl Reply {
    /// The first line of an answer.
    #[must_use]
    pub fn accepted(replay_from: Option<String>) -> Self {
        Self {
            ok: true,
            portwatch: Some(VERSION),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            replay_from,
            ..Self::default()
        }
    }

    /// The last line of an answer.
    #[must_use]
    pub fn end() -> Self {
        Self {
            end: true,
            ..Self::default()
        }
    }

    /// A refusal.
    #[must_use]
    pub fn fault(fault: Fault) -> Self {
        Self {
            error: Some(fault),
            ..Self::default()
        }
    }
}

impl Fault {
    /// The request is wrong (64).
    #[must_use]
    pub const fn usage(message: String) -> Self {
        Self {
            code: CODE_USAGE,
            message,
        }
    }

    /// The service cannot be had now (69).
    #[must_use]
    pub const fn unavailable(message: String) -> Self {
        Self {
            code: CODE_UNAVAILABLE,
            message,
        }
    }

    /// Not permitted (77).
    #[must_use]
    pub const fn not_permitted(message: String) -> Self {
        Self {
            code: CODE_NOT_PERMITTED,
            message,
        }
    }
}

/// A value as one line of JSON, newline included.
///
/// # Errors
/// When the value cannot be written as JSON.
pub fn to_line<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Only the version; whatever else there is may be of a version to come.
#[derive(Deserialize)]
struct Spoken {
    portwatch: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(line: &str) -> String {
        let fault = Request::parse(line.as_bytes()).expect_err("refused");
        assert_eq!(fault.code, CODE_USAGE);
        fault.message
    }

    #[test]
    fn a_request_survives_the_wire() {
        let request = Request {
            filter: Some("tcp port:80".to_owned()),
            states: true,
            since_ms: Some(600_000),
            ..Request::new(Verb::Tail)
        };
        let line = to_line(&request).expect("JSON");
        assert_eq!(Request::parse(&line), Ok(request));
        assert_eq!(
            Request::parse(br#"{"portwatch":1,"request":"list","format":"json"}"#),
            Ok(Request::new(Verb::List))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("GET / HTTP/1.1").starts_with("this is not a portwatch request"));
        assert!(refusal(r#"{"portwatch":2,"request":"dance"}"#).contains("speaks protocol 2"));
        assert!(refusal(r#"{"portwatch":1,"request":"dance"}"#).contains("dance"));
        assert!(refusal(r#"{"portwatch":1,"request":"tail","rm":1}"#).contains("unknown field"));
        assert!(refusal(r#"{"portwatch":1,"request":"tail","since_ms":-1}"#).contains("-1"));
        assert!(refusal(r#"{"portwatch":1,"request":"status","filter":"tcp"}"#).contains("filter"));
        assert!(refusal(r#"{"portwatch":1,"request":"list","states":true}"#).contains("tail"));
        let long = "x".repeat(MAX_FILTER + 1);
        assert!(
            refusal(&format!(
                r#"{{"portwatch":1,"request":"tail","filter":"{long}"}}"#
            ))
            .contains("8193 bytes")
        );
    }

    #[test]
    fn replies_carry_only_what_they_say() {
        let text = |reply: &Reply| serde_json::to_string(reply).expect("JSON");
        assert_eq!(text(&Reply::end()), r#"{"end":true}"#);
        assert_eq!(
            text(&Reply::fault(Fault::usage("no".to_owned()))),
            r#"{"error":{"code":64,"message":"no"}}"#
        );
        assert!(text(&Reply::accepted(None)).starts_with(r#"{"ok":true,"portwatch":1,"#));
        let later: Reply = serde_json::from_str(r#"{"ok":true,"novelty":[1]}"#).expect("lenient");
        assert!(later.ok);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_forge_a_line(bytes in any::<Vec<u8>>()) {
            if let Err(fault) = Request::parse(&bytes) {
                prop_assert!(!fault.message.contains(char::is_control));
            }
        }
    }
}
