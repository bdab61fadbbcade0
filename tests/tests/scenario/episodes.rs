//! A burst that is none, scans by plain sockets, and a leak: made in a network namespace of the actor's own, and told as
//! episodes: in time, once, and with whom they are about. The truth is the generator's. Each is a line of the table in
//! docs/storms.md; floods are in `floods.rs`, other scans in `scans.rs`, other kinds in `kinds.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::stage::{Measured, Named, PATIENCE, Place, Stage, in_time};
use portwatch_tests::harness::{Actor, Context, Event, Outcome};

use super::scenarios;

scenarios!(storm alone "episodes": burst_names_none, scan_of_tcp, scan_of_udp; beside leak);

/// Thousands of connections as fast as they can be made, each completed: success, and no storm.
fn burst_names_none(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let mechanism = stage.mechanism("tcp.state")?;
    let mut place = Place::new("episodes-burst", 4096)?;
    stage.knows(&place)?;
    let (begin, mut made) = (Instant::now(), 0_u32);
    let slot = place.sock.slot.clone();
    for round in 0..10 {
        place.actor.call(&format!("crowd 400 {slot} b{round}"))?;
        place.actor.call(&format!("leave 0 400 b{round} c"))?;
        place.actor.call(&format!("leave 0 400 b{round} s"))?;
        made += 400;
    }
    let rate = f64::from(made) / begin.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_secs(4));
    let measured = Measured {
        kind: "",
        case: &format!("none: the generator, {made} connections, {rate:.0} conn/s"),
        mechanism: &mechanism,
        named: None,
        wrong: &stage.wrong(place.netns, place.actor.pid, &[]),
    };
    measured.note(context)?;
    Ok(Outcome::Done)
}

fn scan_of_tcp(context: &Context) -> Result<Outcome> {
    scan(context, "tcp", "tcp.knock")
}

fn scan_of_udp(context: &Context) -> Result<Outcome> {
    scan(context, "udp", "udp.knock")
}

/// A thousand ports: one scan, named within a second of its beginning, with its source.
fn scan(context: &Context, protocol: &str, signal: &str) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let mut actor = Actor::start(&format!("episodes-scan-{protocol}"))?;
    let netns: u64 = actor.call("unshare-net")?.number("netns")?;
    let mechanism = stage.mechanism(signal)?;
    let case = format!("vertical, {protocol} sockets, 1000 ports");
    let measured = |named, wrong: &[String]| {
        Measured {
            kind: "port-scan",
            case: &case,
            mechanism: &mechanism,
            named,
            wrong,
        }
        .note(context)
    };
    if mechanism == "reconcile" {
        measured(None, &[])?;
        return stage.admits(signal);
    }
    let after = stage.watch.position();
    let begin = Instant::now();
    actor.call(&format!("knocks {protocol} 1000 1000"))?;
    // On an emulated machine the knocking alone takes seconds.
    let knocking = begin.elapsed();
    let is_ours = |event: &Event| {
        event.kind() == "scan.detected"
            && event.number("scan.netns") == Some(netns)
            && event.at("scan.protocol") == protocol
    };
    let event = stage.watch.next_after(after, PATIENCE, is_ours);
    let event = event.context("the scan is not told")?;
    let named = Named {
        after: event.arrived.saturating_duration_since(begin),
        event,
    };
    in_time(&named, Duration::from_secs(1) + knocking)?;
    let event = &named.event;
    ensure!(event.at("scan.source") == "127.0.0.1", "{}", event.brief());
    ensure!(event.number("scan.ports") >= Some(20), "{}", event.brief());
    std::thread::sleep(Duration::from_secs(2));
    let count = stage.watch.all(is_ours).len();
    ensure!(count == 1, "told {count} times");
    // What connects to a thousand closed ports of its own host fails a thousand times: of the process, that is a storm.
    let meant = ["port-scan", "connect-storm", "refused-storm"];
    measured(Some(named.after), &stage.wrong(netns, actor.pid, &meant))?;
    Ok(Outcome::Done)
}

/// A server that does not close what its clients have closed.
fn leak(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "[storm]\ncalm = \"2s\"\nclose_wait_for = \"2s\"\n")?;
    let mut place = Place::new("episodes-leak", 256)?;
    stage.knows(&place)?;
    let (netns, pid, slot) = (place.netns, place.actor.pid, place.sock.slot.clone());
    place.actor.call(&format!("crowd 150 {slot} l"))?;
    let start = (stage.watch.position(), Instant::now());
    place.actor.call("leave 0 150 l c")?;
    let named = stage.storm(start, "close-wait-leak", |event| event.has_pid(pid))?;
    ensure!(
        named.event.number("storm.level") == Some(150),
        "{}",
        named.event.brief()
    );
    place.actor.call("leave 0 150 l s")?;
    let ended = stage.end_of(&named.event)?;
    ensure!(
        ended.number("storm.total") == Some(150),
        "{}",
        ended.brief()
    );
    let measured = Measured {
        kind: "close-wait-leak",
        case: "150 sockets, held for 2 s",
        mechanism: "sock_diag",
        named: Some(named.after),
        wrong: &stage.wrong(netns, pid, &["close-wait-leak"]),
    };
    measured.note(context)?;
    Ok(Outcome::Done)
}
