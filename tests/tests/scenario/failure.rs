//! Refused binds: `bind.failed` with the errno's name, where the rung sees it; an admission where it does not.

use anyhow::{Result, bail, ensure};
use portwatch_tests::address::Address;
use portwatch_tests::harness::{Actor, Capability, Context, Kind, Outcome, Sees, Sock};

use super::scenarios;

scenarios!("failure":
    tcp_address_in_use, udp_address_in_use, privileged_port, address_not_ours, unix_path_exists,
);

fn tcp_address_in_use(context: &Context) -> Result<Outcome> {
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut actor = Actor::start("fail-tcp-inuse")?;
    let sock = actor.socket(Kind::TCP4)?;
    refused(
        context,
        &mut actor,
        &sock,
        &Address::Inet(holder.local_addr()?),
        "EADDRINUSE",
    )
}

fn udp_address_in_use(context: &Context) -> Result<Outcome> {
    let holder = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let mut actor = Actor::start("fail-udp-inuse")?;
    let sock = actor.socket(Kind::UDP4)?;
    refused(
        context,
        &mut actor,
        &sock,
        &Address::Inet(holder.local_addr()?),
        "EADDRINUSE",
    )
}

/// A port below 1024, wanted by a user without the capability.
fn privileged_port(context: &Context) -> Result<Outcome> {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?;
    if first.trim().parse::<u16>()? <= 81 {
        return Ok(Outcome::Skipped(
            "port 81 is open to every user here".to_owned(),
        ));
    }
    let mut actor = Actor::start("fail-privileged")?;
    actor.call("user 65534")?;
    actor.uid = 65534;
    let sock = actor.socket(Kind::TCP4)?;
    refused(
        context,
        &mut actor,
        &sock,
        &Address::inet("127.0.0.1:81")?,
        "EACCES",
    )
}

/// 192.0.2.0/24 is for documentation; no machine has it.
fn address_not_ours(context: &Context) -> Result<Outcome> {
    let mut actor = Actor::start("fail-notours")?;
    let sock = actor.socket(Kind::TCP4)?;
    refused(
        context,
        &mut actor,
        &sock,
        &Address::inet("192.0.2.1:8080")?,
        "EADDRNOTAVAIL",
    )
}

fn unix_path_exists(context: &Context) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("taken");
    std::fs::write(&path, "")?;
    let mut actor = Actor::start("fail-unix")?;
    let sock = actor.socket(Kind::UNIX_STREAM)?;
    refused(
        context,
        &mut actor,
        &sock,
        &Address::path(&path),
        "EADDRINUSE",
    )
}

/// The bind is refused as it should be, portwatch says who was refused what, and never a listener.
fn refused(
    context: &Context,
    actor: &mut Actor,
    sock: &Sock,
    address: &Address,
    errno: &str,
) -> Result<Outcome> {
    let watch = context.watch()?;
    let error = actor.refused(&format!("bind {} {address}", sock.slot))?;
    ensure!(
        error == errno,
        "the trigger went wrong: {error} instead of {errno}"
    );
    let capability = if sock.kind.family == "unix" {
        Capability::UnixRefusal
    } else {
        Capability::InetRefusal
    };
    watch.absent(
        "listener for a refused bind",
        sock.kind.opening,
        0,
        |event| event.is_opening() && (event.has_inode(sock.inode) || event.has_pid(actor.pid)),
    )?;
    if context.sees(capability)? == Sees::No {
        return context.admits(capability);
    }
    let failed = watch.expect(
        "bind.failed",
        Sees::Exactly,
        0,
        |event| event.has_pid(actor.pid),
        |event| event.kind() == "bind.failed" && event.has_pid(actor.pid),
    )?;
    let port = address.port().map(u64::from);
    if failed.text("error") != errno
        || failed.text("process.exe") != actor.exe
        || failed.number("process.uid") != Some(actor.uid.into())
        || failed.text("socket.protocol") != sock.kind.protocol
        || failed.number("socket.port") != port
    {
        bail!(
            "should be {errno} on {address} for uid {}: {}",
            actor.uid,
            failed.value()
        );
    }
    let times = watch.all(|event| event.kind() == "bind.failed" && event.has_pid(actor.pid));
    ensure!(
        times.len() == 1,
        "one refusal was told {} times",
        times.len()
    );
    Ok(Outcome::Done)
}
