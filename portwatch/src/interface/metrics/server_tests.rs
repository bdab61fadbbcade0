//! The server of metrics over real sockets.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::*;
use crate::interface::metrics::exposition::tests::parse;
use crate::interface::metrics::listen::Endpoint;
use crate::interface::metrics::page::tests::full;
use crate::interface::server::Query;
use crate::sink::{Bus, Limits};

const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A backend whose pipeline answers, and counts how often it is asked.
fn backend() -> (Backend, Arc<AtomicU64>) {
    let (queries, mut receiver) = mpsc::channel(4);
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(query) = receiver.recv().await {
            if let Query::Status(answer) = query {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = answer.send(full());
            }
        }
    });
    let backend = Backend {
        bus: Bus::new(Limits::READER, Limits::REPLAY),
        queries,
        compile: Arc::new(|_| Err("no filters here".to_owned())),
        history: None,
        alerts: None,
        metrics: None,
        sinks: None,
        reload: None,
    };
    (backend, asked)
}

struct Served {
    port: u16,
    asked: Arc<AtomicU64>,
    figures: Arc<Figures>,
}

async fn served() -> Served {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (backend, asked) = backend();
    let figures = Arc::new(Figures::default());
    let press = Arc::new(Press::new(backend));
    tokio::spawn(serve(Listener::Tcp(listener), press, Arc::clone(&figures)));
    Served {
        port,
        asked,
        figures,
    }
}

async fn ask(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connected");
    stream.write_all(request).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn a_scrape_gets_the_page_and_many_of_them_ask_the_pipeline_once() {
    let served = served().await;
    for _ in 0..5 {
        let answer = ask(served.port, REQUEST.as_bytes()).await;
        let (head, page) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("Content-Type: text/plain; version=0.0.4"),
            "{head}"
        );
        let samples: BTreeMap<String, f64> = parse(page)
            .into_iter()
            .map(|(name, _, value)| (name, value))
            .collect();
        assert!((samples["portwatch_heartbeats_total"] - 274_000.0).abs() < 0.5);
    }
    assert_eq!(served.asked.load(Ordering::Relaxed), 1);
    sleep(FRESH).await;
    ask(served.port, REQUEST.as_bytes()).await;
    assert_eq!(
        served.asked.load(Ordering::Relaxed),
        2,
        "a new second, a new page"
    );
}

#[tokio::test]
async fn what_is_no_scrape_hears_why_even_with_a_body() {
    let served = served().await;
    let long = format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(MAX_HEAD)
    );
    let body = format!(
        "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{}",
        "x".repeat(9000)
    );
    for (request, status) in [
        (long.as_bytes(), "431 "),
        (body.as_bytes(), "405 "),
        (b"\x16\x03\x01\r\n\r\n", "400 "),
        (
            b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "421 ",
        ),
        (b"GET /other HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 "),
    ] {
        let answer = ask(served.port, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{status}: {answer}"
        );
    }
    assert_eq!(served.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn clients_that_say_nothing_take_their_seats_alone() {
    let served = served().await;
    let mut idle = Vec::new();
    for _ in 1..CLIENTS {
        idle.push(
            TcpStream::connect(("127.0.0.1", served.port))
                .await
                .expect("connected"),
        );
    }
    sleep(ACCEPT_GAP * 20).await;
    let answer = ask(served.port, REQUEST.as_bytes()).await;
    assert!(answer.contains(" 200 OK"), "one seat is left: {answer}");
    // Its seat is free when it has closed.
    sleep(ACCEPT_GAP * 4).await;
    idle.push(
        TcpStream::connect(("127.0.0.1", served.port))
            .await
            .expect("connected"),
    );
    sleep(ACCEPT_GAP * 4).await;
    let mut one_more = TcpStream::connect(("127.0.0.1", served.port))
        .await
        .expect("connected");
    assert_eq!(
        one_more.read(&mut [0; 8]).await.unwrap_or(0),
        0,
        "closed at once"
    );
    assert_eq!(served.figures.status().turned_away, 1);
    // Time is short for those who say nothing.
    let mut told = String::new();
    let mut first = idle.remove(0);
    first.read_to_string(&mut told).await.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    drop(first);
    sleep(ACCEPT_GAP * 4).await;
    let answer = ask(served.port, REQUEST.as_bytes()).await;
    assert!(answer.contains(" 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_told() {
    let (mut backend, _) = backend();
    backend.queries = mpsc::channel(1).0;
    let press = Press::new(backend);
    assert!(press.page(Format::Text).await.is_none());
}

#[tokio::test]
async fn a_unix_socket_takes_any_host() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("m.sock");
    let listener = Listener::bind(&Endpoint::Unix(path.clone()), "no-such-group")
        .await
        .expect("bound");
    let (backend, _) = backend();
    tokio::spawn(serve(
        listener,
        Arc::new(Press::new(backend)),
        Arc::default(),
    ));
    let mut stream = UnixStream::connect(&path).await.expect("connected");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: web1\r\n\r\n")
        .await
        .expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}
