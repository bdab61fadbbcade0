//! Packet sockets: they see every frame, whether they were bound or not.

use anyhow::Result;
use portwatch_tests::address::Address;
use portwatch_tests::harness::{Actor, Capability, Context, Kind, Sees};
use serde_json::json;

use super::scenarios;

scenarios!("packet": every_frame, bound_later);

/// Receives from `socket` on, without any bind.
fn every_frame(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("packet-all")?;
    let sock = actor.socket(Kind::PACKET_ALL)?;
    let socket = json!({
        "protocol_number": libc::ETH_P_ALL, "interface": null, "port": null,
        "exposure": "all-interfaces",
    });
    watch.whole_life(&mut actor, &sock, socket)
}

/// Protocol 0 receives nothing; binding it to an interface and a protocol makes it a sniffer.
fn bound_later(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("packet-bound")?;
    let sock = actor.socket(Kind::PACKET_NONE)?;
    watch.absent(
        "listener that receives nothing",
        Capability::Packet,
        0,
        |event| event.is_opening() && event.has_inode(sock.inode),
    )?;
    actor.bind(
        &sock,
        &Address::Packet {
            ifindex: 1,
            ethertype: 3,
        },
    )?;
    let bound = json!({
        "protocol_number": libc::ETH_P_ALL, "interface": "lo", "ifindex": 1,
    });
    if context.sees(Capability::Packet)? == Sees::Exactly {
        return watch.whole_life(&mut actor, &sock, bound);
    }
    watch.opened(&actor, &sock, bound).map(drop)
}
