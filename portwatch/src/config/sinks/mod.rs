//! Where events go: `[[sink]]`, each with its own filter, format and queue. Pure.

mod file;
mod http;
mod kafka;
mod nats;
mod syslog;
mod way;

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::duration;
use super::parse::{Mistakes, nearest};
use super::values::{Apply, expression, names, number, plain_name, set, take, truth, word_of};
use crate::filter::Filter;
use crate::render::Format;
use crate::sink::Sync;
use crate::sink::transport::http::Shape;
use crate::text::escape;

pub use file::File;
pub use http::Http;
pub use kafka::Kafka;
pub use nats::Nats;
pub use syslog::{Journald, Syslog};
pub use way::{Address, Way};

/// What the list is called.
pub(super) const LIST: &str = "sink";

/// The key that says what a sink is.
const TYPE: &str = "type";

/// Longest span in which what was written may be lost with the machine.
const MAX_UNSYNCED: Duration = Duration::from_secs(3_600);

/// An output.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// What it is called in `status`, and its folder on disk.
    pub name: String,
    /// Which events; all without one.
    pub filter: Option<Filter>,
    /// How they are told.
    pub format: Format,
    /// `connection.state` as well.
    pub states: bool,
    /// When what was written is made to survive the end of the machine; nothing for a sink without a disk.
    pub sync: Sync,
    /// What waits on disk for the peer; nothing for a sink without one.
    pub buffer: Buffer,
    /// Where to.
    pub kind: Kind,
}

/// The disk buffer of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// How much may wait, in MiB.
    pub mib: u32,
    /// What goes when there is no more room.
    pub when_full: WhenFull,
}

/// What goes when there is no more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// What has waited longest.
    DropOldest,
    /// What comes.
    DropNewest,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Standard output of the daemon.
    Stdout,
    /// A file.
    File(File),
    /// A receiver of syslog.
    Syslog(Syslog),
    /// A receiver of RELP.
    Relp(Syslog),
    /// systemd's journal.
    Journald(Journald),
    /// A server that takes requests.
    Http(Box<Http>),
    /// A stream of NATS.
    Nats(Box<Nats>),
    /// A topic of Kafka.
    Kafka(Box<Kafka>),
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            mib: 256,
            when_full: WhenFull::DropOldest,
        }
    }
}

/// Keys of every sink.
const KEYS: &[(&str, Apply<Sink>)] = &[
    ("name", |sink, value| set(&mut sink.name, plain_name(value))),
    // Read before all others.
    (TYPE, |_, _| Ok(())),
    ("match", |sink, value| {
        set(&mut sink.filter, expression(value))
    }),
    ("format", |sink, value| set(&mut sink.format, format(value))),
    ("states", |sink, value| set(&mut sink.states, truth(value))),
];

/// Keys of those that write to a disk, be it on the way.
const DISK: &[(&str, Apply<Sink>)] = &[("sync", |sink, value| set(&mut sink.sync, sync(value)))];

/// Keys of those that have a peer, which may be away.
const BUFFER: &[(&str, Apply<Sink>)] = &[
    ("buffer_mib", |sink, value| {
        set(&mut sink.buffer.mib, number(value, 1..=65_536))
    }),
    ("when_full", |sink, value| {
        set(&mut sink.buffer.when_full, when_full(value))
    }),
];

impl Kind {
    /// Every type, in the order of the documentation.
    pub const TYPES: [&'static str; 12] = [
        "stdout",
        "file",
        "syslog",
        "relp",
        "journald",
        "elasticsearch",
        "splunk",
        "loki",
        "otlp",
        "http",
        "nats",
        "kafka",
    ];

    fn of(name: &str) -> Option<Self> {
        match name {
            "stdout" => Some(Self::Stdout),
            "file" => Some(Self::File(File::default())),
            "syslog" => Some(Self::Syslog(Syslog::default())),
            "relp" => Some(Self::Relp(Syslog::default())),
            "journald" => Some(Self::Journald(Journald::default())),
            "nats" => Some(Self::Nats(Box::default())),
            "kafka" => Some(Self::Kafka(Box::default())),
            _ => {
                let shape = match name {
                    "elasticsearch" => Shape::Elasticsearch {
                        index: "logs-portwatch-default".to_owned(),
                    },
                    "splunk" => Shape::Splunk {
                        index: None,
                        sourcetype: "portwatch".to_owned(),
                        acknowledged: false,
                    },
                    "loki" => Shape::Loki {
                        labels: BTreeMap::from([("job".to_owned(), "portwatch".to_owned())]),
                    },
                    "otlp" => Shape::Otlp,
                    "http" => Shape::Lines,
                    _ => return None,
                };
                Some(Self::Http(Box::new(Http::new(shape))))
            }
        }
    }

