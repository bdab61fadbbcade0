//! `rate`: what watching costs of the most connections that the machine can do.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch::event::RingName;
use portwatch::interface::status::Status;
use rustix::process::Signal;
use serde_json::Value;

use super::Bench;
use super::estimate::paired_cost;
use super::lab::Lab;
use super::load::Load;
use super::order::shuffled;
use super::probes;
use super::process::{Running, available_memory};
use super::table::{Budget, Row};
use super::watcher::{AtWork, Watcher};

pub(super) const BENCH: Bench = Bench {
    name: "rate",
    title: "Connections per second on loopback, at the machine's maximum",
    run,
};

const WATCHERS: [Watcher; 9] = [
    Watcher::Again,
    Watcher::Run,
    Watcher::OwnTail,
    Watcher::AttachedTail,
    Watcher::Tcpstates,
    Watcher::Tcplife,
    Watcher::Bpftrace,
    Watcher::EmptyHooks,
    Watcher::Ss,
];
const ROUND: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_secs(1);
/// How long the last records may take from the ring to the reader.
const DRAIN: Duration = Duration::from_secs(30);
/// Output of one reader is kept in memory for counting; it needs about this much free.
const ROOM: u64 = 4 << 30;

/// One way of watching, and what it was measured to do.
struct Entry {
    watcher: Watcher,
    rates: Vec<f64>,
    /// What the machine did just before and just after, on average, with nothing watching.
    nothing: Vec<f64>,
    /// Processor time of the processes that watched, in percent of the machine.
    processors: Vec<f64>,
    trouble: Option<String>,
}

/// What became of the state changes in each round, in percent of them.
#[derive(Default)]
struct Streamed {
    lost: Vec<f64>,
    in_ring: Vec<f64>,
    at_reader: Vec<f64>,
    per_second: Vec<f64>,
}

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let load = lab.load()?;
    let time = lab.time(ROUND, QUICK);
    let (entries, streamed) = paired(lab, &load, time, &WATCHERS)?;
    let mut rows = costs(&entries);
    rows.extend(entries.iter().filter_map(Entry::processors_row));
    rows.extend(streamed.rows("`portwatch run` and `tail --states`"));
    rows.extend(own_tail(lab, &load, time));
    Ok(rows)
}

/// The same for the daemon alone: what a table needs that is about another load.
pub(super) fn of_daemon(lab: &Lab) -> Result<Vec<Row>> {
    let load = lab.load()?;
    let time = lab.time(ROUND, QUICK);
    let (entries, _) = paired(lab, &load, time, &[Watcher::Again, Watcher::Run])?;
    Ok(costs(&entries))
}

/// Rounds in which each watcher has its turn between two of nothing.
fn paired(
    lab: &Lab,
    load: &Load,
    time: Duration,
    watchers: &[Watcher],
) -> Result<(Vec<Entry>, Streamed)> {
    let mut entries: Vec<Entry> = watchers.iter().copied().map(Entry::new).collect();
    let mut streamed = Streamed::default();
    // The first seconds differ: sockets in TIME_WAIT are not there yet, and caches are cold.
    load.run(time)?;
    for round in 0..lab.rounds {
        // A machine shared with others is faster and slower by turns: each measurement is compared with
        // its own neighbours, not with one of another half-minute.
        let mut before = load.run(time)?;
        for place in shuffled(round, entries.len()) {
            let Some(entry) = entries.get_mut(place) else {
                continue;
            };
            if entry.measure(lab, load, time, &mut streamed)? {
                let after = load.run(time)?;
                entry.nothing.push(f64::midpoint(before, after));
                before = after;
            }
        }
    }
    Ok((entries, streamed))
}

/// What nothing costs, and what each of them does.
fn costs(entries: &[Entry]) -> Vec<Row> {
    let nothing: Vec<f64> = entries.iter().flat_map(|one| one.nothing.clone()).collect();
    let mut rows = vec![Row::new("nothing watches", "connections/s", &nothing)];
    rows.extend(entries.iter().map(Entry::row));
    rows
}

impl Entry {
    fn new(watcher: Watcher) -> Self {
        let trouble = watcher.prepare().err().map(|error| format!("{error:#}"));
        Self {
            watcher,
            rates: Vec::new(),
            nothing: Vec::new(),
            processors: Vec::new(),
            trouble,
        }
    }

    /// One round; whether it was measured. A tool that does not work is left out from then on; portwatch must
    /// work.
    fn measure(
        &mut self,
        lab: &Lab,
        load: &Load,
        time: Duration,
        streamed: &mut Streamed,
    ) -> Result<bool> {
        if self.trouble.is_some() {
            return Ok(false);
        }
        let at_work = match self.watcher.start(lab) {
            Ok(at_work) => at_work,
            Err(error) if self.watcher.budget().is_none() => {
                self.trouble = Some(format!("{error:#}"));
                return Ok(false);
            }
            Err(error) => return Err(error.context(self.watcher.label())),
        };
        let before = match &at_work {
            AtWork::Daemon(daemon, Some(_)) => Some(daemon.status()?),
            _ => None,
        };
        let busy = at_work.on_cpu();
        let began = Instant::now();
        let rate = load.run(time)?;
        if let (Some(busy), Some(now)) = (busy, at_work.on_cpu()) {
            let share = now.saturating_sub(busy).as_secs_f64() / began.elapsed().as_secs_f64();
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            self.processors.push(share / processors as f64 * 100.0);
        }
        println!("  {rate:>9.0} connections/s  {}", self.watcher.label());
        self.rates.push(rate);
        if let (AtWork::Daemon(daemon, Some(_)), Some(before)) = (&at_work, before) {
            let after = settled(|| daemon.status())?;
            streamed.add(&before, &after, time);
        }
        Ok(true)
    }

