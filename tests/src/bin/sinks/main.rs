//! Events through a file, syslog over TLS to a real rsyslog and a stream of a real nats-server, while the daemon is killed
//! and the receivers come and go: does everything arrive that was on the disk, and do the counts add up?
//!
//! When the daemon was killed, what its buffers hold is read before it starts again: that is what was synced, and it has
//! to arrive. As root; loopback only, bounded in count and time. `cargo xtask test --only needs` unpacks the receivers.

mod audit;

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::receivers::{NatsServer, Rsyslog, missing};
use rustix::process::Signal;
use serde_json::Value;

use audit::{Missing, Output, ids, whole_lines};

/// Sends events through sinks while daemon and receivers are killed, and checks what arrives.
#[derive(Debug, Parser)]
struct Arguments {
    /// Events to tell, at least.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    events: u64,
    /// How often the daemon is killed.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// How often each receiver is killed and started again.
    #[arg(long, default_value_t = 20)]
    restarts: u64,
    /// Longest time for all of it, in minutes.
    #[arg(long, default_value_t = 120)]
    minutes: u64,
}

/// How long a receiver stays away.
const AWAY: Duration = Duration::from_millis(1_500);
/// Pause between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// After so many listeners the generator lets the daemon breathe …
const BURST: u64 = 100;
/// … for so long.
const BREATH: Duration = Duration::from_millis(20);
/// More events than this are not made to wait for a receiver.
const AHEAD: u64 = 20_000;
/// A receiver that has fewer to get is done: heartbeats go on.
const DONE: u64 = 4;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was on the disk whenever the daemon was killed: in the file, and in the buffers of the others.
#[derive(Default)]
struct Synced {
    file: HashSet<u128>,
    syslog: HashSet<u128>,
    nats: HashSet<u128>,
}

/// Where everything is.
struct Stage {
    home: Home,
    rsyslog: Rsyslog,
    nats: NatsServer,
}

fn run(arguments: &Arguments) -> Result<bool> {
    let (Some(rsyslog), Some(nats)) = (Rsyslog::start()?, NatsServer::start("")?) else {
        bail!(missing());
    };
    let mut stage = Stage {
        home: Home::new()?,
        rsyslog,
        nats,
    };
    fs::create_dir(stage.home.path("logs"))?;
    stage.configure()?;
    let pace = Arc::new(Pace {
        // Until there is somebody to see it.
        held: AtomicBool::new(true),
        ..Pace::default()
    });
    let generator = {
        let pace = Arc::clone(&pace);
        thread::spawn(move || generate(&pace))
    };
    let begun = Instant::now();
    let played = stage.play(arguments, begun, &pace);
    pace.ended.store(true, Ordering::Relaxed);
    generator
        .join()
        .map_err(|_| anyhow::anyhow!("the generator failed"))??;
    let synced = played?;
    let took = begun.elapsed().as_secs();
    let made = pace.made.load(Ordering::Relaxed);
    println!(
        "{made} listeners opened and closed in {took} s; the daemon killed {} times, each receiver {} times",
        arguments.kills, arguments.restarts
    );
    let last = made - pace.before.load(Ordering::Relaxed);
    stage.report(arguments.events, (2 * made, 2 * last), &synced)
}

/// What is asked of the generator, and what it has done.
#[derive(Default)]
struct Pace {
    /// The receivers have enough to do.
    held: AtomicBool,
    /// There are enough events.
    ended: AtomicBool,
    /// Listeners so far.
    made: AtomicU64,
    /// Of these, before the daemon was killed last.
    before: AtomicU64,
}

/// Opens and closes listeners.
fn generate(pace: &Pace) -> Result<()> {
    while !pace.ended.load(Ordering::Relaxed) {
        thread::sleep(BREATH);
        if pace.held.load(Ordering::Relaxed) {
            continue;
        }
        for _ in 0..BURST {
            drop(TcpListener::bind("127.93.0.1:0").context("no listener")?);
        }
        pace.made.fetch_add(BURST, Ordering::Relaxed);
    }
    Ok(())
}

