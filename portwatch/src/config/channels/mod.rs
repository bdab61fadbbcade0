//! The channels of alerts: `[email]`, `[webhook]`, `[exec]`, `[syslog]`, `[journald]`, or `[[email]]` for several. Pure.

mod email;
mod exec;
pub(super) mod log;
mod webhook;

use toml::de::{DeTable, DeValue};

use super::parse::{Mistakes, nearest};
use super::values::{
    Apply, absolute, expression, names, plain_name, secret_file, set, span, take, time_of_day, word,
};
use crate::alert::{Limits, Terms};
use crate::text::escape;

pub use email::Email;
pub use exec::Exec;
pub use log::{Journald, Syslog};
pub use webhook::Webhook;

/// Where alerts go.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// What it is called in `status`, and on the command line.
    pub name: String,
    /// What it is told, and how often.
    pub terms: Terms,
    /// How it is reached.
    pub kind: Kind,
}

/// How a channel is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// By mail.
    Email(Email),
    /// By HTTP.
    Webhook(Webhook),
    /// By a program.
    Exec(Exec),
    /// By the system's log.
    Syslog(Syslog),
    /// By systemd's journal.
    Journald(Journald),
}

/// What a list of channels may be called.
pub(super) const LISTS: [&str; 5] = ["email", "webhook", "exec", "syslog", "journald"];

/// Keys of every channel.
const KEYS: &[(&str, Apply<Channel>)] = &[
    ("name", |channel, value| {
        set(&mut channel.name, plain_name(value))
    }),
    ("severity", |channel, value| {
        set(&mut channel.terms.severity, word(value))
    }),
    ("match", |channel, value| {
        set(&mut channel.terms.filter, expression(value))
    }),
    ("window", |channel, value| {
        set(&mut channel.terms.limits.window, span(value, 0, 86_400))
    }),
    ("messages", |channel, value| {
        set(&mut channel.terms.limits.messages, count(value))
    }),
    ("per", |channel, value| {
        set(&mut channel.terms.limits.span, span(value, 60, 7 * 86_400))
    }),
    ("digest", |channel, value| {
        set(&mut channel.terms.digest, time_of_day(value).map(Some))
    }),
    ("remind", |channel, value| {
        set(
            &mut channel.terms.remind,
            span(value, 60, 30 * 86_400).map(Some),
        )
    }),
];

impl Kind {
    /// Of this list.
    fn of(list: &str) -> Option<Self> {
        match list {
            "email" => Some(Self::Email(Email::default())),
            "webhook" => Some(Self::Webhook(Webhook::default())),
            "exec" => Some(Self::Exec(Exec::default())),
            "syslog" => Some(Self::Syslog(Syslog::default())),
            "journald" => Some(Self::Journald(Journald::default())),
            _ => None,
        }
    }

    /// Its keys.
    fn keys(&self) -> Vec<&'static str> {
        match self {
            Self::Email(_) => names(email::KEYS),
            Self::Webhook(_) => names(webhook::KEYS),
            Self::Exec(_) => names(exec::KEYS),
            Self::Syslog(_) => names(log::SYSLOG),
            Self::Journald(_) => names(log::JOURNALD),
        }
    }

    /// Takes a value; nothing when it has no such key.
    fn take(&mut self, key: &str, value: &DeValue<'_>) -> Option<Result<(), String>> {
        match self {
            Self::Email(email) => take(email::KEYS, email, key, value),
            Self::Webhook(webhook) => take(webhook::KEYS, webhook, key, value),
            Self::Exec(exec) => take(exec::KEYS, exec, key, value),
            Self::Syslog(syslog) => take(log::SYSLOG, syslog, key, value),
            Self::Journald(journald) => take(log::JOURNALD, journald, key, value),
        }
    }

    /// What no single key can tell.
    fn check(&self, wrong: &mut dyn FnMut(&str)) {
        match self {
            Self::Email(email) => email::check(email, wrong),
            Self::Webhook(webhook) => webhook::check(webhook, wrong),
            Self::Exec(exec) => exec::check(exec, wrong),
            Self::Syslog(_) | Self::Journald(_) => {}
        }
    }

    /// A log is read later and by programs: it need not be spared.
    fn limits(&self) -> Limits {
        match self {
            Self::Email(_) | Self::Webhook(_) | Self::Exec(_) => Limits::default(),
            Self::Syslog(_) | Self::Journald(_) => Limits {
                messages: 1_000,
                ..Limits::default()
            },
        }
    }
}

/// Is this the name of a list of channels?
pub(super) fn is_list(name: &str) -> bool {
    LISTS.contains(&name)
}

