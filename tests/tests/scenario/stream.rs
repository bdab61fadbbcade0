//! How the stream ends, and how it says no.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::watch::{output, rung_args, scale};
use portwatch_tests::harness::{Context, Watch, locate};

use super::scenarios;

scenarios!(userland "stream": reader_gone, interrupted, counted, numbered_behind_a_filter, bad_filter);

/// Between two listeners that are opened to be heard of.
const KNOCK: Duration = Duration::from_millis(20);
/// Of those, how many are held at once.
const KNOCKS: usize = 200;

/// `portwatch tail | head -1`: ends with 0, and says nothing.
fn reader_gone(context: &Context) -> Result<()> {
    let mut child = Command::new(locate::portwatch()?)
        .args(["tail", "-o", "json", "--no-daemon"])
        .args(rung_args(context.rung()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().context("no output")?);
    stdout.read_line(&mut first)?;
    ensure!(first.ends_with('\n'), "no first line: {first:?}");
    drop(stdout);
    // The next event finds nobody to read it. The listeners stay open, so that looking again sees them.
    let mut knocks = VecDeque::new();
    let deadline = Instant::now() + Duration::from_secs(5) * scale();
    let status = loop {
        if knocks.len() == KNOCKS {
            knocks.pop_front();
        }
        knocks.push_back(TcpListener::bind("127.0.0.1:0")?);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("still running although nobody reads");
        }
        std::thread::sleep(KNOCK);
    };
    let mut told = String::new();
    child
        .stderr
        .take()
        .context("no errors")?
        .read_to_string(&mut told)?;
    ensure!(
        status.code() == Some(0) && told.is_empty(),
        "ended with {status}, saying {told:?}"
    );
    Ok(())
}

/// Ctrl-C: 130, and whole lines to the end.
fn interrupted(context: &Context) -> Result<()> {
    let watch = context.fresh(&[])?;
    let status = watch.interrupt()?;
    ensure!(
        status.code() == Some(130),
        "ended with {status}: {}",
        watch.complaints()
    );
    watch.check_stream()
}

fn counted(context: &Context) -> Result<()> {
    let mut command = Command::new(locate::portwatch()?);
    command
        .args(["tail", "-o", "json", "--no-daemon", "--count", "2"])
        .args(rung_args(context.rung()));
    let watch = Watch::read(command)?;
    let deadline = Instant::now() + Duration::from_secs(20) * scale();
    let mut knocks = VecDeque::new();
    while watch.position() < 2 && Instant::now() < deadline {
        // Held long enough for a look to find it, and never more than a process may hold.
        if knocks.len() == KNOCKS {
            knocks.pop_front();
        }
        knocks.push_back(TcpListener::bind("127.0.0.1:0")?);
        std::thread::sleep(KNOCK);
    }
    let status = watch.wait_end()?;
    ensure!(
        status.code() == Some(0),
        "ended with {status}: {}",
        watch.complaints()
    );
    ensure!(
        watch.position() == 2,
        "{} events instead of 2",
        watch.position()
    );
    watch.check_stream()
}

/// What a filter keeps back is missing in no number.
fn numbered_behind_a_filter(context: &Context) -> Result<()> {
    let mut command = Command::new(locate::portwatch()?);
    command
        .args(["tail", "-o", "json", "--no-daemon", "proto == tcp"])
        .args(rung_args(context.rung()));
    let watch = Watch::read(command)?;
    let opened = || watch.all(portwatch_tests::harness::Event::is_opening).len();
    let deadline = Instant::now() + Duration::from_secs(20) * scale();
    let mut knocks = VecDeque::new();
    // One of each, so that between any two that are told one is not.
    while opened() < 20 && Instant::now() < deadline {
        if knocks.len() == KNOCKS {
            knocks.pop_front();
        }
        knocks.push_back((
            UdpSocket::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ));
        std::thread::sleep(KNOCK);
    }
    ensure!(opened() >= 20, "{} openings", opened());
    let others = watch.all(|event| event.text("socket.protocol") != "tcp");
    ensure!(
        others.is_empty(),
        "told in spite of it: {:?}",
        others.first()
    );
    watch.interrupt()?;
    watch.check_stream()
}

/// A filter that cannot be read: usage error, and a caret under the place.
fn bad_filter(_: &Context) -> Result<()> {
    let told = output(&["tail", "--no-daemon", "proto == == tcp"])?;
    let text = String::from_utf8_lossy(&told.stderr);
    ensure!(
        told.status.code() == Some(64),
        "ended with {}: {text}",
        told.status
    );
    ensure!(
        text.lines().any(|line| line.contains('^')),
        "no caret: {text}"
    );
    ensure!(told.stdout.is_empty(), "events in spite of it");
    Ok(())
}
