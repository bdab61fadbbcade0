//! A conversation with one mail server: commands out, answers back, one mail after the other.
//!
//! lettre writes the commands and reads the rest of the grammar. The conversation itself is here because whoever
//! answers may be hostile, or slow, or a stranger in between: no answer is longer than [`MAX_ANSWER`], no step takes
//! longer than it may however slowly its bytes come, and nothing that was said before TLS counts after it. And each
//! recipient has an answer of its own: one that is refused does not cost the others their mail.

use std::fmt::Display;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Rset, Starttls};
use lettre::transport::smtp::extension::{ClientId, MailParameter};
use rustls::ClientConfig;

use super::email::{Security, Server};
use crate::net::{Link, told};
use crate::text::guard;

/// Bytes of one answer, all its lines together.
const MAX_ANSWER: usize = 8 * 1024;
/// A server that has the whole mail may look at it for so many times the patience of another step: whoever does not
/// wait gets it taken twice (RFC 5321, 4.5.3.2.6).
const DIGESTING: u32 = 10;
/// For a goodbye that nobody needs.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Three digits.
    pub(super) code: u16,
    /// The text of its lines; holds no control character.
    text: String,
}

impl Answer {
    const fn is(&self, class: u16) -> bool {
        self.code / 100 == class
    }

    /// It will never be different, as far as this mail or this recipient is concerned.
    pub(super) const fn is_final(&self) -> bool {
        self.is(5) && !self.is_about_us()
    }

    /// It wants a login, or another one, whatever the mail.
    pub(super) const fn is_about_us(&self) -> bool {
        matches!(self.code, 530 | 534 | 535 | 538)
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.text.is_empty() {
            true => write!(f, "{}", self.code),
            false => write!(f, "{} {}", self.code, self.text),
        }
    }
}

/// Why a mail was not handed over.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server does not want this mail; the conversation can go on.
    Mail(Answer),
    /// There is no conversation, or none any more.
    Broken(String),
}

/// What became of a mail.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// The server has it, for every recipient that is not below.
    pub(super) taken: Option<Answer>,
    /// Recipients that it will never take mail for.
    pub(super) refused: Vec<(Address, Answer)>,
    /// Recipients that it takes none for now.
    pub(super) put_off: Vec<(Address, Answer)>,
}

/// How a conversation is begun.
pub(super) struct Opening<'a> {
    pub(super) security: Security,
    pub(super) tls: Option<&'a Arc<ClientConfig>>,
    pub(super) login: Option<&'a Credentials>,
    /// The name that the server is told.
    pub(super) hello: &'a str,
    /// How long one step may take.
    pub(super) patience: Duration,
}

/// A server that is ready for mail.
pub(super) struct Conversation {
    stream: Link,
    unread: Vec<u8>,
    patience: Duration,
    /// Lines of its answer to EHLO.
    offers: Vec<String>,
}

impl Conversation {
    /// Connects, checks the certificate, and logs in.
    pub(super) fn begin(server: &Server, opening: &Opening<'_>) -> Result<Self, Failure> {
        let &Opening {
            security, patience, ..
        } = opening;
        let stream = Link::tcp(&server.host, server.port, patience);
        let mut this = Self {
            stream: stream.map_err(|error| broken(&error, patience))?,
            unread: Vec::new(),
            patience,
            offers: Vec::new(),
        };
        if security == Security::Tls {
            this = this.secure(&server.host, opening.tls)?;
        }
        let greeting = this.answer(patience)?;
        if !greeting.is(2) {
            return Err(Failure::Broken(greeting.to_string()));
        }
        this.ehlo(opening.hello)?;
        if security == Security::StartTls {
            if this.offer("STARTTLS").is_none() {
                return Err(Failure::Broken(
                    "it offers no STARTTLS, and mail never goes without; `security` names another way".to_owned(),
                ));
            }
            this.session(Starttls)?;
            // A stranger in between could have said this, for us to take it for what the server says later.
            if !this.unread.is_empty() {
                return Err(Failure::Broken(
                    "it said more than it may before TLS: somebody may be in between".to_owned(),
                ));
            }
            this = this.secure(&server.host, opening.tls)?;
            this.ehlo(opening.hello)?;
        }
        if let Some(login) = opening.login {
            this.log_in(login)?;
        }
        Ok(this)
    }

