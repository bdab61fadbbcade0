//! The keys of an active check in an `[[expect]]` rule, and what they come to together. Pure.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::duration;
use super::values::{string, word};
use crate::check::{Check, Remote, Transport, transports};
use crate::event::words::Word as _;
use crate::event::{CheckProtocol, Protocol};
use crate::policy::{Action, Namespace, Ports, Rule, Selector};

/// How often may be asked. A service that is asked more often than each second has something else to do.
const PAUSES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// How long it may take to answer.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const FAILURES: RangeInclusive<u32> = 1..=100;

/// The default of `check_every`.
const EVERY: Duration = Duration::from_secs(30);
/// The default of `check_timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The default of `check_failures`.
const TIMES: u32 = 3;

/// Longest name of a host, in bytes.
const MAX_HOST: usize = 253;
/// Longest path of a page, in bytes.
const MAX_PATH: usize = 512;

/// The keys as far as they are read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    protocol: Option<CheckProtocol>,
    every: Option<Duration>,
    timeout: Option<Duration>,
    failures: Option<u32>,
    host: Option<String>,
    name: Option<String>,
    path: Option<String>,
}

/// Checks the value and puts it in its place, or says what is expected.
type Apply = fn(&mut Draft, &DeValue<'_>) -> Result<(), String>;

pub(super) const KEYS: &[(&str, Apply)] = &[
    ("check", |draft, value| {
        draft.protocol = Some(word(value)?);
        Ok(())
    }),
    ("check_every", |draft, value| {
        draft.every = Some(span(value, &PAUSES, "from 1s to 1d, such as \"30s\"")?);
        Ok(())
    }),
    ("check_timeout", |draft, value| {
        draft.timeout = Some(span(value, &TIMEOUTS, "from 100ms to 1m, such as \"5s\"")?);
        Ok(())
    }),
    ("check_failures", |draft, value| {
        draft.failures = Some(failures(value)?);
        Ok(())
    }),
    ("check_host", |draft, value| {
        draft.host = Some(host(value)?);
        Ok(())
    }),
    ("check_name", |draft, value| {
        draft.name = Some(host(value)?);
        Ok(())
    }),
    ("check_path", |draft, value| {
        draft.path = Some(path(value)?);
        Ok(())
    }),
];

/// Something wrong with the keys together: the key that it is about, where one is, and what.
type Wrong = (Option<&'static str>, String);

impl Draft {
    /// The check of this rule, if it has one.
    ///
    /// # Errors
    /// The keys do not go together, or not with the rest of the rule.
    pub(super) fn finish(&self, rule: &Rule, has_grace: bool) -> Result<Option<Check>, Wrong> {
        let wrong = |key, message: &str| Err((Some(key), message.to_owned()));
        let Some(protocol) = self.protocol else {
            return match self.first_key() {
                Some(key) => wrong(
                    key,
                    "this says how a check is made: say which by `check`, such as check = \"http\"",
                ),
                None => Ok(None),
            };
        };
        if rule.action != Action::Expect {
            return wrong(
                "check",
                "`check` is for what must listen: it belongs into [[expect]]",
            );
        }
        let every = self.every.unwrap_or(EVERY);
        let timeout = self.timeout.unwrap_or(TIMEOUT.min(every));
        if timeout > every {
            return wrong(
                "check_timeout",
                "a check must be over before the next one: make `check_timeout` at most `check_every`",
            );
        }
        if self.path.is_some() && !matches!(protocol, CheckProtocol::Http | CheckProtocol::Https) {
            return wrong("check_path", "only http and https ask for a path");
        }
        let asks_by_name = crate::check::is_within_tls(protocol) || protocol == CheckProtocol::Http;
        if self.name.is_some() && !asks_by_name {
            return wrong(
                "check_name",
                "only http and what is within TLS ask by a name",
            );
        }
        let when = &rule.when;
        let spoken = transports(protocol);
        if let Some(listens) = when.protocol
            && !spoken.iter().any(|one| listens.contains(*one))
        {
            let spoken: Vec<&str> = spoken.iter().map(|one| one.word()).collect();
            let message = format!(
                "{} is spoken over {}, and `proto` is none of these",
                protocol.word(),
                spoken.join(", ")
            );
            return Err((Some("check"), message));
        }
        if when.path.is_some() && !spoken.contains(&Protocol::Unix) {
            return wrong("check", "dns is not spoken over unix sockets");
        }
        if when.netns == Some(Namespace::Other) {
            return wrong(
                "check",
                "checks are made in the network namespace of the host, where nothing of another one is reached",
            );
        }
        let remote = match &self.host {
            Some(host) if has_grace => {
                let message = format!(
                    "`grace` is for what listens on this host; of {host}, `check_failures` says how long to wait"
                );
                return Err((Some("grace"), message));
            }
            Some(host) => Some(remote(host, rule, protocol)?),
            None => None,
        };
        Ok(Some(Check {
            protocol,
            every,
            timeout,
            failures: self.failures.unwrap_or(TIMES),
            host: remote,
            name: self.name.clone(),
            path: self.path.clone(),
        }))
    }

    fn first_key(&self) -> Option<&'static str> {
        [
            (self.every.is_some(), "check_every"),
            (self.timeout.is_some(), "check_timeout"),
            (self.failures.is_some(), "check_failures"),
            (self.host.is_some(), "check_host"),
            (self.name.is_some(), "check_name"),
            (self.path.is_some(), "check_path"),
        ]
        .into_iter()
        .find_map(|(is_there, key)| is_there.then_some(key))
    }
}

/// Of another host nothing is known but where to connect.
fn remote(host: &str, rule: &Rule, protocol: CheckProtocol) -> Result<Remote, Wrong> {
    let when = &rule.when;
    let only_port = Selector {
        port: when.port.clone(),
        protocol: when.protocol,
        ..Selector::default()
    };
    if *when != only_port {
        let message =
            "this rule is about another host, of which only `port` and `proto` can be said";
        return Err((Some("check_host"), message.to_owned()));
    }
    let bounds = when.port.as_ref().and_then(Ports::bounds);
    let Some((port, _)) = bounds.filter(|(first, last)| first == last && *first > 0) else {
        let message = "a service of another host needs a `port`, and only one";
        return Err((Some("check_host"), message.to_owned()));
    };
    // Questions go by UDP where nothing else is said.
    let listens = |one| when.protocol.is_some_and(|listens| listens.contains(one));
    let by_udp =
        protocol == CheckProtocol::Dns && (when.protocol.is_none() || listens(Protocol::Udp));
    Ok(Remote {
        host: host.to_owned(),
        port,
        transport: if by_udp {
            Transport::Udp
        } else {
            Transport::Tcp
        },
    })
}

fn span(
    value: &DeValue<'_>,
    range: &RangeInclusive<Duration>,
    expected: &str,
) -> Result<Duration, String> {
    let span = value.as_str().and_then(|text| duration::parse(text).ok());
    span.filter(|span| range.contains(span))
        .ok_or_else(|| format!("expected a span of time {expected}"))
}

fn failures(value: &DeValue<'_>) -> Result<u32, String> {
    let number = value
        .as_integer()
        .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
    number
        .filter(|number| FAILURES.contains(number))
        .ok_or_else(|| "expected a whole number from 1 to 100".to_owned())
}

/// An address, or a name as the resolver takes it.
fn host(value: &DeValue<'_>) -> Result<String, String> {
    let host = string(value)?;
    let is_name = host.len() <= MAX_HOST
        && host.starts_with(|first: char| first.is_ascii_alphanumeric())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_name || host.parse::<IpAddr>().is_ok() {
        return Ok(host);
    }
    Err("expected the name or the address of a host, such as \"mail.example.org\"".to_owned())
}

/// As it stands in a request.
fn path(value: &DeValue<'_>) -> Result<String, String> {
    let path = string(value)?;
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic()) && path.len() <= MAX_PATH;
    if is_plain && path.starts_with('/') {
        return Ok(path);
    }
    Err(format!(
        "expected a path that begins with `/`, of at most {MAX_PATH} characters without spaces, such as \"/health\""
    ))
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
