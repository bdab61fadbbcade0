//! What the kernel's state changes do not say: half-open connections, TIME_WAIT, and whose a connection
//! is that a listener has just made.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{
    Actor, Capability, Context, Event, Kind, Outcome, Sees, Sock, Watch,
};
use serde_json::json;

use super::scenarios;

scenarios!("half": half_open_shows_no_state, time_wait_shows_no_state, accepted_is_not_its_listener);

/// Half-open connections, far below any limit and any defence of the kernel.
const HALF_OPEN: usize = 24;
/// For what the kernel does by itself: it repeats a SYN after one second, then two, then four.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);
/// How long one connection is given to be told.
const KNOCK: Duration = Duration::from_millis(100);

/// The kernel's numbers in `/proc/net/tcp`.
const SYN_RECV: &str = "03";
const TIME_WAIT: &str = "06";

/// Clients that do not hear the answer to their SYN: the server's ends are half-open, which no state
/// change tells. Once they hear, the ends begin with SYN_RECV.
fn half_open_shows_no_state(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::States)? == Sees::No {
        return context.admits(Capability::States);
    }
    let watch = streaming(context)?;
    let mut server = Actor::start("half-server")?;
    let mut client = Actor::start("half-client")?;
    let listener = server.listener(Kind::TCP4, "127.0.0.1:0", 64)?;
    let port = server.port(&listener)?;
    let mut clients: Vec<Sock> = Vec::new();
    for _ in 0..HALF_OPEN {
        let sock = client.socket(Kind::TCP4)?;
        client.call(&format!("connect-deaf {} 127.0.0.1:{port}", sock.slot))?;
        clients.push(sock);
    }
    until("half-open connections", || {
        Ok(count(port, None, SYN_RECV)? == HALF_OPEN)
    })?;
    let sent = |event: &Event| {
        event.text("new_state") == "SYN_SENT"
            && event.number("socket.peer_port") == Some(port.into())
    };
    let told = watch.gather(HALF_OPEN, KERNEL_PATIENCE, sent);
    ensure!(
        told.len() == HALF_OPEN,
        "{} of {HALF_OPEN} clients were told",
        told.len()
    );
    watch.fence(Capability::TcpListen)?;
    if let Some(event) = watch.all(|event| of_child(event, port)).first() {
        bail!("a half-open connection was told: {}", event.value());
    }
    ensure!(
        count(port, None, SYN_RECV)? == HALF_OPEN,
        "the trigger went wrong: some are not half-open any more"
    );

    for sock in &clients {
        client.call(&format!("hear {}", sock.slot))?;
    }
    let established =
        |event: &Event| of_child(event, port) && event.text("new_state") == "ESTABLISHED";
    let told = watch.gather(HALF_OPEN, KERNEL_PATIENCE, established);
    ensure!(
        told.len() == HALF_OPEN,
        "{} of {HALF_OPEN} were told as established",
        told.len()
    );
    let begun = watch.all(|event| {
        of_child(event, port)
            && event.text("old_state") == "LISTEN"
            && event.text("new_state") == "SYN_RECV"
    });
    ensure!(
        begun.len() == HALF_OPEN,
        "{} of {HALF_OPEN} began with SYN_RECV",
        begun.len()
    );
    never_named(&watch)?;
    Ok(Outcome::Done)
}

/// Who closes first waits in TIME_WAIT, in a socket that is no longer the one that closed: told is CLOSE.
fn time_wait_shows_no_state(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::States)? == Sees::No {
        return context.admits(Capability::States);
    }
    let watch = streaming(context)?;
    let (mut server, mut client) = (Actor::start("wait-server")?, Actor::start("wait-client")?);
    let (port, client_port) = conversation(&mut server, &mut client)?;
    until("TIME_WAIT", || {
        Ok(count(client_port, Some(port), TIME_WAIT)? == 1)
    })?;
    let of_client = |event: &Event| {
        event.number("socket.port") == Some(client_port.into())
            && event.number("socket.peer_port") == Some(port.into())
    };
    let last = watch.expect(
        "FIN_WAIT2 to CLOSE of the client",
        Sees::Exactly,
        0,
        of_client,
        |event| of_client(event) && event.text("new_state") == "CLOSE",
    )?;
    ensure!(
        last.text("old_state") == "FIN_WAIT2",
        "should come from FIN_WAIT2: {}",
        last.value()
    );
    watch.fence(Capability::TcpListen)?;
    let after = watch.all(|event| of_client(event) && event.index > last.index);
    ensure!(after.is_empty(), "told after CLOSE: {after:?}");
    never_named(&watch)?;
    Ok(Outcome::Done)
}