impl Stage {
    fn configure(&self) -> Result<()> {
        let text = format!(
            r#"[heartbeat]
every = "1s"
[enrich]
hash = false
package = false
[history]
max_age = "off"
[[sink]]
type = "file"
path = "{logs}/events.jsonl"
rotate_mib = 64
keep = 10000
compress = false
chain = true
sync = "always"
[[sink]]
type = "syslog"
address = "tls://localhost:{tls}"
ca_file = "{syslog_ca}"
buffer_mib = 4096
sync = "always"
[[sink]]
type = "nats"
servers = ["tls://localhost:{nats}"]
ca_file = "{nats_ca}"
stream = "portwatch"
create_stream = true
buffer_mib = 4096
sync = "always"
"#,
            logs = self.home.path("logs").display(),
            tls = self.rsyslog.tls,
            syslog_ca = self.rsyslog.authority.certificate().display(),
            nats = self.nats.port,
            nats_ca = self.nats.authority.certificate().display(),
        );
        fs::write(self.home.path("portwatch.toml"), text).context("no configuration")
    }

    /// Kills whoever's turn it is as the events come, until there are enough and all are delivered.
    fn play(&mut self, arguments: &Arguments, begun: Instant, pace: &Pace) -> Result<Synced> {
        let limit = begun + Duration::from_secs(arguments.minutes * 60);
        let mut synced = Synced::default();
        let mut daemon = self.home.start(None)?;
        let (mut before, mut kills, mut restarts) = (0, 0, 0);
        let mut last = 0;
        loop {
            ensure!(Instant::now() < limit, "it takes too long: {last} events");
            thread::sleep(LOOK);
            let status = self.status()?;
            let waits = status.as_ref().map_or(AHEAD, most_queued);
            pace.held.store(waits >= AHEAD, Ordering::Relaxed);
            let Some(status) = status else {
                continue;
            };
            last = before + figure(&status, "file", "delivered");
            let is_due = |done: u64, all: u64| {
                done < all && last * (all + 1) >= arguments.events * (done + 1)
            };
            if is_due(kills, arguments.kills) {
                daemon.crash()?;
                // Nobody is told of them meanwhile.
                pace.held.store(true, Ordering::Relaxed);
                before = last;
                kills += 1;
                self.look(&mut synced)?;
                pace.before
                    .store(pace.made.load(Ordering::Relaxed), Ordering::Relaxed);
                daemon = self.home.start(None)?;
                eprintln!("{last} events; killed {kills} times, receivers {restarts} times");
            } else if is_due(restarts, arguments.restarts) {
                restarts += 1;
                self.rsyslog.kill()?;
                self.nats.kill()?;
                thread::sleep(AWAY);
                self.rsyslog.restart()?;
                self.nats.restart()?;
            } else if last >= arguments.events {
                break;
            }
        }
        pace.ended.store(true, Ordering::Relaxed);
        loop {
            ensure!(Instant::now() < limit, "not delivered in time");
            thread::sleep(LOOK);
            if self
                .status()?
                .is_some_and(|status| most_queued(&status) < DONE)
            {
                break;
            }
        }
        self.look(&mut synced)?;
        daemon.signal(Signal::TERM)?;
        let pid = daemon.pid();
        while Path::new(&format!("/proc/{pid}/fd/0")).exists() {
            ensure!(Instant::now() < limit, "the daemon does not end");
            thread::sleep(LOOK);
        }
        Ok(synced)
    }

    /// Adds what is on the disk now; of the file, the part that is written to, as nothing writes to the others.
    fn look(&self, synced: &mut Synced) -> Result<()> {
        let current = self.home.path("logs/events.jsonl");
        // It may just have been put away.
        let current = fs::read(current).unwrap_or_default();
        synced.file.extend(ids(whole_lines(&current)));
        synced.syslog.extend(self.buffered("syslog")?);
        synced.nats.extend(self.buffered("nats")?);
        Ok(())
    }

