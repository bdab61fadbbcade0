//! Rules judge listeners: the first that matches decides, and the event names it.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, locate, watch};
use rustix::process::Signal;
use serde_json::json;

use super::scenarios;

scenarios!(
    userland "policy": first_match_decides, wrong_rules_are_told_at_once, expected_is_missed, reloaded_while_watching,
);

const PATIENCE: Duration = Duration::from_secs(20);

/// One rule allows a program in general, the one before it denies a name of it.
fn first_match_decides(context: &Context) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("portwatch.toml");
    let rules = format!(
        "[[deny]]\nname = \"never\"\nproto = \"tcp\"\nexe = \"{0}\"\nmatch = \"args contains policy-denied\"\n\
         [[expect]]\nname = \"must\"\nport = \"1-65535\"\nmatch = \"args contains policy-expected\"\n\
         [[ignore]]\nname = \"quiet\"\nproto = \"tcp\"\nmatch = \"args contains policy-ignored\"\n\
         [[allow]]\nname = \"may\"\nseverity = \"warning\"\nproto = \"tcp\"\nparent = \"*\"\nmatch = \"args contains policy-\"\n",
        locate::actor()?.display()
    );
    fs::write(&file, rules)?;
    let file = file.to_str().context("a path that is text")?;
    let watch = context.fresh(&["--config", file])?;
    let mut ignored = Actor::start("policy-ignored")?;
    let quiet = ignored.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    ignored.close(&quiet)?;
    for (role, state, rule, severity) in [
        ("policy-denied", "denied", "never", "critical"),
        ("policy-expected", "expected", "must", "info"),
        ("policy-allowed", "allowed", "may", "warning"),
        ("stranger", "new", "default", "info"),
    ] {
        let mut actor = Actor::start(role)?;
        let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
        let judged = json!({"policy.state": state, "policy.rule": rule, "severity": severity});
        let told = watch.opened(&actor, &sock, json!({}))?;
        demand_all(&told, &judged)?;
    }
    let pid = u64::from(ignored.pid);
    let told = watch.all(|event| event.number("process.pid") == Some(pid));
    ensure!(
        told.is_empty(),
        "told of what is ignored: {}",
        told[0].value()
    );
    watch.interrupt()?;
    watch.check_stream()
}

/// Down after the grace time, back with the time between; a restart in between is not worth a word.
fn expected_is_missed(context: &Context) -> Result<()> {
    let mut actor = Actor::start("policy-must")?;
    let sock = actor.listener(Kind::TCP4, "127.85.0.1:0", 1)?;
    let port = actor.port(&sock)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("portwatch.toml");
    let rules = format!(
        "[[expect]]\nname = \"must\"\naddress = \"127.85.0.1\"\nport = {port}\ngrace = \"2s\"\n\
         [[expect]]\nname = \"never\"\naddress = \"127.85.0.2\"\nport = 1\ngrace = \"1s\"\nseverity = \"notice\"\n"
    );
    fs::write(&file, rules)?;
    let file = file.to_str().context("a path that is text")?;
    let watch = context.fresh(&["--config", file])?;
    let told = |kind: &str, rule: &str| {
        let found = watch.next_after(0, PATIENCE, |event| {
            event.kind() == kind && event.text("policy.rule") == rule
        });
        found.with_context(|| format!("no {kind} of {rule}"))
    };
    let never = told("listener.down", "never")?;
    demand_all(
        &never,
        &json!({"severity": "notice", "socket": null, "process": null}),
    )?;
    actor.close(&sock)?;
    let down = told("listener.down", "must")?;
    demand_all(
        &down,
        &json!({"severity": "critical", "policy.state": "expected", "socket.port": port,
            "process.pid": actor.pid}),
    )?;
    ensure!(
        down.number("duration_ms")
            .is_some_and(|ms| (2_000..60_000).contains(&ms)),
        "down after {}",
        down.value()
    );
    let mut other = Actor::start("policy-must-again")?;
    let _back = other.listener(Kind::TCP4, &format!("127.85.0.1:{port}"), 1)?;
    let back = told("listener.recovered", "must")?;
    demand_all(
        &back,
        &json!({"severity": "notice", "socket.port": port, "process.pid": other.pid}),
    )?;
    ensure!(
        back.number("duration_ms") >= down.number("duration_ms"),
        "back after {}",
        back.value()
    );
    let again = watch.all(|event| event.kind() == "listener.down");
    ensure!(again.len() == 2, "down {} times", again.len());
    watch.interrupt()?;
    watch.check_stream()
}

