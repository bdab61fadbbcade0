//! `portwatch tail` attached to a daemon that this test plays: how the stream ends, and that it is whole.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground gives way"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use portwatch::event::example::examples;
use portwatch::render::Format;
use portwatch::sink::encode_line;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// More than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const ACCEPTED: &[u8] = b"{\"ok\":true,\"portwatch\":1,\"version\":\"0\"}\n";

struct Session {
    child: Child,
    daemon: UnixStream,
    request: String,
    _place: TempDir,
}

/// Starts `portwatch tail ARGS`, takes its request and answers with `answer`.
fn attach(args: &[&str], answer: &[u8], stdout: Stdio) -> Session {
    let place = tempfile::tempdir().expect("dir");
    let listener = UnixListener::bind(place.path().join("portwatch.sock")).expect("bound");
    let child = Command::new(env!("CARGO_BIN_EXE_portwatch"))
        .arg("tail")
        .args(args)
        .env_clear()
        .env("PORTWATCH_RUNTIME_DIR", place.path())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawned");
    let (mut daemon, _) = listener.accept().expect("client");
    let mut request = String::new();
    BufReader::new(&daemon)
        .read_line(&mut request)
        .expect("request");
    daemon.write_all(answer).expect("answered");
    Session {
        child,
        daemon,
        request,
        _place: place,
    }
}

impl Session {
    fn send(&mut self, bytes: &[u8]) {
        self.daemon.write_all(bytes).expect("sent");
    }

    /// Reads `count` lines of its output.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let stdout = self.child.stdout.as_mut().expect("piped");
        let mut line = || {
            let mut line = Vec::new();
            // A byte at a time, so that nothing is taken from those who read later.
            let mut byte = [0];
            while stdout.read(&mut byte).expect("read") == 1 && byte != *b"\n" {
                line.push(byte[0]);
            }
            String::from_utf8(line).expect("UTF-8")
        };
        (0..count).map(|_| line()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("sent");
    }

    /// Waits for its end: exit code, the rest of standard output, standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        let since = Instant::now();
        while self.child.try_wait().expect("asked").is_none() {
            if since.elapsed() > PATIENCE {
                self.child.kill().expect("killed");
                panic!("it did not end");
            }
            thread::sleep(Duration::from_millis(5));
        }
        let output = self.child.wait_with_output().expect("ended");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("UTF-8"),
            String::from_utf8(output.stderr).expect("UTF-8"),
        )
    }
}

/// Every example event as the daemon sends it.
fn published() -> Vec<u8> {
    examples().iter().flat_map(encode_line).collect()
}

#[test]
fn json_lines_come_through_as_they_are_and_count_ends_with_0() {
    let count = examples().len().to_string();
    let args = [
        "-o", "json", "--count", &count, "--states", "tcp", "port:80",
    ];
    let mut session = attach(&args, ACCEPTED, Stdio::piped());
    assert!(
        session.request.contains(r#""filter":"tcp port:80""#),
        "{}",
        session.request
    );
    assert!(session.request.contains(r#""states":true"#));
    session.send(&[published(), published()].concat());
    let (code, stdout, stderr) = session.end();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.as_bytes() == published(), "{stdout}");
}

#[test]
fn other_models_are_rendered_here_from_what_the_daemon_sends() {
    for format in Format::ALL {
        let mut session = attach(&["-o", format.as_str()], ACCEPTED, Stdio::piped());
        session.send(&published());
        let expected: Vec<_> = examples().iter().flat_map(|e| format.line(e)).collect();
        let expected = String::from_utf8(expected).expect("UTF-8");
        let lines = session.lines(examples().len());
        assert!(
            expected.lines().eq(&lines),
            "{}: {lines:?}",
            format.as_str()
        );
        session.signal(Signal::INT);
        assert_eq!(session.end().0, Some(130));
    }
}

#[test]
fn people_get_a_line_an_event_without_control_characters() {
    let count = examples().len();
    let mut session = attach(&[], ACCEPTED, Stdio::piped());
    session.send(&published());
    let lines = session.lines(count);
    assert!(
        lines
            .iter()
            .all(|line| !line.is_empty() && !line.contains(char::is_control))
    );
    session.signal(Signal::INT);
    assert_eq!(session.end(), (Some(130), String::new(), String::new()));
}

#[test]
fn ctrl_c_is_130_and_sigterm_143_without_a_word() {
    for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut session = attach(&["-o", "json"], ACCEPTED, Stdio::piped());
        session.send(&published());
        session.lines(examples().len());
        session.signal(signal);
        assert_eq!(
            session.end(),
            (Some(expected), String::new(), String::new())
        );
    }
}

#[test]
fn ctrl_c_leaves_no_half_line_when_nobody_reads() {
    let mut session = attach(&["-o", "json"], ACCEPTED, Stdio::piped());
    let line = encode_line(&examples()[0]);
    // More than the pipe, the program and the socket take together.
    session
        .daemon
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("set");
    let flooded = session
        .daemon
        .write_all(&line.repeat((4 << 20) / line.len()));
    flooded.expect_err("nobody reads");
    session.signal(Signal::INT);
    thread::sleep(Duration::from_millis(100));
    let (code, stdout, stderr) = session.end();
    assert_eq!((code, stderr.as_str()), (Some(130), ""));
    assert!(
        !stdout.is_empty() && stdout.len() % line.len() == 0,
        "{} bytes",
        stdout.len()
    );
}

#[test]
fn a_reader_that_goes_ends_it_though_nothing_happens() {
    let (reader, writer) = std::io::pipe().expect("pipe");
    let mut session = attach(&[], ACCEPTED, writer.into());
    session.send(&encode_line(&examples()[0]));
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut String::new()).expect("a line");
    drop(reader);
    // No further event: it has to notice by itself.
    let (code, _, stderr) = session.end();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_daemon_that_goes_is_69_in_one_sentence() {
    for farewell in [&b"{\"end\":true}\n"[..], b"", b"{\"schema\":\"half"] {
        let mut session = attach(&["-o", "json"], ACCEPTED, Stdio::piped());
        session.send(&published());
        session.send(farewell);
        session
            .daemon
            .shutdown(std::net::Shutdown::Both)
            .expect("shut");
        let (code, stdout, stderr) = session.end();
        assert_eq!(code, Some(69), "{stderr}");
        assert!(
            stdout.as_bytes() == published(),
            "what came before is printed whole"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("portwatch: the daemon "), "{stderr}");
    }
}

#[test]
fn what_the_daemon_does_not_remember_is_said() {
    let accepted = b"{\"ok\":true,\"replay_from\":\"2026-11-21T19:42:01Z\"}\n{\"end\":true}\n";
    let session = attach(&["--since", "10m"], accepted, Stdio::piped());
    assert!(
        session.request.contains(r#""since_ms":600000"#),
        "{}",
        session.request
    );
    let (_, _, stderr) = session.end();
    assert!(
        stderr.contains("remembers no event from before 2026-11-21T19:42:01Z"),
        "{stderr}"
    );
}

#[test]
fn a_refusal_keeps_its_code_and_cannot_move_the_cursor() {
    let answer = b"{\"error\":{\"code\":77,\"message\":\"no\\u001b[2J\"}}\n";
    let (code, stdout, stderr) = attach(&[], answer, Stdio::piped()).end();
    assert_eq!((code, stdout.as_str()), (Some(77), ""));
    assert_eq!(stderr, "portwatch: no\\x1b[2J\n");
}
