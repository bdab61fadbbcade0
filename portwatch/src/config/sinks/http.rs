//! `type = "elasticsearch"`, `"splunk"`, `"loki"`, `"otlp"` and `"http"`: servers that take requests. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeValue;

use super::way::Way;
use crate::config::values::{Apply, secret_file, set, string, truth, word_of};
use crate::net::http::Url;
use crate::sink::transport::http::Shape;

/// Labels of a stream of Loki, besides ours.
const LABELS: usize = 12;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address …
    pub url: Option<Url>,
    /// … or a file that holds it, where it is a secret.
    pub url_file: Option<PathBuf>,
    /// What a request looks like.
    pub shape: Shape,
    /// File that holds a token.
    pub token_file: Option<PathBuf>,
    /// User …
    pub user: Option<String>,
    /// … with a password.
    pub password_file: Option<PathBuf>,
    /// Bodies are packed.
    pub gzip: bool,
    /// How it is reached.
    pub way: Way,
}

impl Http {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            url: None,
            url_file: None,
            // Whoever takes anything need not know how to unpack it.
            gzip: !matches!(shape, Shape::Lines | Shape::Array),
            shape,
            token_file: None,
            user: None,
            password_file: None,
            way: Way::default(),
        }
    }

    /// May records go to this address?
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn permits(&self, url: &Url) -> Result<(), String> {
        let has_secret = self.token_file.is_some() || self.password_file.is_some();
        self.way
            .permits(url.is_protected(), url.is_here(), has_secret)
    }

    /// Keys of this kind of server alone.
    pub(super) const fn own(&self) -> &'static [(&'static str, Apply<Self>)] {
        match self.shape {
            Shape::Elasticsearch { .. } => ELASTICSEARCH,
            Shape::Splunk { .. } => SPLUNK,
            Shape::Loki { .. } => LOKI,
            Shape::Otlp => &[],
            Shape::Lines | Shape::Array => GENERIC,
        }
    }
}

pub(super) const KEYS: &[(&str, Apply<Http>)] = &[
    ("url", |http, value| {
        let url = string(value).and_then(|text| Url::parse(&text));
        set(&mut http.url, url.map(Some))
    }),
    ("url_file", |http, value| {
        set(&mut http.url_file, secret_file(value).map(Some))
    }),
    ("token_file", |http, value| {
        set(&mut http.token_file, secret_file(value).map(Some))
    }),
    ("user", |http, value| {
        set(&mut http.user, string(value).map(Some))
    }),
    ("password_file", |http, value| {
        set(&mut http.password_file, secret_file(value).map(Some))
    }),
    ("gzip", |http, value| set(&mut http.gzip, truth(value))),
];

const ELASTICSEARCH: &[(&str, Apply<Http>)] = &[("index", |http, value| {
    set(
        &mut http.shape,
        index(value).map(|index| Shape::Elasticsearch { index }),
    )
})];

const SPLUNK: &[(&str, Apply<Http>)] = &[
    ("index", |http, value| match &mut http.shape {
        Shape::Splunk { index, .. } => set(index, name(value).map(Some)),
        _ => Ok(()),
    }),
    ("sourcetype", |http, value| match &mut http.shape {
        Shape::Splunk { sourcetype, .. } => set(sourcetype, name(value)),
        _ => Ok(()),
    }),
    ("acknowledged", |http, value| match &mut http.shape {
        Shape::Splunk { acknowledged, .. } => set(acknowledged, truth(value)),
        _ => Ok(()),
    }),
];

const LOKI: &[(&str, Apply<Http>)] = &[("labels", |http, value| {
    set(
        &mut http.shape,
        labels(value).map(|labels| Shape::Loki { labels }),
    )
})];

const GENERIC: &[(&str, Apply<Http>)] = &[("body", |http, value| {
    let words = [("lines", true), ("array", false)];
    let shape = word_of(value, &words).map(|is_lines| match is_lines {
        true => Shape::Lines,
        false => Shape::Array,
    });
    set(&mut http.shape, shape)
})];

pub(super) fn check(http: &Http, wrong: &mut dyn FnMut(&str)) {
    match (&http.url, &http.url_file) {
        (Some(_), Some(_)) => wrong("`url` and `url_file` are two addresses: leave one out"),
        (None, None) => wrong("this sink needs an address: `url` or `url_file`"),
        (Some(url), None) => {
            if let Err(why) = http.permits(url) {
                wrong(&why);
            }
        }
        // It is looked at when the file is read.
        (None, Some(_)) => {}
    }
    if http.user.is_some() != http.password_file.is_some() {
        wrong("`user` and `password_file` go together: give both");
    }
    if http.user.is_some() && http.token_file.is_some() {
        wrong("`user` and `token_file` are different ways to log in: choose one");
    }
    if matches!(http.shape, Shape::Splunk { .. }) && http.token_file.is_none() {
        wrong(
            "Splunk's HTTP Event Collector needs its token: name the file that holds it with `token_file`",
        );
    }
}

fn name(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    match text.len() <= 128 && text.bytes().all(plain) {
        true => Ok(text),
        false => Err("expected a name of letters, digits, `-`, `_`, `.` and `:`".to_owned()),
    }
}

/// What Elasticsearch and OpenSearch take as the name of an index or data stream, of what needs no escape in a path. They
/// refuse another one with each request, and everything would wait.
fn index(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'+');
    let is_name = text.bytes().all(is_plain)
        && !text.starts_with(['-', '_', '+'])
        && !matches!(text.as_str(), "" | "." | "..")
        && text.len() <= 255;
    is_name.then_some(text).ok_or_else(|| {
        "expected an index such as \"logs-portwatch-default\": lower-case letters, digits, `.`, `-`, `_` and `+`, \
         at most 255, none of the last three first, and neither `.` nor `..`"
            .to_owned()
    })
}

/// `{ job = "portwatch" }`.
fn labels(value: &DeValue<'_>) -> Result<BTreeMap<String, String>, String> {
    let wrong = || {
        format!(
            "expected at most {LABELS} labels such as {{ job = \"portwatch\" }}; host, type and severity are there"
        )
    };
    let DeValue::Table(table) = value else {
        return Err(wrong());
    };
    let is_name = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !name.is_empty() && name.bytes().all(plain) && !name.as_bytes()[0].is_ascii_digit()
    };
    let read = |(name, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        let is_ours = matches!(name.as_ref(), "host" | "type" | "severity");
        match is_name(name) && !is_ours {
            true => Ok((name.to_string(), string(value.get_ref())?)),
            false => Err(wrong()),
        }
    };
    let labels = table
        .iter()
        .map(read)
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    match labels.len() <= LABELS {
        true => Ok(labels),
        false => Err(wrong()),
    }
}
