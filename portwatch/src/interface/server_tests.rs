//! The control server over a real socket.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::*;
use crate::event::EventType;
use crate::interface::client::{Client, ClientError, Tail};
use crate::interface::human::tests::status;
use crate::sink::testing::{event, opened, state};
use crate::sink::{self, Line};

/// A server in a thread of its own, with a pipeline that answers queries.
struct Fixture {
    dir: tempfile::TempDir,
    bus: Arc<Bus>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        Self::with(limits, "no-such-group", true)
    }

    fn with(limits: Limits, group: &str, answers: bool) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("mode");
        let socket = ControlSocket::bind(dir.path(), group).expect("bound");
        let queue = sink::Limits {
            lines: 64,
            bytes: 1 << 20,
        };
        let bus = Bus::new(queue, sink::Limits::REPLAY);
        let (stop, stopped) = oneshot::channel();
        let server_bus = Arc::clone(&bus);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            runtime.block_on(async {
                let (queries, receiver) = mpsc::channel(4);
                let backend = Backend {
                    bus: server_bus,
                    queries,
                    compile: Arc::new(compile),
                    history: None,
                    alerts: None,
                    metrics: None,
                    sinks: None,
                    reload: None,
                };
                let shutdown = async {
                    let _ = stopped.await;
                };
                let pipeline = tokio::spawn(pipeline(receiver, answers));
                serve(socket, backend, limits, shutdown)
                    .await
                    .expect("served");
                pipeline.abort();
            });
        });
        Self {
            dir,
            bus,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("portwatch.sock")
    }

    fn client(&self) -> Client {
        Client::connect(self.dir.path()).expect("connected")
    }

    fn tail(&self, filter: Option<&str>, states: bool) -> Tail {
        self.client()
            .tail(filter.map(str::to_owned), states, None)
            .expect("accepted")
    }

    fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).expect("server runs");
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("server ended");
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A filter language of one word: the parity of the place in the daemon's stream.
fn compile(text: &str) -> Result<sink::Predicate, String> {
    match text {
        "even" => Ok(Box::new(|event| event.seq % 2 == 0)),
        _ => Err(format!("unknown field `{text}`")),
    }
}

async fn pipeline(mut queries: mpsc::Receiver<Query>, answers: bool) {
    let mut held = Vec::new();
    while let Some(query) = queries.recv().await {
        match query {
            Query::List(reply) if answers => {
                let events = (1..=4).map(|seq| Arc::new(event(seq, EventType::ListenerPresent)));
                reply.send(events.collect()).expect("asked");
            }
            Query::Status(reply) if answers => reply.send(status()).expect("asked"),
            silent => held.push(silent),
        }
    }
}

/// Asks for the status as another user, in a thread of its own: on Linux credentials belong to threads.
fn status_as(dir: &Path, uid: u32, gid: u32) -> Result<Status, ClientError> {
    let dir = dir.to_owned();
    let thread = std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[]).expect("no groups");
        set_thread_res_gid(gid, gid, gid).expect("gid");
        set_thread_res_uid(uid, uid, uid).expect("uid");
        Client::connect(&dir)?.status()
    });
    thread.join().expect("joined")
}

