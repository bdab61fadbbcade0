//! `portwatch stats` held against the kernel's own tables, in a namespace where nobody else has sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use portwatch_tests::harness::daemon::{Daemon, Home};
use portwatch_tests::harness::program::find as find_program;
use portwatch_tests::harness::stage::within;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome};
use serde_json::Value;

use super::scenarios;

scenarios!("stats": states_are_those_of_the_kernel, time_wait_shows_no_state, kept_by_events, without_the_daemon,
    agrees_with_ss_amid_churn);

/// Connections, each of two sockets.
const CONNECTIONS: u64 = 400;
/// Of them, those whose client, and those whose server closes.
const LEFT: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that stay, and those a second that come and go, each of two sockets.
const MANY: u64 = 5_000;
const CHURN: u32 = 300;
/// Sockets of one connection that comes or goes, which may be in any state.
const PASSING: u64 = 4;

/// Every state, process and port, as the actor made them.
fn states_are_those_of_the_kernel(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context)?;
    let (netns, port, actor) = crowd("stats-states")?;
    let expected: BTreeMap<&str, u64> = [
        ("LISTEN", 1),
        ("ESTABLISHED", 2 * (CONNECTIONS - LEFT)),
        ("FIN_WAIT2", LEFT),
        ("CLOSE_WAIT", LEFT),
    ]
    .into();
    let stats = stage.until(|stats| {
        let states = &space(stats, netns)["states"];
        expected
            .iter()
            .all(|(state, count)| states[state] == *count)
    })?;
    let states = space(&stats, netns)["states"]
        .as_object()
        .context("states")?
        .clone();
    ensure!(states.len() == expected.len(), "{states:?}");
    let listener = find(&stats, "listeners", |one| one["netns"] == netns)?;
    ensure!(listener["port"] == port, "{listener}");
    ensure!(listener["established"] == CONNECTIONS - LEFT, "{listener}");
    ensure!(listener["closing"] == LEFT, "{listener}");
    ensure!(listener["backlog"] == 64, "{listener}");
    let process = find(&stats, "processes", |one| one["pid"] == actor.pid)?;
    ensure!(process["states"]["CLOSE_WAIT"] == LEFT, "{process}");
    ensure!(
        process["states"]["ESTABLISHED"] == 2 * (CONNECTIONS - LEFT),
        "{process}"
    );
    find(&stats, "peers", |one| one["address"] == "127.0.0.1")?;
    Ok(Outcome::Done)
}

/// Trap: TIME_WAIT passes no hook, and neither does the FIN_WAIT2 of a socket that is gone. They are counted all the same.
fn time_wait_shows_no_state(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context)?;
    let (netns, _, mut actor) = crowd("stats-wait")?;
    actor.call(&format!("leave 0 {LEFT} k s"))?;
    let stats = stage.until(|stats| space(stats, netns)["states"]["TIME_WAIT"] == LEFT)?;
    let states = &space(&stats, netns)["states"];
    ensure!(
        states["FIN_WAIT2"].is_null() && states["CLOSE_WAIT"].is_null(),
        "{states}"
    );
    if let Some(kept) = stats["kept"]["states"].as_object() {
        ensure!(
            !kept.contains_key("TIME_WAIT"),
            "events tell no such state: {kept:?}"
        );
    }
    Ok(Outcome::Done)
}

/// The count by events agrees with the kernel's answer, before, during and after churn.
fn kept_by_events(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context)?;
    let first = stage.until(|stats| stats["kept"].is_object() || !stage.has_states)?;
    if !stage.has_states {
        ensure!(first["kept"].is_null(), "{first}");
        return Ok(Outcome::Skipped("no probe tells of states here".to_owned()));
    }
    let before = first["kept"]["states"]["ESTABLISHED"].as_u64().unwrap_or(0);
    let (netns, _, actor) = crowd("stats-kept")?;
    let stats = stage.until(|stats| space(stats, netns)["states"]["CLOSE_WAIT"] == LEFT)?;
    ensure!(stats["kept"]["difference"].is_null(), "{}", stats["kept"]);
    let close_wait = stats["kept"]["states"]["CLOSE_WAIT"].as_u64().unwrap_or(0);
    ensure!(close_wait >= LEFT, "{}", stats["kept"]);
    drop(actor);
    let after = stage.until(|stats| {
        let now = stats["kept"]["states"]["ESTABLISHED"].as_u64().unwrap_or(0);
        now < before + CONNECTIONS
    })?;
    ensure!(after["kept"]["difference"].is_null(), "{}", after["kept"]);
    Ok(Outcome::Done)
}

/// Without a daemon, the tables alone are told.
fn without_the_daemon(_context: &Context) -> Result<Outcome> {
    let home = Home::new()?;
    let (netns, _, _actor) = crowd("stats-alone")?;
    let stats = ask(&home, &["stats", "--no-daemon", "-o", "json"])?;
    ensure!(stats["schema"] == "portwatch.stats/1", "{stats}");
    let states = &space(&stats, netns)["states"];
    ensure!(
        states["CLOSE_WAIT"] == LEFT && states["LISTEN"] == 1,
        "{states}"
    );
    ensure!(stats["kept"].is_null(), "{stats}");
    Ok(Outcome::Done)
}

