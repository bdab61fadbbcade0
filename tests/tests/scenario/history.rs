//! What happened is kept on disk, whoever is killed and however full the disk is.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Event, Kind, Outcome};
use rustix::mount::{MountFlags, mount};

use super::baseline::Mounted;
use super::scenarios;

scenarios!(userland "history": kept_across_runs, goes_on_after_a_full_disk);

const PATIENCE: Duration = Duration::from_secs(15);

/// Of each listener what was told of it, in order, also by a daemon that was killed.
fn kept_across_runs(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let none = home.command()?.arg("history").output()?;
    ensure!(none.status.code() == Some(69), "without any: {none:?}");
    let mut daemon = home.start(context.rung())?;
    let mut actor = Actor::start("past-first")?;
    let sock = actor.listener(Kind::TCP4, "127.87.0.1:0", 1)?;
    // What only looking tells has to be there when somebody looks.
    wait(&home, "127.87.0.1", &[])?;
    actor.close(&sock)?;
    let first = wait(&home, "127.87.0.1", &["listener.closed"])?;
    ensure!(
        first.iter().any(|event| event.kind() == "listener.opened")
            || context.rung() == Some("reconcile"),
        "no opening before the closing"
    );
    daemon.crash()?;
    let _daemon = home.start(context.rung())?;
    let mut again = Actor::start("past-again")?;
    let sock = again.listener(Kind::TCP4, "127.87.0.1:0", 1)?;
    let both = wait(&home, &format!("127.87.0.1 pid:{}", again.pid), &[])?;
    ensure!(
        both.iter().all(|event| event.has_inode(sock.inode)),
        "the filter lets others through"
    );
    let all = past(&home, &["--since", "1h", "address:127.87.0.1"])?;
    ensure!(
        all.len() == first.len() + both.len(),
        "{} events, expected {} and {}",
        all.len(),
        first.len(),
        both.len()
    );
    let last = past(&home, &["--last", "1", "address:127.87.0.1"])?;
    ensure!(
        last.len() == 1 && last.first().map(Event::brief) == all.last().map(Event::brief),
        "the last one is another"
    );
    again.close(&sock)?;
    wait(
        &home,
        &format!("127.87.0.1 pid:{}", again.pid),
        &["listener.closed"],
    )?;
    let all = past(&home, &["address:127.87.0.1"])?;
    let count = all.len().to_string();
    let tail = [
        "tail",
        "-o",
        "json",
        "--since",
        "1h",
        "--count",
        &count,
        "address:127.87.0.1",
    ];
    let tail = home.command()?.args(tail).output()?;
    let tail = parse(&tail.stdout)?;
    let numbered = |(at, event): (u64, &Event)| event.number("seq") == Some(at);
    ensure!(
        tail.iter()
            .map(|event| event.text("id"))
            .eq(all.iter().map(|event| event.text("id")))
            && (1..).zip(&tail).all(numbered),
        "tail tells {} of {count} events of both runs",
        tail.len()
    );
    let lines = home
        .command()?
        .args(["history", "address:127.87.0.1"])
        .output()?;
    let lines = String::from_utf8(lines.stdout)?;
    ensure!(
        lines.lines().count() == all.len() && lines.starts_with("20"),
        "for people: {lines}"
    );
    Ok(())
}

/// The daemon goes on without, says so, and keeps again when there is room.
fn goes_on_after_a_full_disk(context: &Context) -> Result<Outcome> {
    let home = Home::new()?;
    let state = home.path("state");
    let size = Some(c"size=512k,mode=700");
    if let Err(error) = mount("portwatch-test", &state, "tmpfs", MountFlags::empty(), size) {
        return Ok(Outcome::Skipped(format!("nothing can be mounted: {error}")));
    }
    let _mounted = Mounted(&state);
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("past-full")?;
    let _before = actor.listener(Kind::TCP4, "127.88.0.1:0", 1)?;
    wait(&home, "127.88.0.1", &[])?;
    let filler = state.join("filler");
    // As much as there is room for.
    let _ = fs::write(&filler, vec![0; 512 * 1024]);
    let deadline = Instant::now() + PATIENCE * scale();
    let mut lost = Vec::new();
    while status(&home)?.pointer("/history/error").is_none() {
        ensure!(Instant::now() < deadline, "a full disk is not noticed");
        lost.push(actor.listener(Kind::TCP4, "127.88.0.2:0", 1)?);
        std::thread::sleep(Duration::from_millis(100));
    }
    fs::remove_file(&filler)?;
    let _after = actor.listener(Kind::TCP4, "127.88.0.3:0", 1)?;
    wait(&home, "127.88.0.3", &[])?;
    wait(&home, "127.88.0.1", &[])?;
    let status = status(&home)?;
    let history = status.pointer("/history").context("no history in status")?;
    ensure!(
        history.get("error").is_none() && history["lost"].as_u64() >= Some(1),
        "afterwards: {history}"
    );
    Ok(Outcome::Done)
}

/// Waits until there is an event at this address, and one of each of these types.
fn wait(home: &Home, filter: &str, kinds: &[&str]) -> Result<Vec<Event>> {
    let deadline = Instant::now() + PATIENCE * scale();
    let filter: Vec<String> = std::iter::once(format!("address:{filter}"))
        .flat_map(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let args: Vec<&str> = filter.iter().map(String::as_str).collect();
    loop {
        let events = past(home, &args)?;
        let has = |kind: &&str| events.iter().any(|event| event.kind() == *kind);
        if !events.is_empty() && kinds.iter().all(has) {
            return Ok(events);
        }
        if Instant::now() > deadline {
            bail!(
                "not in the history: {filter:?} {kinds:?}; there are {}",
                events.len()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn past(home: &Home, args: &[&str]) -> Result<Vec<Event>> {
    let output = home
        .command()?
        .args(["history", "-o", "json"])
        .args(args)
        .output()?;
    // Before the first event there is no folder.
    ensure!(
        matches!(output.status.code(), Some(0 | 69)),
        "history failed: {output:?}"
    );
    parse(&output.stdout)
}

fn parse(lines: &[u8]) -> Result<Vec<Event>> {
    lines
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .enumerate()
        .map(|(at, line)| Event::parse(line, at, Instant::now()))
        .collect()
}

fn status(home: &Home) -> Result<serde_json::Value> {
    let output = home.command()?.args(["status", "-o", "json"]).output()?;
    ensure!(output.status.success(), "status failed: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
