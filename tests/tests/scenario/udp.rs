//! UDP: a socket that was bound on purpose receives; one that only talks does not count.

use anyhow::Result;
use portwatch_tests::harness::program::free_udp_port;
use portwatch_tests::harness::{Actor, Capability, Context, Kind, Outcome, Sees};
use serde_json::json;

use super::scenarios;

scenarios!("udp": bind_v4, bind_v6, bind_chosen_port, connected_client_is_silent, sending_client_is_silent,
    client_that_binds_no_port_is_silent, udplite);

fn bind_v4(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let port = free_udp_port()?;
    let mut actor = Actor::start("udp-v4")?;
    let sock = actor.socket(Kind::UDP4)?;
    actor.call(&format!("bind {} 127.0.0.1:{port}", sock.slot))?;
    let socket = json!({"address": "127.0.0.1", "port": port, "exposure": "loopback"});
    watch.whole_life(&mut actor, &sock, socket)
}

fn bind_v6(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let port = std::net::UdpSocket::bind("[::]:0")?.local_addr()?.port();
    let mut actor = Actor::start("udp-v6")?;
    let sock = actor.socket(Kind::UDP6)?;
    actor.call(&format!("bind {} [::]:{port}", sock.slot))?;
    let socket = json!({"address": "::", "port": port, "exposure": "all-interfaces"});
    watch.whole_life(&mut actor, &sock, socket)
}

/// `bind` to port 0 is still a bind: the port that the kernel chose is told.
fn bind_chosen_port(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("udp-zero")?;
    let sock = actor.socket(Kind::UDP4)?;
    actor.call(&format!("bind {} 0.0.0.0:0", sock.slot))?;
    let port = actor.port(&sock)?;
    watch.whole_life(
        &mut actor,
        &sock,
        json!({"address": "0.0.0.0", "port": port}),
    )
}

fn connected_client_is_silent(context: &Context) -> Result<()> {
    client(context, "connect")
}

fn sending_client_is_silent(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::UdpClient)? == Sees::No {
        return context.admits(Capability::UdpClient);
    }
    client(context, "send")?;
    Ok(Outcome::Done)
}

/// One that has an address of its own and takes a port when it connects: `IP_BIND_ADDRESS_NO_PORT`, as proxies do.
fn client_that_binds_no_port_is_silent(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("udp-client-no-port")?;
    let sock = actor.socket(Kind::UDP4)?;
    actor.call(&format!("set {} no-port 1", sock.slot))?;
    actor.call(&format!("bind {} 127.0.0.1:0", sock.slot))?;
    anyhow::ensure!(
        actor.port(&sock)? == 0,
        "the trigger went wrong: a port was taken"
    );
    watch.absent("listener for a client", Capability::UdpBind, 0, |event| {
        event.has_inode(sock.inode) || (event.is_opening() && event.has_pid(actor.pid))
    })?;
    actor.call(&format!("connect {} 127.0.0.1:9", sock.slot))?;
    watch.absent("listener for a client", Capability::UdpBind, 0, |event| {
        event.has_inode(sock.inode) || (event.is_opening() && event.has_pid(actor.pid))
    })
}

/// The kernel binds a client by itself: every DNS look-up would be a listener.
fn client(context: &Context, verb: &str) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start(&format!("udp-client-{verb}"))?;
    let sock = actor.socket(Kind::UDP4)?;
    actor.call(&format!("{verb} {} 127.0.0.1:9", sock.slot))?;
    anyhow::ensure!(
        actor.port(&sock)? != 0,
        "the trigger went wrong: no port was chosen"
    );
    watch.absent("listener for a client", Capability::UdpBind, 0, |event| {
        event.has_inode(sock.inode) || (event.is_opening() && event.has_pid(actor.pid))
    })
}

fn udplite(context: &Context) -> Result<Outcome> {
    if !Kind::UDPLITE4.is_available() {
        return Ok(Outcome::Skipped("no UDP-Lite in this kernel".to_owned()));
    }
    let watch = context.watch()?;
    let mut actor = Actor::start("udplite")?;
    let sock = actor.socket(Kind::UDPLITE4)?;
    let port = free_udp_port()?;
    actor.call(&format!("bind {} 127.0.0.1:{port}", sock.slot))?;
    watch.whole_life(
        &mut actor,
        &sock,
        json!({"address": "127.0.0.1", "port": port}),
    )?;
    Ok(Outcome::Done)
}
