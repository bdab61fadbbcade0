//! Records to a syslog receiver: of this host by its socket, by TCP, or by TLS (RFC 5425).
//!
//! Syslog has no acknowledgement. Over a connection there is one all the same: whoever has read everything closes
//! after us and without an error ([`Link::finish`]), so each delivery is a connection of its own. A receiver that is
//! not to be connected to as often has one connection for all, and then nobody knows what of it was read.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Delivery, Parcel, Transport};
use crate::net::{Endpoint, Link, told};
use crate::text::escape;

/// Bytes that are written at once.
const CHUNK: usize = 128 * 1024;
/// How long a receiver may take to read the rest of a connection that is no longer needed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where the receiver is.
#[derive(Debug)]
pub enum Place {
    /// A socket of this host, of datagrams or of a stream.
    Local {
        /// Its path.
        socket: PathBuf,
        /// How long one step may take.
        patience: Duration,
    },
    /// A host, with TLS or without.
    Remote {
        /// Which.
        endpoint: Endpoint,
        /// Each delivery is a connection, the end of which confirms it.
        confirm: bool,
    },
}

/// What is around a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Number of the facility.
    pub facility: u8,
    /// Name of the program.
    pub tag: String,
    /// Name of this host.
    pub host: String,
    /// Records are syslog messages already, and go as they are.
    pub is_whole: bool,
}

/// A receiver.
#[derive(Debug)]
pub struct Syslog {
    place: Place,
    envelope: Envelope,
    open: Open,
}

/// What is kept from one delivery to the next.
enum Open {
    Nothing,
    Datagrams(UnixDatagram),
    Stream(Link),
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Datagrams(_) => "Datagrams",
            Self::Stream(_) => "Stream",
        })
    }
}

/// How messages are told apart on a stream.
#[derive(Clone, Copy)]
enum Framing {
    /// By their length before each (RFC 6587, RFC 5425).
    Counted,
    /// By a line feed after each, as on sockets of a host.
    Lines,
}

impl Syslog {
    /// Prepares; no connection is made yet.
    #[must_use]
    pub const fn new(place: Place, envelope: Envelope) -> Self {
        Self {
            place,
            envelope,
            open: Open::Nothing,
        }
    }

    fn local(&mut self, parcels: &[Parcel]) -> Delivery {
        let Place::Local { socket, patience } = &self.place else {
            return Delivery::all(0);
        };
        let patience = *patience;
        let shown = escape(socket.as_os_str().as_encoded_bytes());
        let failed = |error: &io::Error| format!("{shown}: {}", told(error, patience));
        let mut open = std::mem::replace(&mut self.open, Open::Nothing);
        let is_open = match &mut open {
            Open::Nothing => false,
            Open::Datagrams(_) => true,
            Open::Stream(link) => link.is_alive(),
        };
        if !is_open {
            open = match datagrams(socket, patience) {
                Ok(datagrams) => Open::Datagrams(datagrams),
                // EPROTOTYPE: it is a stream.
                Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
                    match Link::unix(socket, patience) {
                        Ok(link) => Open::Stream(link),
                        Err(error) => return Delivery::later(0, failed(&error)),
                    }
                }
                Err(error) => return Delivery::later(0, failed(&error)),
            };
        }
        let zone = TimeZone::system();
        let messages = parcels
            .iter()
            .map(|parcel| self.envelope.local(parcel, &zone));
        let (taken, error) = match &mut open {
            Open::Datagrams(datagrams) => send(datagrams, messages),
            Open::Stream(link) => {
                let messages = messages.collect::<Vec<_>>();
                stream(link, &messages, Framing::Lines, patience)
            }
            Open::Nothing => (0, None),
        };
        match error {
            None => {
                self.open = open;
                Delivery::all(taken)
            }
            Some(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.open = open;
                Delivery::refused(taken, failed(&error))
            }
            Some(error) => Delivery::later(taken, failed(&error)),
        }
    }

    fn remote(&mut self, parcels: &[Parcel]) -> Delivery {
        let Place::Remote { endpoint, confirm } = &self.place else {
            return Delivery::all(0);
        };
        let kept = match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Stream(mut link) => link.is_alive().then_some(link),
            Open::Nothing | Open::Datagrams(_) => None,
        };
        let mut link = match kept.map_or_else(|| endpoint.open(), Ok) {
            Ok(link) => link,
            Err(why) => return Delivery::later(0, why),
        };
        let messages = parcels.iter().map(|parcel| self.envelope.remote(parcel));
        let messages = messages.collect::<Vec<_>>();
        let patience = endpoint.patience;
        let (taken, mut error) = stream(&mut link, &messages, Framing::Counted, patience);
        if error.is_none() && *confirm {
            link.wait_until(Instant::now() + patience);
            error = link.finish().err();
        } else if error.is_none() {
            // What it was sent before it hung up may be lost; what comes is not.
            if link.is_alive() {
                self.open = Open::Stream(link);
            }
        }
        match error {
            None => Delivery::all(taken),
            Some(error) => {
                let taken = if *confirm { 0 } else { taken };
                Delivery::later(taken, endpoint.broken(&error))
            }
        }
    }
}

