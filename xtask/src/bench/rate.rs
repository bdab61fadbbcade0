//! `rate`: what watching costs of the most connections that the machine can do.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use portwatch::interface::status::Status;
use rustix::process::Signal;
use serde_json::Value;

use super::Bench;
use super::estimate::paired_cost;
use super::lab::Lab;
use super::load::Load;
use super::probes;
use super::process::Running;
use super::table::{Budget, Row};
use super::watcher::{AtWork, Watcher};

pub(super) const BENCH: Bench = Bench {
    name: "rate",
    title: "Connections per second on loopback, at the machine's maximum",
    run,
};

const WATCHERS: [Watcher; 9] = [
    Watcher::Nothing,
    Watcher::Again,
    Watcher::Run,
    Watcher::OwnTail,
    Watcher::AttachedTail,
    Watcher::Tcpstates,
    Watcher::Tcplife,
    Watcher::Bpftrace,
    Watcher::Ss,
];
const ROUND: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_secs(1);
/// How long the last records may take from the ring to the reader.
const DRAIN: Duration = Duration::from_secs(10);
/// Output of one reader is kept in memory for counting; it needs about this much free.
const ROOM: u64 = 4 << 30;

/// One way of watching, and what it was measured to do.
struct Entry {
    watcher: Watcher,
    rates: Vec<f64>,
    trouble: Option<String>,
}

/// What became of the state changes in a round.
#[derive(Default)]
struct Streamed {
    lost: Vec<f64>,
    per_second: Vec<f64>,
}

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let load = lab.load()?;
    let time = lab.time(ROUND, QUICK);
    let mut entries: Vec<Entry> = WATCHERS.into_iter().map(Entry::new).collect();
    let mut streamed = Streamed::default();
    // The first seconds differ: sockets in TIME_WAIT are not there yet, and caches are cold.
    load.run(time)?;
    for round in 0..lab.rounds {
        // Each round begins elsewhere, so that no way of watching always follows the same other one.
        for index in 0..entries.len() {
            let place = (index + round) % entries.len();
            if let Some(entry) = entries.get_mut(place) {
                entry.measure(lab, &load, time, &mut streamed)?;
            }
        }
    }
    let nothing = entries.first().map(|entry| entry.rates.clone());
    let nothing = nothing.unwrap_or_default();
    let mut rows = vec![Row::new("nothing watches", "connections/s", &nothing)];
    rows.extend(entries.iter().skip(1).map(|entry| entry.row(&nothing)));
    rows.extend(streamed.rows("`portwatch run` and `tail --states`"));
    let what = "`tail --states`, probes of its own: lost";
    rows.push(match lost_by_own_tail(lab, &load, time) {
        Ok(lost) => Row::new(what, "%", &[lost]).within(Budget::AtMost(0.0)),
        Err(error) => Row::missing(what, "%", format!("{error:#}")),
    });
    Ok(rows)
}

impl Entry {
    fn new(watcher: Watcher) -> Self {
        let trouble = watcher.prepare().err().map(|error| format!("{error:#}"));
        Self {
            watcher,
            rates: Vec::new(),
            trouble,
        }
    }

    /// One round. A tool that does not work is left out from then on; portwatch must work.
    fn measure(
        &mut self,
        lab: &Lab,
        load: &Load,
        time: Duration,
        streamed: &mut Streamed,
    ) -> Result<()> {
        if self.trouble.is_some() {
            return Ok(());
        }
        let at_work = match self.watcher.start(lab) {
            Ok(at_work) => at_work,
            Err(error) if self.watcher.budget().is_none() => {
                self.trouble = Some(format!("{error:#}"));
                return Ok(());
            }
            Err(error) => return Err(error.context(self.watcher.label())),
        };
        let before = match &at_work {
            AtWork::Daemon(daemon, Some(_)) => Some(daemon.status()?),
            _ => None,
        };
        let rate = load.run(time)?;
        println!("  {rate:>9.0} connections/s  {}", self.watcher.label());
        self.rates.push(rate);
        if let (AtWork::Daemon(daemon, Some(_)), Some(before)) = (&at_work, before) {
            let after = settled(|| daemon.status())?;
            streamed.add(&before, &after, time);
        }
        Ok(())
    }

