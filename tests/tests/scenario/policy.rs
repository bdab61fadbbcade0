//! Rules judge listeners: the first that matches decides, and the event names it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::{Actor, Context, Kind, locate, watch};
use serde_json::json;

use super::scenarios;

scenarios!("policy": first_match_decides, wrong_rules_are_told_at_once);

/// One rule allows a program in general, the one before it denies a name of it.
fn first_match_decides(context: &Context) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("portwatch.toml");
    let rules = format!(
        "[[deny]]\nname = \"never\"\nproto = \"tcp\"\nexe = \"{0}\"\nmatch = \"args contains policy-denied\"\n\
         [[expect]]\nname = \"must\"\nport = \"1-65535\"\nmatch = \"args contains policy-expected\"\n\
         [[allow]]\nname = \"may\"\nseverity = \"warning\"\nproto = \"tcp\"\nparent = \"*\"\nmatch = \"args contains policy-\"\n",
        locate::actor()?.display()
    );
    fs::write(&file, rules)?;
    let file = file.to_str().context("a path that is text")?;
    let watch = context.fresh(&["--config", file])?;
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
    watch.interrupt()?;
    watch.check_stream()
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
