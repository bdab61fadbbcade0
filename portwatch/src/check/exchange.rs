//! One conversation with a server: its bytes in, ours and a verdict out. Pure.
//!
//! Architecture invariant: whatever a server sends, an exchange takes at most [`LIMIT`] bytes of it, says a bounded
//! number of bytes itself, and does not panic. In which pieces the bytes come makes no difference.

use super::dialogue::Dialogue;
use super::dns::Question;
use super::{Check, Failure, Target};
use crate::event::CheckProtocol;

/// What is read of one server, at most, in bytes.
pub(super) const LIMIT: usize = 4096;

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Send this.
    pub(super) say: Vec<u8>,
    /// Then it is decided. Until then, more is to be read.
    pub(super) verdict: Option<Result<(), Failure>>,
}

/// A conversation under way.
#[derive(Debug)]
pub(super) struct Exchange {
    kind: Kind,
    heard: usize,
}

#[derive(Debug)]
enum Kind {
    /// That there is a connection says it all.
    Nothing,
    Lines(Dialogue),
    Dns(Question),
}

impl Exchange {
    /// The conversation that this check has with this target. `number` marks what must come back in an answer.
    pub(super) fn new(check: &Check, target: &Target, number: u16) -> Self {
        let kind = match check.protocol {
            CheckProtocol::Connect | CheckProtocol::Tls => Kind::Nothing,
            CheckProtocol::Ssh => Kind::Lines(Dialogue::ssh()),
            CheckProtocol::Smtp | CheckProtocol::Smtps => Kind::Lines(Dialogue::smtp()),
            CheckProtocol::Imap | CheckProtocol::Imaps => Kind::Lines(Dialogue::imap()),
            CheckProtocol::Pop3 | CheckProtocol::Pop3s => Kind::Lines(Dialogue::pop3()),
            CheckProtocol::Redis => Kind::Lines(Dialogue::redis()),
            CheckProtocol::Http | CheckProtocol::Https => {
                let path = check.path.as_deref().unwrap_or("/");
                Kind::Lines(Dialogue::http(&name(check, target), path))
            }
            CheckProtocol::Dns => {
                let is_stream = !matches!(target, Target::Udp(_));
                Kind::Dns(Question::new(number, is_stream))
            }
        };
        Self { kind, heard: 0 }
    }

    /// What to say before anything is heard.
    pub(super) fn begin(&mut self) -> Step {
        match &mut self.kind {
            Kind::Nothing => Step {
                verdict: Some(Ok(())),
                ..Step::default()
            },
            Kind::Lines(dialogue) => dialogue.begin(),
            Kind::Dns(question) => question.begin(),
        }
    }

    /// How many more bytes may be heard; never 0 before it is decided.
    pub(super) const fn room(&self) -> usize {
        LIMIT - self.heard
    }

    /// It said this; what is beyond [`Self::room`] is not heard.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Step {
        let bytes = bytes.get(..self.room()).unwrap_or(bytes);
        self.heard += bytes.len();
        let mut step = match &mut self.kind {
            Kind::Nothing => Step::default(),
            Kind::Lines(dialogue) => dialogue.hear(bytes),
            Kind::Dns(question) => question.hear(bytes),
        };
        if step.verdict.is_none() && self.room() == 0 {
            step.verdict = Some(Err(Failure::TooMuch(LIMIT)));
        }
        step
    }

    /// It hung up.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::Nothing => Ok(()),
            Kind::Lines(dialogue) => dialogue.end(),
            Kind::Dns(_) => Err(Failure::HungUp),
        }
    }
}