/// Puts every channel of a document behind `channels`, in the order of their places.
pub(super) fn read(document: &DeTable<'_>, channels: &mut Vec<Channel>, mistakes: &mut Mistakes) {
    for (list, value) in document {
        let kind = list.get_ref().as_ref();
        if !is_list(kind) {
            continue;
        }
        match value.get_ref() {
            DeValue::Table(table) => add(kind, value.span().start, table, channels, mistakes),
            DeValue::Array(listed) => {
                for one in listed {
                    let at = one.span().start;
                    match one.get_ref() {
                        DeValue::Table(table) => add(kind, at, table, channels, mistakes),
                        _ => mistakes.push((at, a_table(kind))),
                    }
                }
            }
            _ => mistakes.push((list.span().start, a_table(kind))),
        }
    }
}

fn a_table(kind: &str) -> String {
    format!("`{kind}` is a section: write [{kind}], or [[{kind}]] for several, and its keys below")
}

fn add(
    kind: &str,
    at: usize,
    table: &DeTable<'_>,
    channels: &mut Vec<Channel>,
    mistakes: &mut Mistakes,
) {
    let Some(of) = Kind::of(kind) else {
        return;
    };
    let mut channel = Channel {
        name: kind.to_owned(),
        terms: Terms {
            limits: of.limits(),
            ..Terms::default()
        },
        kind: of,
    };
    let before = mistakes.len();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let taken = take(KEYS, &mut channel, name, value.get_ref())
            .or_else(|| channel.kind.take(name, value.get_ref()));
        match taken {
            Some(Ok(())) => {}
            Some(Err(expected)) => {
                mistakes.push((value.span().start, format!("{name}: {expected}")));
            }
            None => mistakes.push((key.span().start, unknown(kind, &channel.kind, name))),
        }
    }
    // What is missing only confuses where something is wrong already.
    if mistakes.len() == before {
        channel
            .kind
            .check(&mut |message| mistakes.push((at, message.to_owned())));
    }
    if channels.iter().any(|other| other.name == channel.name) {
        let shown = escape(channel.name.as_bytes());
        let message =
            format!("another channel is called `{shown}` already: give this one a `name`");
        mistakes.push((at, message));
    }
    channels.push(channel);
}

fn unknown(list: &str, kind: &Kind, name: &str) -> String {
    let shown = escape(name.as_bytes());
    let known = [names(KEYS), kind.keys()].concat();
    if let Some(nearest) = nearest(name, known.iter().copied()) {
        return format!("unknown key `{shown}` in [{list}]; did you mean `{nearest}`?");
    }
    let mut lists = LISTS.iter();
    let other = lists.find(|other| Kind::of(other).is_some_and(|kind| kind.keys().contains(&name)));
    match other {
        Some(other) => format!("`{shown}` belongs to [{other}], not to [{list}]"),
        None => format!(
            "unknown key `{shown}` in [{list}]; it has {}",
            known.join(", ")
        ),
    }
}

fn count(value: &DeValue<'_>) -> Result<u32, String> {
    value
        .as_integer()
        .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok())
        .filter(|count| (2..=10_000).contains(count))
        .ok_or_else(|| "expected a whole number from 2 to 10000".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Channel, KEYS, Kind, LISTS, names};
    use crate::config::Config;
    use crate::config::parse::apply;

    pub(super) fn parsed(input: &str) -> (Vec<Channel>, Vec<String>) {
        let mut config = Config::default();
        let mistakes = apply(&mut config, Path::new("f.toml"), input);
        let mistakes = mistakes.iter().map(ToString::to_string).collect();
        (config.channels, mistakes)
    }

    pub(super) fn one_mistake(input: &str) -> String {
        let (_, mistakes) = parsed(input);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        mistakes.concat()
    }

    #[test]
    fn every_list_is_a_kind_whose_keys_are_none_of_every_channel() {
        for list in LISTS {
            let keys = Kind::of(list).expect(list).keys();
            assert!(keys.iter().all(|key| !names(KEYS).contains(key)), "{list}");
        }
    }

    #[test]
    fn what_is_wrong_with_any_channel_is_told_at_its_place() {
        for (input, expected) in [
            (
                "[syslog]\nname = \"../x\"\n",
                "f.toml:2:8: name: expected a name of letters",
            ),
            (
                "[journald]\nseverty = \"info\"\n",
                "did you mean `severity`?",
            ),
            ("[exec]\nzebra = 1\n", "it has name, severity,"),
            ("email = 1\n", "write [email]"),
            (
                "[[syslog]]\n[[syslog]]\n",
                "another channel is called `syslog`",
            ),
            (
                "[syslog]\n[journald]\nname = \"syslog\"\n",
                "another channel is called `syslog`",
            ),
        ] {
            let mistake = one_mistake(input);
            assert!(mistake.contains(expected), "{input}: {mistake}");
        }
    }
}
