//! The client's side of the control socket, for `tail`, `ls` and `status`. Blocking, bounded.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use super::feed::Piece;

use super::feed::Feed;
use super::protocol::{
    CODE_IO, CODE_NOT_PERMITTED, CODE_SOFTWARE, CODE_UNAVAILABLE, Fault, Format, Reloaded, Reply,
    Request, Verb, to_line,
};
use super::socket::SOCKET_NAME;
use super::stats::Stats;
use super::status::Status;
use crate::event::Event;

/// How long an answer may take before the daemon counts as stuck.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// A connection to the daemon that has asked nothing yet; each carries one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Why the daemon could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon answers at {}: start one with `systemctl start portwatch` or `portwatch run`", .0.display())]
    NoDaemon(PathBuf),
    /// The socket's mode keeps this user out.
    #[error("not permitted to use {}: only root and members of the group portwatch may; \
        `usermod -aG portwatch USER` adds a user, who then has to log in again", .0.display())]
    NotPermitted(PathBuf),
    /// The daemon said no.
    #[error("{}", crate::text::escape(.0.message.as_bytes()))]
    Refused(Fault),
    /// It closed the connection before the end of its answer.
    #[error("the daemon went away in the middle of its answer: see `journalctl -u portwatch`")]
    Lost,
    /// It did not answer in time.
    #[error("the daemon accepted the connection but did not answer within {} s: it hangs or is overloaded", ANSWER_TIME.as_secs())]
    Stuck,
    /// What came is not the protocol.
    #[error(
        "what came from the daemon cannot be understood ({0}): are client and daemon of one version?"
    )]
    Protocol(String),
    /// The connection failed otherwise.
    #[error("the connection to the daemon failed: {0}")]
    Io(#[from] io::Error),
}

impl ClientError {
    /// The exit code (sysexits).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoDaemon(_) | Self::Lost | Self::Stuck => CODE_UNAVAILABLE,
            Self::NotPermitted(_) => CODE_NOT_PERMITTED,
            Self::Refused(fault) => fault.code,
            Self::Protocol(_) => CODE_SOFTWARE,
            Self::Io(_) => CODE_IO,
        }
    }

    /// Is there no daemon at all, so that the caller may watch by itself?
    #[must_use]
    pub const fn is_no_daemon(&self) -> bool {
        matches!(self, Self::NoDaemon(_))
    }
}