    /// Its name in the key `type`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::File(_) => "file",
            Self::Syslog(_) => "syslog",
            Self::Relp(_) => "relp",
            Self::Journald(_) => "journald",
            Self::Nats(_) => "nats",
            Self::Kafka(_) => "kafka",
            Self::Http(http) => match http.shape {
                Shape::Elasticsearch { .. } => "elasticsearch",
                Shape::Splunk { .. } => "splunk",
                Shape::Loki { .. } => "loki",
                Shape::Otlp => "otlp",
                Shape::Lines | Shape::Array => "http",
            },
        }
    }

    /// Has it a peer, so that what it is to get waits on disk?
    #[must_use]
    pub const fn is_buffered(&self) -> bool {
        !matches!(self, Self::Stdout | Self::File(_))
    }

    fn keys(&self) -> Vec<&'static str> {
        match self {
            Self::Stdout => Vec::new(),
            Self::File(_) => names(file::KEYS),
            Self::Syslog(_) => [names(syslog::SYSLOG), names(way::KEYS)].concat(),
            Self::Relp(_) => [names(syslog::RELP), names(way::KEYS)].concat(),
            Self::Journald(_) => names(syslog::JOURNALD),
            Self::Nats(_) => [names(nats::KEYS), names(way::KEYS)].concat(),
            Self::Kafka(_) => [names(kafka::KEYS), names(way::KEYS)].concat(),
            Self::Http(http) => [names(http::KEYS), names(http.own()), names(way::KEYS)].concat(),
        }
    }

    /// Takes a value; nothing when it has no such key.
    fn take(&mut self, key: &str, value: &DeValue<'_>) -> Option<Result<(), String>> {
        match self {
            Self::Stdout => None,
            Self::File(file) => take(file::KEYS, file, key, value),
            Self::Syslog(syslog) => take(syslog::SYSLOG, syslog, key, value)
                .or_else(|| take(way::KEYS, &mut syslog.way, key, value)),
            Self::Relp(relp) => take(syslog::RELP, relp, key, value)
                .or_else(|| take(way::KEYS, &mut relp.way, key, value)),
            Self::Journald(journal) => take(syslog::JOURNALD, journal, key, value),
            Self::Nats(nats) => take(nats::KEYS, nats.as_mut(), key, value)
                .or_else(|| take(way::KEYS, &mut nats.way, key, value)),
            Self::Kafka(kafka) => take(kafka::KEYS, kafka.as_mut(), key, value)
                .or_else(|| take(way::KEYS, &mut kafka.way, key, value)),
            Self::Http(http) => take(http::KEYS, http.as_mut(), key, value)
                .or_else(|| take(http.own(), http.as_mut(), key, value))
                .or_else(|| take(way::KEYS, &mut http.way, key, value)),
        }
    }

    /// What no single key can tell.
    fn check(&self, wrong: &mut dyn FnMut(&str)) {
        match self {
            Self::Stdout => {}
            Self::File(file) => file::check(file, wrong),
            Self::Syslog(syslog) => syslog::check(syslog, false, wrong),
            Self::Relp(relp) => syslog::check(relp, true, wrong),
            Self::Journald(_) => {}
            Self::Nats(nats) => nats::check(nats, wrong),
            Self::Kafka(kafka) => kafka::check(kafka, wrong),
            Self::Http(http) => http::check(http, wrong),
        }
    }

    fn is_elasticsearch(&self) -> bool {
        matches!(self, Self::Http(http) if matches!(http.shape, Shape::Elasticsearch { .. }))
    }

    /// What it gets where no format is named. A data stream of Elasticsearch takes only documents with `@timestamp`.
    fn usual_format(&self) -> Format {
        match self.is_elasticsearch() {
            true => Format::Ecs,
            false => Format::Json,
        }
    }

    /// Why it cannot take this format.
    fn clash_with(&self, format: Format) -> Option<String> {
        let is_json = matches!(format, Format::Json | Format::Ecs | Format::Ocsf);
        (self.is_elasticsearch() && !is_json).then(|| {
            format!(
                "Elasticsearch takes JSON alone: `format` is json, ecs or ocsf there, and not {}",
                format.as_str()
            )
        })
    }
}

impl Sink {
    /// The lists of its keys besides those of its type.
    fn common(kind: &Kind) -> Vec<&'static [(&'static str, Apply<Self>)]> {
        let mut lists = vec![KEYS];
        if *kind != Kind::Stdout {
            lists.push(DISK);
        }
        if kind.is_buffered() {
            lists.push(BUFFER);
        }
        lists
    }

    fn take(&mut self, key: &str, value: &DeValue<'_>) -> Option<Result<(), String>> {
        let lists = Self::common(&self.kind);
        let common = lists.iter().find_map(|keys| take(keys, self, key, value));
        common.or_else(|| self.kind.take(key, value))
    }
}

/// Every key of this type of sink.
fn known(kind: &Kind) -> Vec<&'static str> {
    let common = Sink::common(kind).into_iter().flat_map(names);
    common.chain(kind.keys()).collect()
}

