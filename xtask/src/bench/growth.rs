//! `growth`: what grows with the number of readers, of open sockets and of processes.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::lab::Lab;
use super::memory::busy;
use super::process::{Memory, available_memory, on_cpu};
use super::table::Row;

pub(super) const BENCH: Bench = Bench {
    name: "growth",
    title: "Growth with readers, open sockets and processes",
    run,
};

const CLIENTS: [usize; 3] = [1, 8, 64];
/// Both ends of connections.
const SOCKETS: Crowd = Crowd {
    name: "sockets",
    what: "open sockets",
    counts: [1_000, 10_000, 100_000],
    each: 16 << 10,
};
const PROCESSES: Crowd = Crowd {
    name: "processes",
    what: "more processes",
    counts: [1, 1_000, 10_000],
    each: 512 << 10,
};
/// More than this is too much for a quick run.
const QUICK: u32 = 10_000;
const ROUNDS: usize = 5;
/// Listeners that one process opens and closes, so many a second.
const CHURN: (&str, &str) = ("4000", "2000");
/// Seats for all clients of one user, who may have a quarter of them.
const SEATS: &str = "[control]\nmax_clients = 512\n";
/// How long the last lines may take to their readers.
const REST: Duration = Duration::from_secs(1);
/// How long the daemon is watched at rest, after its first look.
const AT_REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// The first seconds still see what its own start began.
const SETTLED: Duration = Duration::from_secs(3);

/// What there is much of.
struct Crowd {
    name: &'static str,
    what: &'static str,
    counts: [u32; 3],
    /// Memory of one, with all that the kernel keeps for it.
    each: u64,
}

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let rounds = lab.rounds_up_to(ROUNDS);
    let mut rows = Vec::new();
    for clients in CLIENTS {
        let (mut cpu, mut missed) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (each, lost) = with_clients(lab, clients)?;
            cpu.push(each);
            missed.push(lost);
        }
        rows.push(Row::new(
            format!("daemon's time for one event, {clients} readers"),
            "µs",
            &cpu,
        ));
        let what = format!("lines that readers missed, {clients} readers");
        rows.push(Row::new(what, "%", &missed));
    }
    for crowd in [SOCKETS, PROCESSES] {
        for count in crowd.counts {
            if !lab.quick || count <= QUICK {
                rows.extend(beside(lab, &crowd, count, rounds)?);
            }
        }
    }
    Ok(rows)
}

/// What the daemon takes to start, and at rest, on a host with so many.
fn beside(lab: &Lab, crowd: &Crowd, count: u32, rounds: usize) -> Result<Vec<Row>> {
    let what = |what| format!("{what}, {count} {}", crowd.what);
    if available_memory().unwrap_or(0) < u64::from(count) * crowd.each * 2 {
        let why = format!("{count} {} need more memory than there is", crowd.name);
        return Ok(vec![Row::missing(what("from exec to ready"), "ms", why)]);
    }
    let held = match lab.hold("crowd", &[crowd.name, &count.to_string()]) {
        Ok(held) => held,
        Err(error) => {
            let why = format!("{error:#}");
            return Ok(vec![Row::missing(what("from exec to ready"), "ms", why)]);
        }
    };
    let (mut ready, mut look, mut memory, mut rest) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let daemon = lab.daemon("")?;
        ready.push(daemon.ready.as_secs_f64() * 1e3);
        let first = daemon.status()?.first_look;
        look.extend(first.map(|look| look.owners_us as f64 / 1e3));
        std::thread::sleep(SETTLED);
        rest.push(busy(daemon.pid(), lab.time(AT_REST.0, AT_REST.1))?);
        let bytes = Memory::of(daemon.pid())?.anonymous;
        memory.push(bytes as f64 / 1e6);
        daemon.end()?;
    }
    drop(held);
    Ok(vec![
        Row::new(what("from exec to ready"), "ms", &ready),
        Row::new(what("first inventory with owners"), "ms", &look),
        Row::new(what("anonymous memory"), "MB", &memory),
        Row::new(what("processor time at rest"), "%", &rest),
    ])
}

/// Microseconds of processor time for each event, and the share of lines missed, in percent.
fn with_clients(lab: &Lab, clients: usize) -> Result<(f64, f64)> {
    let daemon = lab.daemon(SEATS)?;
    let readers = (0..clients).map(|_| daemon.tail(&[]));
    let _readers: Vec<_> = readers.collect::<Result<_>>()?;
    let (count, rate) = CHURN;
    std::thread::sleep(REST);
    let before = (on_cpu(daemon.pid())?, daemon.status()?);
    lab.measure("crowd", &["churn", count, rate])?;
    std::thread::sleep(REST);
    let after = (on_cpu(daemon.pid())?, daemon.status()?);
    let events = |status: &portwatch::interface::status::Status| {
        status.counters.events.values().sum::<u64>()
    };
    let told = events(&after.1).saturating_sub(events(&before.1));
    let used = after.0.saturating_sub(before.0);
    let lines: (u64, u64) = after.1.clients.iter().fold((0, 0), |sum, client| {
        (sum.0 + client.delivered, sum.1 + client.missed)
    });
    println!(
        "  {clients} readers: {told} events, {used:?}, {} lines missed",
        lines.1
    );
    let events = Some(told as f64).filter(|&told| told > 0.0);
    let each = used.as_secs_f64() * 1e6 / events.context("the churn was not told")?;
    let all = (lines.0 + lines.1).max(1);
    Ok((each, lines.1 as f64 / all as f64 * 100.0))
}
