//! Raw IP sockets: they receive from `socket` on, and have a protocol number instead of a port.

use anyhow::Result;
use portwatch_tests::harness::{Actor, Capability, Context, Kind};
use serde_json::json;

use super::scenarios;

scenarios!("raw": icmp, icmpv6, those_of_a_new_namespace_are_the_kernels);

fn icmp(context: &Context) -> Result<()> {
    raw(context, Kind::RAW_ICMP4, libc::IPPROTO_ICMP)
}

fn icmpv6(context: &Context) -> Result<()> {
    raw(context, Kind::RAW_ICMP6, libc::IPPROTO_ICMPV6)
}

fn raw(context: &Context, kind: Kind, protocol: i32) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start(&format!("raw-{}", kind.family))?;
    let sock = actor.socket(kind)?;
    let socket = json!({"protocol_number": protocol, "port": null, "exposure": "all-interfaces"});
    watch.whole_life(&mut actor, &sock, socket)
}

/// Each new network namespace gets some of the kernel's own: whoever starts a container listens to nothing by that.
fn those_of_a_new_namespace_are_the_kernels(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("raw-namespace")?;
    let after = watch.position();
    for _ in 0..3 {
        actor.call("unshare-net")?;
    }
    watch.absent("listener", Capability::UdpBind, after, |event| {
        event.is_opening() && event.has_pid(actor.pid)
    })
}
