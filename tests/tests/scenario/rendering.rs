//! One listener in the words of every model, by every command that prints events, and it is the same everywhere.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind};
use serde_json::{Value, json};

use super::scenarios;

scenarios!(userland "rendering": same_everywhere);

const PATIENCE: Duration = Duration::from_secs(15);
const ADDRESS: &str = "127.89.0.1";

fn same_everywhere(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("rendered")?;
    let sock = actor.listener(Kind::TCP4, &format!("{ADDRESS}:0"), 1)?;
    let deadline = Instant::now() + PATIENCE * scale();
    // It is told, and what is told is also kept.
    while printed(&home, &["history", "-o", "json"])?.is_empty() {
        ensure!(Instant::now() < deadline, "no listener at {ADDRESS}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let tail = ["tail", "--since", "1m", "--count", "1"];
    let history = ["history", "--last", "1"];
    let ours = json(&home, &tail, "json")?;
    let id = &ours["id"];
    let pid = json!(actor.pid);
    for command in [&tail[..], &history, &["ls"]] {
        let is_listed = command == ["ls"];
        let document = json(&home, command, "ecs")?;
        let at = |pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
        ensure!(
            at("/server/ip") == ADDRESS
                && at("/server/port") == ours["socket"]["port"]
                && at("/process/pid") == pid
                && at("/portwatch/socket/inode") == json!(sock.inode)
                && at("/ecs/version") == "9.4.0"
                && at("/source").is_null()
                && (is_listed || at("/event/id") == *id),
            "{command:?} as ECS: {document}"
        );
        let record = json(&home, command, "ocsf")?;
        let at = |pointer: &str| record.pointer(pointer).cloned().unwrap_or_default();
        ensure!(
            at("/type_uid") == 400_107
                && at("/dst_endpoint/ip") == ADDRESS
                && at("/actor/process/pid") == pid
                && (is_listed || at("/metadata/uid") == *id),
            "{command:?} as OCSF: {record}"
        );
        let cef = printed(&home, &[command, &["-o", "cef"]].concat())?;
        ensure!(
            cef.starts_with("CEF:0|portwatch|") && cef.contains(&format!(" dpid={pid} ")),
            "{command:?} as CEF: {cef}"
        );
        let syslog = printed(&home, &[command, &["-o", "rfc5424"]].concat())?;
        ensure!(
            syslog.contains(&format!(" process.pid=\"{pid}\" "))
                && syslog.contains(&format!(" socket.address=\"{ADDRESS}\" ")),
            "{command:?} as syslog: {syslog}"
        );
    }
    Ok(())
}

fn json(home: &Home, command: &[&str], format: &str) -> Result<Value> {
    let text = printed(home, &[command, &["-o", format]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("{command:?} as {format}: {text}"))
}

/// What a command prints about the listener.
fn printed(home: &Home, command: &[&str]) -> Result<String> {
    let filter = format!("address:{ADDRESS}");
    let output = home.command()?.args(command).arg(filter).output()?;
    // Before the first event there is no history.
    ensure!(
        matches!(output.status.code(), Some(0 | 69)),
        "{command:?}: {output:?}"
    );
    Ok(String::from_utf8(output.stdout)?)
}