/// A new configuration is applied by command and by signal; one with a mistake changes nothing and is told.
fn reloaded_while_watching(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let daemon = home.start(context.rung())?;
    let mut actor = Actor::start("policy-reload")?;
    let _sock = actor.listener(Kind::TCP4, "127.86.0.1:0", 1)?;
    kept(&home, "127.86.0.1", "new")?;
    let config = home.path("portwatch.toml");
    let rule = |list: &str| format!("[[{list}]]\nname = \"it\"\naddress = \"127.86.0.1\"\n");
    let reload = || -> Result<Output> { Ok(home.command()?.arg("reload").output()?) };
    fs::write(&config, rule("deny"))?;
    let done = reload()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success() && said.contains("1 rules in force"),
        "reload: {done:?}"
    );
    state(&home, "127.86.0.1", "denied")?;
    fs::write(&config, rule("alow"))?;
    let refused = reload()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(78) && said.contains("stays as it was"),
        "a mistake: {refused:?}"
    );
    state(&home, "127.86.0.1", "denied")?;
    let tried = home
        .command()?
        .args(["match", "address:127.86.0.1"])
        .output()?;
    ensure!(
        String::from_utf8_lossy(&tried.stdout).contains("127.86.0.1"),
        "match: {tried:?}"
    );
    fs::write(&config, rule("allow"))?;
    daemon.signal(Signal::HUP)?;
    state(&home, "127.86.0.1", "allowed")?;
    let tried = home.command()?.args(["policy", "test"]).output()?;
    let said = String::from_utf8_lossy(&tried.stdout).into_owned();
    ensure!(
        tried.status.success() && said.contains(": allowed (it), was new (default)"),
        "policy test: {tried:?}"
    );
    Ok(())
}

/// Waits until `ls` shows the listener at this address judged so.
fn state(home: &Home, address: &str, wanted: &str) -> Result<()> {
    judged(home, "ls", address, wanted)
}

/// Waits until the history has the listener at this address, judged so. An event is judged when it is told, which is
/// some 50 ms later than `ls` shows the listener where its executable has to be hashed first; and kept a moment later
/// still.
fn kept(home: &Home, address: &str, wanted: &str) -> Result<()> {
    judged(home, "history", address, wanted)
}

fn judged(home: &Home, command: &str, address: &str, wanted: &str) -> Result<()> {
    let filter = format!("address:{address}");
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let output = home
            .command()?
            .args([command, "-o", "json", &filter])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let listed = text.lines().map(serde_json::from_str);
        let listed = listed.collect::<serde_json::Result<Vec<serde_json::Value>>>()?;
        let state = |event: &serde_json::Value| event["policy"]["state"] == wanted;
        if listed.iter().any(state) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{command}: not {wanted}: {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every mistake, with its place, before anything starts.
fn wrong_rules_are_told_at_once(_: &Context) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("portwatch.toml");
    fs::write(&file, "[[alow]]\nport = 1\n[[deny]]\nprot = \"tcp\"\n")?;
    let file = file.to_str().context("a path that is text")?;
    for arguments in [
        &["check", file][..],
        &["tail", "--no-daemon", "--config", file],
    ] {
        let output = watch::output(arguments)?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(78),
            "{arguments:?} ended with {}: {told}",
            output.status
        );
        ensure!(
            told.contains("did you mean [[allow]]?") && told.contains("did you mean `proto`?"),
            "{arguments:?} told {told}"
        );
    }
    Ok(())
}
