//! One connection: TCP, TLS on it, or a unix stream. Every step on it is over at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::tls;

/// Bytes that a peer who has nothing to say may say between two looks.
const CHATTER: usize = 64 * 1024;
/// How often it is looked whether the kernel has closed a connection.
const BEAT: Duration = Duration::from_millis(2);

/// A connection. Reads and writes fail with `TimedOut` once its time is over.
pub struct Link(Way);

enum Way {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket whose reads and writes have to be over at a time.
struct Timed {
    socket: Socket,
    deadline: Instant,
}

impl Link {
    /// Connects to the first of the host's addresses that answers, all of them within this time. The resolver has a
    /// time of its own.
    ///
    /// # Errors
    /// None does.
    pub fn tcp(host: &str, port: u16, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        for address in (host, port).to_socket_addrs()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&address, left) {
                // Where nobody listens on a port of the range for clients, a socket can be given the very port that
                // it connects to, and then speaks to itself.
                Ok(socket) if socket.local_addr()? == address => {
                    last = Some(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(socket) => {
                    // What is written is whole, and often waited for.
                    socket.set_nodelay(true)?;
                    return Ok(Self::plain(Socket::Tcp(socket), deadline));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("its name has no address")))
    }

    /// Connects to a stream socket on this host.
    ///
    /// # Errors
    /// Nobody listens there, or takes the connection in time.
    pub fn unix(path: &Path, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + patience;
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Else a peer whose backlog is full keeps us for ever.
        set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        let socket = UnixStream::from(socket);
        Ok(Self::plain(Socket::Unix(socket), deadline))
    }

    const fn plain(socket: Socket, deadline: Instant) -> Self {
        Self(Way::Plain(Timed { socket, deadline }))
    }

    /// The same within TLS, with a peer whose certificate is for this host.
    ///
    /// # Errors
    /// Why not, as a clause about the peer.
    pub fn secure(
        self,
        host: &str,
        config: &Arc<ClientConfig>,
        patience: Duration,
    ) -> Result<Self, String> {
        let Way::Plain(socket) = self.0 else {
            return Err("bug: there is TLS already".to_owned());
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| "no certificate can be for such a name".to_owned())?;
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.sock.deadline = Instant::now() + patience;
        while stream.conn.is_handshaking() {
            let shaken = stream.conn.complete_io(&mut stream.sock);
            shaken.map_err(|error| tls::failure(&error, host, patience))?;
        }
        Ok(Self(Way::Tls(Box::new(stream))))
    }

    /// When the next steps have to be over.
    pub fn wait_until(&mut self, deadline: Instant) {
        self.timed().deadline = deadline;
    }

    /// Is a peer that has nothing to say still there? Does not wait; throws away what it said.
    pub fn is_alive(&mut self) -> bool {
        // The steps before may have been over long ago.
        self.wait_until(Instant::now() + Duration::from_secs(1));
        self.timed().socket.set_nonblocking(true).is_ok()
            && self.is_quiet()
            && self.timed().socket.set_nonblocking(false).is_ok()
    }

    fn is_quiet(&mut self) -> bool {
        let mut piece = [0; 4096];
        let mut heard = 0;
        while heard < CHATTER {
            match self.read(&mut piece) {
                Ok(0) => return false,
                Ok(count) => heard += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// Says that nothing more comes, and waits until the peer has closed its side without an error.
    ///
    /// A Linux peer resets a connection that it closes while something of it was not read, or that something comes
    /// after. So this tells that the peer has read everything, and not only its kernel.
    ///
    /// # Errors
    /// It did not in time, or it closed before it had read everything.
    pub fn finish(mut self) -> io::Result<()> {
        if let Way::Tls(stream) = &mut self.0 {
            stream.conn.send_close_notify();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock)?;
            }
        }
        self.timed().socket.shutdown(Shutdown::Write)?;
        let mut piece = [0; 4096];
        if let Way::Tls(stream) = &mut self.0 {
            // It judges our certificate when we take the handshake for done: a refusal comes now, or never.
            while stream.conn.read_tls(&mut stream.sock)? > 0 {
                let heard = stream.conn.process_new_packets();
                heard.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                // What else it says changes nothing.
                while matches!(stream.conn.reader().read(&mut piece), Ok(1..)) {}
            }
        }
        let timed = self.timed();
        while timed.read(&mut piece)? > 0 {}
        while !timed.socket.is_over()? {
            timed.left()?;
            std::thread::sleep(BEAT);
        }
        Ok(())
    }

    fn timed(&mut self) -> &mut Timed {
        match &mut self.0 {
            Way::Plain(timed) => timed,
            Way::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Way::Plain(timed) => timed.read(buffer),
            Way::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Way::Plain(timed) => timed.write(bytes),
            Way::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Way::Plain(timed) => timed.flush(),
            Way::Tls(stream) => stream.flush(),
        }
    }
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(Some(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        match &mut self.socket {
            Socket::Tcp(socket) => {
                socket.set_read_timeout(left)?;
                socket.read(buffer)
            }
            Socket::Unix(socket) => {
                socket.set_read_timeout(left)?;
                socket.read(buffer)
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        match &mut self.socket {
            Socket::Tcp(socket) => {
                socket.set_write_timeout(left)?;
                socket.write(bytes)
            }
            Socket::Unix(socket) => {
                socket.set_write_timeout(left)?;
                socket.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    fn set_nonblocking(&self, is_on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(is_on),
            Self::Unix(socket) => socket.set_nonblocking(is_on),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.shutdown(how),
            Self::Unix(socket) => socket.shutdown(how),
        }
    }

    /// Has the kernel closed it, both ways, and the peer acknowledged that? An error when it was reset instead.
    fn is_over(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(socket) => {
                // Looked at before the error is: a reset closes too.
                let is_closed = socket.peer_addr().is_err();
                match socket.take_error()? {
                    Some(error) => Err(error),
                    None => Ok(is_closed),
                }
            }
            // Closing such a socket with something unread is an error of the read before.
            Self::Unix(socket) => match socket.take_error()? {
                Some(error) => Err(error),
                None => Ok(true),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use portwatch_tests::harness::receiver::Authority;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::WebPkiClientVerifier;

    use super::Link;
    use crate::net::tls::{self, Identity};

    const PATIENCE: Duration = Duration::from_secs(2);

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let link = Link::tcp("127.0.0.1", port, PATIENCE).expect("connected");
        (link, listener.accept().expect("a client").0)
    }

    #[test]
    fn a_peer_that_has_read_everything_confirms_it_by_closing() {
        let (mut link, mut peer) = pair();
        link.write_all(b"all of it").expect("written");
        let peer = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).expect("read");
            all
        });
        link.finish().expect("confirmed");
        assert_eq!(peer.join().expect("its end"), b"all of it");
    }

    #[test]
    fn a_peer_that_closes_with_something_unread_confirms_nothing() {
        let (mut link, mut peer) = pair();
        link.write_all(b"all of it").expect("written");
        peer.read_exact(&mut [0; 3]).expect("read");
        drop(peer);
        assert!(link.finish().is_err());
    }

    #[test]
    fn a_peer_that_closed_before_the_last_words_confirms_nothing() {
        for _ in 0..200 {
            let (mut link, peer) = pair();
            drop(peer);
            let written = link.write_all(b"too late");
            assert!(written.is_err() || link.finish().is_err());
        }
    }

    #[test]
    fn a_unix_peer_is_held_to_the_same() {
        let folder = tempfile::tempdir().expect("dir");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        for reads_all in [true, false] {
            let mut link = Link::unix(&path, PATIENCE).expect("connected");
            let (mut peer, _) = listener.accept().expect("a client");
            link.write_all(b"all of it").expect("written");
            let thread = std::thread::spawn(move || match reads_all {
                true => peer.read_to_end(&mut Vec::new()).map(drop),
                false => peer.read_exact(&mut [0; 3]),
            });
            assert_eq!(link.finish().is_ok(), reads_all);
            thread.join().expect("its end").expect("read");
        }
    }

    #[test]
    fn a_peer_that_never_closes_has_an_end_all_the_same() {
        let (mut link, _peer) = pair();
        link.write_all(b"all of it").expect("written");
        let began = Instant::now();
        link.wait_until(began + Duration::from_millis(100));
        assert!(link.finish().is_err());
        assert!(began.elapsed() < PATIENCE);
    }

    /// By TLS 1.3 a client has shaken hands before the server looks at its certificate. What such a server has read ahead is not
    /// unread in its kernel, so that nothing is reset.
    #[test]
    fn a_peer_that_refuses_our_certificate_confirms_nothing() {
        let authority = Authority::new().expect("openssl");
        let pem = |path: PathBuf| std::fs::read(path).expect("read");
        let (ca, leaf) = (pem(authority.certificate()), pem(authority.leaf()));
        let identity = Identity {
            chain: leaf.clone(),
            key: pem(authority.key()),
        };
        for (shown, is_taken) in [(None, false), (Some(&identity), true)] {
            let server = Arc::new(server(&ca, &leaf, &pem(authority.key())));
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let peer = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().expect("a client");
                let mut conn = rustls::ServerConnection::new(server).expect("a server");
                // As long as there is something to do for the handshake; what it has to say goes out also when it fails.
                let shaken = conn.complete_io(&mut socket).is_ok();
                if shaken {
                    let mut stream = rustls::Stream::new(&mut conn, &mut socket);
                    let _ = stream.read_to_end(&mut Vec::new());
                }
                let _ = socket.read_to_end(&mut Vec::new());
                shaken
            });
            let config = tls::client(Some(&ca), shown).expect("a client");
            let link = Link::tcp("127.0.0.1", port, PATIENCE).expect("connected");
            let secured = link.secure("127.0.0.1", &Arc::new(config), PATIENCE);
            let mut link = secured.expect("shaken hands");
            link.write_all(b"all of it").expect("written");
            assert_eq!(link.finish().is_ok(), is_taken);
            assert_eq!(peer.join().expect("its end"), is_taken);
        }
    }

    /// One that wants to see a certificate of this authority.
    fn server(ca: &[u8], leaf: &[u8], key: &[u8]) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let of = |pem: &[u8]| CertificateDer::from_pem_slice(pem).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(of(ca)).expect("an authority");
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients.build().expect("a verifier"))
            .with_single_cert(
                vec![of(leaf)],
                PrivateKeyDer::from_pem_slice(key).expect("a key"),
            )
            .expect("a server")
    }

    #[test]
    fn a_peer_that_is_gone_is_seen_before_anything_is_written() {
        let (mut link, mut peer) = pair();
        assert!(link.is_alive());
        peer.write_all(b"hello").expect("written");
        std::thread::sleep(Duration::from_millis(20));
        assert!(link.is_alive());
        drop(peer);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!link.is_alive());
    }
}
