//! The channels of alerts: `[email]`, or `[[email]]` for several. Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::duration;
use super::parse::{Mistakes, nearest};
use super::values::{each, expression, name, set, string, time_of_day, word};
use crate::alert::Terms;
use crate::alert::email::{Security, Server};
use crate::alert::template::Template;
use crate::text::escape;

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
}

/// `[email]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Email {
    /// Recipients.
    pub to: Vec<String>,
    /// Sender; without, `portwatch@` and the name of the host.
    pub from: Option<String>,
    /// Servers, tried in turn. Their ports, where none is said, are those of `security`.
    pub servers: Vec<(String, Option<u16>)>,
    /// TLS; without, STARTTLS, and nothing on the loopback.
    pub security: Option<Security>,
    /// Certificates of authorities besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// User name.
    pub user: Option<String>,
    /// File that holds the password, which nobody else may read; a plain name is a credential of systemd.
    pub password_file: Option<PathBuf>,
    /// Subject.
    pub subject: Template,
}

impl Email {
    /// The servers with their ports, and how connections to them are protected.
    #[must_use]
    pub fn servers(&self) -> (Vec<Server>, Security) {
        let is_here = |(host, _): &(String, Option<u16>)| {
            matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1")
        };
        let security = self
            .security
            .unwrap_or(match self.servers.iter().all(is_here) {
                true => Security::None,
                false => Security::StartTls,
            });
        let servers = self.servers.iter().map(|(host, port)| Server {
            host: host.clone(),
            port: port.unwrap_or_else(|| security.port()),
        });
        (servers.collect(), security)
    }
}

/// What a list of channels may be called.
pub(super) const LISTS: [&str; 1] = ["email"];

/// A key of every channel, or of mail.
type Apply = fn(&mut Channel, &DeValue<'_>) -> Result<(), String>;

const KEYS: &[(&str, Apply)] = &[
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
    ("to", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(&mut email.to, each(value, mailbox))
    }),
    ("from", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(&mut email.from, mailbox(value).map(Some))
    }),
    ("server", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(&mut email.servers, each(value, server))
    }),
    ("security", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(&mut email.security, security(value).map(Some))
    }),
    ("ca_file", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(&mut email.ca_file, path(value).map(Some))
    }),
    ("user", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(&mut email.user, string(value).map(Some))
    }),
    ("password_file", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(&mut email.password_file, password_file(value).map(Some))
    }),
    ("subject", |channel, value| {
        let Kind::Email(email) = &mut channel.kind;
        set(
            &mut email.subject,
            string(value).and_then(|text| Template::parse(&text)),
        )
    }),
];

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
    let mut channel = Channel {
        name: kind.to_owned(),
        terms: Terms::default(),
        kind: Kind::Email(Email::default()),
    };
    let before = mistakes.len();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match KEYS.iter().find(|(known, _)| *known == name) {
            Some((known, apply)) => {
                if let Err(expected) = apply(&mut channel, value.get_ref()) {
                    mistakes.push((value.span().start, format!("{known}: {expected}")));
                }
            }
            None => mistakes.push((key.span().start, unknown(kind, name))),
        }
    }
    // What is missing only confuses where something is wrong already.
    if mistakes.len() == before {
        check(&channel, at, mistakes);
    }
    if channels.iter().any(|other| other.name == channel.name) {
        let shown = escape(channel.name.as_bytes());
        let message =
            format!("another channel is called `{shown}` already: give this one a `name`");
        mistakes.push((at, message));
    }
    channels.push(channel);
}

/// What no single key can tell.
fn check(channel: &Channel, at: usize, mistakes: &mut Mistakes) {
    let Kind::Email(email) = &channel.kind;
    let mut wrong = |message: &str| mistakes.push((at, message.to_owned()));
    if email.to.is_empty() {
        wrong("mail needs a recipient: `to`");
    }
    if email.servers.is_empty() {
        wrong("mail needs a server: `server`");
    }
    if email.user.is_some() != email.password_file.is_some() {
        wrong("`user` and `password_file` go together");
    }
    if email.user.is_some() && email.servers().1 == Security::None {
        wrong("a password never goes over a connection without TLS");
    }
}

fn unknown(kind: &str, name: &str) -> String {
    let shown = escape(name.as_bytes());
    let known = || KEYS.iter().map(|(key, _)| *key);
    match nearest(name, known()) {
        Some(nearest) => format!("unknown key `{shown}` in [{kind}]; did you mean `{nearest}`?"),
        None => {
            let known: Vec<&str> = known().collect();
            format!(
                "unknown key `{shown}` in [{kind}]; it has {}",
                known.join(", ")
            )
        }
    }
}

/// It becomes the name of a folder.
fn plain_name(value: &DeValue<'_>) -> Result<String, String> {
    let name = name(value)?;
    let is_plain = !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    match is_plain {
        true => Ok(name.to_string()),
        false => Err("expected a name of letters, digits, `-`, `_` and `.`".to_owned()),
    }
}

fn span(value: &DeValue<'_>, least: u64, most: u64) -> Result<Duration, String> {
    let span = value.as_str().and_then(|text| duration::parse(text).ok());
    let range = Duration::from_secs(least)..=Duration::from_secs(most);
    span.filter(|span| range.contains(span))
        .ok_or_else(|| format!("expected a span of time of {least} s to {most} s, such as \"1h\""))
}

fn count(value: &DeValue<'_>) -> Result<u32, String> {
    value
        .as_integer()
        .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok())
        .filter(|count| (2..=10_000).contains(count))
        .ok_or_else(|| "expected a whole number from 2 to 10000".to_owned())
}

