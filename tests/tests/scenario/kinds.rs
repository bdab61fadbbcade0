//! Each kind of storm, made by a generator that counts: named with what it is about, ended once, with the generator's totals
//! within what docs/storms.md says of sampling. Each is a line of the table there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::stage::{Measured, Named, Place, Stage, about, measured};
use portwatch_tests::harness::{Actor, Context, Event, Outcome};

use super::scenarios;

// Connects are followed up to so many a second of all processes: those of others would make `refused` an estimate of fewer. And
// `completed` has to keep up its rate, for which an emulated machine needs its processor.
scenarios!(storm alone "kinds": refused, completed; beside resets, accept_queue, local_ports);

/// Failures of connects are estimated from one in sixteen where there are many.
const SAMPLED: u64 = 25;
/// What is counted by reading twice a second misses what came before and after.
const COUNTED: u64 = 15;

/// Connections that began long ago are reset, by the hundred.
fn resets(context: &Context) -> Result<Outcome> {
    const COUNT: u32 = 1_200;
    let stage = Stage::new(context, "[storm]\ncalm = \"2s\"\nreset_storm_rate = 100\n")?;
    let mut place = Place::new("kinds-reset", 4096)?;
    let (state, by) = (stage.mechanism("tcp.state")?, stage.mechanism("tcp.reset")?);
    stage.knows(&place)?;
    let slot = place.sock.slot.clone();
    for part in 0..4 {
        let count = COUNT / 4;
        place
            .actor
            .call(&format!("crowd {count} {slot} r{part}-"))?;
    }
    // What began is older than what is compared with it.
    std::thread::sleep(Duration::from_secs(3));
    let start = start(&stage);
    for part in 0..4 {
        let count = COUNT / 4;
        place
            .actor
            .call(&format!("reset 0 {count} r{part}- c 200"))?;
    }
    let (netns, port) = (place.netns, u64::from(place.port));
    let is_ours = |event: &Event| event.number("storm.netns") == Some(netns);
    if by == "reconcile" && state == "reconcile" {
        return unseen(context, &stage, &place, "reset-storm", "tcp.reset", &by);
    }
    let named = stage.storm(start, "reset-storm", is_ours)?;
    let is_by_listener = named.event.number("socket.port") == Some(port);
    ensure!(
        by == "reconcile" || (is_by_listener && named.event.has_pid(place.actor.pid)),
        "not the listener: {}",
        named.event.brief()
    );
    let ended = stage.end_of(&named.event)?;
    about(
        "storm.total",
        ended.number("storm.total"),
        COUNT.into(),
        COUNTED,
    )?;
    // Both ends are reset, and both are in this namespace: it is one storm all the same.
    ensure!(
        stage.count("reset-storm", is_ours) == 1,
        "it was told twice, of the listener and of its namespace"
    );
    note(
        context,
        &stage,
        &place,
        "reset-storm",
        "200 resets a second",
        &by,
        &named,
    )
}

/// A client that asks again and again for what is not there: of the process, and of its namespace.
fn refused(context: &Context) -> Result<Outcome> {
    const COUNT: u32 = 1_800;
    let stage = Stage::new(context, "[storm]\ncalm = \"2s\"\n")?;
    let by = stage.mechanism("tcp.state")?;
    let mut place = Place::new("kinds-refused", 16)?;
    stage.knows(&place)?;
    let start = start(&stage);
    for _ in 0..2 {
        place.actor.call(&format!("refuse {} 200 9", COUNT / 2))?;
    }
    let (netns, pid) = (place.netns, place.actor.pid);
    // Without probes it is looked at every ten seconds, and over by then.
    if by == "reconcile" {
        unseen(context, &stage, &place, "refused-storm", "tcp.state", &by)?;
        return unseen(context, &stage, &place, "connect-storm", "tcp.state", &by);
    }
    let of_namespace = stage.storm(start, "refused-storm", |event| {
        event.number("storm.netns") == Some(netns)
    })?;
    let ended = stage.end_of(&of_namespace.event)?;
    about(
        "storm.total",
        ended.number("storm.total"),
        COUNT.into(),
        SAMPLED,
    )?;
    measured(
        context,
        "refused-storm",
        "200 refusals a second",
        "MIB",
        Some(&of_namespace),
        &stage.wrong(netns, pid, &["refused-storm", "connect-storm"]),
    )?;
    let of_process = stage.storm(start, "connect-storm", |event| event.has_pid(pid))?;
    let ended = stage.end_of(&of_process.event)?;
    about(
        "storm.total",
        ended.number("storm.total"),
        COUNT.into(),
        SAMPLED,
    )?;
    measured(
        context,
        "connect-storm",
        "200 refused a second",
        &by,
        Some(&of_process),
        &stage.wrong(netns, pid, &["refused-storm", "connect-storm"]),
    )?;
    Ok(Outcome::Done)
}

/// More whole connections than a listener is said to be used to.
fn completed(context: &Context) -> Result<Outcome> {
    const COUNT: u32 = 2_400;
    let config = "[storm]\ncalm = \"2s\"\nconnection_storm_rate = 150\n";
    let stage = Stage::new(context, config)?;
    let by = stage.mechanism("tcp.state")?;
    let mut place = Place::at("kinds-completed", "198.51.100.1:80", 512)?;
    stage.knows(&place)?;
    let start = start(&stage);
    let slot = place.sock.slot.clone();
    for _ in 0..4 {
        place
            .actor
            .call(&format!("churn {} 300 {slot} 3", COUNT / 4))?;
    }
    if by == "reconcile" {
        return unseen(
            context,
            &stage,
            &place,
            "connection-storm",
            "tcp.state",
            &by,
        );
    }
    let netns = place.netns;
    let named = stage.storm(start, "connection-storm", |event| {
        event.number("storm.netns") == Some(netns) && event.number("socket.port") == Some(80)
    })?;
    ensure!(
        named.event.has_pid(place.actor.pid),
        "{}",
        named.event.brief()
    );
    let ended = stage.end_of(&named.event)?;
    about(
        "storm.total",
        ended.number("storm.total"),
        COUNT.into(),
        COUNTED,
    )?;
    note(
        context,
        &stage,
        &place,
        "connection-storm",
        "300 conn/s where 150 is much",
        &by,
        &named,
    )
}