/// Puts every sink of a document behind `sinks`, in the order of their places.
pub(super) fn read(document: &DeTable<'_>, sinks: &mut Vec<Sink>, mistakes: &mut Mistakes) {
    let Some((name, value)) = document.get_key_value(LIST) else {
        return;
    };
    match value.get_ref() {
        DeValue::Array(listed) => {
            for one in listed {
                let at = one.span().start;
                match one.get_ref() {
                    DeValue::Table(table) => add(at, table, sinks, mistakes),
                    _ => mistakes.push((at, a_list())),
                }
            }
        }
        _ => mistakes.push((name.span().start, a_list())),
    }
}

fn a_list() -> String {
    format!("sinks are a list: write [[{LIST}]] for each, and its keys below")
}

fn add(at: usize, table: &DeTable<'_>, sinks: &mut Vec<Sink>, mistakes: &mut Mistakes) {
    let Some(written) = table.get(TYPE) else {
        let types = Kind::TYPES.join(", ");
        mistakes.push((at, format!("a sink needs its `{TYPE}`: one of {types}")));
        return;
    };
    let kind = written.get_ref().as_str().and_then(Kind::of);
    let Some(kind) = kind else {
        let expected = word_of::<()>(written.get_ref(), &Kind::TYPES.map(|name| (name, ())));
        let expected = expected.err().unwrap_or_default();
        mistakes.push((written.span().start, format!("{TYPE}: {expected}")));
        return;
    };
    let mut sink = Sink {
        name: kind.as_str().to_owned(),
        filter: None,
        format: kind.usual_format(),
        states: false,
        sync: Sync::Within(Duration::from_secs(1)),
        buffer: Buffer::default(),
        kind,
    };
    let before = mistakes.len();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match sink.take(name, value.get_ref()) {
            Some(Ok(())) => {}
            Some(Err(expected)) => {
                mistakes.push((value.span().start, format!("{name}: {expected}")));
            }
            None => mistakes.push((key.span().start, unknown(&sink.kind, name))),
        }
    }
    // What is missing only confuses where something is wrong already.
    if mistakes.len() == before {
        let mut wrong = |message: &str| mistakes.push((at, message.to_owned()));
        sink.kind.check(&mut wrong);
        if let Some(why) = sink.kind.clash_with(sink.format) {
            wrong(&why);
        }
        if let Some(why) = clash(&sink, sinks) {
            mistakes.push((at, why));
        }
    }
    sinks.push(sink);
}

/// Why it cannot be beside those before it.
fn clash(sink: &Sink, others: &[Sink]) -> Option<String> {
    if others.iter().any(|other| other.name == sink.name) {
        let shown = escape(sink.name.as_bytes());
        return Some(format!(
            "another sink is called `{shown}` already: give this one a `name`"
        ));
    }
    let same = others
        .iter()
        .find(|other| match (&sink.kind, &other.kind) {
            (Kind::Stdout, Kind::Stdout) => true,
            (Kind::File(file), Kind::File(other)) => file.path == other.path,
            _ => false,
        })?;
    let name = escape(same.name.as_bytes());
    Some(format!("the sink `{name}` writes to the same place"))
}

fn unknown(kind: &Kind, name: &str) -> String {
    let shown = escape(name.as_bytes());
    let known = known(kind);
    let of = kind.as_str();
    if let Some(nearest) = nearest(name, known.iter().copied()) {
        return format!("unknown key `{shown}` in a sink of type {of}; did you mean `{nearest}`?");
    }
    let others = Kind::TYPES.iter().filter_map(|name| Kind::of(name));
    let having: Vec<&str> = others
        .filter(|other| self::known(other).contains(&name))
        .map(|other| other.as_str())
        .collect();
    match having.is_empty() {
        false => format!(
            "`{shown}` belongs to sinks of type {}, not to those of type {of}",
            having.join(", ")
        ),
        true => format!(
            "unknown key `{shown}` in a sink of type {of}; it has {}",
            known.join(", ")
        ),
    }
}

fn format(value: &DeValue<'_>) -> Result<Format, String> {
    word_of(value, &Format::ALL.map(|format| (format.as_str(), format)))
}

fn when_full(value: &DeValue<'_>) -> Result<WhenFull, String> {
    let words = [
        ("drop-oldest", WhenFull::DropOldest),
        ("drop-newest", WhenFull::DropNewest),
    ];
    word_of(value, &words)
}

/// A word, or a span of time.
fn sync(value: &DeValue<'_>) -> Result<Sync, String> {
    let within = |text| {
        let span = duration::parse(text).ok()?;
        (span <= MAX_UNSYNCED).then_some(Sync::Within(span))
    };
    match value.as_str() {
        Some("always") => Some(Sync::Always),
        Some("never") => Some(Sync::Never),
        Some(text) => within(text),
        None => None,
    }
    .ok_or_else(|| {
        "expected \"always\", \"never\", or a span of time of at most 1h such as \"1s\"".to_owned()
    })
}

#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;
