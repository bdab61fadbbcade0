//! Where metrics are served: an address of loopback, or a socket in the file system.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::interface::socket::{self, SocketFile};

/// What a value that is none of them should be.
const EXPECTED: &str = "expected an address of loopback with a port such as \"127.0.0.1:9731\", a socket such as \"unix:/run/portwatch/metrics.sock\", or \"off\"";
/// Longest path of a unix socket.
const MAX_PATH: usize = 107;

/// Where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address of loopback; every user of this host reaches it.
    Tcp(SocketAddr),
    /// An absolute path; mode 0660, with the group of the control socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads what the configuration says.
    ///
    /// # Errors
    /// What is expected instead, or why an address is refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = path.starts_with('/')
                && !path.ends_with('/')
                && path.len() <= MAX_PATH
                && !path.contains('\0');
            return fits.then(|| Self::Unix(path.into())).ok_or_else(|| {
                format!("{EXPECTED}; a path is absolute and has at most {MAX_PATH} bytes")
            });
        }
        let address: SocketAddr = text.parse().map_err(|_| EXPECTED.to_owned())?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{EXPECTED}; {} is not of loopback, and portwatch opens nothing to the network: put a proxy in front that asks who is there",
                address.ip()
            ));
        }
        if address.port() == 0 {
            return Err(format!("{EXPECTED}; nobody would find port 0"));
        }
        Ok(Self::Tcp(address))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listener. Dropping it takes the socket's name away.
#[derive(Debug)]
pub enum Listener {
    /// Of loopback.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener, SocketFile),
}

/// A client's connection, of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    /// Binds and listens. A socket that nobody answers on is replaced; any other file is left alone.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub async fn bind(endpoint: &Endpoint, group: &str) -> Result<Self, String> {
        let why = |error: io::Error| format!("metrics cannot be served on {endpoint}: {error}");
        match endpoint {
            Endpoint::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp).map_err(why),
            Endpoint::Unix(path) => unix(path, group).map_err(why),
        }
    }

    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }

    /// Whom the file system lets in asks by whatever name it likes.
    pub(super) const fn takes_any_host(&self) -> bool {
        matches!(self, Self::Unix(..))
    }
}

fn unix(path: &Path, group: &str) -> io::Result<Listener> {
    let (listener, file) = socket::bind_at(path, group)?;
    Ok(Listener::Unix(UnixListener::from_std(listener)?, file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_this_host_is_served() {
        let tcp = |text: &str| Endpoint::Tcp(text.parse().expect("an address"));
        assert_eq!(Endpoint::parse("127.0.0.1:9731"), Ok(tcp("127.0.0.1:9731")));
        assert_eq!(Endpoint::parse("[::1]:9731"), Ok(tcp("[::1]:9731")));
        let path = Endpoint::Unix("/run/portwatch/metrics.sock".into());
        assert_eq!(Endpoint::parse(&path.to_string()), Ok(path));
        for (text, sentence) in [
            ("0.0.0.0:9731", "opens nothing to the network"),
            ("[::]:9731", "opens nothing to the network"),
            ("192.0.2.1:9731", "opens nothing to the network"),
            ("127.0.0.1:0", "nobody would find port 0"),
            ("localhost:9731", "expected an address"),
            ("127.0.0.1", "expected an address"),
            ("unix:run/x", "a path is absolute"),
            ("unix:/", "a path is absolute"),
            ("", "expected an address"),
        ] {
            let error = Endpoint::parse(text).expect_err(text);
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_socket_of_a_killed_daemon_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("metrics.sock");
        let endpoint = Endpoint::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("left behind"));
        let listener = Listener::bind(&endpoint, "no-such-group")
            .await
            .expect("bound");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        let error = Listener::bind(&endpoint, "no-such-group")
            .await
            .expect_err("taken");
        assert!(error.contains("somebody listens there"), "{error}");
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "precious").expect("written");
        let error = Listener::bind(&endpoint, "no-such-group")
            .await
            .expect_err("a file");
        assert!(error.contains("it is not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).expect("there"), b"precious");
    }
}