impl Transport for Syslog {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        match &self.place {
            Place::Local { .. } => self.local(parcels),
            Place::Remote { .. } => self.remote(parcels),
        }
    }
}

impl Drop for Syslog {
    /// A connection that is closed while something of the receiver was not read, such as what TLS sends late, is reset by
    /// the kernel; the receiver then throws away what it has not read.
    fn drop(&mut self) {
        let is_remote = matches!(self.place, Place::Remote { .. });
        if let Open::Stream(mut link) = std::mem::replace(&mut self.open, Open::Nothing)
            && is_remote
        {
            link.wait_until(Instant::now() + FAREWELL);
            // One that does not close in time is left to itself.
            let _ = link.finish();
        }
    }
}

impl Envelope {
    fn priority(&self, parcel: &Parcel) -> u8 {
        self.facility * 8 + parcel.severity.syslog()
    }

    /// As RFC 5424 has it, the record for its text.
    pub(super) fn remote(&self, parcel: &Parcel) -> Vec<u8> {
        if self.is_whole {
            return parcel.line.clone();
        }
        let mut head = format!("<{}>1 ", self.priority(parcel));
        match Timestamp::from_nanosecond(parcel.ts_ns.into()) {
            // The RFC permits six digits. Writing to a String cannot fail.
            Ok(at) => drop(write!(head, "{at:.6}")),
            Err(_) => head.push('-'),
        }
        head.push(' ');
        name(&mut head, &self.host, 255);
        head.push(' ');
        name(&mut head, &self.tag, 48);
        let pid = std::process::id();
        // Writing to a String cannot fail.
        let _ = write!(head, " {pid} {} - ", parcel.kind.as_str());
        [head.as_bytes(), &parcel.line].concat()
    }

    /// As the C library has it.
    fn local(&self, parcel: &Parcel, zone: &TimeZone) -> Vec<u8> {
        if self.is_whole {
            return parcel.line.clone();
        }
        let at = Timestamp::from_nanosecond(parcel.ts_ns.into()).unwrap_or_default();
        let time = at.to_zoned(zone.clone());
        let head = format!(
            "<{}>{} {}[{}]: ",
            self.priority(parcel),
            time.strftime("%b %e %H:%M:%S"),
            self.tag,
            std::process::id()
        );
        [head.as_bytes(), &parcel.line].concat()
    }
}

/// A part of the header: printable ASCII without blanks, or `-`.
fn name(head: &mut String, name: &str, longest: usize) {
    let fits = name.chars().filter(char::is_ascii_graphic).take(longest);
    let before = head.len();
    head.extend(fits);
    if head.len() == before {
        head.push('-');
    }
}

fn datagrams(path: &PathBuf, patience: Duration) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(patience))?;
    socket.connect(path)?;
    Ok(socket)
}

/// How many were taken, and why not the next one.
fn send(
    socket: &UnixDatagram,
    messages: impl Iterator<Item = Vec<u8>>,
) -> (usize, Option<io::Error>) {
    let mut taken = 0;
    for message in messages {
        if let Err(error) = socket.send(&message) {
            return (taken, Some(error));
        }
        taken += 1;
    }
    (taken, None)
}

/// How many the kernel took whole, and why not the next one.
fn stream(
    link: &mut Link,
    messages: &[Vec<u8>],
    framing: Framing,
    patience: Duration,
) -> (usize, Option<io::Error>) {
    let (mut taken, mut chunk) = (0, Vec::new());
    for (at, message) in messages.iter().enumerate() {
        frame(message, framing, &mut chunk);
        if chunk.len() >= CHUNK || at + 1 == messages.len() {
            link.wait_until(Instant::now() + patience);
            let written = io::Write::write_all(link, &chunk);
            if let Err(error) = written.and_then(|()| io::Write::flush(link)) {
                return (taken, Some(error));
            }
            taken = at + 1;
            chunk.clear();
        }
    }
    (taken, None)
}