    /// Hands a mail over.
    pub(super) fn transfer(
        &mut self,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<Fate, Failure> {
        let is_ascii = |one: &Address| AsRef::<str>::as_ref(one).is_ascii();
        let is_plain = is_ascii(from) && to.iter().all(is_ascii);
        let options = match is_plain {
            true => Vec::new(),
            false => vec![MailParameter::SmtpUtfEight],
        };
        self.mail_step(Mail::new(Some(from.clone()), options), 2)?;
        let mut fate = Fate::default();
        for one in to {
            let answer = self.say(Rcpt::new(one.clone(), Vec::new()))?;
            match answer.code {
                200..300 => {}
                // Of old this is "too many recipients" (RFC 5321, 4.5.3.1.10).
                552 => fate.put_off.push((one.clone(), answer)),
                _ if answer.is_final() => fate.refused.push((one.clone(), answer)),
                _ => fate.put_off.push((one.clone(), answer)),
            }
        }
        if fate.refused.len() + fate.put_off.len() == to.len() {
            self.session(Rset)?;
            return Ok(fate);
        }
        self.mail_step(Data, 3)?;
        let patience = self.patience;
        self.write(&stuffed(mail), DIGESTING * patience)?;
        let answer = self.answer(DIGESTING * patience)?;
        match answer.is(2) {
            true => fate.taken = Some(answer),
            false => return Err(Failure::Mail(answer)),
        }
        Ok(fate)
    }

    /// Is it still there, and ready for another mail?
    pub(super) fn is_ready(&mut self) -> bool {
        self.session(Rset).is_ok()
    }

    /// Says goodbye.
    pub(super) fn end(mut self) {
        self.patience = FAREWELL;
        // It has every mail that it took.
        let _ = self.say(Quit);
    }

    /// A step that is about one mail: what the server does not like of it leaves the conversation as it was before.
    fn mail_step(&mut self, command: impl Display, class: u16) -> Result<(), Failure> {
        let answer = self.say(command)?;
        if answer.is(class) {
            return Ok(());
        }
        self.session(Rset)?;
        Err(Failure::Mail(answer))
    }

    /// A step without which there is no conversation.
    fn session(&mut self, command: impl Display) -> Result<Answer, Failure> {
        let answer = self.say(command)?;
        match answer.is(2) {
            true => Ok(answer),
            false => Err(Failure::Broken(answer.to_string())),
        }
    }

    fn ehlo(&mut self, hello: &str) -> Result<(), Failure> {
        self.offers.clear();
        let hello = Ehlo::new(ClientId::Domain(hello.to_owned()));
        let patience = self.patience;
        self.write(hello.to_string().as_bytes(), patience)?;
        let lines = self.lines(patience)?;
        let answer = answer(&lines)?;
        if !answer.is(2) {
            return Err(Failure::Broken(answer.to_string()));
        }
        let offers = lines.iter().skip(1).filter_map(|line| line.get(4..));
        self.offers = offers.map(str::to_ascii_uppercase).collect();
        Ok(())
    }

    /// What follows a keyword of EHLO; none when it is not offered.
    fn offer(&self, keyword: &str) -> Option<&str> {
        self.offers.iter().find_map(|line| {
            let rest = line.strip_prefix(keyword)?;
            // Some write `AUTH=`.
            (rest.is_empty() || rest.starts_with([' ', '='])).then(|| rest.trim_start_matches('='))
        })
    }

    fn log_in(&mut self, login: &Credentials) -> Result<(), Failure> {
        let offered = self.offer("AUTH").unwrap_or_default();
        let has = |mechanism: &str| offered.split_whitespace().any(|one| one == mechanism);
        // LOGIN asks for the name, then for the password.
        let (mechanism, steps) = match (has("PLAIN"), has("LOGIN")) {
            (true, _) => (Mechanism::Plain, [None].as_slice()),
            (false, true) => (
                Mechanism::Login,
                [None, Some("Username"), Some("Password")].as_slice(),
            ),
            (false, false) => {
                let why = "it offers no login with a password (AUTH PLAIN or LOGIN)";
                return Err(Failure::Broken(why.to_owned()));
            }
        };
        for (number, asked) in steps.iter().enumerate() {
            let step = Auth::new(mechanism, login.clone(), asked.map(str::to_owned));
            let step = step.map_err(|error| Failure::Broken(error.to_string()))?;
            let sent = step.to_string();
            let answer = self.say(step)?;
            let class = if number + 1 == steps.len() { 2 } else { 3 };
            if !answer.is(class) {
                let told = without_echo(&answer, &sent);
                return Err(Failure::Broken(format!("the login is refused: {told}")));
            }
        }
        Ok(())
    }

    fn say(&mut self, command: impl Display) -> Result<Answer, Failure> {
        let patience = self.patience;
        self.write(command.to_string().as_bytes(), patience)?;
        self.answer(patience)
    }

    fn write(&mut self, bytes: &[u8], patience: Duration) -> Result<(), Failure> {
        self.stream.wait_until(Instant::now() + patience);
        let written = self.stream.write_all(bytes);
        written
            .and_then(|()| self.stream.flush())
            .map_err(|error| broken(&error, patience))
    }

    fn answer(&mut self, patience: Duration) -> Result<Answer, Failure> {
        let answer = answer(&self.lines(patience)?)?;
        match answer.code {
            // It hangs up next.
            421 => Err(Failure::Broken(answer.to_string())),
            _ => Ok(answer),
        }
    }

    /// The lines of the next answer.
    fn lines(&mut self, patience: Duration) -> Result<Vec<String>, Failure> {
        self.stream.wait_until(Instant::now() + patience);
        let (mut lines, mut length) = (Vec::new(), 0);
        loop {
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                length += line.len();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                let code = line.as_bytes().first_chunk::<4>();
                let goes_on = code.is_some_and(|code| {
                    code[3] == b'-' && code[..3].iter().all(u8::is_ascii_digit)
                });
                lines.push(line);
                if !goes_on {
                    return Ok(lines);
                }
            }
            if length + self.unread.len() > MAX_ANSWER {
                return Err(Failure::Broken("its answer has no end".to_owned()));
            }
            let mut piece = [0; 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Failure::Broken("it hung up".to_owned())),
                Ok(count) => self.unread.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error, patience)),
            }
        }
    }

    fn secure(self, host: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Failure> {
        let Some(config) = tls else {
            return Err(Failure::Broken("bug: TLS is not prepared".to_owned()));
        };
        let stream = self.stream.secure(host, config, self.patience);
        Ok(Self {
            stream: stream.map_err(Failure::Broken)?,
            ..self
        })
    }
}