/// What a server is called that is asked for by name: as the rule says, else its host, else its address.
pub(super) fn name(check: &Check, target: &Target) -> String {
    match (&check.name, &check.host, target) {
        (Some(name), ..) => name.clone(),
        (None, Some(remote), _) => remote.host.clone(),
        (None, None, Target::Tcp(address) | Target::Udp(address)) => address.ip().to_string(),
        (None, None, Target::Host { name, .. }) => name.clone(),
        (None, None, Target::Unix(_)) => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    pub(super) fn check(protocol: CheckProtocol) -> Check {
        Check {
            protocol,
            every: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            failures: 3,
            host: None,
            name: None,
            path: None,
        }
    }

    fn told(protocol: CheckProtocol, said: &[u8]) -> (String, Option<Result<(), Failure>>) {
        let target = Target::Tcp(([127, 0, 0, 1], 80).into());
        let mut exchange = Exchange::new(&check(protocol), &target, 7);
        let mut all = exchange.begin();
        if all.verdict.is_none() {
            let step = exchange.hear(said);
            all.say.extend(step.say);
            all.verdict = step.verdict;
        }
        (String::from_utf8_lossy(&all.say).into_owned(), all.verdict)
    }

    fn fails(protocol: CheckProtocol, said: &str) -> String {
        match told(protocol, said.as_bytes()).1 {
            Some(Err(failure)) => failure.to_string(),
            other => panic!("{said:?} leads to {other:?}"),
        }
    }

    #[test]
    fn a_healthy_server_is_believed_and_left_politely() {
        let good = Some(Ok(()));
        let ssh = told(CheckProtocol::Ssh, b"welcome\r\nSSH-2.0-OpenSSH_9.2\r\n");
        assert!(ssh.0.starts_with("SSH-2.0-portwatch_") && ssh.1 == good);
        let smtp = b"220-mx\r\n220 ready\r\n250-mx\r\n250-SIZE\r\n250 OK\r\n";
        let smtp = told(CheckProtocol::Smtp, smtp);
        assert_eq!(
            smtp,
            ("EHLO localhost\r\nQUIT\r\n".to_owned(), good.clone())
        );
        let imap = b"* OK ready\r\n* BYE see you\r\na OK done\r\n";
        let imap = told(CheckProtocol::Imaps, imap);
        assert_eq!(imap, ("a LOGOUT\r\n".to_owned(), good.clone()));
        let pop3 = told(CheckProtocol::Pop3, b"+OK ready\r\n+OK bye\r\n");
        assert_eq!(pop3, ("QUIT\r\n".to_owned(), good.clone()));
        for pong in ["+PONG\r\n", "-NOAUTH Authentication required.\r\n"] {
            let redis = told(CheckProtocol::Redis, pong.as_bytes());
            assert_eq!(redis.1, good, "{pong}");
        }
        let http = told(
            CheckProtocol::Http,
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\n",
        );
        assert_eq!(http.1, good);
        assert!(
            http.0.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
                && http.0.ends_with("\r\n\r\n"),
            "{}",
            http.0
        );
        assert_eq!(told(CheckProtocol::Connect, b""), (String::new(), good));
    }

    #[test]
    fn one_that_is_ill_is_quoted() {
        for (protocol, said, told) in [
            (CheckProtocol::Ssh, "SSHD down\n", None),
            (
                CheckProtocol::Smtp,
                "421 too busy\r\n",
                Some("it said: 421 too busy"),
            ),
            (
                CheckProtocol::Smtp,
                "220 ok\r\n550 go away\r\n",
                Some("it said: 550 go away"),
            ),
            (
                CheckProtocol::Imap,
                "* BYE overloaded\r\n",
                Some("it said: * BYE overloaded"),
            ),
            (CheckProtocol::Pop3, "-ERR\r\n", Some("it said: -ERR")),
            (
                CheckProtocol::Redis,
                "-LOADING Redis is loading\r\n",
                Some("it said: -LOADING Redis is loading"),
            ),
            (
                CheckProtocol::Http,
                "HTTP/1.1 503 Service Unavailable\r\n",
                Some("it said: HTTP/1.1 503 Service Unavailable"),
            ),
            (
                CheckProtocol::Http,
                "HTTP/1.1 20x\r\n",
                Some("it said: HTTP/1.1 20x"),
            ),
            (
                CheckProtocol::Http,
                "SSH-2.0-\x1b[2J\r\n",
                Some(r"it said: SSH-2.0-\x1b[2J"),
            ),
            (
                CheckProtocol::Http,
                "220 mx: ready\r\n",
                Some("it said: 220 mx: ready"),
            ),
            (
                CheckProtocol::Http,
                "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 500 Oh\r\n",
                Some("it said: HTTP/1.1 500 Oh"),
            ),
        ] {
            match told {
                Some(told) => assert_eq!(fails(protocol, said), told),
                None => assert_eq!(self::told(protocol, said.as_bytes()).1, None, "{said}"),
            }
        }
        let endless = "x\n".repeat(LIMIT);
        assert_eq!(
            fails(CheckProtocol::Ssh, &endless),
            "no answer in the first 4096 bytes"
        );
    }

    #[test]
    fn what_hangs_up_is_judged_by_what_it_said() {
        let target = Target::Unix(b"/run/x".to_vec());
        let end = |protocol, said: &[u8]| {
            let mut exchange = Exchange::new(&check(protocol), &target, 7);
            exchange.begin();
            assert_eq!(exchange.hear(said).verdict, None);
            exchange.end()
        };
        assert_eq!(end(CheckProtocol::Smtp, b""), Err(Failure::HungUp));
        assert_eq!(
            end(CheckProtocol::Smtp, b"220 ok\r\n"),
            Err(Failure::HungUp)
        );
        assert_eq!(end(CheckProtocol::Http, b"HTTP/1.0 200 OK"), Ok(()));
        let half = end(CheckProtocol::Http, b"no web").map_err(|failure| failure.to_string());
        assert_eq!(half, Err("it said: no web".to_owned()));
    }

    #[test]
    fn the_name_asked_for_is_that_of_the_rule() {
        let target = Target::Tcp(([127, 0, 0, 1], 80).into());
        let mut check = check(CheckProtocol::Http);
        assert_eq!(name(&check, &target), "127.0.0.1");
        check.name = Some("www.example.org".to_owned());
        check.path = Some("/health?deep=1".to_owned());
        let said = Exchange::new(&check, &target, 1).begin().say;
        let said = String::from_utf8(said).expect("text");
        assert!(
            said.starts_with("GET /health?deep=1 HTTP/1.1\r\nHost: www.example.org\r\n"),
            "{said}"
        );
    }
}
