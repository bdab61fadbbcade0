//! `growth`: what grows with the number of readers, and with the number of processes.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::lab::Lab;
use super::process::{Memory, available_memory, on_cpu};
use super::table::Row;

pub(super) const BENCH: Bench = Bench {
    name: "growth",
    title: "Growth with readers and with processes",
    run,
};

const CLIENTS: [usize; 3] = [1, 8, 64];
const PROCESSES: [u32; 3] = [100, 1_000, 10_000];
const ROUNDS: usize = 5;
/// Listeners that one process opens and closes, so many a second.
const CHURN: (&str, &str) = ("4000", "2000");
/// Seats for all clients of one user, who may have a quarter of them.
const SEATS: &str = "[control]\nmax_clients = 512\n";
/// How long the last lines may take to their readers.
const REST: Duration = Duration::from_secs(1);
/// Memory of one waiting process, with all that the kernel keeps for it.
const EACH: u64 = 512 << 10;

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
    for count in PROCESSES {
        if lab.quick && count > 1_000 {
            continue;
        }
        let what = |what| format!("{what}, {count} more processes");
        if available_memory().unwrap_or(0) < u64::from(count) * EACH * 2 {
            let why = format!("{count} processes need more memory than there is");
            rows.push(Row::missing(what("from exec to ready"), "ms", why));
            continue;
        }
        let _processes = lab.hold("crowd", &["processes", &count.to_string()])?;
        let (mut ready, mut look, mut memory) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let daemon = lab.daemon("")?;
            ready.push(daemon.ready.as_secs_f64() * 1e3);
            let first = daemon.status()?.first_look;
            look.extend(first.map(|look| look.owners_us as f64 / 1e3));
            let bytes = Memory::of(daemon.pid())?.anonymous;
            memory.push(bytes as f64 / 1e6);
            daemon.end()?;
        }
        rows.push(Row::new(what("from exec to ready"), "ms", &ready));
        rows.push(Row::new(what("first inventory with owners"), "ms", &look));
        rows.push(Row::new(what("anonymous memory"), "MB", &memory));
    }
    Ok(rows)
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
