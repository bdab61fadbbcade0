//! Notices to the system's log, as the C library's `syslog()` writes them: whatever listens on `/dev/log` knows that.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Zoned;

use super::carrier::Refusal;
use super::lines::{Line, lines};
use super::message::Message;
use crate::event::words::Word as _;
use crate::text::escape;

/// Where the system's log is.
pub const SOCKET: &str = "/dev/log";
/// How long it may take to take one notice.
const PATIENCE: Duration = Duration::from_secs(5);

/// Names of facilities with their numbers; those that are for a program to use.
pub const FACILITIES: [(&str, u8); 12] = [
    ("daemon", 3),
    ("user", 1),
    ("auth", 4),
    ("authpriv", 10),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// A log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Its socket.
    pub socket: PathBuf,
    /// Number of the facility.
    pub facility: u8,
    /// What the lines begin with.
    pub tag: String,
}

impl Syslog {
    /// Writes a line for each incident.
    ///
    /// # Errors
    /// When one of them was not taken; those before it were.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        let all = lines(message);
        let now = Zoned::now();
        let datagrams = all.iter().map(|line| self.datagram(line, message, &now));
        deliver(&self.socket, datagrams.map(String::into_bytes))
    }

    fn datagram(&self, line: &Line<'_>, message: &Message, now: &Zoned) -> String {
        let number = self.facility * 8 + line.severity.syslog();
        let (time, tag) = (now.strftime("%b %e %H:%M:%S"), &self.tag);
        let (pid, severity) = (std::process::id(), line.severity.word());
        // A log has the time at which it got a line, and not the one at which things happened.
        let (kind, ts) = match line.entry {
            Some(entry) => (entry.event.kind.as_str(), &entry.event.ts),
            None => ("summary", &message.ts),
        };
        let text = &line.text;
        format!("<{number}>{time} {tag}[{pid}]: {text} ({severity}, {kind}, {ts})")
    }
}

/// Sends every datagram; how many there were comes back.
pub(super) fn deliver(
    path: &Path,
    datagrams: impl Iterator<Item = Vec<u8>>,
) -> Result<String, Refusal> {
    let shown = escape(path.as_os_str().as_encoded_bytes());
    let refused = |error: io::Error| Refusal::Later(format!("{shown}: {error}"));
    let socket = UnixDatagram::unbound().map_err(refused)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(refused)?;
    let mut count = 0;
    for datagram in datagrams {
        socket.send_to(&datagram, path).map_err(refused)?;
        count += 1;
    }
    let word = if count == 1 { "notice" } else { "notices" };
    Ok(format!("{shown}: {count} {word}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::{FACILITIES, Refusal, Syslog};
    use crate::alert::Entry;
    use crate::alert::message::tests::{message, notice};

    #[test]
    fn a_line_is_as_the_c_library_writes_it() {
        let folder = tempfile::tempdir().expect("dir");
        let path = folder.path().join("log");
        let log = Syslog {
            socket: path.clone(),
            facility: 10,
            tag: "portwatch".to_owned(),
        };
        let of = message(vec![Entry::from(notice(4444, "/usr/bin/nc"))]);
        assert!(matches!(log.send(&of), Err(Refusal::Later(_))));
        let socket = UnixDatagram::bind(&path).expect("bound");
        let answer = log.send(&of).expect("taken");
        assert!(answer.ends_with("/log: 1 notice"), "{answer}");
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).expect("a datagram");
        let line = std::str::from_utf8(&buffer[..length]).expect("text");
        // authpriv.warning, and "Nov  2 10:00:00" of fifteen characters.
        assert!(
            line.starts_with("<84>") && line.as_bytes()[19] == b' ',
            "{line}"
        );
        let rest = format!(
            " portwatch[{}]: nc (pid 812, root) listens on",
            std::process::id()
        );
        assert!(line[19..].starts_with(&rest), "{line}");
        assert!(line.ends_with("(warning, listener.opened, 2026-11-21T19:00:00.001000000Z)"));
    }

    #[test]
    fn facilities_fit_into_their_number() {
        assert!(FACILITIES.iter().all(|(_, number)| *number < 24));
    }
}