    /// Ids of the events that wait on disk.
    fn buffered(&self, sink: &str) -> Result<Vec<u128>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.home.path("state/sinks").join(sink))? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "records") {
                // It may just have been acknowledged.
                all.extend(ids(&fs::read(path).unwrap_or_default()));
            }
        }
        Ok(all)
    }

    /// Nothing when the daemon has too much to do for an answer.
    fn status(&self) -> Result<Option<Value>> {
        let output = self
            .home
            .command()?
            .args(["status", "-o", "json"])
            .output()?;
        match output.status.success() {
            true => Ok(Some(serde_json::from_slice(&output.stdout)?)),
            false => Ok(None),
        }
    }

    /// `made` and `last` are events that there have to be: in all, and while the daemon ran that was not killed.
    fn report(&self, events: u64, (made, last): (u64, u64), synced: &Synced) -> Result<bool> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.home.path("logs"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        // The one that is written to is the last.
        files.sort_by_key(|path| {
            (
                path.extension().is_some_and(|ending| ending == "jsonl"),
                path.clone(),
            )
        });
        let mut file = Output::default();
        for path in &files {
            file.read(&fs::read(path)?);
        }
        let mut syslog = Output::default();
        self.rsyslog.each_line(|line| {
            let at = line.iter().position(|byte| *byte == b'{');
            syslog.line(at.map_or(&[], |at| &line[at..]));
        })?;
        let mut nats = Output::default();
        self.nats.each_stored(|bytes| nats.stored(bytes))?;
        let verified = self.home.command()?.arg("verify").args(&files).output()?;
        println!("{}", String::from_utf8_lossy(&verified.stdout).trim_end());
        let all = [
            ("file", &file, &synced.file),
            ("syslog", &syslog, &synced.syslog),
            ("nats", &nats, &synced.nats),
        ];
        let mut is_right = verified.status.success() && file.ids.len() as u64 >= events;
        println!(
            "{:<8} {:>10} {:>10} {:>8} {:>8} {:>8} {:>12} {:>10} {:>10}",
            "output", "lines", "events", "again", "gaps", "lost", "holes", "synced", "not there"
        );
        for (name, output, synced) in all {
            let missing = synced.difference(&output.ids).count();
            // A stream that knows what comes again keeps the number of the first time.
            let holes = output
                .holes
                .map_or("not checked".to_owned(), |holes| holes.to_string());
            println!(
                "{name:<8} {:>10} {:>10} {:>8} {:>8} {:>8} {holes:>12} {:>10} {missing:>10}",
                output.lines,
                output.ids.len(),
                output.lines - output.ids.len() as u64,
                output.gaps,
                output.lost,
                synced.len(),
            );
            is_right &= missing == 0 && output.holes.unwrap_or(0) == 0 && !synced.is_empty();
        }
        let (told, told_last) = file.made();
        println!(
            "of {made} openings and closings {told} are told, the others came while the daemon was killed; of {last} behind the last kill, {told_last}"
        );
        is_right &= told_last <= last && told_last + file.lost >= last;
        for (name, output) in [("syslog", &syslog), ("nats", &nats)] {
            let pairs = [
                ("the file", &file, name, output),
                (name, output, "the file", &file),
            ];
            for (has, from, has_not, to) in pairs {
                let Missing {
                    in_memory,
                    on_the_way,
                } = from.missing_in(to, &file);
                println!(
                    "{} events are in {has} and not in {has_not}: {in_memory} the last ones before a kill, {on_the_way} others, and {has_not} tells of {} in gaps",
                    in_memory + on_the_way,
                    to.lost
                );
                is_right &= on_the_way <= to.lost;
            }
        }
        println!(
            "{}",
            if is_right {
                "everything that was synced arrived, and every gap is told"
            } else {
                "NOT RIGHT"
            }
        );
        Ok(is_right)
    }
}

/// Events that wait for the slowest sink.
fn most_queued(status: &Value) -> u64 {
    let queued = |sink| figure(status, sink, "queued");
    ["file", "syslog", "nats"]
        .map(queued)
        .into_iter()
        .max()
        .unwrap_or(0)
}

fn figure(status: &Value, sink: &str, figure: &str) -> u64 {
    let sinks = status["sinks"].as_array();
    let found = sinks.into_iter().flatten().find(|one| one["name"] == sink);
    found.and_then(|one| one[figure].as_u64()).unwrap_or(0)
}