/// Ten thousand sockets, and connections that come and go: each state is told as `ss` tells it. `ss` is asked just before and
/// just after, and the answer lies between.
fn agrees_with_ss_amid_churn(context: &Context) -> Result<Outcome> {
    let Some(ss) = find_program("ss") else {
        return Ok(Outcome::Skipped("there is no ss".to_owned()));
    };
    let stage = Stage::new(context)?;
    let mut actor = Actor::start("stats-many")?;
    let netns: u64 = actor.call("unshare-net")?.number("netns")?;
    let listener = actor.listener(Kind::TCP4, "127.0.0.1:0", 64)?;
    for part in 0..10 {
        let count = MANY / 10;
        actor.call(&format!("crowd {count} {} m{part}-", listener.slot))?;
    }
    let mut churner = within(actor.pid, || Actor::start("stats-churn"))?;
    let busy = churner.listener(Kind::TCP4, "127.0.0.1:0", 64)?;
    let slot = busy.slot.clone();
    let is_over = AtomicBool::new(false);
    let compared = std::thread::scope(|scope| {
        let churn = scope.spawn(|| -> Result<u32> {
            let mut made = 0;
            while !is_over.load(Ordering::Relaxed) {
                churner.call(&format!("churn {CHURN} {CHURN} {slot}"))?;
                made += CHURN;
            }
            Ok(made)
        });
        let compared = (0..5)
            .map(|_| {
                let before = by_ss(&ss, actor.pid)?;
                let stats = ask(&stage.home, &["stats", "-o", "json"])?;
                let after = by_ss(&ss, actor.pid)?;
                anyhow::Ok((before, space(&stats, netns)["states"].clone(), after))
            })
            .collect::<Result<Vec<_>>>();
        is_over.store(true, Ordering::Relaxed);
        let made = churn.join().map_err(|_| anyhow!("the churn panicked"))??;
        ensure!(made > 0, "nothing came and went");
        compared
    })?;
    for (before, told, after) in &compared {
        ensure!(before.get("ESTABLISHED") >= Some(&(2 * MANY)), "{before:?}");
        let states = told.as_object().context("states")?.keys();
        let all: BTreeSet<&String> = states.chain(before.keys()).chain(after.keys()).collect();
        for state in all {
            let of = |counts: &BTreeMap<String, u64>| counts.get(state).copied().unwrap_or(0);
            let (first, last) = (of(before).min(of(after)), of(before).max(of(after)));
            let count = told[state].as_u64().unwrap_or(0);
            ensure!(
                count + PASSING >= first && count <= last + PASSING,
                "{state}: {count} by stats, {first} to {last} by ss; {told}"
            );
        }
    }
    let last = compared.last().map(|(_, told, _)| told.to_string());
    eprintln!("stats and ss agree: {}", last.unwrap_or_default());
    Ok(Outcome::Done)
}

/// Sockets in each state, as `ss` counts them in the namespace of this process.
fn by_ss(ss: &Path, pid: u32) -> Result<BTreeMap<String, u64>> {
    let output = within(pid, || {
        Ok(Command::new(ss).args(["-H", "-tan"]).output()?)
    })?;
    ensure!(output.status.success(), "ss: {output:?}");
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let state = match line.split(' ').next().unwrap_or_default() {
            "ESTAB" => "ESTABLISHED".to_owned(),
            "SYN-RECV" => "NEW_SYN_RECV".to_owned(),
            "FIN-WAIT-1" => "FIN_WAIT1".to_owned(),
            "FIN-WAIT-2" => "FIN_WAIT2".to_owned(),
            "UNCONN" => "CLOSE".to_owned(),
            state => state.replace('-', "_"),
        };
        *counts.entry(state).or_insert(0) += 1;
    }
    Ok(counts)
}

/// A crowd of connections in a namespace of its own, some of which a side has left.
fn crowd(token: &str) -> Result<(u64, u16, Actor)> {
    let mut actor = Actor::start(token)?;
    let netns: u64 = actor.call("unshare-net")?.number("netns")?;
    let listener = actor.listener(Kind::TCP4, "127.0.0.1:0", 64)?;
    let port = actor.port(&listener)?;
    actor.call(&format!("crowd {CONNECTIONS} {} k", listener.slot))?;
    actor.call(&format!("leave 0 {LEFT} k c"))?;
    Ok((netns, port, actor))
}

fn space(stats: &Value, netns: u64) -> &Value {
    let mut all = stats["namespaces"].as_array().into_iter().flatten();
    all.find(|one| one["netns"] == netns)
        .unwrap_or(&Value::Null)
}

fn find(stats: &Value, list: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut all = stats[list].as_array().into_iter().flatten();
    let found = all.find(|one| fits(one));
    found
        .cloned()
        .with_context(|| format!("not in {list}: {stats}"))
}

fn ask(home: &Home, args: &[&str]) -> Result<Value> {
    let output = home.command()?.args(args).output()?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A daemon of its own.
struct Stage {
    home: Home,
    _daemon: Daemon,
    has_states: bool,
}

impl Stage {
    fn new(context: &Context) -> Result<Self> {
        let home = Home::new()?;
        let daemon = home.start(context.rung())?;
        let status = ask(&home, &["status", "-o", "json"])?;
        let state = find(&status, "mechanisms", |one| one["signal"] == "tcp.state")?;
        Ok(Self {
            home,
            _daemon: daemon,
            has_states: state["mechanism"] != "reconcile",
        })
    }

    /// Asks again and again until the answer fits.
    fn until(&self, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE * scale();
        loop {
            let stats = ask(&self.home, &["stats", "-o", "json"])?;
            if fits(&stats) {
                return Ok(stats);
            }
            ensure!(Instant::now() < deadline, "{stats}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
