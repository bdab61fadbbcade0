//! Mail by SMTP: several servers, one after the other; TLS with a certificate that is checked, unless the server is
//! this host itself.

use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use lettre::transport::smtp::{Error as SmtpError, PoolConfig};
use lettre::{SmtpTransport, Transport as _};
use thiserror::Error;

use super::message::Message;
use super::template::Template;

/// How long a server may take for one step.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection that is not used for this long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS, or no mail.
    #[default]
    StartTls,
    /// TLS from the first byte on.
    Tls,
    /// Nothing; for a server on this host.
    None,
}

impl Security {
    /// The usual port.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name or address. The certificate must be for it.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Whom to send to, and how.
#[derive(Clone)]
pub struct Email {
    /// Recipients.
    pub to: Vec<Mailbox>,
    /// Sender.
    pub from: Mailbox,
    /// Subject.
    pub subject: Template,
    /// Servers, tried in turn.
    pub servers: Vec<Server>,
    /// TLS.
    pub security: Security,
    /// Certificates of authorities that count besides those of the system, as PEM.
    pub authorities: Option<Vec<u8>>,
    /// User and password.
    pub login: Option<Credentials>,
    /// The name that the servers are told.
    pub hello: String,
}

/// Why a mail was not taken.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It may be taken later: the server is not there, or says so.
    #[error("{0}")]
    Later(String),
    /// It will never be taken.
    #[error("{0}")]
    Never(String),
}

/// The connections of one channel.
pub struct Mailer {
    email: Email,
    transports: Vec<(String, SmtpTransport)>,
}

impl Mailer {
    /// Prepares the connections; none is made yet.
    ///
    /// # Errors
    /// What is wrong with the settings, in a sentence.
    pub fn new(email: Email) -> Result<Self, String> {
        let transports = email.servers.iter().map(|server| {
            let name = format!("{}:{}", server.host, server.port);
            let transport = transport(&email, server);
            transport.map(|transport| (name, transport))
        });
        Ok(Self {
            transports: transports.collect::<Result<_, _>>()?,
            email,
        })
    }

    /// Sends a message; the first server that takes it, or refuses it for good, decides. Its own answer comes back.
    ///
    /// # Errors
    /// When no server took it.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        let mail = self.mail(message).map_err(Refusal::Never)?;
        let envelope = self.envelope().map_err(Refusal::Never)?;
        let mut told = Vec::new();
        for (name, transport) in &self.transports {
            match transport.send_raw(&envelope, &mail) {
                Ok(response) => return Ok(format!("{name}: {}", answer(&response))),
                Err(error) if error.is_permanent() => {
                    return Err(Refusal::Never(format!("{name}: {}", causes(&error))));
                }
                Err(error) => told.push(format!("{name}: {}", causes(&error))),
            }
        }
        Err(Refusal::Later(told.join("; ")))
    }

    fn envelope(&self) -> Result<Envelope, String> {
        let to = self.email.to.iter().map(|one| one.email.clone());
        let envelope = Envelope::new(Some(self.email.from.email.clone()), to.collect());
        envelope.map_err(|error| error.to_string())
    }

    /// The mail as it goes over the wire.
    fn mail(&self, message: &Message) -> Result<Vec<u8>, String> {
        let domain = self.email.from.email.domain();
        let mut builder = lettre::Message::builder()
            .from(self.email.from.clone())
            .subject(self.email.subject.fill(message))
            // The same in each attempt: whoever gets it twice can tell.
            .message_id(Some(format!("<{}@{domain}>", message.id)));
        for to in &self.email.to {
            builder = builder.to(to.clone());
        }
        if let Ok(ts) = message.ts.parse::<jiff::Timestamp>() {
            // When it happened, and not when a server was found that took it.
            builder = builder.date(ts.into());
        }
        // Nobody is to answer a machine with "I am on holiday" (RFC 3834).
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        builder = builder.raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
        let plain = SinglePart::builder()
            .header(ContentType::TEXT_PLAIN)
            .body(message.text());
        let html = SinglePart::builder()
            .header(ContentType::TEXT_HTML)
            .body(message.html());
        let parts = MultiPart::alternative().singlepart(plain).singlepart(html);
        let mail = builder
            .multipart(parts)
            .map_err(|error| error.to_string())?;
        Ok(mail.formatted())
    }
}