/// An accepted connection begins as a copy of its listener. Before 6.15 its first change still has the
/// listener's cookie and no peer: it must not be told under the listener's name, nor with another's peer.
fn accepted_is_not_its_listener(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::States)? == Sees::No {
        return context.admits(Capability::States);
    }
    let watch = streaming(context)?;
    let (mut server, mut client) = (Actor::start("child-server")?, Actor::start("child-client")?);
    let listener = server.listener(Kind::TCP4, "127.0.0.1:0", 4)?;
    let cookie = server.cookie(&listener)?;
    let opened = watch.opened(&server, &listener, json!({"backlog": 4}))?;
    let port = server.port(&listener)?;
    let ours = client.socket(Kind::TCP4)?;
    client.call(&format!("connect {} 127.0.0.1:{port}", ours.slot))?;
    let client_port = client.port(&ours)?;
    server.call(&format!("accept {} conversation", listener.slot))?;
    let childs: u64 = server.call("cookie conversation")?.number("cookie")?;
    client.close(&ours)?;
    server.call("drain conversation")?;
    server.call("close conversation")?;
    watch.expect(
        "end of the accepted connection",
        Sees::Exactly,
        opened.index,
        |event| of_child(event, port),
        |event| of_child(event, port) && event.text("new_state") == "CLOSE",
    )?;
    let told = watch.all(|event| of_child(event, port));
    let first = told.first().context("nothing was told")?;
    ensure!(
        first.text("old_state") == "LISTEN" && first.text("new_state") == "SYN_RECV",
        "should begin with LISTEN to SYN_RECV: {}",
        first.value()
    );
    for event in &told {
        let said = event.number("socket.cookie");
        ensure!(
            said != Some(cookie) && said.is_none_or(|said| said == childs),
            "the listener's cookie is {cookie}, the connection's {childs}: {}",
            event.value()
        );
        let peer = event.number("socket.peer_port");
        ensure!(
            peer == Some(client_port.into()) || (peer.is_none() && event.index == first.index),
            "its peer is port {client_port}: {}",
            event.value()
        );
        ensure!(
            event.has_pid(server.pid),
            "not the listener's process: {}",
            event.value()
        );
    }
    server.close(&listener)?;
    watch.closed(&listener, &opened)?;
    Ok(Outcome::Done)
}

/// A portwatch that streams states by now: it says that it watches before they are asked for.
fn streaming(context: &Context) -> Result<Watch> {
    let watch = context.fresh(&["--states"])?;
    let knocked = TcpListener::bind("127.0.0.1:0")?;
    let address = knocked.local_addr()?;
    until("stream of states", || {
        TcpStream::connect(address)?;
        let told = watch.next_after(0, KNOCK, |event| of_child(event, address.port()));
        Ok(told.is_some())
    })?;
    Ok(watch)
}

/// A connection whose client closes first; gives the ports of both.
fn conversation(server: &mut Actor, client: &mut Actor) -> Result<(u16, u16)> {
    let listener = server.listener(Kind::TCP4, "127.0.0.1:0", 4)?;
    let port = server.port(&listener)?;
    let ours = client.socket(Kind::TCP4)?;
    client.call(&format!("connect {} 127.0.0.1:{port}", ours.slot))?;
    let client_port = client.port(&ours)?;
    server.call(&format!("accept {} conversation", listener.slot))?;
    client.close(&ours)?;
    server.call("drain conversation")?;
    server.call("close conversation")?;
    Ok((port, client_port))
}

/// A state of a connection that came in on this port, not of the listener itself.
fn of_child(event: &Event, port: u16) -> bool {
    let is_listeners = event.text("new_state") == "LISTEN"
        || (event.text("old_state") == "LISTEN" && event.text("new_state") == "CLOSE");
    event.kind() == "connection.state"
        && event.number("socket.port") == Some(port.into())
        && !is_listeners
}

/// No event says a state that the kernel announces to nobody.
fn never_named(watch: &Watch) -> Result<()> {
    let named = watch.all(|event| {
        ["old_state", "new_state"]
            .iter()
            .any(|key| ["TIME_WAIT", "NEW_SYN_RECV"].contains(&event.text(key)))
    });
    match named.first() {
        Some(event) => bail!("the kernel announces no such state: {}", event.value()),
        None => Ok(()),
    }
}

/// Connections of this local port, and this remote one, in this state, as the kernel lists them.
fn count(port: u16, peer: Option<u16>, state: &str) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    let ends_in = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
    let rows = table.lines().filter(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote) = (words.next(), words.next());
        local.is_some_and(|local| ends_in(local, port))
            && peer.is_none_or(|peer| remote.is_some_and(|remote| ends_in(remote, peer)))
            && words.next() == Some(state)
    });
    Ok(rows.count())
}

fn until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + KERNEL_PATIENCE * scale();
    while !is_so()? {
        ensure!(
            Instant::now() < deadline,
            "the trigger went wrong: no {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
