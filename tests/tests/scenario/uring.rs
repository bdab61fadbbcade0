//! io_uring binds and listens without passing a system call tracepoint.

use anyhow::Result;
use portwatch_tests::harness::program::free_udp_port;
use portwatch_tests::harness::{Actor, Capability, Context, Kind, Outcome};
use portwatch_tests::sys::uring;
use serde_json::json;

use super::scenarios;

scenarios!("uring": tcp_listen, udp_bind, tcp_listen_by_kernel_thread);

fn tcp_listen(context: &Context) -> Result<Outcome> {
    listen(context, "uring-tcp", "")
}

/// With `IORING_SETUP_SQPOLL` a kernel thread `iou-sqp-N` calls; the process is still the group leader.
fn tcp_listen_by_kernel_thread(context: &Context) -> Result<Outcome> {
    listen(context, "uring-sqpoll", " sqpoll")
}

fn listen(context: &Context, token: &str, mode: &str) -> Result<Outcome> {
    if !uring::is_available() {
        return Ok(Outcome::Skipped("io_uring here cannot bind".to_owned()));
    }
    let watch = context.watch()?;
    let mut actor = Actor::start(token)?;
    let kind = Kind {
        opening: Capability::TcpUring,
        ..Kind::TCP4
    };
    let sock = actor.socket(kind)?;
    actor.call(&format!("uring-bind {} 127.0.0.1:0{mode}", sock.slot))?;
    actor.call(&format!("uring-listen {} 8{mode}", sock.slot))?;
    let port = actor.port(&sock)?;
    let socket = json!({"address": "127.0.0.1", "port": port, "backlog": 8});
    watch.whole_life(&mut actor, &sock, socket)?;
    Ok(Outcome::Done)
}

fn udp_bind(context: &Context) -> Result<Outcome> {
    if !uring::is_available() {
        return Ok(Outcome::Skipped("io_uring here cannot bind".to_owned()));
    }
    let watch = context.watch()?;
    let mut actor = Actor::start("uring-udp")?;
    let kind = Kind {
        opening: Capability::UdpUring,
        ..Kind::UDP4
    };
    let sock = actor.socket(kind)?;
    let port = free_udp_port()?;
    actor.call(&format!("uring-bind {} 127.0.0.1:{port}", sock.slot))?;
    watch.whole_life(
        &mut actor,
        &sock,
        json!({"address": "127.0.0.1", "port": port}),
    )?;
    Ok(Outcome::Done)
}
