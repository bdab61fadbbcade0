//! `start`: the first inventory, and the time until the daemon is ready, on hosts with many listeners.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Bench;
use super::lab::Lab;
use super::load::{find, need};
use super::process::available_memory;
use super::table::{Budget, Row};

pub(super) const BENCH: Bench = Bench {
    name: "start",
    title: "Start-up: the first inventory, and the time until the daemon is ready",
    run,
};

/// Listeners that are open when the daemon starts, and at most how many rounds.
const HOSTS: [(u32, usize); 4] = [(4_000, 15), (1_000, 15), (10_000, 5), (100_000, 3)];
/// The first one has the budget.
const BUDGET: (u32, f64) = (4_000, 3.0);
/// The same as a share of what `ss -tlnp` takes in the same round, in percent: 3 of 13 ms, where both were measured when
/// the budget was made. It does not depend on how fast the machine is today.
const SHARE: f64 = 23.0;
/// Memory that a listener takes with its file, descriptor and record, generously.
const EACH: u64 = 32 << 10;
const QUICK: u32 = 10_000;

/// Milliseconds of every round.
#[derive(Default)]
struct Samples {
    owners: Vec<f64>,
    complete: Vec<f64>,
    ready: Vec<f64>,
    ss: Vec<f64>,
}

fn run(lab: &Lab) -> Result<Vec<Row>> {
    need("ss")?;
    let mut rows = Vec::new();
    for (count, rounds) in HOSTS {
        if lab.quick && count > QUICK {
            continue;
        }
        if available_memory().unwrap_or(0) < u64::from(count) * EACH * 2 {
            let why = format!("{count} listeners need more memory than there is");
            let what = format!("first inventory, {count} listeners");
            rows.push(Row::missing(what, "ms", why));
            continue;
        }
        let _listeners = match lab.hold("crowd", &["listeners", &count.to_string()]) {
            Ok(listeners) => listeners,
            Err(error) => {
                let what = format!("first inventory, {count} listeners");
                rows.push(Row::missing(what, "ms", format!("{error:#}")));
                continue;
            }
        };
        let mut samples = Samples::default();
        for _ in 0..lab.rounds_up_to(rounds) {
            samples.add(lab, count)?;
        }
        rows.extend(samples.rows(count));
    }
    Ok(rows)
}

impl Samples {
    fn add(&mut self, lab: &Lab, count: u32) -> Result<()> {
        let daemon = lab.daemon("")?;
        let status = daemon.status()?;
        ensure!(
            status.listeners.total >= u64::from(count),
            "the daemon knows {} of {count} listeners",
            status.listeners.total
        );
        if let Some(look) = status.first_look {
            self.owners.push(look.owners_us as f64 / 1e3);
            self.complete.push(look.complete_us as f64 / 1e3);
        }
        self.ready.push(milliseconds(daemon.ready));
        daemon.end()?;
        self.ss.push(milliseconds(ss()?));
        println!(
            "  {count} listeners: inventory {:?} ms, ready {:?} ms, ss {:?} ms",
            self.complete.last(),
            self.ready.last(),
            self.ss.last()
        );
        Ok(())
    }

    fn rows(&self, count: u32) -> [Row; 5] {
        let row =
            |what, samples: &[f64]| Row::new(format!("{what}, {count} listeners"), "ms", samples);
        let owners = row("first inventory with owners", &self.owners);
        let owners = match BUDGET {
            (bounded, limit) if bounded == count => owners.within(Budget::AtMost(limit)),
            _ => owners,
        };
        let share = self
            .owners
            .iter()
            .zip(&self.ss)
            .map(|(own, ss)| own / ss * 100.0);
        let share: Vec<f64> = share.collect();
        let what = format!("the same as a share of `ss -tlnp`, {count} listeners");
        let share = Row::new(what, "%", &share);
        let share = match BUDGET {
            (bounded, _) if bounded == count => share.within(Budget::AtMost(SHARE)),
            _ => share,
        };
        [
            owners,
            share,
            row("the same, and sockets without a descriptor", &self.complete),
            row("from exec to ready", &self.ready),
            row("`ss -tlnp`, the whole command", &self.ss),
        ]
    }
}

fn ss() -> Result<Duration> {
    let mut command = Command::new(find("ss")?);
    command.arg("-tlnp").stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status().context("cannot start ss")?;
    ensure!(status.success(), "ss failed: {status}");
    Ok(began.elapsed())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