fn mailbox(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    let is_right = text.parse::<lettre::message::Mailbox>().is_ok();
    match is_right {
        true => Ok(text),
        false => Err("expected an address such as \"ops@example.org\"".to_owned()),
    }
}

/// `mail.example.org`, `mail.example.org:2525`, `[::1]:25`.
fn server(value: &DeValue<'_>) -> Result<(String, Option<u16>), String> {
    let text = string(value)?;
    let wrong =
        || "expected a server such as \"mail.example.org\" or \"mail.example.org:587\"".to_owned();
    let (host, port) = match text.rsplit_once(':') {
        // An address of IPv6 without brackets has no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port.parse().map_err(|_| wrong())?))
        }
        _ => (text.as_str(), None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_right = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte));
    match is_right {
        true => Ok((host.to_owned(), port)),
        false => Err(wrong()),
    }
}

fn security(value: &DeValue<'_>) -> Result<Security, String> {
    match value.as_str() {
        Some("starttls") => Ok(Security::StartTls),
        Some("tls") => Ok(Security::Tls),
        Some("none") => Ok(Security::None),
        _ => Err(r#"expected "starttls", "tls" or "none""#.to_owned()),
    }
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = PathBuf::from(string(value)?);
    match path.is_absolute() {
        true => Ok(path),
        false => Err("expected an absolute path".to_owned()),
    }
}

fn password_file(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let text = string(value)?;
    let is_credential = Path::new(&text).components().count() == 1 && !text.starts_with('.');
    match is_credential || text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(
            "expected an absolute path, or the name of a credential of the systemd unit".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{Channel, Kind, Security};
    use crate::config::Config;
    use crate::config::parse::apply;
    use crate::event::Severity;

    fn parsed(input: &str) -> (Vec<Channel>, Vec<String>) {
        let mut config = Config::default();
        let mistakes = apply(&mut config, Path::new("f.toml"), input);
        let mistakes = mistakes.iter().map(ToString::to_string).collect();
        (config.channels, mistakes)
    }

    fn one_mistake(input: &str) -> String {
        let (_, mistakes) = parsed(input);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        mistakes.concat()
    }

    #[test]
    fn a_recipient_and_a_server_are_enough() {
        let (channels, mistakes) = parsed("[email]\nto = \"ops@example.org\"\nserver = \"mx\"\n");
        assert_eq!(mistakes, [""; 0]);
        let [channel] = channels.as_slice() else {
            panic!("{channels:?}")
        };
        assert_eq!(
            (channel.name.as_str(), channel.terms.severity),
            ("email", Severity::Notice)
        );
        let Kind::Email(email) = &channel.kind;
        let (servers, security) = email.servers();
        assert_eq!((servers[0].port, security), (587, Security::StartTls));
    }

    #[test]
    fn every_key_is_taken() {
        let (channels, mistakes) = parsed(
            "[[email]]\nname = \"night\"\nto = [\"a@b.c\", \"Ops <d@e.f>\"]\nfrom = \"p@q.r\"\nserver = [\"mx1:2525\", \"[::1]:25\"]\n\
             security = \"tls\"\nca_file = \"/etc/ca.pem\"\nuser = \"u\"\npassword_file = \"smtp\"\nsubject = \"$HOST\"\n\
             digest = \"07:00\"\nremind = \"4h\"\nseverity = \"critical\"\nmatch = \"tcp\"\nwindow = \"5s\"\nmessages = 3\nper = \"10m\"\n\
             [[email]]\nto = \"a@b.c\"\nserver = \"localhost\"\n",
        );
        assert_eq!(mistakes, [""; 0]);
        let Kind::Email(night) = &channels[0].kind;
        assert_eq!(
            night.servers,
            [("mx1".to_owned(), Some(2525)), ("::1".to_owned(), Some(25))]
        );
        assert_eq!(channels[0].terms.limits.span, Duration::from_secs(600));
        let Kind::Email(local) = &channels[1].kind;
        assert_eq!(local.servers().1, Security::None);
    }

    #[test]
    fn what_is_wrong_or_missing_is_told_at_its_place() {
        for (input, expected) in [
            ("[email]\nto = \"a@b.c\"\n", "needs a server"),
            ("[email]\nserver = \"mx\"\n", "needs a recipient"),
            (
                "[email]\nto = \"nobody\"\nserver = \"mx\"\n",
                "f.toml:2:6: to: expected an address",
            ),
            (
                "[email]\nto = \"a@b.c\"\nsever = \"mx\"\n",
                "did you mean `server`?",
            ),
            (
                "[email]\nto = \"a@b.c\"\nserver = \"mx\"\nsubject = \"$HOSTS\"\n",
                "`$HOSTS` is no macro",
            ),
            (
                "[email]\nto = \"a@b.c\"\nserver = \"mx\"\nuser = \"u\"\n",
                "go together",
            ),
            (
                "[email]\nto = \"a@b.c\"\nserver = \"localhost\"\nuser = \"u\"\npassword_file = \"/p\"\n",
                "without TLS",
            ),
            (
                "[email]\nto = \"a@b.c\"\nserver = \"mx\"\nname = \"../x\"\n",
                "letters, digits",
            ),
            ("email = 1\n", "write [email]"),
            (
                "[[email]]\nto = \"a@b.c\"\nserver = \"mx\"\n[[email]]\nto = \"a@b.c\"\nserver = \"mx\"\n",
                "another channel is called `email`",
            ),
        ] {
            let mistake = one_mistake(input);
            assert!(mistake.contains(expected), "{input}: {mistake}");
        }
    }
}
