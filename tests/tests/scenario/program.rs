//! The daemon as a program: it survives its own death, answers, and says what it may not do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use anyhow::{Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::trigger::spawn_patiently;
use portwatch_tests::harness::{Actor, Context, Kind, locate};
use serde_json::Value;

use super::scenarios;

scenarios!(userland "program": starts_again_after_a_crash, unprivileged_run_names_the_capability);

/// SIGKILL leaves socket and state files behind; the next start takes them over.
fn starts_again_after_a_crash(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let mut daemon = home.start(context.rung())?;
    daemon.crash()?;
    let daemon = home.start(context.rung())?;
    let status = home.command()?.args(["status", "-o", "json"]).output()?;
    let answer: Value = serde_json::from_slice(&status.stdout)?;
    ensure!(answer.is_object(), "status is no object: {answer}");
    let watch = home.tail(&[])?;
    let mut actor = Actor::start("program-again")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    watch.opening_of(0, &actor, &sock, context.sees(sock.kind.opening)?)?;
    drop(daemon);
    Ok(())
}

/// 77, and the name of the capability that is missing.
fn unprivileged_run_names_the_capability(_: &Context) -> Result<()> {
    let home = Home::new()?;
    home.open_to_all()?;
    let program = home.path("portwatch");
    // The program's own folder may be closed to other users.
    fs::copy(locate::portwatch()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let mut command = home.command_of(&program);
    command
        .arg("run")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .uid(65534)
        .gid(65534);
    let told = spawn_patiently(&mut command)?.wait_with_output()?;
    let text = String::from_utf8_lossy(&told.stderr);
    ensure!(
        told.status.code() == Some(77),
        "ended with {}: {text}",
        told.status
    );
    ensure!(text.contains("CAP_"), "no capability is named: {text}");
    Ok(())
}
