//! Scans by nmap as Debian has it, by a generator of our own where there is none, and slow ones: one `scan.detected`, within a
//! second of the twentieth port, with the source.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use portwatch_tests::harness::program::find;
use portwatch_tests::harness::stage::{Measured, Named, PATIENCE, Place, Stage, in_time, within};
use portwatch_tests::harness::{Context, Event, Outcome};

use super::scenarios;

scenarios!(storm alone "scans": nmap_half_open, nmap_connects, nmap_datagrams, half_open; beside slow, other_ports);

/// Ports of a scan.
const PORTS: u32 = 1_000;
/// From so many on it is one, unless told otherwise.
const ENOUGH: u64 = 20;
/// It is named this soon.
const SOON: Duration = Duration::from_secs(1);

/// `nmap -sS`.
fn nmap_half_open(context: &Context) -> Result<Outcome> {
    nmap(context, "-sS", "tcp", "tcp.knock")
}

/// `nmap -sT`.
fn nmap_connects(context: &Context) -> Result<Outcome> {
    nmap(context, "-sT", "tcp", "tcp.knock")
}

/// `nmap -sU`: where datagrams for closed ports are seen.
fn nmap_datagrams(context: &Context) -> Result<Outcome> {
    nmap(context, "-sU", "udp", "udp.knock")
}

fn nmap(context: &Context, how: &str, protocol: &str, signal: &str) -> Result<Outcome> {
    let Some(program) = find("nmap") else {
        return Ok(Outcome::Skipped("there is no nmap".to_owned()));
    };
    let stage = Stage::new(context, "")?;
    let by = stage.mechanism(signal)?;
    let place = Place::at(&format!("scans{how}"), "198.51.100.1:8080", 64)?;
    let case = format!("vertical, nmap {how}, {PORTS} ports");
    let (after, began) = (stage.watch.position(), Instant::now());
    // The kernel answers datagrams for closed ports with six ICMP messages a second: without retries nmap does not wait for each.
    let scan = || within(place.actor.pid, || run(&program, how));
    let closed = std::thread::scope(|scope| {
        let scan = scope.spawn(scan);
        scan.join().map_err(|_| anyhow!("nmap panicked"))?
    })?;
    ensure!(
        closed > PORTS / 2,
        "the trigger went wrong: {closed} of {PORTS} ports are closed"
    );
    if by == "reconcile" {
        return unseen(context, &stage, &place, &case, signal, &by);
    }
    let named = one_scan(&stage, &place, (after, began), protocol)?;
    ensure!(
        named.event.text("scan.source") == "198.51.100.1",
        "{}",
        named.event.brief()
    );
    // nmap looks about before it begins; the first knock is the beginning.
    let named = Named {
        after: since_first(&named)?,
        ..named
    };
    in_time(&named, SOON)?;
    note(context, &stage, &place, &case, &by, Some(&named))
}

/// Runs it to its end; how many ports it found closed.
fn run(program: &Path, how: &str) -> Result<u32> {
    let mut command = Command::new(program);
    command.args([how, "-Pn", "-n", "-r", "-T5", "--max-retries", "0", "-p"]);
    command.args([&format!("1-{PORTS}"), "-oG", "-", "198.51.100.1"]);
    let output = command.output().context("cannot run nmap")?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "nmap: {told} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // `Ignored State: closed (1000)`, or `open|filtered` for datagrams that nobody answered.
    let ignored = told.split("Ignored State: ").nth(1).unwrap_or_default();
    let count = ignored.split(['(', ')']).nth(1).unwrap_or_default();
    count.parse().with_context(|| format!("nmap said: {told}"))
}

/// What `nmap -sS` does, from an invented source, at five hundred ports a second.
fn half_open(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let by = stage.mechanism("tcp.knock")?;
    let mut place = Place::new("scans-probe", 64)?;
    let case = format!("vertical, half-open, {PORTS} ports, 500 a second");
    let (after, began) = (stage.watch.position(), Instant::now());
    place.actor.call(&format!("probe 1 {PORTS} 500 10.9.8.7"))?;
    if by == "reconcile" {
        return unseen(context, &stage, &place, &case, "tcp.knock", &by);
    }
    let named = one_scan(&stage, &place, (after, began), "tcp")?;
    ensure!(
        named.event.text("scan.source") == "10.9.8.7",
        "{}",
        named.event.brief()
    );
    let knocks = named.event.number("scan.ports");
    ensure!(knocks >= Some(ENOUGH), "{}", named.event.brief());
    in_time(&named, SOON)?;
    note(context, &stage, &place, &case, &by, Some(&named))
}

