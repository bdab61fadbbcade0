//! TLS before the brokers of a cluster that have none, each on a port of its own, as a listener of Kafka's is: what they tell
//! of each other leads to these ports.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use portwatch_tests::harness::receiver::Authority;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What stands before them.
pub(super) struct Front {
    /// Its authority, whose certificate it shows.
    pub(super) authority: Authority,
    /// A port for each broker.
    pub(super) ports: Vec<u16>,
}

impl Front {
    /// Ends with the process of the test.
    pub(super) fn start(brokers: &[u16]) -> Self {
        let authority = Authority::new().expect("openssl");
        let config = Arc::new(config(&authority));
        let listening = brokers.iter().map(|broker| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            (
                *broker,
                listener.local_addr().expect("an address").port(),
                listener,
            )
        });
        let listening: Vec<(u16, u16, TcpListener)> = listening.collect();
        let moved: Vec<(u16, u16)> = listening.iter().map(|one| (one.0, one.1)).collect();
        let ports = moved.iter().map(|(_, port)| *port).collect();
        for (broker, _, listener) in listening {
            let (config, moved) = (Arc::clone(&config), moved.clone());
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let (config, moved) = (Arc::clone(&config), moved.clone());
                    thread::spawn(move || serve(client, broker, &moved, config));
                }
            });
        }
        Self { authority, ports }
    }
}

fn config(authority: &Authority) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(authority.leaf()).expect("a certificate");
    let chain = chain.collect::<Result<_, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(authority.key()).expect("a key");
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate with its key")
}

/// A question and its answer at a time.
fn serve(
    client: TcpStream,
    broker: u16,
    moved: &[(u16, u16)],
    config: Arc<ServerConfig>,
) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(connection, client);
    let mut broker = TcpStream::connect(("127.0.0.1", broker))?;
    loop {
        broker.write_all(&message(&mut client)?)?;
        let mut answer = message(&mut broker)?;
        for (from, to) in moved {
            lead_elsewhere(&mut answer, *from, *to);
        }
        client.write_all(&answer)?;
        client.flush()?;
    }
}

/// With its length before it.
fn message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
    message.resize(4 + length as usize, 0);
    from.read_exact(&mut message[4..])?;
    Ok(message)
}

/// The name has as many letters as the address that it takes the place of.
fn lead_elsewhere(answer: &mut [u8], from: u16, to: u16) {
    let place = |host: &[u8], port: u16| [b"\0\x09", host, &u32::from(port).to_be_bytes()].concat();
    let (old, new) = (place(b"127.0.0.1", from), place(b"localhost", to));
    let found = answer.windows(old.len()).position(|part| part == old);
    if let Some(at) = found {
        answer[at..at + new.len()].copy_from_slice(&new);
    }
}
