//! Mail by SMTP: several servers, one after the other; TLS with a certificate that is checked, unless the server is
//! this host itself; and each recipient for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use rustls::ClientConfig;
use uuid::Uuid;

use super::carrier::Refusal;
use super::message::Message;
use super::smtp::{Conversation, Failure, Fate, Opening};
use super::template::Template;
use crate::net;

/// How long a server may take for one step, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A connection that is not used for this long is closed.
pub const IDLE: Duration = Duration::from_secs(30);
/// A server that failed is not the first one to be tried again before this time.
const SHUNNED: Duration = Duration::from_secs(300);
/// Messages whose recipients are in different states; beyond it the oldest are told again to all of theirs.
const DIVIDED: usize = 1_000;

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
    /// How long a server may take for one step.
    pub patience: Duration,
}

/// The servers of one channel.
pub struct Mailer {
    email: Email,
    tls: Option<Arc<ClientConfig>>,
    session: Mutex<Session>,
}

/// What is kept from one message to the next.
#[derive(Default)]
struct Session {
    /// The server that was used last, by its place, and since when it has had nothing to do.
    open: Option<(usize, Conversation, Instant)>,
    /// When servers failed last.
    failed: BTreeMap<usize, Instant>,
    /// Messages that some of their recipients have.
    divided: BTreeMap<Uuid, Division>,
}

/// How far a message is.
#[derive(Clone, Default)]
struct Division {
    /// Who is to get it still.
    left: Vec<Address>,
    /// Who will never.
    refused: Vec<String>,
    /// The last answer of a server that took it for somebody.
    taken: Option<String>,
}

impl Mailer {
    /// Prepares; no connection is made yet.
    ///
    /// # Errors
    /// What is wrong with the settings, in a sentence.
    pub fn new(email: Email) -> Result<Self, String> {
        let tls = match email.security {
            Security::None => None,
            Security::StartTls | Security::Tls => {
                Some(Arc::new(net::client(email.authorities.as_deref(), None)?))
            }
        };
        Ok(Self {
            email,
            tls,
            session: Mutex::default(),
        })
    }

