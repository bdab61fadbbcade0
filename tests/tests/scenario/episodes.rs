//! Storms and scans, made in a network namespace of the actor's own and told as episodes: in time, once, and with whom they
//! are about. The truth is the generator's. Each prints its line for the table in docs/storms.md.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::{Daemon, Home};
use portwatch_tests::harness::watch::{Watch, scale};
use portwatch_tests::harness::{Actor, Context, Event, Kind, Outcome, Sock};

use super::scenarios;

scenarios!(alone "episodes": flood_without_cookies, flood_with_cookies, flood_of_cookies_alone, flood_at_a_small_queue,
    burst_names_none, scan_of_tcp, scan_of_udp, refused_loop, leak);

/// How soon a flood is named.
const SOON: Duration = Duration::from_secs(2);
/// How long an episode takes to begin or end at most, where nothing else is promised.
const PATIENCE: Duration = Duration::from_secs(60);
/// SYNs a second of a small flood.
const RATE: u32 = 100;
/// How long a flood lasts.
const SECONDS: u32 = 5;

fn flood_without_cookies(context: &Context) -> Result<Outcome> {
    flood(context, "no cookies", 0, 4096)
}

fn flood_with_cookies(context: &Context) -> Result<Outcome> {
    flood(context, "cookies when full", 1, 4096)
}

/// Every SYN is answered by a cookie, and leaves nothing behind.
fn flood_of_cookies_alone(context: &Context) -> Result<Outcome> {
    flood(context, "cookies alone", 2, 4096)
}

/// The queue is full after a moment, and what does not fit is dropped.
fn flood_at_a_small_queue(context: &Context) -> Result<Outcome> {
    flood(context, "a small queue", 0, 16)
}

fn flood(context: &Context, what: &str, cookies: u32, backlog: u32) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let (mut actor, sock) = stage.listener("episodes-flood", backlog)?;
    actor.call(&format!("sysctl tcp_syncookies {cookies}"))?;
    let port = actor.port(&sock)?;
    let mechanism = stage.mechanism("tcp.syn")?;
    if mechanism == "reconcile" || (mechanism == "cgroup" && (cookies == 2 || backlog < 64)) {
        return Ok(Outcome::Skipped(format!(
            "tcp.syn by {mechanism} does not see it, and says so"
        )));
    }
    let pid = u64::from(actor.pid);
    let is_ours = move |event: &Event| {
        event.at("storm.kind") == "syn-flood" && event.number("socket.port") == Some(port.into())
    };
    let command = format!("syns {} {RATE} {port}", RATE * SECONDS);
    let (began, ended) = stage.episode(&mut actor, &command, is_ours)?;
    ensure!(
        began.event.number("process.pid") == Some(pid),
        "another owner: {}",
        began.event.value()
    );
    ensure!(
        began.after <= SOON * scale(),
        "named after {:?}",
        began.after
    );
    let total = ended.number("storm.total").context("no total")?;
    let sent = u64::from(RATE * SECONDS);
    ensure!(
        total > sent / 3 && total <= sent + sent / 10,
        "{total} of {sent}"
    );
    told(
        &format!("syn-flood, {what}, {RATE} a second"),
        &mechanism,
        began.after,
    );
    Ok(Outcome::Done)
}

/// Thousands of connections as fast as they can be made, each completed: success, and no storm.
fn burst_names_none(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let (mut actor, sock) = stage.listener("episodes-burst", 4096)?;
    let after = stage.watch.position();
    let begin = Instant::now();
    let mut made = 0_u32;
    for round in 0..10 {
        actor.call(&format!("crowd 400 {} b{round}", sock.slot))?;
        actor.call(&format!("leave 0 400 b{round} c"))?;
        actor.call(&format!("leave 0 400 b{round} s"))?;
        made += 400;
    }
    let rate = f64::from(made) / begin.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(4));
    let wrong = stage
        .watch
        .next_after(after, Duration::from_millis(100), |event| {
            event.kind() == "storm.started" && event.has_pid(actor.pid)
        });
    ensure!(
        wrong.is_none(),
        "a storm: {}",
        wrong
            .map(|event| event.value().to_string())
            .unwrap_or_default()
    );
    eprintln!("| legitimate burst of {made}, {rate:.0} a second | | none |");
    Ok(Outcome::Done)
}

fn scan_of_tcp(context: &Context) -> Result<Outcome> {
    scan(context, "tcp", "tcp.knock")
}

fn scan_of_udp(context: &Context) -> Result<Outcome> {
    scan(context, "udp", "udp.knock")
}

/// A thousand ports: one scan, named within a second of its beginning, with its source.
fn scan(context: &Context, protocol: &str, signal: &str) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let mut actor = Actor::start(&format!("episodes-scan-{protocol}"))?;
    let netns: u64 = actor.call("unshare-net")?.number("netns")?;
    let mechanism = stage.mechanism(signal)?;
    if mechanism == "reconcile" {
        return Ok(Outcome::Skipped(format!(
            "{signal} does not see it, and says so"
        )));
    }
    let after = stage.watch.position();
    let begin = Instant::now();
    actor.call(&format!("knocks {protocol} 1000 1000"))?;
    let is_ours = |event: &Event| {
        event.kind() == "scan.detected"
            && event.number("scan.netns") == Some(netns)
            && event.at("scan.protocol") == protocol
    };
    let event = stage.watch.next_after(after, PATIENCE, is_ours);
    let event = event.context("the scan is not told")?;
    let took = event.arrived.saturating_duration_since(begin);
    ensure!(
        took <= Duration::from_secs(1) * scale(),
        "named after {took:?}"
    );
    ensure!(event.at("scan.source") == "127.0.0.1", "{}", event.value());
    ensure!(event.number("scan.ports") >= Some(20), "{}", event.value());
    std::thread::sleep(Duration::from_secs(2));
    let count = stage.watch.all(is_ours).len();
    ensure!(count == 1, "told {count} times");
    told(
        &format!("port-scan, vertical, {protocol}"),
        &mechanism,
        took,
    );
    Ok(Outcome::Done)
}