fn answer(lines: &[String]) -> Result<Answer, Failure> {
    let code = lines.last().and_then(|line| line.get(..3));
    let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(code) = code.and_then(|code| code.parse().ok()) else {
        return Err(Failure::Broken("it does not speak SMTP".to_owned()));
    };
    let text: Vec<&str> = lines.iter().filter_map(|line| line.get(4..)).collect();
    Ok(Answer {
        code,
        text: guard(&text.join(" ")).into_owned(),
    })
}

fn broken(error: &io::Error, patience: Duration) -> Failure {
    Failure::Broken(told(error, patience))
}

/// Some servers repeat what they do not like, and a password would go into logs.
fn without_echo(answer: &Answer, sent: &str) -> String {
    let secret = sent.split_whitespace().next_back().unwrap_or_default();
    match secret.len() > 1 && answer.text.contains(secret) {
        true => answer.code.to_string(),
        false => answer.to_string(),
    }
}

/// A mail as it goes over the wire: every line ends in CR LF, and none is the one that ends the mail.
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(mail.len() + 64);
    let mail = mail.strip_suffix(b"\n").unwrap_or(mail);
    for line in mail.split(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend(line.iter().filter(|byte| **byte != b'\r'));
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use lettre::transport::smtp::authentication::Credentials;

    use super::{Answer, Conversation, Failure, Opening, Security, Server, stuffed, without_echo};

    const PATIENCE: Duration = Duration::from_millis(300);

    /// What becomes of a conversation with a server that does this.
    fn begun(
        security: Security,
        serve: impl FnOnce(TcpStream) + Send + 'static,
    ) -> Result<Conversation, String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || serve(listener.accept().expect("a client").0));
        let server = Server {
            host: "127.0.0.1".to_owned(),
            port,
        };
        let login = Credentials::new("u".to_owned(), "hunter2".to_owned());
        let opening = Opening {
            security,
            tls: None,
            login: Some(&login),
            hello: "web1",
            patience: PATIENCE,
        };
        Conversation::begin(&server, &opening).map_err(|failure| match failure {
            Failure::Broken(why) => why,
            Failure::Mail(answer) => answer.to_string(),
        })
    }

    fn failure(security: Security, serve: impl FnOnce(TcpStream) + Send + 'static) -> String {
        begun(security, serve).err().expect("no conversation")
    }

    #[test]
    fn an_answer_without_an_end_is_none() {
        let told = failure(Security::None, |mut stream| {
            while stream.write_all(&[b'2'; 4096]).is_ok() {}
        });
        assert_eq!(told, "its answer has no end");
        let told = failure(Security::None, |mut stream| {
            while stream.write_all(b"220-still greeting\r\n").is_ok() {}
        });
        assert_eq!(told, "its answer has no end");
    }

    #[test]
    fn a_server_that_drips_gets_no_more_time_than_one_that_hangs() {
        let began = Instant::now();
        let told = failure(Security::None, |mut stream| {
            while stream.write_all(b"2").is_ok() {
                std::thread::sleep(PATIENCE / 10);
            }
        });
        assert_eq!(told, "nothing came of it within 300ms");
        assert!(began.elapsed() < 3 * PATIENCE, "{:?}", began.elapsed());
    }

    #[test]
    fn what_was_said_before_tls_does_not_count_after_it() {
        let told = failure(Security::StartTls, |stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
            let mut stream = stream;
            let mut line = String::new();
            stream.write_all(b"220 mx\r\n").expect("sent");
            reader.read_line(&mut line).expect("EHLO");
            stream
                .write_all(b"250-mx\r\n250 STARTTLS\r\n")
                .expect("sent");
            reader.read_line(&mut line).expect("STARTTLS");
            stream
                .write_all(b"220 go on\r\n250-mx\r\n250 AUTH PLAIN\r\n235 welcome\r\n")
                .expect("sent");
            // Until it is gone.
            let _ = reader.read_line(&mut line);
        });
        assert!(told.contains("somebody may be in between"), "{told}");
    }

    #[test]
    fn a_password_that_comes_back_in_an_answer_is_not_told() {
        let echo = |text: &str| Answer {
            code: 501,
            text: text.to_owned(),
        };
        let sent = "AUTH PLAIN AHUAaHVudGVyMg==\r\n";
        let told = without_echo(&echo("what is AUTH PLAIN AHUAaHVudGVyMg==?"), sent);
        assert_eq!(told, "501");
        assert_eq!(without_echo(&echo("no"), sent), "501 no");
    }

    #[test]
    fn other_protocols_and_refusals_are_told() {
        let told = failure(Security::None, |mut stream| {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
        });
        assert_eq!(told, "it does not speak SMTP");
        let told = failure(Security::None, |mut stream| {
            let _ = stream.write_all(b"554-go\r\n554 away\x1b[2J\r\n");
        });
        assert!(
            told.starts_with("554 go away") && !told.contains('\x1b'),
            "{told}"
        );
        assert_eq!(failure(Security::None, drop), "it hung up");
    }

    #[test]
    fn no_line_of_a_mail_ends_it_and_every_line_ends_alike() {
        let wire = stuffed(b"a\n.\r\n..b\rc\r\n.\r\n");
        assert_eq!(wire, b"a\r\n..\r\n...bc\r\n..\r\n.\r\n");
        assert_eq!(stuffed(b"a"), b"a\r\n.\r\n");
    }
}
