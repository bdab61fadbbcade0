//! Listeners that are opened at a beat among a flood: which of them a daemon tells, how late, and what it says was lost.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::stage::within;
use portwatch_tests::harness::trigger::own_inode;
use portwatch_tests::percentile::{object, percentiles};
use portwatch_tests::sys;
use rustix::net::{
    AddressFamily, SocketAddrV4, SocketFlags, SocketType, bind, listen, socket_with,
};
use serde_json::{Value, json};

use super::How;
use super::target::{Poured, Target};

/// The flood goes on for so long before the first listener, so that its storm is told of before.
const BEFORE: Duration = Duration::from_secs(2);
/// A part of the flood; between two of them it is asked whether it is over.
const PART: Duration = Duration::from_secs(1);
/// However slow listeners are, the flood ends after this time.
const LONGEST: Duration = Duration::from_secs(300);
/// How long the last listener may take to be told, and a loss until its `gap`.
const PATIENCE: Duration = Duration::from_secs(10);
const UNTIL_GAP: Duration = Duration::from_secs(3);

/// Listeners, kept open so that each has an inode of its own, and when each began to listen.
type Opened = (Vec<OwnedFd>, HashMap<u64, Instant>);

/// Measures, and says what is to be printed.
pub(crate) fn measure(count: u32, beat: Duration, how: How) -> Result<Value> {
    sys::raise_descriptor_limit()?;
    let home = Home::new()?;
    let daemon = home.start(None)?;
    let watch = home.tail(&[])?;
    let mut target = Target::new(how)?;
    let (holder, netns) = (target.pid(), target.netns());
    let before = status(home.command()?)?;
    let (position, began) = (watch.position(), Instant::now());
    let done = AtomicBool::new(false);
    let (poured, opened) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&mut target, &done));
        std::thread::sleep(BEFORE);
        let opened = within(holder, || open(count, beat));
        done.store(true, Ordering::Relaxed);
        let poured = flood.join().unwrap_or_else(|_| bail!("the flood panicked"));
        anyhow::Ok((poured?, opened?))
    })?;
    let (sockets, opened) = opened;
    let told = watch.gather(opened.len(), PATIENCE, |event| {
        let inode = event.number("socket.inode");
        event.is_opening() && inode.is_some_and(|inode| opened.contains_key(&inode))
    });
    std::thread::sleep(UNTIL_GAP);
    let after = status(home.command()?)?;
    let gaps = watch.all(|event| event.kind() == "gap").len();
    let named = watch.next_after(position, Duration::ZERO, |event| {
        event.kind() == "storm.started" && event.number("storm.netns") == Some(netns)
    });
    drop(sockets);
    let (mut whole, mut inside) = (HashMap::new(), Vec::new());
    for event in &told {
        let inode = event.number("socket.inode").unwrap_or(0);
        if let Some(listened) = opened.get(&inode) {
            whole.insert(inode, event.arrived.saturating_duration_since(*listened));
        }
        // Those that were found by looking have none.
        inside.extend(event.number("sensor.latency_us").map(Duration::from_micros));
    }
    let mut whole: Vec<Duration> = whole.into_values().collect();
    let mut line = super::told(poured, target.cookies()?);
    if let Some(line) = line.as_object_mut() {
        line.extend([
            ("listeners".to_owned(), json!(count)),
            ("told".to_owned(), json!(whole.len())),
            ("by_looking".to_owned(), json!(told.len() - inside.len())),
            (
                "whole_us".to_owned(),
                object(percentiles(&mut whole)).into(),
            ),
            (
                "inside_us".to_owned(),
                object(percentiles(&mut inside)).into(),
            ),
            ("gaps".to_owned(), json!(gaps)),
            ("status".to_owned(), json!([before, after])),
        ]);
        if let Some(named) = named {
            let after = named.arrived.saturating_duration_since(began);
            line.insert("named_ms".to_owned(), json!(after.as_secs_f64() * 1e3));
        }
    }
    drop(daemon);
    Ok(line)
}

/// Goes on until `done`.
fn flood(target: &mut Target, done: &AtomicBool) -> Result<Poured> {
    let began = Instant::now();
    let mut all = Poured::default();
    while !done.load(Ordering::Relaxed) {
        ensure!(began.elapsed() < LONGEST, "listeners take too long to open");
        let part = target.pour(u64::MAX, PART)?;
        all.sent += part.sent;
        all.time += part.time;
        all.processors += part.processors;
    }
    Ok(all)
}

fn open(count: u32, beat: Duration) -> Result<Opened> {
    let (mut sockets, mut opened) = (Vec::new(), HashMap::new());
    let mut next = Instant::now();
    for _ in 0..count {
        let fd = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let inode = own_inode(&fd)?;
        let before = Instant::now();
        listen(&fd, 1)?;
        opened.insert(inode, before);
        sockets.push(fd);
        next += beat;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok((sockets, opened))
}

fn status(mut portwatch: Command) -> Result<Value> {
    let output = portwatch.args(["status", "-o", "json"]).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no status: {complaint}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
