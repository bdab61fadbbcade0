//! `memory`: what the daemon holds, idle and with many listeners, and what it uses of a processor while idle.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Bench;
use super::lab::{Daemon, Held, Lab};
use super::process::{Memory, available_memory, on_cpu};
use super::table::{Budget, Row};
use super::watcher::Watcher;

pub(super) const BENCH: Bench = Bench {
    name: "memory",
    title: "Memory, and processor time while idle",
    run,
};

/// How long nothing happens, and how long idleness is measured.
const IDLE: Duration = Duration::from_secs(30);
const QUICK: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
/// The first seconds still see what its own start began.
const SETTLED: Duration = Duration::from_secs(2);
/// How long listeners may take to be known.
const PATIENCE: Duration = Duration::from_secs(60);
const MANY: u32 = 4_000;
const VERY_MANY: u32 = 100_000;
/// Memory that very many listeners need, with all that the kernel keeps for them.
const ROOM: u64 = 8 << 30;

/// Megabytes of every round.
#[derive(Default)]
struct Samples {
    anonymous: Vec<f64>,
    file: Vec<f64>,
    rings: Vec<f64>,
}

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let idle = lab.time(IDLE, QUICK);
    let mut at_rest = Samples::default();
    let (mut cpu, mut theirs) = (Vec::new(), Vec::new());
    let (mut many, mut after) = (Samples::default(), Samples::default());
    let mut bpftrace = Samples::default();
    let mut trouble = Watcher::Bpftrace.prepare().err();
    for _ in 0..lab.rounds_up_to(ROUNDS) {
        let daemon = lab.daemon("")?;
        std::thread::sleep(SETTLED);
        cpu.push(busy(daemon.pid(), idle)?);
        at_rest.add(daemon.pid())?;
        let listeners = hold(lab, &daemon, MANY)?;
        many.add(daemon.pid())?;
        drop(listeners);
        wait(&daemon, |total| total < u64::from(MANY))?;
        after.add(daemon.pid())?;
        daemon.end()?;
        if trouble.is_none() {
            match Watcher::Bpftrace.start(lab) {
                Ok(tool) => {
                    if let Some(pid) = tool.pid() {
                        std::thread::sleep(SETTLED);
                        theirs.push(busy(pid, idle)?);
                        bpftrace.add(pid)?;
                    }
                }
                Err(error) => trouble = Some(error),
            }
        }
    }
    let seconds = idle.as_secs();
    let mut rows = at_rest.rows(&format!("after {seconds} s idle"));
    if let Some(first) = rows.first_mut() {
        first.budget = Some(Budget::AtMost(10.0));
    }
    let what = format!("processor time over {seconds} s idle");
    rows.push(Row::new(what, "% of one", &cpu).within(Budget::AtMost(0.1)));
    rows.extend(many.rows(&format!("with {MANY} listeners")));
    rows.extend(
        after
            .rows(&format!("after {MANY} listeners have closed"))
            .into_iter()
            .take(1),
    );
    let many = very_many(lab).unwrap_or_else(|error| {
        let what = format!("anonymous, with {VERY_MANY} listeners");
        vec![Row::missing(what, "MB", format!("{error:#}"))]
    });
    rows.extend(many);
    let when = "bpftrace";
    match trouble {
        Some(error) => rows.push(Row::missing(when, "MB", format!("{error:#}"))),
        None => {
            rows.extend(bpftrace.rows(when).into_iter().take(2));
            let what = format!("processor time over {seconds} s idle, {when}");
            rows.push(Row::new(what, "% of one", &theirs));
        }
    }
    Ok(rows)
}

fn very_many(lab: &Lab) -> Result<Vec<Row>> {
    let what = format!("with {VERY_MANY} listeners");
    if lab.quick || available_memory().unwrap_or(0) < ROOM {
        let why = format!("needs {} GiB, and a run that is not quick", ROOM >> 30);
        return Ok(vec![Row::missing(format!("anonymous, {what}"), "MB", why)]);
    }
    let mut samples = Samples::default();
    let daemon = lab.daemon("")?;
    let listeners = hold(lab, &daemon, VERY_MANY)?;
    samples.add(daemon.pid())?;
    drop(listeners);
    Ok(samples.rows(&what).into_iter().take(1).collect())
}

/// Opens listeners and waits until the daemon knows them.
fn hold(lab: &Lab, daemon: &Daemon, count: u32) -> Result<Held> {
    let listeners = lab.hold("crowd", &["listeners", &count.to_string()])?;
    wait(daemon, |total| total >= u64::from(count))?;
    Ok(listeners)
}

fn wait(daemon: &Daemon, holds: impl Fn(u64) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let total = daemon.status()?.listeners.total;
        if holds(total) {
            return Ok(());
        }
        anyhow::ensure!(
            began.elapsed() < PATIENCE,
            "the daemon knows {total} listeners"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Percent of one processor that a process uses over this time.
pub(super) fn busy(pid: u32, time: Duration) -> Result<f64> {
    let (began, before) = (Instant::now(), on_cpu(pid)?);
    std::thread::sleep(time);
    let used = on_cpu(pid)?.saturating_sub(before);
    Ok(used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0)
}

impl Samples {
    fn add(&mut self, pid: u32) -> Result<()> {
        let memory = Memory::of(pid)?;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        self.anonymous.push(megabytes(memory.anonymous));
        self.file.push(megabytes(memory.file));
        self.rings.push(megabytes(memory.rings));
        println!("  {memory:?}");
        Ok(())
    }

    /// The one with the budget first.
    fn rows(&self, when: &str) -> Vec<Row> {
        vec![
            Row::new(
                format!("anonymous (RssAnon), {when}"),
                "MB",
                &self.anonymous,
            ),
            Row::new(format!("of files (RssFile), {when}"), "MB", &self.file),
            Row::new(format!("capacity of the rings, {when}"), "MB", &self.rings),
        ]
    }
}