/// A client that asks for what is not there, again and again.
fn refused_loop(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let mechanism = stage.mechanism("tcp.state")?;
    if mechanism == "reconcile" {
        return Ok(Outcome::Skipped(
            "tcp.state does not see it, and says so".to_owned(),
        ));
    }
    let mut actor = Actor::start("episodes-refused")?;
    actor.call("unshare-net")?;
    let pid = actor.pid;
    let after = stage.watch.position();
    let begin = Instant::now();
    let is_ours = move |event: &Event| {
        event.kind() == "storm.started"
            && event.at("storm.kind") == "connect-storm"
            && event.has_pid(pid)
    };
    let mut found = None;
    while found.is_none() && begin.elapsed() < PATIENCE * scale() {
        for _ in 0..20 {
            actor.call("knocks tcp 2000 10")?;
        }
        found = stage
            .watch
            .next_after(after, Duration::from_millis(1), is_ours);
    }
    let event = found.context("the storm is not told")?;
    told(
        "connect-storm, refused",
        &mechanism,
        event.arrived.saturating_duration_since(begin),
    );
    Ok(Outcome::Done)
}

/// A server that does not close what its clients have closed.
fn leak(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "[storm]\nclose_wait_for = \"2s\"\n")?;
    let (mut actor, sock) = stage.listener("episodes-leak", 256)?;
    let pid = actor.pid;
    let is_ours =
        move |event: &Event| event.at("storm.kind") == "close-wait-leak" && event.has_pid(pid);
    actor.call(&format!("crowd 150 {} l", sock.slot))?;
    let after = stage.watch.position();
    let begin = Instant::now();
    actor.call("leave 0 150 l c")?;
    let event = stage.watch.next_after(after, PATIENCE, |event| {
        event.kind() == "storm.started" && is_ours(event)
    });
    let event = event.context("the leak is not told")?;
    ensure!(
        event.number("storm.level") == Some(150),
        "{}",
        event.value()
    );
    actor.call("leave 0 150 l s")?;
    let over = stage.watch.next_after(after, PATIENCE, |event| {
        event.kind() == "storm.ended" && is_ours(event)
    });
    over.context("the end is not told")?;
    let took = event.arrived.saturating_duration_since(begin);
    told("close-wait-leak, held for 2 s", "sock_diag", took);
    Ok(Outcome::Done)
}

/// A line of the table.
fn told(what: &str, mechanism: &str, after: Duration) {
    eprintln!("| {what} | {mechanism} | {} ms |", after.as_millis());
}

/// A daemon of its own, and somebody who listens to it.
struct Stage {
    home: Home,
    _daemon: Daemon,
    watch: Watch,
}

/// The first event of an episode, and how long after its cause it came.
struct Began {
    event: Event,
    after: Duration,
}

impl Stage {
    fn new(context: &Context, config: &str) -> Result<Self> {
        let home = Home::new()?;
        fs::write(home.path("portwatch.toml"), config)?;
        let daemon = home.start(context.rung())?;
        let watch = home.tail(&[])?;
        Ok(Self {
            home,
            _daemon: daemon,
            watch,
        })
    }

    fn listener(&self, token: &str, backlog: u32) -> Result<(Actor, Sock)> {
        let mut actor = Actor::start(token)?;
        actor.call("unshare-net")?;
        actor.call("senders")?;
        let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", backlog)?;
        // A cell is made when it is told, and the first look is over when that is old.
        std::thread::sleep(Duration::from_secs(1));
        Ok((actor, sock))
    }

    /// Has the actor make a storm: one episode begins and ends.
    fn episode(
        &self,
        actor: &mut Actor,
        command: &str,
        is_ours: impl Fn(&Event) -> bool + Copy,
    ) -> Result<(Began, Event)> {
        let after = self.watch.position();
        let begin = Instant::now();
        actor.call(command)?;
        let is = |kind: &'static str| move |event: &Event| event.kind() == kind && is_ours(event);
        let began = self.watch.next_after(after, PATIENCE, is("storm.started"));
        let event = began.context("the storm is not told")?;
        let ended = self.watch.next_after(after, PATIENCE, is("storm.ended"));
        let ended = ended.context("its end is not told")?;
        ensure!(
            ended.at("storm.episode") == event.at("storm.episode"),
            "another episode"
        );
        let count = self.watch.all(is("storm.started")).len();
        ensure!(count == 1, "it began {count} times");
        let after = event.arrived.saturating_duration_since(begin);
        Ok((Began { event, after }, ended))
    }

    fn mechanism(&self, signal: &str) -> Result<String> {
        let output = self
            .home
            .command()?
            .args(["status", "-o", "json"])
            .output()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let mut all = status["mechanisms"].as_array().into_iter().flatten();
        let ours = all
            .find(|one| one["signal"] == signal)
            .context("no such signal")?;
        Ok(ours["mechanism"]
            .as_str()
            .context("no mechanism")?
            .to_owned())
    }
}
