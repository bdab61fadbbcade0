//! `type = "nats"`: a stream of NATS JetStream. Pure.

use std::path::PathBuf;

use toml::de::DeValue;

use super::way::{Address, Way, address};
use crate::config::values::{Apply, each, secret_file, set, string, truth};

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// Servers of one cluster, tried in turn.
    pub servers: Vec<Address>,
    /// Where to publish; `{host}` and `{type}` stand for one word each.
    pub subject: String,
    /// The stream that must take it.
    pub stream: Option<String>,
    /// Create it when it is not there.
    pub create_stream: bool,
    /// User …
    pub user: Option<String>,
    /// … with a password.
    pub password_file: Option<PathBuf>,
    /// File that holds a token.
    pub token_file: Option<PathBuf>,
    /// File of credentials, or of the seed of a key.
    pub credentials_file: Option<PathBuf>,
    /// How they are reached.
    pub way: Way,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            subject: "portwatch.{host}.{type}".to_owned(),
            stream: None,
            create_stream: false,
            user: None,
            password_file: None,
            token_file: None,
            credentials_file: None,
            way: Way::default(),
        }
    }
}

pub(super) const KEYS: &[(&str, Apply<Nats>)] = &[
    ("servers", |nats, value| {
        set(&mut nats.servers, each(value, address))
    }),
    ("subject", |nats, value| {
        set(&mut nats.subject, subject(value))
    }),
    ("stream", |nats, value| {
        set(&mut nats.stream, stream(value).map(Some))
    }),
    ("create_stream", |nats, value| {
        set(&mut nats.create_stream, truth(value))
    }),
    ("user", |nats, value| {
        set(&mut nats.user, string(value).map(Some))
    }),
    ("password_file", |nats, value| {
        set(&mut nats.password_file, secret_file(value).map(Some))
    }),
    ("token_file", |nats, value| {
        set(&mut nats.token_file, secret_file(value).map(Some))
    }),
    ("credentials_file", |nats, value| {
        set(&mut nats.credentials_file, secret_file(value).map(Some))
    }),
];

pub(super) fn check(nats: &Nats, wrong: &mut dyn FnMut(&str)) {
    if nats.servers.is_empty() {
        wrong("a sink of type nats needs its `servers`, such as [\"tls://nats.example.org:4222\"]");
    }
    if nats.create_stream && nats.stream.is_none() {
        wrong("`create_stream` needs the name of the `stream`");
    }
    let is_user = nats.user.is_some();
    if is_user != nats.password_file.is_some() {
        wrong("`user` and `password_file` go together: give both");
    }
    let logins = [
        is_user,
        nats.token_file.is_some(),
        nats.credentials_file.is_some(),
    ];
    let logins = logins.into_iter().filter(|is_given| *is_given).count();
    if logins > 1 {
        wrong(
            "`user`, `token_file` and `credentials_file` are different ways to log in: choose one",
        );
    }
    for server in &nats.servers {
        let permitted = nats.way.permits(server.tls, server.is_here(), logins > 0);
        if let Err(why) = permitted {
            wrong(&why);
            return;
        }
    }
}

/// Parts of letters, digits, `-` and `_`, or one of the two that are filled in.
fn subject(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    let is_part = |part: &str| matches!(part, "{host}" | "{type}") || is_word(part);
    match text.len() <= 256 && text.split('.').all(is_part) {
        true => Ok(text),
        false => Err(
            "expected parts of letters, digits, `-` and `_` with a full stop between, each of which may be {host} \
             or {type}"
                .to_owned(),
        ),
    }
}

fn stream(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    match text.len() <= 128 && is_word(&text) {
        true => Ok(text),
        false => Err("expected a name of letters, digits, `-` and `_`".to_owned()),
    }
}

fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}