fn frame(message: &[u8], framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Counted => {
            out.extend_from_slice(message.len().to_string().as_bytes());
            out.push(b' ');
            out.extend_from_slice(message);
        }
        Framing::Lines => {
            out.extend_from_slice(message);
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::path::Path;
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::{Envelope, Place, Syslog};
    use crate::net::Endpoint;
    use crate::sink::transport::testing::parcels;
    use crate::sink::transport::{Delivery, Transport as _, Trouble};

    const PATIENCE: Duration = Duration::from_millis(500);

    fn envelope() -> Envelope {
        Envelope {
            facility: 16,
            tag: "portwatch".to_owned(),
            host: "web 1".to_owned(),
            is_whole: false,
        }
    }

    fn local(socket: &Path) -> Syslog {
        let place = Place::Local {
            socket: socket.to_owned(),
            patience: PATIENCE,
        };
        Syslog::new(place, envelope())
    }

    fn remote(port: u16, confirm: bool) -> Syslog {
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
            tls: None,
            patience: PATIENCE,
        };
        Syslog::new(Place::Remote { endpoint, confirm }, envelope())
    }

    #[test]
    fn a_message_has_the_header_of_its_kind() {
        let pid = std::process::id();
        let parcel = &parcels(1)[0];
        let text = |bytes| String::from_utf8(bytes).expect("text");
        assert_eq!(
            text(envelope().remote(parcel)),
            format!(
                "<133>1 2026-11-21T19:42:01.123456Z web1 portwatch {pid} listener.opened - {{\"n\":0}}"
            )
        );
        assert_eq!(
            text(envelope().local(parcel, &TimeZone::UTC)),
            format!("<133>Nov 21 19:42:01 portwatch[{pid}]: {{\"n\":0}}")
        );
        let whole = Envelope {
            is_whole: true,
            ..envelope()
        };
        assert_eq!(whole.remote(parcel), parcel.line);
    }

    #[test]
    fn sockets_of_either_kind_are_written_to() {
        let folder = tempfile::tempdir().expect("dir");
        let (log, old) = (folder.path().join("log"), folder.path().join("old"));
        let mut syslog = local(&log);
        let away = syslog.deliver(&parcels(2));
        assert!(matches!(away.trouble, Some(Trouble::Later(_))) && away.taken == 0);
        let socket = UnixDatagram::bind(&log).expect("bound");
        assert_eq!(syslog.deliver(&parcels(2)), Delivery::all(2));
        let mut buffer = [0; 256];
        for n in 0..2 {
            let length = socket.recv(&mut buffer).expect("a datagram");
            assert!(buffer[..length].ends_with(format!("{{\"n\":{n}}}").as_bytes()));
        }
        let listener = UnixListener::bind(&old).expect("bound");
        let mut syslog = local(&old);
        assert_eq!(syslog.deliver(&parcels(2)), Delivery::all(2));
        drop(syslog);
        let mut all = String::new();
        let (mut peer, _) = listener.accept().expect("a client");
        peer.read_to_string(&mut all).expect("text");
        assert_eq!(all.lines().count(), 2, "{all}");
    }

    #[test]
    fn a_datagram_that_nobody_takes_is_waited_for_no_longer_than_it_may() {
        let folder = tempfile::tempdir().expect("dir");
        let path = folder.path().join("log");
        let _socket = UnixDatagram::bind(&path).expect("bound");
        let delivery = local(&path).deliver(&parcels(5_000));
        assert!(delivery.taken > 0 && delivery.taken < 5_000);
        assert!(matches!(delivery.trouble, Some(Trouble::Later(why)) if why.contains("within")));
    }

    #[test]
    fn a_delivery_counts_once_the_receiver_has_read_all_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let peer = std::thread::spawn(move || {
            let mut all = String::new();
            // The first one hangs up in the middle.
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0; 10]).expect("the beginning");
            drop(stream);
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_to_string(&mut all).expect("text");
            all
        });
        let mut syslog = remote(port, true);
        let broken = syslog.deliver(&parcels(3));
        assert!(broken.taken == 0 && broken.trouble.is_some(), "{broken:?}");
        assert_eq!(syslog.deliver(&parcels(3)), Delivery::all(3));
        let all = peer.join().expect("its end");
        let (length, rest) = all.split_once(' ').expect("a length");
        let length: usize = length.parse().expect("a number");
        assert!(rest[..length].ends_with("{\"n\":0}"), "{all}");
        assert_eq!(all.matches("<133>1 ").count(), 3);
    }

    #[test]
    fn a_receiver_that_hung_up_is_connected_to_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut syslog = remote(port, false);
        for _ in 0..3 {
            assert_eq!(syslog.deliver(&parcels(1)), Delivery::all(1));
            let (mut stream, _) = listener.accept().expect("a client");
            assert_eq!(syslog.deliver(&parcels(1)), Delivery::all(1));
            let mut buffer = [0; 1024];
            while buffer
                .windows(7)
                .filter(|part| part == b"{\"n\":0}")
                .count()
                < 1
            {
                let _ = stream.read(&mut buffer).expect("read");
            }
            stream
                .set_read_timeout(Some(Duration::from_millis(50)))
                .expect("set");
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            drop(stream);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