impl Client {
    /// Connects to the daemon of this runtime directory.
    ///
    /// # Errors
    /// [`ClientError::NoDaemon`], [`ClientError::NotPermitted`], or [`ClientError::Io`].
    pub fn connect(runtime_dir: &Path) -> Result<Self, ClientError> {
        let path = runtime_dir.join(SOCKET_NAME);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Self { stream }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NotADirectory => ClientError::NoDaemon(path),
                io::ErrorKind::PermissionDenied => ClientError::NotPermitted(path),
                _ => ClientError::Io(error),
            }),
        }
    }

    /// Starts a stream of events.
    ///
    /// # Errors
    /// When the daemon refuses the request or does not answer.
    pub fn tail(
        self,
        filter: Option<String>,
        states: bool,
        since: Option<Duration>,
    ) -> Result<Tail, ClientError> {
        let request = Request {
            filter,
            states,
            since_ms: since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            format: if states {
                Format::Compact
            } else {
                Format::Json
            },
            ..Request::new(Verb::Tail)
        };
        let (feed, reply) = self.ask(&request)?;
        // Events may be hours apart.
        feed.input().set_read_timeout(None)?;
        Ok(Tail {
            feed,
            replay_from: reply.replay_from,
        })
    }

    /// Every listener now.
    ///
    /// # Errors
    /// When the daemon refuses the request, does not answer, or its answer breaks off.
    pub fn list(self, filter: Option<String>) -> Result<Vec<Event>, ClientError> {
        let request = Request {
            filter,
            ..Request::new(Verb::List)
        };
        let (mut feed, _) = self.ask(&request)?;
        let mut events = Vec::new();
        while let Some(line) = feed.next_data()? {
            events.push(parse(line.as_bytes())?);
        }
        Ok(events)
    }

    /// Storms and scans, those that go on first, as the event that was told of each last.
    ///
    /// # Errors
    /// When the daemon refuses the request, does not answer, or its answer breaks off.
    pub fn storms(self) -> Result<Vec<Event>, ClientError> {
        let (mut feed, _) = self.ask(&Request::new(Verb::Storms))?;
        let mut events = Vec::new();
        while let Some(line) = feed.next_data()? {
            events.push(parse(line.as_bytes())?);
        }
        Ok(events)
    }

    /// The daemon's health.
    ///
    /// # Errors
    /// When the daemon refuses the request, does not answer, or its answer breaks off.
    pub fn status(self) -> Result<Status, ClientError> {
        let (mut feed, _) = self.ask(&Request::new(Verb::Status))?;
        let line = feed.next_data()?.ok_or(ClientError::Lost)?;
        parse(line.as_bytes())
    }

    /// TCP sockets by state, listener, process and peer.
    ///
    /// # Errors
    /// When the daemon refuses the request, does not answer, or its answer breaks off.
    pub fn stats(self) -> Result<Stats, ClientError> {
        let (mut feed, _) = self.ask(&Request::new(Verb::Stats))?;
        let line = feed.next_data()?.ok_or(ClientError::Lost)?;
        parse(line.as_bytes())
    }

    /// Has the daemon read its configuration anew.
    ///
    /// # Errors
    /// When the daemon refuses the request or the configuration, or does not answer.
    pub fn reload(self) -> Result<Reloaded, ClientError> {
        let (mut feed, _) = self.ask(&Request::new(Verb::Reload))?;
        let line = feed.next_data()?.ok_or(ClientError::Lost)?;
        parse(line.as_bytes())
    }

    fn ask(self, request: &Request) -> Result<(Feed<UnixStream>, Reply), ClientError> {
        self.stream.set_read_timeout(Some(ANSWER_TIME))?;
        self.stream.set_write_timeout(Some(ANSWER_TIME))?;
        let line = to_line(request).map_err(|error| ClientError::Protocol(error.to_string()))?;
        // A server that has turned us away has closed already; its reason is still there to be read.
        match (&self.stream).write_all(&line) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        let mut feed = Feed::of(self.stream);
        let first = feed.next_line()?.ok_or(ClientError::Lost)?;
        let reply: Reply = parse(first.as_bytes())?;
        match reply.error {
            Some(fault) => Err(ClientError::Refused(fault)),
            None if reply.ok => Ok((feed, reply)),
            None => Err(ClientError::Protocol("neither ok nor error".to_owned())),
        }
    }
}

/// A running stream of events. Where no states were asked for it may be iterated over: JSON lines without their
/// newline; ends when the daemon says so, fails with [`ClientError::Lost`] when it just goes.
#[derive(Debug)]
pub struct Tail {
    feed: Feed<UnixStream>,
    replay_from: Option<String>,
}

impl Tail {
    /// Set when the look back reached further than the daemon remembers: time of its oldest event (RFC 3339).
    #[must_use]
    pub fn replay_from(&self) -> Option<&str> {
        self.replay_from.as_deref()
    }

    /// Takes what is at hand without waiting; lines of data go into `lines`, each with its newline. `None`
    /// when nothing is whole yet: wait until [`Tail::as_fd`] can be read, and call [`Tail::fill`].
    ///
    /// # Errors
    /// As the iterator's.
    pub fn next_piece(&mut self, lines: &mut String) -> Result<Option<Piece>, ClientError> {
        self.feed.take(lines)
    }

    /// Reads once.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the daemon just went; [`ClientError::Io`].
    pub fn fill(&mut self) -> Result<(), ClientError> {
        match self.feed.fill()? {
            true => Ok(()),
            false => Err(ClientError::Lost),
        }
    }
}

impl Iterator for Tail {
    type Item = Result<String, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.feed.next_data().transpose()
    }
}

