//! TCP and its relatives: when a socket listens, and when it no longer does.

use anyhow::{Result, bail};
use portwatch_tests::harness::{Actor, Capability, Context, Kind, Outcome, Sees};
use serde_json::json;

use super::scenarios;

scenarios!("tcp":
    listen_v4, listen_v6, unbound_listen, failed_listen_is_no_listener, second_listen_changes_backlog,
    shutdown_then_listen_again, disconnect_closes, reuseport_group, v6only, dual_stack,
    v4_mapped, mptcp_is_one_listener, sctp,
);

fn listen_v4(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-v4")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 7)?;
    let port = actor.port(&sock)?;
    let socket =
        json!({"address": "127.0.0.1", "port": port, "backlog": 7, "exposure": "loopback"});
    watch.whole_life(&mut actor, &sock, socket)
}

fn listen_v6(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-v6")?;
    let sock = actor.listener(Kind::TCP6, "[::1]:0", 9)?;
    let port = actor.port(&sock)?;
    let socket = json!({"address": "::1", "port": port, "backlog": 9, "exposure": "loopback"});
    watch.whole_life(&mut actor, &sock, socket)
}

/// The kernel chooses the port inside `listen`: a probe at its entry would tell of port 0.
fn unbound_listen(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-unbound")?;
    let sock = actor.socket(Kind::TCP4)?;
    actor.listen(&sock, 3)?;
    let port = actor.port(&sock)?;
    let socket =
        json!({"address": "0.0.0.0", "port": port, "backlog": 3, "exposure": "all-interfaces"});
    watch.whole_life(&mut actor, &sock, socket)
}

/// Two sockets bound with `SO_REUSEADDR`: the second `listen` is refused after the state was LISTEN.
fn failed_listen_is_no_listener(context: &Context) -> Result<Outcome> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-failed-listen")?;
    let first = actor.socket(Kind::TCP4)?;
    let second = actor.socket(Kind::TCP4)?;
    for sock in [&first, &second] {
        actor.call(&format!("set {} reuseaddr 1", sock.slot))?;
    }
    actor.call(&format!("bind {} 127.0.0.1:0", first.slot))?;
    let port = actor.port(&first)?;
    actor.call(&format!("bind {} 127.0.0.1:{port}", second.slot))?;
    actor.listen(&first, 1)?;
    let opened = watch.opened(&actor, &first, json!({"port": port}))?;
    let error = actor.refused(&format!("listen {} 1", second.slot))?;
    if error != "EADDRINUSE" {
        bail!("the trigger went wrong: {error}");
    }
    watch.absent(
        "listener for a refused listen",
        Capability::TcpListen,
        0,
        |event| event.is_opening() && event.has_inode(second.inode),
    )?;
    if context.sees(Capability::InetRefusal)? == Sees::No {
        return context.admits(Capability::InetRefusal);
    }
    let failed = watch.expect(
        "bind.failed of the second listen",
        Sees::Exactly,
        opened.index,
        |event| event.has_pid(actor.pid),
        |event| event.kind() == "bind.failed" && event.has_pid(actor.pid),
    )?;
    if failed.text("error") != "EADDRINUSE" || failed.number("socket.port") != Some(port.into()) {
        bail!("should be EADDRINUSE on port {port}: {}", failed.value());
    }
    Ok(Outcome::Done)
}