    /// What does not wait for the machine's mood: how long the watching processes themselves ran. Probes run in
    /// those that connect, and are not in it.
    fn processors_row(&self) -> Option<Row> {
        let what = format!("processor time of {}", self.watcher.label());
        (!self.processors.is_empty()).then(|| Row::new(what, "%", &self.processors))
    }

    fn row(&self) -> Row {
        let what = format!("cost of {}", self.watcher.label());
        if let Some(trouble) = &self.trouble {
            return Row::missing(what, "%", trouble);
        }
        let row = Row::new(what, "%", &paired_cost(&self.rates, &self.nothing));
        match self.watcher.budget() {
            Some(budget) => row.within(budget),
            None => row,
        }
    }
}

/// Waits until no state change is under way to the reader any more: two statuses agree. A daemon that has
/// much to drain may be too busy for an answer at first.
fn settled(status: impl Fn() -> Result<Status>) -> Result<Status> {
    let deadline = Instant::now() + DRAIN;
    let mut last = None;
    loop {
        let now = status();
        let late = Instant::now() > deadline;
        let Ok(now) = now else {
            if late {
                return now;
            }
            continue;
        };
        let waits = now.clients.iter().any(|client| client.queued > 0);
        if late || (!waits && last.replace(told(&now)) == Some(told(&now))) {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// State changes that occurred, those of them that a reader has, those that the ring had no room for and
/// those that the reader was too slow for.
fn told(status: &Status) -> [u64; 4] {
    let readers = || status.clients.iter().filter(|client| client.states);
    let bulk = status
        .rings
        .iter()
        .filter(|ring| ring.ring == RingName::Bulk);
    [
        status.counters.transitions_total,
        readers().map(|client| client.delivered).sum(),
        bulk.map(|ring| ring.dropped).sum(),
        readers().map(|client| client.missed).sum(),
    ]
}

impl Streamed {
    /// The reader gets nothing but state changes here, save a gap or a listener's line now and then, of
    /// which each hides one lost state change at most: too few to show among so many.
    fn add(&mut self, before: &Status, after: &Status, time: Duration) {
        let (before, after) = (told(before), told(after));
        let [counted, told, dropped, missed] =
            std::array::from_fn(|at| after[at].saturating_sub(before[at]) as f64);
        if counted > 0.0 {
            self.lost.push((1.0 - told / counted).max(0.0) * 100.0);
            self.in_ring.push(dropped / counted * 100.0);
            self.at_reader.push(missed / counted * 100.0);
            self.per_second.push(counted / time.as_secs_f64());
        }
    }

    fn rows(&self, who: &str) -> [Row; 4] {
        let row = |what, unit, samples: &[f64]| Row::new(format!("{who}: {what}"), unit, samples);
        [
            row("state changes", "1/s", &self.per_second),
            row("lost of them", "%", &self.lost).within(Budget::AtMost(0.0)),
            row("of which lost in the ring", "%", &self.in_ring),
            row("of which lost to a slow reader", "%", &self.at_reader),
        ]
    }
}

/// One more round for a `tail` with probes of its own, of which nobody else knows what it told.
fn own_tail(lab: &Lab, load: &Load, time: Duration) -> [Row; 2] {
    let lost = "`tail --states`, probes of its own: lost";
    let silent = "`tail --states`, probes of its own: lost and not told to be";
    let rows = match count_own_tail(lab, load, time) {
        Ok([counted, told, gap]) => {
            let share = |part: f64| [part.max(0.0) / counted * 100.0];
            [
                Row::new(lost, "%", &share(counted - told)),
                Row::new(silent, "%", &share(counted - told - gap)),
            ]
        }
        Err(error) => {
            let why = format!("{error:#}");
            [lost, silent].map(|what| Row::missing(what, "%", &why))
        }
    };
    rows.map(|row| row.within(Budget::AtMost(0.0)))
}

/// State changes that a daemon counts, those that a `tail` of its own writes into a file in memory, and
/// those that it says are lost.
fn count_own_tail(lab: &Lab, load: &Load, time: Duration) -> Result<[f64; 3]> {
    let folder = Path::new("/dev/shm");
    let free = available_memory().unwrap_or(0);
    ensure!(
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
    rest(&copy)?;
    let before = daemon.status()?.counters.transitions_total;
    load.run(time)?;
    rest(&copy)?;
    let after = daemon.status()?.counters.transitions_total;
    tail.end(Signal::INT)?;
    let (mut told, mut gap) = (0.0, 0.0);
    for line in BufReader::new(copy).lines() {
        let line = line?;
        if line.contains("\"type\":\"connection.state\"") {
            told += 1.0;
        } else if line.contains("\"type\":\"gap\"") {
            let event: Value = serde_json::from_str(&line)?;
            let lost = event.pointer("/gap/lost").and_then(Value::as_f64);
            gap += lost.unwrap_or(0.0);
        }
    }
    let counted = after.saturating_sub(before) as f64;
    println!("  {told} of {counted} state changes told, {gap} told to be lost");
    ensure!(counted > 0.0, "no state change was counted");
    Ok([counted, told, gap])
}

/// Waits until a file has not grown for a while: losses are told a second or two after they happened.
fn rest(file: &File) -> Result<()> {
    let began = Instant::now();
    let mut length = None;
    while began.elapsed() < DRAIN {
        let now = file.metadata()?.len();
        if length.replace(now) == Some(now) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(3));
    }
    Ok(())
}
