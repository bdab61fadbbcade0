//! Network namespaces: told by inode, and never taken for the host's own.

use anyhow::{Result, ensure};
use portwatch_tests::harness::program::{free_tcp_port, free_udp_port};
use portwatch_tests::harness::{Actor, Context, Kind};
use serde_json::json;

use super::scenarios;

scenarios!("netns": tcp_elsewhere, udp_elsewhere);

fn tcp_elsewhere(context: &Context) -> Result<()> {
    elsewhere(context, "netns-tcp", Kind::TCP4)
}

fn udp_elsewhere(context: &Context) -> Result<()> {
    elsewhere(context, "netns-udp", Kind::UDP4)
}

fn elsewhere(context: &Context, token: &str, kind: Kind) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start(token)?;
    let before = actor.socket(kind)?;
    let netns: u64 = actor.call("unshare-net")?.number("netns")?;
    ensure!(
        netns != before.netns,
        "the trigger went wrong: still in namespace {netns}"
    );
    let sock = actor.socket(kind)?;
    actor.call(&format!("bind {} 0.0.0.0:8080", sock.slot))?;
    if kind.kind == "stream" {
        actor.listen(&sock, 1)?;
    }
    let socket = json!({
        "address": "0.0.0.0", "port": 8080, "netns": netns, "exposure": "other-namespace",
    });
    watch.whole_life(&mut actor, &sock, socket)?;
    // A socket stays in the namespace in which it was made, wherever its process goes.
    let port = match kind {
        Kind::UDP4 => free_udp_port()?,
        _ => free_tcp_port()?,
    };
    actor.call(&format!("bind {} 127.0.0.1:{port}", before.slot))?;
    if kind.kind == "stream" {
        actor.listen(&before, 1)?;
    }
    watch.whole_life(
        &mut actor,
        &before,
        json!({"port": port, "exposure": "loopback"}),
    )
}
