//! `type = "file"`: lines in a file of this host. Pure.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::config::duration;
use crate::config::values::{Apply, absolute, number, set, truth};

/// A file and its predecessors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// It makes room for a new one when it is larger than so many MiB; 0 for never.
    pub rotate_mib: u32,
    /// It makes room for a new one when it is older than this.
    pub rotate_every: Option<Duration>,
    /// So many predecessors are kept.
    pub keep: u32,
    /// Predecessors older than this are not kept.
    pub keep_age: Option<Duration>,
    /// Predecessors are packed with gzip.
    pub compress: bool,
    /// Each line carries the hash of the one before it.
    pub chain: bool,
}

impl Default for File {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            rotate_mib: 100,
            rotate_every: None,
            keep: 10,
            keep_age: None,
            compress: true,
            chain: false,
        }
    }
}

pub(super) const KEYS: &[(&str, Apply<File>)] = &[
    ("path", |file, value| set(&mut file.path, absolute(value))),
    ("rotate_mib", |file, value| {
        set(&mut file.rotate_mib, number(value, 0..=1 << 20))
    }),
    ("rotate_every", |file, value| {
        set(&mut file.rotate_every, age(value))
    }),
    ("keep", |file, value| {
        set(&mut file.keep, number(value, 0..=10_000))
    }),
    ("keep_age", |file, value| {
        set(&mut file.keep_age, age(value))
    }),
    ("compress", |file, value| {
        set(&mut file.compress, truth(value))
    }),
    ("chain", |file, value| set(&mut file.chain, truth(value))),
];

pub(super) fn check(file: &File, wrong: &mut dyn FnMut(&str)) {
    if file.path.as_os_str().is_empty() {
        wrong("a sink of type file needs a `path`, such as \"/var/log/portwatch/events.jsonl\"");
    } else if file.path.file_name().is_none() {
        wrong("`path` must be that of a file");
    }
}

/// A minute to ten years, or never.
fn age(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
    let range = Duration::from_secs(60)..=Duration::from_secs(3650 * 86_400);
    let span = match value.as_str() {
        Some("off") => return Ok(None),
        Some(text) => duration::parse(text).ok(),
        None => None,
    };
    let span = span.filter(|span| range.contains(span));
    span.map(Some).ok_or_else(|| {
        "expected a span of time from 1m to 3650d such as \"1d\", or \"off\"".to_owned()
    })
}