/// For waiting on it together with something else, when nothing is at hand.
impl AsFd for Tail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.feed.input().as_fd()
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(line: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(line)
        .map_err(|error| ClientError::Protocol(crate::text::escape(error.to_string().as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;

    use super::super::feed::{DATA, MAX_DATA};
    use super::*;
    use crate::sink::MAX_LINE;

    /// The next lines of data; `None` at the announced end.
    fn next_lines(tail: &mut Tail, lines: &mut String) -> Result<Option<()>, ClientError> {
        loop {
            match tail.next_piece(lines)? {
                Some(Piece::Lines) => return Ok(Some(())),
                Some(Piece::End) => return Ok(None),
                Some(Piece::States(_)) => panic!("states were not asked for"),
                None => tail.fill()?,
            }
        }
    }

    /// A server that answers any request with these bytes.
    fn answering(answer: Vec<u8>) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().expect("dir");
        let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("client");
            let mut request = String::new();
            BufReader::new(&stream)
                .read_line(&mut request)
                .expect("request");
            let _ = stream.write_all(&answer);
        });
        let client = Client::connect(dir.path()).expect("connected");
        (dir, client)
    }

    #[test]
    fn no_daemon_is_told_apart() {
        let dir = tempfile::tempdir().expect("dir");
        let error = Client::connect(dir.path()).expect_err("absent");
        assert!(error.is_no_daemon());
        assert_eq!(error.exit_code(), CODE_UNAVAILABLE);
        drop(UnixListener::bind(dir.path().join(SOCKET_NAME)).expect("bound"));
        let error = Client::connect(dir.path()).expect_err("stale");
        assert!(error.is_no_daemon(), "{error}");
    }

    #[test]
    fn not_permitted_names_the_group() {
        let error = ClientError::NotPermitted(PathBuf::from("/run/portwatch/portwatch.sock"));
        assert_eq!(error.exit_code(), CODE_NOT_PERMITTED);
        assert!(
            error
                .to_string()
                .contains("members of the group portwatch may")
        );
    }

    #[test]
    fn a_refusal_keeps_its_code_and_is_escaped() {
        let (_dir, client) =
            answering(b"{\"error\":{\"code\":77,\"message\":\"no\\u001b[2J\"}}\n".to_vec());
        let error = client.status().expect_err("refused");
        assert_eq!(error.exit_code(), 77);
        assert_eq!(error.to_string(), r"no\x1b[2J");
    }

    #[test]
    fn an_end_is_not_a_loss() {
        let (_dir, client) = answering(
            b"{\"ok\":true}\n{\"schema\":\"1\"}\n{\"schema\":\"2\"}\n{\"end\":true}\n".to_vec(),
        );
        let tail = client.tail(None, false, None).expect("accepted");
        let lines: Result<Vec<String>, _> = tail.collect();
        assert_eq!(
            lines.expect("clean end"),
            [r#"{"schema":"1"}"#, r#"{"schema":"2"}"#]
        );

        let (_dir, client) = answering(b"{\"ok\":true}\n{\"schema\":\"1\"}\n{\"schema".to_vec());
        let mut tail = client.tail(None, false, None).expect("accepted");
        assert_eq!(
            tail.next().expect("line").expect("whole"),
            r#"{"schema":"1"}"#
        );
        let error = tail.next().expect("error").expect_err("half a line");
        assert!(matches!(error, ClientError::Lost));
    }

    #[test]
    fn blocks_hold_whole_lines_of_data_only() {
        let long = format!("{{\"schema\":\"{}\"}}\n", "x".repeat(MAX_DATA - 100));
        let answer = [
            "{\"ok\":true}\n{\"schema\":\"1\"}\n{\"schema\":\"2\"}\n",
            &long,
            "{\"schema\":\"3\"}\n{\"end\":true}\n{\"schema\":\"4\"}\n",
        ];
        let (_dir, client) = answering(answer.concat().into_bytes());
        let mut tail = client.tail(None, false, None).expect("accepted");
        let (mut all, mut block) = (String::new(), String::new());
        while next_lines(&mut tail, &mut block).expect("data").is_some() {
            assert!(block.starts_with(DATA) && block.ends_with('\n'));
            all.push_str(&block);
        }
        let data = [
            "{\"schema\":\"1\"}\n{\"schema\":\"2\"}\n",
            &long,
            "{\"schema\":\"3\"}\n",
        ];
        assert_eq!(all, data.concat());

        let (_dir, client) = answering(b"{\"ok\":true}\n{\"schema\":\"1\"}\n{\"sch".to_vec());
        let mut tail = client.tail(None, false, None).expect("accepted");
        assert!(next_lines(&mut tail, &mut block).expect("data").is_some());
        let error = next_lines(&mut tail, &mut block).expect_err("half a line");
        assert!(matches!(error, ClientError::Lost));
    }

    #[test]
    fn lines_without_end_are_not_collected_for_ever() {
        let (_dir, client) = answering(vec![b'x'; MAX_DATA + 2 * MAX_LINE]);
        let error = client.list(None).expect_err("too long");
        assert!(matches!(error, ClientError::Protocol(_)));
        assert_eq!(error.exit_code(), CODE_SOFTWARE);
    }
}
