//! What the probes count of storms, held against who made them: SYNs that nobody completes, cookies, knocks at closed ports.
//! All of it happens in network namespaces of the actors' own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome, Sock};
use serde_json::Value;

use super::scenarios;

scenarios!("syn": half_open_is_no_state, cookies_are_no_requests, unanswered, reset_without_socket,
    udp_at_closed_ports, failing_client);

/// SYNs that are sent, and as many requests that a queue has room for.
const SYNS: u64 = 300;
/// Ports that are knocked at.
const PORTS: u64 = 40;
/// The kernel sends a SYN-ACK again after a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Trap: half-open connections pass no hook of states. Each SYN is counted where it arrives, and the queue says how many
/// are half-open; nothing is said to be established.
fn half_open_is_no_state(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "syn-half-open")?;
    let (listener, mut actor) = stage.listener(1024)?;
    actor.call(&format!("syns {SYNS} 3000 {}", listener.port))?;
    let told = stage.until(listener, |told| told.number("half_open") == Some(SYNS))?;
    ensure!(told.number("established") == Some(0), "{told:?}");
    if stage.mechanism("tcp.syn")? == "reconcile" {
        ensure!(told.number("syns").is_none_or(|syns| syns == 0), "{told:?}");
        return stage.admits("tcp.syn", "syn");
    }
    ensure!(told.number("syns") == Some(SYNS), "{told:?}");
    ensure!(told.number("accepted") == Some(0), "{told:?}");
    ensure!(
        !told.0["senders"].as_array().is_none_or(Vec::is_empty),
        "who sent them is not known: {told:?}"
    );
    Ok(Outcome::Done)
}

/// Trap: a SYN that is answered by a cookie makes no request. Where SYNs are seen as requests alone, that is admitted.
fn cookies_are_no_requests(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "syn-cookies")?;
    let (listener, mut actor) = stage.listener(1024)?;
    actor.call("sysctl tcp_syncookies 2")?;
    actor.call(&format!("syns {SYNS} 3000 {}", listener.port))?;
    let mechanism = stage.mechanism("tcp.syn")?;
    match mechanism.as_str() {
        "fentry" | "kprobe" => {
            let told = stage.until(listener, |told| told.number("syns") == Some(SYNS))?;
            ensure!(told.number("half_open") == Some(0), "{told:?}");
            Ok(Outcome::Done)
        }
        "cgroup" => {
            let told = stage.until(listener, |_| true)?;
            ensure!(told.number("syns") == Some(0), "{told:?}");
            stage.admits("tcp.syn", "cookie")?;
            Ok(Outcome::Done)
        }
        _ => stage.admits("tcp.syn", "syn"),
    }
}

/// A SYN-ACK that nobody answers is sent again, and counted then.
fn unanswered(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "syn-unanswered")?;
    let (listener, mut actor) = stage.listener(1024)?;
    actor.call(&format!("syns 20 0 {}", listener.port))?;
    if stage.mechanism("tcp.synack")? == "reconcile" {
        return stage.admits("tcp.synack", "answer");
    }
    let told = stage.until(listener, |told| {
        told.number("unanswered").is_some_and(|count| count >= 20)
    })?;
    ensure!(told.number("accepted") == Some(0), "{told:?}");
    Ok(Outcome::Done)
}

/// Trap: a reset for a closed port has no socket, of which the tracepoint was silent before 6.10.
fn reset_without_socket(context: &Context) -> Result<Outcome> {
    knocked(context, "tcp", "tcp.knock")
}

/// Datagrams for ports where nothing is bound.
fn udp_at_closed_ports(context: &Context) -> Result<Outcome> {
    knocked(context, "udp", "udp.knock")
}

fn knocked(context: &Context, protocol: &str, signal: &str) -> Result<Outcome> {
    let stage = Stage::new(context, &format!("knock-{protocol}"))?;
    let mut actor = Actor::start(&format!("knock-{protocol}"))?;
    let netns: u64 = actor.call("unshare-net")?.number("netns")?;
    actor.call(&format!("knocks {protocol} 20000 {PORTS}"))?;
    let of_ours = |stats: &Value| {
        let mut all = stats["knocks"].as_array().into_iter().flatten();
        let ours = all.find(|one| one["netns"] == netns && one["protocol"] == protocol);
        ours.cloned()
    };
    if stage.mechanism(signal)? == "reconcile" {
        ensure!(of_ours(&stage.stats()?).is_none(), "a mechanism is hidden");
        return stage.admits(signal, "scan");
    }
    let told = of_ours(&stage.stats()?).context("nobody has knocked")?;
    ensure!(told["address"] == "127.0.0.1", "{told}");
    ensure!(told["ports"] == PORTS && told["count"] == PORTS, "{told}");
    let sample = told["sample"].as_array().context("no sample")?;
    ensure!(
        sample.len() == 16 && sample[0] == 20_000 && sample[15] == 20_015,
        "{told}"
    );
    Ok(Outcome::Done)
}