/// What `nmap -T1` does, as slowly as a test may: the kernel announces nothing, and each look finds a port or two more. The
/// pure tests of the detector have it with a quarter of an hour between two ports.
fn slow(context: &Context) -> Result<Outcome> {
    const SLOW: u32 = 26;
    let stage = Stage::new(context, "[storm]\nscan_window = \"5m\"\n")?;
    let by = stage.mechanism("tcp.knock")?;
    let mut place = Place::new("scans-slow", 64)?;
    let (after, began) = (stage.watch.position(), Instant::now());
    for nth in 0..SLOW {
        place
            .actor
            .call(&format!("probe {} 1 0 10.9.8.7", 20 + nth * 7))?;
        std::thread::sleep(Duration::from_millis(1_200));
    }
    if by == "reconcile" {
        let case = "vertical, a port in 1.2 s";
        return unseen(context, &stage, &place, case, "tcp.knock", &by);
    }
    let named = one_scan(&stage, &place, (after, began), "tcp")?;
    ensure!(
        named.event.text("scan.source") == "10.9.8.7",
        "{}",
        named.event.brief()
    );
    let ports = named.event.number("scan.ports");
    ensure!(ports >= Some(ENOUGH), "{}", named.event.brief());
    // Since its twentieth port.
    let twentieth = Duration::from_millis(1_200) * 19;
    let named = Named {
        after: named.after.saturating_sub(twentieth),
        ..named
    };
    note(
        context,
        &stage,
        &place,
        "vertical, a port in 1.2 s",
        &by,
        Some(&named),
    )
}

/// Few ports, again and again, and answers that come late to ports which the kernel chose: no scan.
fn other_ports(context: &Context) -> Result<Outcome> {
    let stage = Stage::new(context, "")?;
    let by = stage.mechanism("tcp.knock")?;
    let mut place = Place::new("scans-none", 64)?;
    for _ in 0..5 {
        place.actor.call("probe 100 19 0 10.9.8.7")?;
        place.actor.call("probe 40000 300 0 10.9.8.8")?;
    }
    std::thread::sleep(Duration::from_secs(6));
    let measured = Measured {
        kind: "",
        case: "none: 19 ports again and again, 300 late answers",
        mechanism: &by,
        named: None,
        wrong: &stage.wrong(place.netns, place.actor.pid, &["refused-storm"]),
    };
    measured.note(context)?;
    Ok(Outcome::Done)
}

/// The scan of this place is told, and told once.
fn one_scan(
    stage: &Stage,
    place: &Place,
    (after, began): (usize, Instant),
    protocol: &str,
) -> Result<Named> {
    let is_ours = |event: &Event| {
        event.kind() == "scan.detected"
            && event.number("scan.netns") == Some(place.netns)
            && event.text("scan.protocol") == protocol
    };
    let event = stage.watch.next_after(after, PATIENCE, is_ours);
    let event = event.context("the scan is not told")?;
    ensure!(event.text("scan.shape") == "vertical", "{}", event.brief());
    std::thread::sleep(Duration::from_secs(2));
    let count = stage.watch.all(is_ours).len();
    ensure!(count == 1, "told {count} times");
    let after = event.arrived.saturating_duration_since(began);
    Ok(Named { event, after })
}

/// From the first knock, as the kernel saw it, to the event.
fn since_first(named: &Named) -> Result<Duration> {
    let moment = |path: &str| {
        let text = named.event.text(path);
        let parsed: jiff::Timestamp = text.parse().with_context(|| format!("{path}: {text}"))?;
        anyhow::Ok(parsed.as_nanosecond())
    };
    let passed = moment("ts")? - moment("scan.first")?;
    Ok(Duration::from_nanos(u64::try_from(passed).unwrap_or(0)))
}

fn note(
    context: &Context,
    stage: &Stage,
    place: &Place,
    case: &str,
    by: &str,
    named: Option<&Named>,
) -> Result<Outcome> {
    // A thousand closed ports in a second are refusals, too; they are explained by the scan.
    let measured = Measured {
        kind: "port-scan",
        case,
        mechanism: by,
        named: named.map(|named| named.after),
        wrong: &stage.wrong(place.netns, place.actor.pid, &["port-scan"]),
    };
    measured.note(context)?;
    Ok(Outcome::Done)
}

fn unseen(
    context: &Context,
    stage: &Stage,
    place: &Place,
    case: &str,
    signal: &str,
    by: &str,
) -> Result<Outcome> {
    let measured = Measured {
        kind: "port-scan",
        case,
        mechanism: by,
        named: None,
        wrong: &stage.wrong(place.netns, place.actor.pid, &["refused-storm"]),
    };
    measured.unseen(context, stage, signal)
}