/// Sends raw bytes and reads everything that comes back.
fn exchange(path: &Path, request: &[u8]) -> String {
    let mut stream = Blocking::connect(path).expect("connected");
    // The server may close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = String::new();
    if let Err(error) = stream.read_to_string(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    answer
}

/// The next `count` events, by their places in the daemon's stream; `written` lines came before them.
fn places(tail: &mut Tail, written: u64, count: usize) -> Vec<u64> {
    tail.take(count)
        .zip(written + 1..)
        .map(|(line, number)| {
            let event = parse(&line.expect("line"));
            assert_eq!(event.seq, number, "its own numbers, without holes");
            place(&event)
        })
        .collect()
}

/// Where the daemon published it: the test events carry that in their `id`.
fn place(event: &Event) -> u64 {
    let place = event.id.strip_prefix("id-").expect("a test event");
    place.parse().expect("number")
}

fn parse(line: &str) -> Event {
    serde_json::from_str(line).expect("event")
}

/// A line of about 48 KiB: a few fill every buffer between server and client.
fn heavy(seq: u64) -> Arc<Line> {
    let mut event = event(seq, EventType::ListenerOpened);
    event.message = "m".repeat(48 * 1024);
    Line::new(Arc::new(event))
}

#[test]
fn tail_delivers_in_order_and_says_goodbye() {
    let mut fixture = Fixture::new(Limits::default());
    let mut all = fixture.tail(None, false);
    let mut even = fixture.tail(Some("even"), false);
    let mut states = fixture.tail(None, true);
    for seq in 1..=4 {
        fixture.bus.publish(&opened(seq));
    }
    fixture.bus.publish(&state(5));
    assert_eq!(places(&mut all, 0, 4), [1, 2, 3, 4]);
    assert_eq!(places(&mut even, 0, 2), [2, 4]);
    assert_eq!(places(&mut states, 0, 5), [1, 2, 3, 4, 5]);
    fixture.bus.publish(&opened(6));
    fixture.stop();
    assert_eq!(places(&mut all, 4, 9), [6], "then the announced end");
    assert!(!fixture.path().exists());
}

#[test]
fn since_replays() {
    let fixture = Fixture::new(Limits::default());
    let mut recent = event(1, EventType::ListenerOpened);
    recent.ts = jiff::Timestamp::now().to_string();
    let mut old = recent.clone();
    old.ts = "2020-01-01T00:00:00Z".to_owned();
    old.id = "id-0".to_owned();
    fixture.bus.publish(&Line::new(Arc::new(old)));
    fixture.bus.publish(&Line::new(Arc::new(recent)));
    let mut tail = fixture
        .client()
        .tail(None, false, Some(Duration::from_secs(60)))
        .expect("accepted");
    fixture.bus.publish(&opened(2));
    assert_eq!(tail.replay_from(), None);
    assert_eq!(places(&mut tail, 0, 2), [1, 2]);
}

#[test]
fn a_slow_client_gets_its_gap_and_holds_nobody_up() {
    let fixture = Fixture::new(Limits::default());
    let mut slow = fixture.tail(None, false);
    let mut quick = fixture.tail(None, false);
    let total = 80;
    for seq in 1..=total {
        fixture.bus.publish(&heavy(seq));
        // In step with the quick one; the slow one does not read at all.
        assert_eq!(places(&mut quick, seq - 1, 1), [seq]);
    }
    let missed = fixture.bus.missed();
    assert!(missed > 0);
    let mut next = 1;
    let mut lost = 0;
    let mut written = 0;
    while next <= total {
        let event = parse(&slow.next().expect("line").expect("line"));
        written += 1;
        assert_eq!(event.seq, written, "a gap is the next line as any other");
        if let Some(gap) = &event.gap {
            lost += gap.lost;
            next += gap.lost;
        } else {
            assert_eq!(place(&event), next, "in order, no hole without a gap");
            next += 1;
        }
    }
    assert_eq!(lost, missed);
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let fixture = Fixture::new(Limits {
        stall_time: Duration::from_millis(50),
        ..Limits::default()
    });
    let _stalled = fixture.tail(None, false);
    for seq in 1..=80 {
        fixture.bus.publish(&heavy(seq));
    }
    for _ in 0..500 {
        if fixture.bus.readers().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("still there: {:?}", fixture.bus.readers());
}

#[test]
fn a_client_that_leaves_frees_its_place_at_once() {
    let fixture = Fixture::new(Limits::default());
    drop(fixture.tail(None, true));
    let mut wanted = fixture.bus.wants_states();
    for _ in 0..500 {
        if !*wanted.borrow_and_update() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the kernel would stream states for nobody");
}

#[test]
fn list_and_status_answer() {
    let fixture = Fixture::new(Limits::default());
    let tail = fixture.tail(None, true);
    let listed = fixture
        .client()
        .list(Some("even".to_owned()))
        .expect("listed");
    let listed: Vec<_> = listed.iter().map(|one| (one.seq, place(one))).collect();
    assert_eq!(listed, [(1, 2), (2, 4)]);
    let told = fixture.client().status().expect("status");
    assert_eq!(told.clients.len(), 1);
    assert_eq!(told.clients[0].pid, Some(std::process::id()));
    assert!(told.clients[0].states);
    assert_eq!(told.mechanisms, status().mechanisms);
    drop(tail);
}

#[test]
fn a_silent_pipeline_is_not_waited_for() {
    let limits = Limits {
        query_time: Duration::from_millis(20),
        ..Limits::default()
    };
    let fixture = Fixture::with(limits, "no-such-group", false);
    let error = fixture.client().status().expect_err("no answer");
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains("did not answer"), "{error}");
}

#[test]
fn a_wrong_filter_is_a_usage_error() {
    let fixture = Fixture::new(Limits::default());
    let error = fixture
        .client()
        .tail(Some("colour".to_owned()), false, None)
        .expect_err("refused");
    assert_eq!(error.exit_code(), 64);
    assert_eq!(error.to_string(), "unknown field `colour`");
}

#[test]
fn garbage_gets_one_clear_line() {
    let fixture = Fixture::new(Limits::default());
    for garbage in [&b"GET / HTTP/1.1\n"[..], b"\xff\xfe\0\n", b"\n", b"{}\n"] {
        let answer = exchange(&fixture.path(), garbage);
        assert!(
            answer.starts_with(r#"{"error":{"code":64,"#),
            "{garbage:?}: {answer}"
        );
        assert_eq!(answer.lines().count(), 1);
    }
    let two = exchange(
        &fixture.path(),
        b"{\"portwatch\":1,\"request\":\"list\"}\n{\"portwatch\":1}\n",
    );
    assert!(two.contains("data after the request"), "{two}");
}

#[test]
fn a_huge_request_is_refused_without_being_read() {
    let fixture = Fixture::new(Limits::default());
    let answer = exchange(&fixture.path(), &vec![b'a'; 1 << 20]);
    assert!(answer.contains("at most 16384 bytes"), "{answer}");
    assert_eq!(fixture.client().list(None).expect("still serves").len(), 4);
}

#[test]
fn a_client_that_asks_nothing_is_sent_away() {
    let fixture = Fixture::new(Limits {
        request_time: Duration::from_millis(30),
        ..Limits::default()
    });
    let mut stream = Blocking::connect(fixture.path()).expect("connected");
    stream
        .write_all(b"{\"portwatch\":1,")
        .expect("half a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    assert!(answer.contains("no request within"), "{answer}");
}

#[test]
fn a_half_closed_client_is_still_served() {
    let fixture = Fixture::new(Limits::default());
    let mut stream = Blocking::connect(fixture.path()).expect("connected");
    // Without a newline too, as `printf … | socat` would.
    stream
        .write_all(br#"{"portwatch":1,"request":"tail"}"#)
        .expect("request");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    let mut lines = BufReader::new(stream).lines();
    let accepted = lines.next().expect("line").expect("line");
    assert!(accepted.starts_with(r#"{"ok":true"#));
    fixture.bus.publish(&opened(1));
    assert_eq!(parse(&lines.next().expect("line").expect("line")).seq, 1);
}

#[test]
fn clients_are_limited() {
    let fixture = Fixture::new(Limits {
        clients: 3,
        per_uid: 2,
        ..Limits::default()
    });
    let first = fixture.tail(None, false);
    let _second = fixture.tail(None, false);
    let error = fixture
        .client()
        .tail(None, false, None)
        .expect_err("no third");
    assert!(matches!(&error, ClientError::Refused(fault) if fault.code == 69));
    assert!(error.to_string().contains("2 clients of user"), "{error}");
    drop(first);
    for _ in 0..500 {
        if fixture.client().tail(None, false, None).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the seat did not become free");
}

#[test]
fn strangers_are_kept_out_twice_and_members_let_in() {
    let Some(daemon) = crate::interface::peer::group_id("daemon").filter(|_| geteuid().is_root())
    else {
        return;
    };
    let fixture = Fixture::with(Limits::default(), "daemon", true);
    let dir = fixture.dir.path();
    let (nobody, nogroup) = (65_534, 65_534);
    status_as(dir, nobody, daemon).expect("a member may read");

    // The mode keeps strangers out,
    let error = status_as(dir, nobody, nogroup).expect_err("kept out");
    assert!(matches!(error, ClientError::NotPermitted(_)), "{error}");
    assert_eq!(error.exit_code(), 77);

    // and where somebody opened it up, the credentials do.
    std::fs::set_permissions(fixture.path(), Permissions::from_mode(0o666)).expect("mode");
    let error = status_as(dir, nobody, nogroup).expect_err("kept out");
    assert!(
        matches!(&error, ClientError::Refused(fault) if fault.code == 77),
        "{error}"
    );
    assert!(
        error.to_string().contains("user 65534 may not read"),
        "{error}"
    );
    fixture.client().status().expect("root may always");
}
