//! Ways to a server: TCP, TLS on it, a unix socket, UDP.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use super::Target;

/// What is read of one server within TLS, at most, in bytes: certificates take some room.
const TLS_LIMIT: usize = 256 * 1024;

/// An open way. Every method is cancel-safe but for what was half sent.
#[derive(Debug)]
pub(super) enum Channel {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Unix(UnixStream),
    Udp(UdpSocket),
}

impl Channel {
    /// Opens the way to this target, whose name is resolved already.
    pub(super) async fn open(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Where nobody listens on a port of the range for clients, a socket can be given the very port that
                // it connects to, and then speaks to itself.
                if stream.local_addr()? == stream.peer_addr()? {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(Self::Tcp(stream))
            }
            Target::Udp(address) => udp(*address).map(Self::Udp),
            Target::Unix(name) => {
                let stream = UnixStream::connect(OsStr::from_bytes(name)).await?;
                Ok(Self::Unix(stream))
            }
            Target::Host { .. } => Err(io::Error::other("a name that was not resolved")),
        }
    }

    /// The same within TLS, where this is a connection of TCP.
    pub(super) async fn secure(self, name: &str) -> io::Result<Self> {
        let Self::Tcp(stream) = self else {
            return Err(io::Error::other("only TCP carries it here"));
        };
        let mut tls = Tls::new(stream, name)?;
        tls.shake_hands().await?;
        Ok(Self::Tls(Box::new(tls)))
    }

    pub(super) const fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Tls(tls) => tls.write(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
            Self::Udp(socket) => socket.send(bytes).await.map(drop),
        }
    }

    /// What came, 0 at the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::Tls(tls) => tls.read(buffer).await,
            Self::Unix(stream) => stream.read(buffer).await,
            Self::Udp(socket) => socket.recv(buffer).await,
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Tls(tls) => tls.finish().await,
            Self::Unix(stream) => stream.shutdown().await,
            Self::Udp(_) => Ok(()),
        }
    }
}

/// A socket that gets its port from the kernel as it connects. One that binds would be a listener, and told as such.
fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    UdpSocket::from_std(socket.into())
}

/// A client of TLS that takes any certificate: whether the service answers is asked, not who it is. It learns
/// nothing from us but a greeting, and nothing that it says is believed.
#[derive(Debug)]
pub(super) struct Tls {
    stream: TcpStream,
    connection: ClientConnection,
    /// Bytes that came, TLS and all.
    received: usize,
}

impl Tls {
    fn new(stream: TcpStream, name: &str) -> io::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Anyone(Arc::clone(&provider)));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Self {
            stream,
            connection,
            received: 0,
        })
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.flush().await?;
            if self.connection.is_handshaking() && !self.receive().await? {
                return Err(io::Error::other("it hung up in the handshake"));
            }
        }
        self.flush().await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.writer().write_all(bytes)?;
        self.flush().await
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many servers hang up without saying so within TLS.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.flush().await?;
            if !self.receive().await? {
                return Ok(0);
            }
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.connection.send_close_notify();
        self.flush().await?;
        self.stream.shutdown().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.stream.writable().await?;
            match self.connection.write_tls(&mut Ready(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => drop(written?),
            }
        }
        Ok(())
    }

    /// Takes in what came; `false` at the end.
    async fn receive(&mut self) -> io::Result<bool> {
        loop {
            self.stream.readable().await?;
            match self.connection.read_tls(&mut Ready(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(0) => return Ok(false),
                Ok(length) => {
                    self.received += length;
                    break;
                }
            }
        }
        if self.received > TLS_LIMIT {
            return Err(io::Error::other("it sends without end"));
        }
        let processed = self.connection.process_new_packets();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(true)
    }
}

/// Reads and writes only what can be at once.
struct Ready<'s>(&'s TcpStream);

impl io::Read for Ready<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes any certificate for good.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