    fn row(&self, nothing: &[f64]) -> Row {
        let what = format!("cost of {}", self.watcher.label());
        if let Some(trouble) = &self.trouble {
            return Row::missing(what, "%", trouble);
        }
        let row = Row::new(what, "%", &paired_cost(&self.rates, nothing));
        match self.watcher.budget() {
            Some(budget) => row.within(budget),
            None => row,
        }
    }
}

/// Waits until no state change is under way to the reader any more: two statuses agree.
fn settled(status: impl Fn() -> Result<Status>) -> Result<Status> {
    let began = std::time::Instant::now();
    let mut last = status()?;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = status()?;
        let waits = now.clients.iter().any(|client| client.queued > 0);
        if began.elapsed() > DRAIN || (!waits && told(&now) == told(&last)) {
            return Ok(now);
        }
        last = now;
    }
}

/// State changes that occurred, and those of them that a reader has.
fn told(status: &Status) -> (u64, u64) {
    let delivered = status.clients.iter().filter(|client| client.states);
    (
        status.counters.transitions_total,
        delivered.map(|client| client.delivered).sum(),
    )
}

impl Streamed {
    /// The reader gets nothing but state changes here, save a gap or a listener's line now and then, of
    /// which each hides one lost state change at most: too few to show among so many.
    fn add(&mut self, before: &Status, after: &Status, time: Duration) {
        let ((counted_before, told_before), (counted, told)) = (told(before), told(after));
        let counted = counted.saturating_sub(counted_before) as f64;
        let told = told.saturating_sub(told_before) as f64;
        if counted > 0.0 {
            self.lost.push((1.0 - told / counted).max(0.0) * 100.0);
            self.per_second.push(counted / time.as_secs_f64());
        }
    }

    fn rows(&self, who: &str) -> [Row; 2] {
        [
            Row::new(format!("{who}: lost"), "%", &self.lost).within(Budget::AtMost(0.0)),
            Row::new(format!("{who}: state changes"), "1/s", &self.per_second),
        ]
    }
}

/// One more round: what a `tail` of its own writes into a file in memory, against what a daemon counts.
fn lost_by_own_tail(lab: &Lab, load: &Load, time: Duration) -> Result<f64> {
    let folder = std::path::Path::new("/dev/shm");
    let free = super::process::available_memory().unwrap_or(0);
    anyhow::ensure!(
        folder.is_dir() && free > ROOM,
        "keeping the output in memory needs /dev/shm and {} GiB",
        ROOM >> 30
    );
    let path = folder.join(format!("portwatch-bench-{}", std::process::id()));
    let file = File::create_new(&path).context("cannot write to /dev/shm")?;
    // Without a name, it is gone with the last who has it open, however that one ends.
    let copy = File::open(&path);
    std::fs::remove_file(&path)?;
    let copy = copy?;
    let daemon = lab.daemon("")?;
    let mut command = Command::new(&lab.portwatch);
    command
        .args(["tail", "--no-daemon", "--states", "-o", "json"])
        .stdin(Stdio::null())
        .stdout(file);
    let mut tail = Running::spawn(command.stderr(Stdio::null()))?;
    tail.wait_until("probe", DRAIN, |pid| probes::of_states(pid).is_some())?;
    std::thread::sleep(Duration::from_secs(1));
    let before = daemon.status()?.counters.transitions_total;
    load.run(time)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = daemon.status()?.counters.transitions_total;
    tail.end(Signal::INT)?;
    let (mut told, mut gone) = (0_u64, 0_u64);
    for line in BufReader::new(copy).lines() {
        let line = line?;
        if line.contains("\"type\":\"connection.state\"") {
            told += 1;
        } else if line.contains("\"type\":\"gap\"") {
            let gap: Value = serde_json::from_str(&line)?;
            gone += gap
                .pointer("/gap/lost")
                .and_then(Value::as_u64)
                .unwrap_or(0);
        }
    }
    let counted = after.saturating_sub(before);
    println!("  {told} of {counted} state changes told, {gone} told to be lost");
    anyhow::ensure!(counted > 0, "no state change was counted");
    Ok((1.0 - told as f64 / counted as f64).max(0.0) * 100.0)
}
