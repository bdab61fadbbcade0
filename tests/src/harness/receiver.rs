//! An HTTP server that keeps what it is sent and answers as it was told, over TLS with a certificate of its own or
//! without; and a client that asks a server on this host one thing.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::watch::scale;

/// How long a peer may take for one step.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest body.
const BODY: usize = 16 << 20;

/// What came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method and path: `POST /hook`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the body is no JSON")
    }
}

/// An authority, and a certificate of it for this host.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    /// Makes both, with openssl.
    ///
    /// # Errors
    /// It fails; shows what it said.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("portwatch-ca-").tempdir()?;
        let configuration = "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=portwatch\n\
            [ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n\
            [leaf]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
        fs::write(folder.path().join("cnf"), configuration)?;
        let common =
            "req -x509 -config cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        for more in [
            "-extensions ca -subj /CN=authority -keyout ca.key -out ca.pem",
            "-extensions leaf -subj /CN=localhost -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem",
        ] {
            let words = common.split(' ').chain(more.split(' '));
            let made = Command::new("openssl")
                .args(words)
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .output()
                .context("openssl cannot be run")?;
            ensure!(made.status.success(), "openssl: {made:?}");
        }
        Ok(Self { folder })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The certificate for this host; it does for a client as well.
    #[must_use]
    pub fn leaf(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// The key of that certificate.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn server(&self) -> Result<Arc<ServerConfig>> {
        let path = |name: &str| self.folder.path().join(name);
        let chain = CertificateDer::pem_file_iter(path("cert.pem"))?;
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(path("key.pem"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// The n-th answer, from 0: status line, more headers, body.
pub type Answers = fn(usize) -> (&'static str, &'static str, &'static str);

/// A server; ends when dropped.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts to listen, over TLS where there is an authority.
    ///
    /// # Errors
    /// It cannot.
    pub fn start(authority: Option<&Authority>, answers: Answers) -> Result<Self> {
        let tls = authority.map(Authority::server).transpose()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let (kept, over) = (Arc::clone(&requests), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    // What a client does wrong is seen in what is kept.
                    Ok((stream, _)) => drop(serve(stream, tls.as_ref(), &kept, answers)),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Self {
            port,
            requests,
            is_over,
            thread: Some(thread),
        })
    }

    /// What came until now.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until there are so many.
    ///
    /// # Errors
    /// There are not in time.
    pub fn wait_for(&self, count: usize, patience: Duration) -> Result<Vec<Request>> {
        let deadline = Instant::now() + patience * scale();
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return Ok(requests);
            }
            if Instant::now() > deadline {
                bail!("{} requests of {count}: {requests:?}", requests.len());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    kept: &Mutex<Vec<Request>>,
    answers: Answers,
) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match tls {
        Some(config) => {
            let connection = ServerConnection::new(Arc::clone(config))?;
            let mut stream = StreamOwned::new(connection, stream);
            answer(&mut stream, kept, answers)?;
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        None => answer(stream, kept, answers)?,
    }
    Ok(())
}

fn answer(stream: impl Read + Write, kept: &Mutex<Vec<Request>>, answers: Answers) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let request = read(&mut stream)?;
    let nth = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(request);
        kept.len() - 1
    };
    let (status, headers, body) = answers(nth);
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(answer.as_bytes())?;
    stream.get_mut().flush()?;
    Ok(())
}

fn read(stream: &mut BufReader<impl Read>) -> Result<Request> {
    let (line, headers) = head(stream)?;
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = match length {
        Some((_, value)) => value.parse()?,
        None => 0,
    };
    ensure!(length <= BODY, "a body of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let line = line
        .rsplit_once(' ')
        .map_or(line.as_str(), |(line, _)| line);
    Ok(Request {
        line: line.to_owned(),
        headers,
        body,
    })
}

/// The first line, and the headers.
fn head(stream: &mut BufReader<impl Read>) -> Result<(String, Vec<(String, String)>)> {
    let mut next = || -> io::Result<String> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let first = next()?;
    ensure!(!first.is_empty(), "nothing was said");
    let mut headers = Vec::new();
    loop {
        let line = next()?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok((first, headers));
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// GETs something of a server on this host, as JSON.
///
/// # Errors
/// It does not answer, or with something else.
pub fn get_json(port: u16, path: &str) -> Result<serde_json::Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0 has neither chunks nor connections that stay.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    let (status, _) = head(&mut stream)?;
    ensure!(status.contains(" 200 "), "{path}: {status}");
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    serde_json::from_slice(&body).context("the answer is no JSON")
}