    /// Sends a message: to the first server that takes it, and to the next one what is left then. The servers' own
    /// answers come back. Whoever has it does not get it again when it is sent again for the others.
    ///
    /// # Errors
    /// When somebody does not have it yet, or never will.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        let mail = self.mail(message).map_err(Refusal::Never)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut division = session.divided.remove(&message.id).unwrap_or_else(|| {
            let to = self.email.to.iter().map(|one| one.email.clone());
            Division {
                left: to.collect(),
                ..Division::default()
            }
        });
        let (mut told, mut is_put_off) = (Vec::new(), false);
        for place in session.order(self.email.servers.len()) {
            if division.left.is_empty() {
                break;
            }
            let Server { host, port } = &self.email.servers[place];
            let mut tell = |what: String| told.push(format!("{host}:{port}: {what}"));
            match self.hand_over(&mut session, place, &division.left, &mail) {
                Ok(fate) => {
                    is_put_off |= !fate.put_off.is_empty();
                    for (one, answer) in &fate.put_off {
                        tell(format!("{one}: {answer}"));
                    }
                    division.note(fate, &format!("{host}:{port}"));
                }
                Err(Failure::Mail(answer)) if answer.is_final() => {
                    division.left.clear();
                    division.refused.push(format!("{host}:{port}: {answer}"));
                }
                Err(Failure::Mail(answer)) => {
                    is_put_off |= !answer.is_about_us();
                    tell(answer.to_string());
                }
                Err(Failure::Broken(why)) => tell(why),
            }
        }
        let is_done = division.left.is_empty();
        let (refused, taken) = (division.refused.join("; "), division.taken.clone());
        if !is_done {
            session.remember(message.id, division);
        }
        match (is_done, taken) {
            (false, _) if is_put_off => Err(Refusal::PutOff(told.join("; "))),
            (false, _) => Err(Refusal::Later(told.join("; "))),
            (true, Some(answer)) if refused.is_empty() => Ok(answer),
            (true, Some(answer)) => Err(Refusal::Never(format!(
                "{refused}; the others have it: {answer}"
            ))),
            (true, None) => Err(Refusal::Never(refused)),
        }
    }

    /// Closes a connection that has had nothing to do for [`IDLE`].
    pub fn rest(&self) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., since)) = &session.open
            && since.elapsed() >= IDLE
            && let Some((_, conversation, _)) = session.open.take()
        {
            conversation.end();
        }
    }

    fn hand_over(
        &self,
        session: &mut Session,
        place: usize,
        to: &[Address],
        mail: &[u8],
    ) -> Result<Fate, Failure> {
        let result = self.conversation(session, place).and_then(|mut open| {
            let fate = open.transfer(&self.email.from.email, to, mail);
            if !matches!(fate, Err(Failure::Broken(_))) {
                session.open = Some((place, open, Instant::now()));
            }
            fate
        });
        match &result {
            Err(Failure::Broken(_)) => session.failed.insert(place, Instant::now()),
            _ => session.failed.remove(&place),
        };
        result
    }

    /// The open one, as long as it is with this server and still there; otherwise a new one.
    fn conversation(&self, session: &mut Session, place: usize) -> Result<Conversation, Failure> {
        if let Some((open, mut conversation, since)) = session.open.take() {
            if open == place && since.elapsed() < 2 * IDLE && conversation.is_ready() {
                return Ok(conversation);
            }
            conversation.end();
        }
        let opening = Opening {
            security: self.email.security,
            tls: self.tls.as_ref(),
            login: self.email.login.as_ref(),
            hello: &self.email.hello,
            patience: self.email.patience,
        };
        Conversation::begin(&self.email.servers[place], &opening)
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

impl Drop for Mailer {
    fn drop(&mut self) {
        let session = self.session.get_mut();
        let session = session.unwrap_or_else(PoisonError::into_inner);
        if let Some((_, conversation, _)) = session.open.take() {
            conversation.end();
        }
    }
}

impl Session {
    /// The places of the servers in the order in which they are tried: those that failed lately come last.
    fn order(&self, count: usize) -> Vec<usize> {
        let is_shunned = |place: &usize| {
            let failed = self.failed.get(place);
            failed.is_some_and(|at| at.elapsed() < SHUNNED)
        };
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(is_shunned);
        order
    }

    fn remember(&mut self, id: Uuid, division: Division) {
        self.divided.insert(id, division);
        if self.divided.len() > DIVIDED {
            self.divided.pop_first();
        }
    }
}

impl Division {
    fn note(&mut self, fate: Fate, server: &str) {
        self.left = fate.put_off.into_iter().map(|(one, _)| one).collect();
        let refused = fate.refused.into_iter();
        self.refused
            .extend(refused.map(|(one, answer)| format!("{server}: {one}: {answer}")));
        if let Some(answer) = fate.taken {
            self.taken = Some(format!("{server}: {answer}"));
        }
    }
}

/// A host's name as a mail server takes it, whatever somebody called the host.
#[must_use]
pub fn domain(host: &str) -> String {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let labels = host.split('.').map(|label| {
        let label: String = label
            .bytes()
            .take(63)
            .map(|byte| if is_fine(&byte) { byte.into() } else { '-' })
            .collect();
        label.trim_matches('-').to_owned()
    });
    let labels: Vec<String> = labels.filter(|label| !label.is_empty()).collect();
    match labels.is_empty() {
        true => "localhost".to_owned(),
        false => labels.join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::{Email, Mailer, PATIENCE, Security, Server, domain};
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
            patience: PATIENCE,
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

    #[test]
    fn no_line_is_longer_than_a_server_takes() {
        let mut entry = Entry::from(notice(81, "/usr/bin/nc"));
        if let Some(process) = &mut entry.event.process {
            process.args = Some(vec!["a".repeat(20_000), "é".repeat(20_000)]);
        }
        entry.event.message = "b".repeat(5_000);
        let of = message(vec![entry]);
        let mail = mailer().mail(&of).expect("a mail");
        let longest = mail.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
        assert!(longest <= Some(998), "{longest:?}");
        assert!(mail.is_ascii());
    }

    #[test]
    fn whatever_a_host_is_called_it_has_a_domain() {
        assert_eq!(domain("web1.example.org"), "web1.example.org");
        assert_eq!(domain("my_host"), "my-host");
        assert_eq!(domain("x\r\nMAIL FROM:<a>"), "x--MAIL-FROM--a");
        assert_eq!(domain("…"), "localhost");
        for host in ["my_host", "-", "a..b", "é", "x y", "10.0.0.1", "(none)"] {
            let from = format!("portwatch@{}", domain(host));
            assert!(from.parse::<lettre::message::Mailbox>().is_ok(), "{from}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_no_authority() {
        let email = Email {
            authorities: Some(b"nothing".to_vec()),
            ..mailer().email.clone()
        };
        let wrong = Mailer::new(email).err().expect("refused");
        assert!(wrong.contains("no certificate"), "{wrong}");
    }
}