/// A server that no longer accepts.
fn accept_queue(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "[storm]\ncalm = \"2s\"\n")?;
    let mut place = Place::new("kinds-queue", 8)?;
    stage.knows(&place)?;
    let dropped = |actor: &mut Actor| actor.call("mib ListenOverflows")?.number::<u64>("value");
    let before = dropped(&mut place.actor)?;
    let start = start(&stage);
    let slot = place.sock.slot.clone();
    place.actor.call(&format!("fill 400 50 {slot} q"))?;
    let (netns, port) = (place.netns, u64::from(place.port));
    let named = stage.storm(start, "accept-queue-overflow", |event| {
        event.number("storm.netns") == Some(netns)
    })?;
    let queue = (
        named.event.number("storm.accept_queue"),
        named.event.number("storm.accept_queue_max"),
    );
    ensure!(
        named.event.number("socket.port") == Some(port) && named.event.has_pid(place.actor.pid),
        "not the listener: {}",
        named.event.brief()
    );
    ensure!(
        queue == (Some(9), Some(8)),
        "{queue:?}: {}",
        named.event.brief()
    );
    // Clients that wait go on asking; with them gone, nothing is dropped any more.
    for nth in 0..400 {
        place.actor.call(&format!("close qc{nth}"))?;
    }
    let ended = stage.end_of(&named.event)?;
    let truth = dropped(&mut place.actor)?.saturating_sub(before);
    ensure!(truth > 100, "the trigger went wrong: {truth} dropped");
    if stage.mechanism("tcp.state")? == "reconcile" {
        // It is looked at every ten seconds then, and what came before the first look is not its own.
        let told = ended.number("storm.total").unwrap_or(0);
        ensure!(
            told > 0 && told <= truth + truth * COUNTED / 100,
            "storm.total is {told}, {truth} in truth"
        );
    } else {
        about("storm.total", ended.number("storm.total"), truth, COUNTED)?;
    }
    note(
        context,
        &stage,
        &place,
        "accept-queue-overflow",
        "50 conn/s, none accepted",
        "MIB",
        &named,
    )
}

/// A client that opens a connection for each request, until its local ports are nearly used up.
fn local_ports(context: &Context) -> Result<Outcome> {
    /// Local ports that there are, and that are used up towards one peer.
    const PORTS: u64 = 500;
    const USED: u64 = 470;
    let stage = Stage::new(context, "[storm]\ncalm = \"2s\"\n")?;
    let mut place = Place::at("kinds-ports", "198.51.100.1:80", 512)?;
    place.actor.call(&format!(
        "sysctl ip_local_port_range 20000 {}",
        19_999 + PORTS
    ))?;
    stage.knows(&place)?;
    let start = start(&stage);
    let slot = place.sock.slot.clone();
    place.actor.call(&format!("churn {USED} 0 {slot} 1"))?;
    let (netns, pid) = (place.netns, place.actor.pid);
    let named = stage.storm(start, "time-wait-pressure", |event| {
        event.number("storm.netns") == Some(netns)
    })?;
    about("storm.level", named.event.number("storm.level"), USED, 1)?;
    ensure!(
        named.event.number("storm.threshold") == Some(PORTS * 80 / 100),
        "{}",
        named.event.brief()
    );
    let wrong = stage.wrong(netns, pid, &["time-wait-pressure"]);
    // The ports come back with the namespace's end.
    drop(place);
    let ended = stage.end_of(&named.event)?;
    ensure!(
        ended.number("storm.total") == named.event.number("storm.level"),
        "{}",
        ended.brief()
    );
    let case = "470 of 500 local ports";
    measured(
        context,
        "time-wait-pressure",
        case,
        "sock_diag",
        Some(&named),
        &wrong,
    )?;
    Ok(Outcome::Done)
}

/// Where the stream stands when a storm begins, and when that is.
fn start(stage: &Stage) -> (usize, Instant) {
    (stage.watch.position(), Instant::now())
}

fn note(
    context: &Context,
    stage: &Stage,
    place: &Place,
    kind: &str,
    case: &str,
    by: &str,
    named: &Named,
) -> Result<Outcome> {
    let wrong = stage.wrong(place.netns, place.actor.pid, &[kind]);
    measured(context, kind, case, by, Some(named), &wrong)?;
    Ok(Outcome::Done)
}

/// Nothing here tells of it, and portwatch says so.
fn unseen(
    context: &Context,
    stage: &Stage,
    place: &Place,
    kind: &str,
    signal: &str,
    by: &str,
) -> Result<Outcome> {
    let wrong = stage.wrong(place.netns, place.actor.pid, &[kind, "refused-storm"]);
    let measured = Measured {
        kind,
        case: "not seen here",
        mechanism: by,
        named: None,
        wrong: &wrong,
    };
    measured
        .unseen(context, stage, signal)
        .with_context(|| kind.to_owned())
}
