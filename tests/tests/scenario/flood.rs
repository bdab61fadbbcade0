//! Processes that open a listener and are gone: every one is told, with its program and arguments.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use portwatch_tests::harness::{Actor, Capability, Context, Event, Outcome, Sees};

use super::scenarios;

scenarios!("flood": short_lived_processes, ten_thousand_short_lived_processes);

fn short_lived_processes(context: &Context) -> Result<Outcome> {
    short_lived(context, 200, "flood")
}

/// Minutes under emulation, so only on demand.
fn ten_thousand_short_lived_processes(context: &Context) -> Result<Outcome> {
    if std::env::var_os("PORTWATCH_TEST_FLOOD").is_none() {
        return Ok(Outcome::Skipped(
            "set PORTWATCH_TEST_FLOOD=1 to run it".to_owned(),
        ));
    }
    short_lived(context, 10_000, "flood10k")
}

fn short_lived(context: &Context, count: usize, prefix: &str) -> Result<Outcome> {
    if context.sees(Capability::ShortLived)? == Sees::No {
        return context.admits(Capability::ShortLived);
    }
    let watch = context.watch()?;
    let mut actor = Actor::start(prefix)?;
    // In parts, so that each answer comes in time and fits its line.
    let mut pids: Vec<u64> = Vec::with_capacity(count);
    let part = count.min(100);
    for round in 0..count / part {
        let answer = actor.call(&format!("blink {part} {prefix}-{round} 2"))?;
        for pid in answer.text("pids")?.split(',') {
            pids.push(pid.parse()?);
        }
    }
    let name = |at: usize| format!("{prefix}-{}-{}", at / part, at % part);
    let patience = Duration::from_secs(10);
    let opened = watch.gather(count, patience, |event| {
        event.is_opening() && token(event, prefix).is_some()
    });
    let mut by_token: HashMap<&str, &Event> = HashMap::with_capacity(count);
    for event in &opened {
        let Some(token) = token(event, prefix) else {
            continue;
        };
        if by_token.insert(token, event).is_some() {
            bail!("{token} was told twice: {}", event.value());
        }
    }
    for (at, pid) in pids.iter().enumerate() {
        let token = name(at);
        let Some(event) = by_token.get(token.as_str()) else {
            bail!(
                "{} of {count} were told; not told is {token}, pid {pid}",
                by_token.len()
            );
        };
        ensure!(
            event.number("process.pid") == Some(*pid),
            "pid is {pid}: {}",
            event.value()
        );
        ensure!(
            event.text("process.exe") == actor.exe,
            "another program: {}",
            event.value()
        );
        ensure!(
            event.has_argument("blink"),
            "other arguments: {}",
            event.value()
        );
    }
    let inodes: std::collections::HashSet<u64> = opened
        .iter()
        .filter_map(|event| event.number("socket.inode"))
        .collect();
    ensure!(
        inodes.len() == count,
        "{} inodes for {count} listeners",
        inodes.len()
    );
    let closed = watch.gather(count, patience, |event| {
        event.kind() == "listener.closed"
            && event
                .number("socket.inode")
                .is_some_and(|inode| inodes.contains(&inode))
    });
    ensure!(
        closed.len() == count,
        "{} of {count} were told to be closed",
        closed.len()
    );
    Ok(Outcome::Done)
}

/// The argument that names one process of this flood.
fn token<'a>(event: &'a Event, prefix: &str) -> Option<&'a str> {
    let args = event.at("process.args").as_array()?;
    let token = args.get(2)?.as_str()?;
    token
        .strip_prefix(prefix)?
        .starts_with('-')
        .then_some(token)
}