/// Connects of a process are its own, however they end, and whoever is interrupted by their end.
fn failing_client(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "syn-failing")?;
    if stage.mechanism("tcp.state")? == "reconcile" {
        return stage.admits("tcp.state", "state");
    }
    let (listener, mut actor) = stage.listener(16)?;
    actor.call(&format!("crowd 5 {} k", listener.slot))?;
    actor.call("knocks tcp 20000 20")?;
    let stats = stage.stats()?;
    let mut all = stats["processes"].as_array().into_iter().flatten();
    let ours = all
        .find(|one| one["pid"] == actor.pid)
        .with_context(|| format!("the process is not told: {stats}"))?;
    ensure!(ours["connects"] == 25 && ours["failed"] == 20, "{ours}");
    ensure!(ours["states"]["ESTABLISHED"] == 10, "{ours}");
    Ok(Outcome::Done)
}

/// A listener in a namespace of its own.
#[derive(Clone)]
struct Elsewhere {
    netns: u64,
    port: u16,
    slot: String,
}

/// What `stats` tells of a listener.
#[derive(Debug)]
struct Told(Value);

impl Told {
    fn number(&self, key: &str) -> Option<u64> {
        self.0[key].as_u64()
    }
}

/// The shared daemon, and whose listener it is asked for.
struct Stage<'a> {
    home: &'a Home,
    token: String,
}

impl<'a> Stage<'a> {
    fn new(context: &'a Context, token: &str) -> Result<Self> {
        Ok(Self {
            home: &context.running()?.home,
            token: token.to_owned(),
        })
    }

    /// A listener that `stats` knows.
    fn listener(&self, backlog: u32) -> Result<(Elsewhere, Actor)> {
        let mut actor = Actor::start(&self.token)?;
        let netns: u64 = actor.call("unshare-net")?.number("netns")?;
        actor.call("senders")?;
        let sock: Sock = actor.listener(Kind::TCP4, "127.0.0.1:0", backlog)?;
        let listener = Elsewhere {
            netns,
            port: actor.port(&sock)?,
            slot: sock.slot.clone(),
        };
        // On a rung that looks from time to time, it is not known at once.
        if self.mechanism("tcp.syn")? != "reconcile" {
            self.until(listener.clone(), |told| told.number("syns").is_some())?;
        }
        Ok((listener, actor))
    }

    fn stats(&self) -> Result<Value> {
        self.ask("stats")
    }

    fn ask(&self, command: &str) -> Result<Value> {
        let output = self
            .home
            .command()?
            .args([command, "-o", "json"])
            .output()?;
        ensure!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Asks again and again until what is told of the listener fits.
    fn until(&self, listener: Elsewhere, fits: impl Fn(&Told) -> bool) -> Result<Told> {
        let deadline = Instant::now() + PATIENCE * scale();
        loop {
            let stats = self.stats()?;
            let mut all = stats["listeners"].as_array().into_iter().flatten();
            let ours =
                all.find(|one| one["netns"] == listener.netns && one["port"] == listener.port);
            let told = Told(ours.cloned().unwrap_or_default());
            if !told.0.is_null() && fits(&told) {
                return Ok(told);
            }
            if Instant::now() > deadline {
                bail!("port {} of {}: {told:?}", listener.port, listener.netns);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn of(&self, signal: &str) -> Result<Value> {
        let status = self.ask("status")?;
        let mut all = status["mechanisms"].as_array().into_iter().flatten();
        let ours = all.find(|one| one["signal"] == signal);
        ours.cloned().with_context(|| format!("no signal {signal}"))
    }

    fn mechanism(&self, signal: &str) -> Result<String> {
        let told = self.of(signal)?;
        let name = told["mechanism"].as_str();
        Ok(name.context("no mechanism")?.to_owned())
    }

    /// Wants a signal's blind spot to be told, in words one of which is this.
    fn admits(&self, signal: &str, word: &str) -> Result<Outcome> {
        let told = self.of(signal)?;
        let blind = told["blind_to"].as_str().unwrap_or_default().to_lowercase();
        ensure!(blind.contains(word), "{signal} does not admit it: {told}");
        Ok(Outcome::Skipped(format!(
            "{signal} does not see it, and says so"
        )))
    }
}
