//! Checks over real sockets of loopback: answers, refusals, silence, and a server that says too much.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;
use crate::check::{Asked, Checker, Remote, Ticket};
use crate::event::CheckProtocol;

const SHORT: Duration = Duration::from_millis(300);
/// For what must come; a loaded machine takes its time.
const LONG: Duration = Duration::from_secs(20);

fn check(protocol: CheckProtocol, timeout: Duration) -> Check {
    Check {
        protocol,
        every: LONG,
        timeout,
        failures: 1,
        host: None,
        name: None,
        path: None,
    }
}

fn result_of(check: Check, targets: Vec<Target>) -> Result<Target, Failure> {
    let ticket = Ticket(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(ask(
        &Order {
            ticket,
            check,
            targets,
        },
        &Arc::new(Semaphore::new(1)),
    ))
}

/// A server that says this to its first client, reads until that leaves, and gives what it read.
fn server(says: &'static [u8]) -> (Target, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = Target::Tcp(listener.local_addr().expect("an address"));
    let heard = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        // It may have left already.
        let _ = client.write_all(says);
        let mut heard = Vec::new();
        let _ = client.read_to_end(&mut heard);
        heard
    });
    (target, heard)
}

#[test]
fn a_server_that_answers_hears_a_whole_conversation() {
    let (target, heard) = server(b"220 mx ready\r\n250 mx\r\n221 bye\r\n");
    let asked = result_of(check(CheckProtocol::Smtp, LONG), vec![target.clone()]);
    assert_eq!(asked, Ok(target));
    let heard = heard.join().expect("a server");
    assert_eq!(heard, b"EHLO localhost\r\nQUIT\r\n");
}

#[test]
fn one_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = || vec![Target::Tcp(listener.local_addr().expect("an address"))];
    let began = std::time::Instant::now();
    for protocol in [
        CheckProtocol::Ssh,
        CheckProtocol::Http,
        CheckProtocol::Https,
    ] {
        let asked = result_of(check(protocol, SHORT), target());
        assert_eq!(asked, Err(Failure::Silent(SHORT)), "{protocol:?}");
    }
    assert!(began.elapsed() < LONG);
    // The kernel takes connections for it all the same.
    let asked = result_of(check(CheckProtocol::Connect, LONG), target());
    assert!(asked.is_ok(), "{asked:?}");
}

#[test]
fn nobody_there_is_told_at_once() {
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = Target::Tcp(unused.local_addr().expect("an address"));
    drop(unused);
    let asked = result_of(check(CheckProtocol::Connect, LONG), vec![target]);
    assert_eq!(
        asked.map_err(|failure| failure.to_string()),
        Err("connection refused".to_owned())
    );
    let asked = result_of(
        check(CheckProtocol::Connect, LONG),
        vec![Target::Unix(b"/nonexistent".to_vec())],
    );
    let told = asked.map_err(|failure| failure.to_string());
    assert_eq!(told, Err("no such file or directory".to_owned()));
}

#[test]
fn of_several_addresses_one_that_answers_is_enough() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = || Target::Tcp(silent.local_addr().expect("an address"));
    let (target, _heard) = server(b"SSH-2.0-x\r\n");
    let began = std::time::Instant::now();
    let asked = result_of(
        check(CheckProtocol::Ssh, LONG),
        vec![silent(), target.clone()],
    );
    assert_eq!(asked, Ok(target));
    assert!(began.elapsed() < LONG / 2, "it waited for the silent one");
    let (rude, _heard) = server(b"go away\r\n");
    let asked = result_of(check(CheckProtocol::Pop3, SHORT), vec![silent(), rude]);
    assert_eq!(
        asked,
        Err(Failure::Silent(SHORT)),
        "the first one's failure is told"
    );
}

#[test]
fn one_that_never_stops_talking_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = Target::Tcp(listener.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut sent = 0_usize;
        while client.write_all(&[b'x'; 1024]).is_ok() {
            sent += 1024;
        }
        sent
    });
    let asked = result_of(check(CheckProtocol::Ssh, LONG), vec![target]);
    assert_eq!(asked, Err(Failure::TooMuch(LIMIT)));
    // What the kernel buffers is more than what is read.
    assert!(server.join().expect("a server") < 64 << 20);
}

#[test]
fn unix_sockets_speak_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("redis.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut heard = [0; 14];
        client.read_exact(&mut heard).expect("a question");
        client.write_all(b"+PONG\r\n").expect("an answer");
        heard
    });
    let target = Target::Unix(path.as_os_str().as_encoded_bytes().to_vec());
    let asked = result_of(check(CheckProtocol::Redis, LONG), vec![target.clone()]);
    assert_eq!(asked, Ok(target));
    assert_eq!(&server.join().expect("a server"), b"*1\r\n$4\r\nPING\r\n");
}

#[test]
fn a_lost_datagram_is_sent_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = Target::Udp(socket.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let mut question = [0; 512];
        socket.recv_from(&mut question).expect("a question");
        let (length, client) = socket.recv_from(&mut question).expect("the question again");
        question[2] |= 0x80;
        socket.send_to(&question[..length], client).expect("sent");
    });
    let timeout = Duration::from_secs(2);
    let asked = result_of(check(CheckProtocol::Dns, timeout), vec![target.clone()]);
    assert_eq!(asked, Ok(target));
    server.join().expect("a server");
}

#[test]
fn a_name_that_does_not_exist_is_told() {
    let remote = Remote {
        host: "nonexistent.invalid".to_owned(),
        port: 25,
        transport: Transport::Tcp,
    };
    let asked = result_of(check(CheckProtocol::Smtp, LONG), vec![remote.target()]);
    let told = asked.expect_err("no such name").to_string();
    assert!(told.starts_with("its name has no address: "), "{told}");
    let (target, _heard) = server(b"SSH-2.0-x\r\n");
    let Target::Tcp(address) = target else {
        panic!("no address: {target:?}");
    };
    let host = "localhost".to_owned();
    let named = Remote {
        host,
        port: address.port(),
        ..remote
    };
    let asked = result_of(check(CheckProtocol::Ssh, LONG), vec![named.target()]);
    assert_eq!(asked, Ok(named.target()));
}

#[test]
fn the_checker_gives_every_order_its_outcome() {
    let (target, _heard) = server(b"SSH-2.0-x\r\n");
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = Target::Tcp(unused.local_addr().expect("an address"));
    drop(unused);
    let (mut checker, mut outcomes) = Checker::new();
    for (number, target) in [(1, target), (2, nobody)] {
        let order = Order {
            ticket: Ticket(number),
            check: check(CheckProtocol::Ssh, LONG),
            targets: vec![target],
        };
        checker.order(order).expect("room");
    }
    let mut results: Vec<Asked> = (0..2).filter_map(|_| outcomes.blocking_recv()).collect();
    results.sort_by_key(|asked| asked.ticket);
    assert!(results[0].result.is_ok(), "{results:?}");
    assert!(
        matches!(results[1].result, Err(Failure::Connection(_))),
        "{results:?}"
    );
}