fn transport(email: &Email, server: &Server) -> Result<SmtpTransport, String> {
    let Server { host, port } = server;
    let tls = match email.security {
        Security::None => Tls::None,
        Security::StartTls => Tls::Required(parameters(email, host)?),
        Security::Tls => Tls::Wrapper(parameters(email, host)?),
    };
    let mut builder = SmtpTransport::builder_dangerous(host)
        .port(*port)
        .tls(tls)
        .hello_name(ClientId::Domain(email.hello.clone()))
        .timeout(Some(PATIENCE))
        .pool_config(PoolConfig::new().max_size(1).idle_timeout(IDLE));
    if let Some(login) = &email.login {
        builder = builder.credentials(login.clone());
    }
    Ok(builder.build())
}

fn parameters(email: &Email, host: &str) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(authorities) = &email.authorities {
        let certificate = Certificate::from_pem(authorities).map_err(|error| causes(&error))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| causes(&error))
}

/// What a server said, on one line.
fn answer(response: &Response) -> String {
    let text: Vec<&str> = response.message().collect();
    let text = format!("{} {}", response.code(), text.join(" "));
    crate::text::guard(&text).into_owned()
}

/// An error with what lies behind it: "certificate not trusted" says more than "connection failed".
fn causes(error: &SmtpError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    crate::text::guard(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Email, Mailer, Security, Server};
    use crate::alert::message::Entry;
    use crate::alert::message::tests::{message, notice};
    use crate::alert::template::Template;

    fn mailer() -> Mailer {
        Mailer::new(Email {
            to: vec!["ops@example.org".parse().expect("a mailbox")],
            from: "portwatch@web1.example.org".parse().expect("a mailbox"),
            subject: Template::default(),
            servers: vec![Server {
                host: "mail.example.org".to_owned(),
                port: Security::default().port(),
            }],
            security: Security::default(),
            authorities: None,
            login: None,
            hello: "web1.example.org".to_owned(),
        })
        .expect("right")
    }

    #[test]
    fn a_mail_says_it_in_its_subject_and_is_known_again() {
        let of = message(vec![Entry::from(notice(4444, "/usr/bin/nc"))]);
        let mail = String::from_utf8(mailer().mail(&of).expect("a mail")).expect("text");
        for line in [
            "To: ops@example.org",
            "Message-ID: <00000000-0000-0000-0000-000000000000@web1.example.org>",
            "Date: Sun, 22 Nov 2026 10:00:00 +0000",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(mail.lines().any(|one| one == line), "{line} in\n{mail}");
        }
        assert!(
            mail.contains("Subject: [web1] nc (pid 812, root) listens on"),
            "{mail}"
        );
        assert!(
            mail.contains("text/plain") && mail.contains("text/html"),
            "{mail}"
        );
        assert_eq!(mailer().mail(&of).map(|mail| mail.len()), Ok(mail.len()));
    }

    #[test]
    fn hostile_names_stay_inside_their_parts() {
        let mut entry = Entry::from(notice(81, "/tmp/<script>&\r\nBcc: x@y"));
        entry.event.message = "<b>\r\n.\r\nMAIL FROM".to_owned();
        let of = message(vec![entry]);
        let html = of.html();
        assert!(
            !html.contains("<b>") && !html.contains("<script>"),
            "{html}"
        );
        let mail = String::from_utf8(mailer().mail(&of).expect("a mail")).expect("text");
        assert!(
            !mail
                .lines()
                .any(|line| line.starts_with("Bcc:") || line == "."),
            "{mail}"
        );
    }
}
