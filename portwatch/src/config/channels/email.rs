//! `[email]`: whom to send mail to, and by which server. Pure.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::{Apply, absolute, secret_file, span};
use crate::alert::email::{Security, Server};
use crate::alert::template::Template;
use crate::config::values::{each, set, string};

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
    /// How long a server may take for one step.
    pub timeout: Option<Duration>,
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

pub(super) const KEYS: &[(&str, Apply<Email>)] = &[
    ("to", |email, value| {
        set(&mut email.to, each(value, mailbox))
    }),
    ("from", |email, value| {
        set(&mut email.from, mailbox(value).map(Some))
    }),
    ("server", |email, value| {
        set(&mut email.servers, each(value, server))
    }),
    ("security", |email, value| {
        set(&mut email.security, security(value).map(Some))
    }),
    ("ca_file", |email, value| {
        set(&mut email.ca_file, absolute(value).map(Some))
    }),
    ("user", |email, value| {
        set(&mut email.user, string(value).map(Some))
    }),
    ("password_file", |email, value| {
        set(&mut email.password_file, secret_file(value).map(Some))
    }),
    ("subject", |email, value| {
        set(
            &mut email.subject,
            string(value).and_then(|text| Template::parse(&text)),
        )
    }),
    ("timeout", |email, value| {
        set(&mut email.timeout, span(value, 1, 600).map(Some))
    }),
];

/// What no single key can tell.
pub(super) fn check(email: &Email, wrong: &mut dyn FnMut(&str)) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Email;
    use crate::alert::email::Security;
    use crate::config::channels::tests::{one_mistake, parsed};
    use crate::config::channels::{Channel, Kind};
    use crate::event::Severity;

    fn email(channel: &Channel) -> &Email {
        match &channel.kind {
            Kind::Email(email) => email,
            other => panic!("{other:?}"),
        }
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
        let (servers, security) = email(channel).servers();
        assert_eq!((servers[0].port, security), (587, Security::StartTls));
    }

    #[test]
    fn every_key_is_taken() {
        let (channels, mistakes) = parsed(
            "[[email]]\nname = \"night\"\nto = [\"a@b.c\", \"Ops <d@e.f>\"]\nfrom = \"p@q.r\"\nserver = [\"mx1:2525\", \"[::1]:25\"]\n\
             security = \"tls\"\nca_file = \"/etc/ca.pem\"\nuser = \"u\"\npassword_file = \"smtp\"\nsubject = \"$HOST\"\ntimeout = \"5s\"\n\
             digest = \"07:00\"\nremind = \"4h\"\nseverity = \"critical\"\nmatch = \"tcp\"\nwindow = \"5s\"\nmessages = 3\nper = \"10m\"\n\
             [[email]]\nto = \"a@b.c\"\nserver = \"localhost\"\n",
        );
        assert_eq!(mistakes, [""; 0]);
        assert_eq!(
            email(&channels[0]).servers,
            [("mx1".to_owned(), Some(2525)), ("::1".to_owned(), Some(25))]
        );
        assert_eq!(channels[0].terms.limits.span, Duration::from_secs(600));
        assert_eq!(email(&channels[1]).servers().1, Security::None);
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
        ] {
            let mistake = one_mistake(input);
            assert!(mistake.contains(expected), "{input}: {mistake}");
        }
    }
}