/// `listen` on a listener passes no state change; its new backlog is told, at the latest on looking again.
fn second_listen_changes_backlog(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-backlog")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 5)?;
    let opened = watch.opened(&actor, &sock, json!({"backlog": 5}))?;
    actor.listen(&sock, 11)?;
    let changed = watch.expect(
        "listener.changed with backlog 11",
        // At once or on looking again: nobody is hurt by a backlog that is told late.
        Sees::ByReconcile,
        opened.index + 1,
        |event| event.has_inode(sock.inode),
        |event| event.kind() == "listener.changed" && event.has_inode(sock.inode),
    )?;
    let backlogs = (
        changed.number("previous.backlog"),
        changed.number("socket.backlog"),
    );
    if backlogs != (Some(5), Some(11)) {
        bail!(
            "backlog should go from 5 to 11, told is {backlogs:?}: {}",
            changed.value()
        );
    }
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

fn shutdown_then_listen_again(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-shutdown")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 2)?;
    let opened = watch.opened(&actor, &sock, json!({"backlog": 2}))?;
    actor.call(&format!("shutdown {}", sock.slot))?;
    let closed = watch.closed(&sock, &opened)?;
    actor.listen(&sock, 4)?;
    let port = actor.port(&sock)?;
    let again = watch.opened_after(
        closed.index + 1,
        &actor,
        &sock,
        json!({"port": port, "backlog": 4}),
    )?;
    actor.close(&sock)?;
    watch.closed(&sock, &again).map(drop)
}

/// `connect` to `AF_UNSPEC` turns a listener back into a plain socket, without a close.
fn disconnect_closes(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-disconnect")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 2)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    actor.call(&format!("connect {} unspecified", sock.slot))?;
    let closed = watch.closed(&sock, &opened)?;
    // The release of what is no listener any more says nothing new.
    actor.close(&sock)?;
    watch.absent(
        "second closing",
        Capability::TcpListen,
        closed.index + 1,
        |event| event.has_inode(sock.inode),
    )
}

fn reuseport_group(context: &Context) -> Result<Outcome> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-reuseport")?;
    let mut group = Vec::new();
    let mut port = 0;
    for _ in 0..3 {
        let sock = actor.socket(Kind::TCP4)?;
        actor.call(&format!("set {} reuseport 1", sock.slot))?;
        actor.call(&format!("bind {} 127.0.0.1:{port}", sock.slot))?;
        actor.listen(&sock, 1)?;
        port = actor.port(&sock)?;
        group.push(sock);
    }
    let is_told = context.sees(Capability::Reuseport)? != Sees::No;
    let socket = if is_told {
        json!({"port": port, "reuseport": true})
    } else {
        json!({"port": port})
    };
    for sock in &group {
        watch.whole_life(&mut actor, sock, socket.clone())?;
    }
    if is_told {
        Ok(Outcome::Done)
    } else {
        context.admits(Capability::Reuseport)
    }
}

fn v6only(context: &Context) -> Result<()> {
    any_v6(context, "tcp-v6only", true)
}

fn dual_stack(context: &Context) -> Result<()> {
    any_v6(context, "tcp-dual", false)
}

fn any_v6(context: &Context, token: &str, v6only: bool) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start(token)?;
    let sock = actor.socket(Kind::TCP6)?;
    actor.call(&format!("set {} v6only {}", sock.slot, u8::from(v6only)))?;
    actor.call(&format!("bind {} [::]:0", sock.slot))?;
    actor.listen(&sock, 1)?;
    let port = actor.port(&sock)?;
    let opened = watch.opened(
        &actor,
        &sock,
        json!({"address": "::", "port": port, "exposure": "all-interfaces"}),
    )?;
    // The key may be absent where it would say no.
    if (opened.at("socket.v6only") == &json!(true)) != v6only {
        bail!("v6only should be {v6only}: {}", opened.value());
    }
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

fn v4_mapped(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("tcp-mapped")?;
    let sock = actor.listener(Kind::TCP6, "[::ffff:127.0.0.1]:0", 1)?;
    let port = actor.port(&sock)?;
    let socket = json!({"address": "::ffff:127.0.0.1", "port": port, "exposure": "loopback"});
    watch.whole_life(&mut actor, &sock, socket)
}

/// An MPTCP listener has a TCP subflow that listens too: that one is not another listener.
fn mptcp_is_one_listener(context: &Context) -> Result<Outcome> {
    if !Kind::MPTCP4.is_available() {
        return Ok(Outcome::Skipped("no MPTCP in this kernel".to_owned()));
    }
    let watch = context.watch()?;
    let mut actor = Actor::start("mptcp")?;
    let sock = actor.listener(Kind::MPTCP4, "127.0.0.1:0", 6)?;
    let port = actor.port(&sock)?;
    let socket = json!({"address": "127.0.0.1", "port": port, "backlog": 6});
    watch.whole_life(&mut actor, &sock, socket)?;
    let told = watch.all(|event| event.is_opening() && event.has_pid(actor.pid));
    if told.len() != 1 {
        let lines: Vec<String> = told.iter().map(|event| event.value().to_string()).collect();
        bail!("one listener became {}: {}", told.len(), lines.join("\n"));
    }
    Ok(Outcome::Done)
}

fn sctp(context: &Context) -> Result<Outcome> {
    if !Kind::SCTP4.is_available() {
        return Ok(Outcome::Skipped("no SCTP in this kernel".to_owned()));
    }
    if context.sees(Capability::Sctp)? == Sees::No {
        return context.admits(Capability::Sctp);
    }
    let watch = context.watch()?;
    let mut actor = Actor::start("sctp")?;
    let sock = actor.listener(Kind::SCTP4, "127.0.0.1:0", 6)?;
    let port = actor.port(&sock)?;
    watch.whole_life(&mut actor, &sock, json!({"port": port}))?;
    Ok(Outcome::Done)
}
