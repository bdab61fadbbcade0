//! A loss is a number: what a full ring could not take is told as a gap, and found by looking again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::cgroup::Group;
use portwatch_tests::harness::daemon::{Daemon, Home};
use portwatch_tests::harness::{Actor, Capability, Context, Event, Kind, Outcome, Sees};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::scenarios;

scenarios!(alone "loss": full_ring_is_a_counted_gap, the_cgroup_that_floods_is_named);

/// Each record of a listener takes kilobytes: far more than a ring of 64 KiB holds.
const LISTENERS: usize = 150;
const PATIENCE: Duration = Duration::from_secs(20);

/// The daemon is stopped while listeners open; its ring takes some of them, the rest is lost.
fn full_ring_is_a_counted_gap(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::ShortLived)? == Sees::No {
        return context.admits(Capability::ShortLived);
    }
    let home = Home::new()?;
    fs::write(home.path("portwatch.toml"), "[ring]\ncritical_kib = 64\n")?;
    let daemon = home.start(context.rung())?;
    let watch = home.tail(&[])?;
    let mut actor = Actor::start("loss")?;

    let start = watch.position();
    let before = critical(&home)?;
    signal(&daemon, Signal::STOP)?;
    let answer = actor.call(&format!("open {LISTENERS} l"))?;
    signal(&daemon, Signal::CONT)?;
    let inodes: BTreeSet<u64> = answer
        .text("inodes")?
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(inodes.len() == LISTENERS, "{} sockets", inodes.len());

    let reconciled = watch
        .next_after(start, PATIENCE, |event| event.kind() == "gap.reconciled")
        .context("no gap.reconciled")?;
    let is_ours = |event: &Event| {
        let inode = event.number("socket.inode");
        inode.is_some_and(|inode| inodes.contains(&inode))
    };
    let told = watch.gather(LISTENERS, PATIENCE, |event| {
        event.is_opening() && is_ours(event)
    });
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for event in &told {
        *times
            .entry(event.number("socket.inode").unwrap_or(0))
            .or_default() += 1;
    }
    ensure!(
        times.len() == LISTENERS && told.len() == LISTENERS,
        "{} of {LISTENERS} listeners were told, {} times",
        times.len(),
        told.len()
    );

    let after = critical(&home)?;
    let dropped = after.dropped - before.dropped;
    let gaps = watch.all(|event| {
        event.index >= start && event.kind() == "gap" && event.text("gap.ring") == "critical"
    });
    let lost: u64 = gaps.iter().filter_map(|gap| gap.number("gap.lost")).sum();
    let first_gap = gaps.first().context("no gap")?;
    let live = u64::try_from(
        told.iter()
            .filter(|event| event.kind() == "listener.opened")
            .count(),
    )?;
    let all = u64::try_from(LISTENERS)?;
    ensure!(
        lost > 0 && lost >= dropped && live + lost >= all,
        "{live} were told as they opened, {lost} were lost, {dropped} by the probes' count, of {all}"
    );
    // Exact where nobody else opened or closed a listener meanwhile; a gap may tell of theirs too.
    let others = (after.seen - before.seen).saturating_sub(all);
    ensure!(
        others > 0 || (live + lost == all && lost == dropped),
        "{live} were told as they opened, {lost} were lost, {dropped} by the probes' count, of {all}"
    );
    let looks = watch.all(|event| event.index >= start && event.kind() == "gap.reconciled");
    let found: u64 = looks
        .iter()
        .filter_map(|look| look.number("reconciled.found"))
        .sum();
    // A look that was due anyway may have come first.
    let due = told
        .iter()
        .filter(|event| event.kind() == "listener.present" && event.index > first_gap.index)
        .count();
    ensure!(
        reconciled.index > first_gap.index && found >= u64::try_from(due)?,
        "should have found {due}, found {found}: {}",
        reconciled.value()
    );

    for at in 0..LISTENERS {
        actor.call(&format!("close l{at}"))?;
    }
    let closed = watch.gather(LISTENERS, PATIENCE, |event| {
        event.kind() == "listener.closed" && is_ours(event)
    });
    watch.fence(Capability::TcpListen)?;
    let all_closed = watch.all(|event| event.kind() == "listener.closed" && is_ours(event));
    ensure!(
        closed.len() == LISTENERS && all_closed.len() == LISTENERS,
        "{} closings of {LISTENERS} listeners",
        all_closed.len()
    );
    Ok(Outcome::Done)
}

/// One cgroup opens far more than the ring of a stopped daemon holds, and then another one opens a single listener: that one is told
/// as it opened, and the gap says who made it.
fn the_cgroup_that_floods_is_named(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::ShortLived)? == Sees::No {
        return context.admits(Capability::ShortLived);
    }
    let (Some(noisy), Some(quiet)) = (
        Group::new("portwatch-test-loss-noisy")?,
        Group::new("portwatch-test-loss-quiet")?,
    ) else {
        return Ok(Outcome::Skipped("cgroup2 is not mounted".to_owned()));
    };
    let home = Home::new()?;
    fs::write(home.path("portwatch.toml"), "[ring]\ncritical_kib = 64\n")?;
    let daemon = home.start(context.rung())?;
    let watch = home.tail(&[])?;
    let mut flood = Actor::start("loss-noisy")?;
    noisy.take(flood.pid)?;
    let mut other = Actor::start("loss-quiet")?;
    quiet.take(other.pid)?;

    let start = watch.position();
    signal(&daemon, Signal::STOP)?;
    let flooded = flood.call(&format!("open {LISTENERS} n"));
    let opened = other.listener(Kind::TCP4, "127.0.0.1:0", 1);
    signal(&daemon, Signal::CONT)?;
    flooded?;
    let opened = opened?;

    let told = watch
        .next_after(start, PATIENCE, |event| {
            event.is_opening() && event.has_inode(opened.inode)
        })
        .context("the listener of the quiet cgroup is not told at all")?;
    ensure!(
        told.kind() == "listener.opened" && told.has_pid(other.pid),
        "the quiet cgroup's listener was lost in the flood of another: {}",
        told.value()
    );
    let gap = watch
        .next_after(start, PATIENCE, |event| {
            event.kind() == "gap" && event.text("gap.ring") == "critical"
        })
        .context("no gap")?;
    let most = &gap.at("gap.cgroups")[0];
    let path = most["path"].as_str().unwrap_or_default();
    let lost = most["lost"].as_u64().unwrap_or(0);
    ensure!(
        path.ends_with("portwatch-test-loss-noisy") && lost > 0,
        "the gap does not name who flooded: {}",
        gap.value()
    );
    Ok(Outcome::Done)
}

/// The kernel side's own numbers of the critical ring.
struct Ring {
    seen: u64,
    dropped: u64,
}

fn critical(home: &Home) -> Result<Ring> {
    let answer = home.command()?.args(["status", "-o", "json"]).output()?;
    let status: Value = serde_json::from_slice(&answer.stdout)?;
    let rings = status.get("rings").and_then(Value::as_array);
    let ring = rings
        .into_iter()
        .flatten()
        .find(|ring| ring.get("ring").and_then(Value::as_str) == Some("critical"))
        .context("status does not tell of the critical ring")?;
    let number = |key: &str| ring.get(key).and_then(Value::as_u64).context("no number");
    Ok(Ring {
        seen: number("seen")?,
        dropped: number("dropped")?,
    })
}

fn signal(daemon: &Daemon, signal: Signal) -> Result<()> {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("no pid")?, signal).context("the daemon is gone")
}
