//! Listeners that live for less than a millisecond, in processes that live for a few: is every one told,
//! with the right program and arguments, and is nothing missing from `seq`?
//!
//! `--wrk` puts nginx under a load of short connections at the same time: the flood of transitions may
//! not push a single listener out. `--exec-storm` starts programs as fast as the machine can: what the
//! process ring loses may not make a listener wrong. Loopback only, bounded in count and time.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Parser;
use portwatch_tests::address::hex;
use portwatch_tests::harness::program::{Program, find, free_tcp_port, nginx};
use portwatch_tests::harness::watch::rung_args;
use portwatch_tests::harness::{Actor, Event, locate, tiny};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Processes that one command to the actor starts.
const PART: u32 = 100;
/// How long events may come after the last process is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens many short-lived listeners and checks that portwatch tells of each.
#[derive(Debug, Parser)]
struct Arguments {
    /// Listeners to open, each in a process of its own; rounded up to hundreds.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Processes at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// Rung, as `portwatch tail --rung` takes it.
    #[arg(long)]
    rung: Option<String>,
    /// Put nginx under load with wrk meanwhile.
    #[arg(long)]
    wrk: bool,
    /// Longest time that wrk runs, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    wrk_seconds: u32,
    /// Start a tiny program again and again meanwhile, on every processor.
    #[arg(long)]
    exec_storm: bool,
    /// Print the result as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What is left of one event.
#[derive(Debug)]
enum Told {
    Ready,
    Opened {
        token: String,
        pid: u64,
        inode: u64,
        exe: bool,
        args: bool,
        parent: bool,
    },
    Closed {
        inode: u64,
    },
    Lost {
        ring: String,
        events: u64,
    },
    Broken(String),
}

/// The count of everything.
#[derive(Debug, Default)]
struct Tally {
    opened: HashMap<String, u64>,
    inodes: HashMap<u64, u32>,
    wrong_pid: u32,
    wrong_exe: u32,
    wrong_args: u32,
    wrong_parent: u32,
    twice: u32,
    closed: u32,
    lost: BTreeMap<String, u64>,
    example: Option<String>,
}

fn main() -> ExitCode {
    match churn(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("churn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn churn(arguments: &Arguments) -> Result<bool> {
    let (mut watcher, told) = watch(arguments.rung.as_deref())?;
    let outcome = churn_watched(arguments, &told);
    let pid = i32::try_from(watcher.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("no pid")?;
    kill_process(pid, Signal::INT)?;
    let status = watcher.wait()?;
    let broken = told.iter().find_map(|one| match one {
        Told::Broken(why) => Some(why),
        _ => None,
    });
    if let Some(why) = broken {
        bail!("the stream broke: {why}");
    }
    let right = outcome?;
    ensure!(status.code() == Some(130), "portwatch ended with {status}");
    Ok(right)
}

fn churn_watched(arguments: &Arguments, told: &Receiver<Told>) -> Result<bool> {
    wait_ready(told)?;
    let _load = if arguments.wrk {
        Some(load(arguments.wrk_seconds)?)
    } else {
        None
    };
    let storm = arguments.exec_storm.then(Storm::start).transpose()?;
    let mut actor = Actor::start(&prefix())?;
    let prefix = prefix();
    let rounds = arguments.count.div_ceil(PART);
    let mut pids: HashMap<String, u64> = HashMap::new();
    let start = Instant::now();
    for round in 0..rounds {
        let command = format!("blink {PART} {prefix}-{round} {}", arguments.parallel);
        let answer = actor.call(&command)?;
        for (at, pid) in answer.text("pids")?.split(',').enumerate() {
            pids.insert(format!("{prefix}-{round}-{at}"), pid.parse()?);
        }
    }
    let took = start.elapsed();
    let execs = storm.map(Storm::end).transpose()?;
    let tally = count(told, &pids)?;
    let summary = Summary {
        all: pids.len(),
        missing: pids
            .keys()
            .filter(|token| !tally.opened.contains_key(*token))
            .count(),
        took,
        execs,
    };
    if arguments.json {
        print_json(&tally, &summary);
    } else {
        print_table(&tally, &summary);
    }
    Ok(is_right(&tally, &summary))
}

/// What marks the processes of this run, and of no other that runs beside it.
fn prefix() -> String {
    format!("churn{}", std::process::id())
}

/// Starts `portwatch tail` and a thread that keeps of each line only what is counted.
fn watch(rung: Option<&str>) -> Result<(Child, Receiver<Told>)> {
    let mut watcher = Command::new(locate::portwatch()?)
        .args(["tail", "-o", "json", "--no-daemon"])
        .args(rung_args(rung))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start portwatch")?;
    let stdout = watcher.stdout.take().context("no output")?;
    let exe = locate::actor()?
        .to_str()
        .context("a path that is no UTF-8")?
        .to_owned();
    let (sender, receiver) = channel();
    std::thread::spawn(move || read(stdout, &exe, &sender));
    Ok((watcher, receiver))
}

fn read(stdout: ChildStdout, exe: &str, sender: &Sender<Told>) {
    let mut next_seq: Option<u64> = None;
    for (index, line) in BufReader::new(stdout).split(b'\n').enumerate() {
        let Ok(line) = line else { return };
        let told = match Event::parse(&line, index, Instant::now()) {
            Err(error) => Some(Told::Broken(format!("{error:#}"))),
            Ok(event) => {
                let seq = event.number("seq");
                if seq.is_none() || next_seq.is_some_and(|next| seq != Some(next)) {
                    let text = format!("seq {next_seq:?} should come: {}", event.value());
                    let _ = sender.send(Told::Broken(text));
                    return;
                }
                next_seq = seq.map(|seq| seq + 1);
                shrink(&event, exe)
            }
        };
        // Without a receiver the run is over.
        if told.is_some_and(|told| sender.send(told).is_err()) {
            return;
        }
    }
}

fn shrink(event: &Event, exe: &str) -> Option<Told> {
    let inode = event.number("socket.inode").unwrap_or(0);
    match event.kind() {
        "sensor.ready" => Some(Told::Ready),
        "gap" => Some(Told::Lost {
            ring: event.text("gap.ring").to_owned(),
            events: event.number("gap.lost").unwrap_or(1),
        }),
        "listener.closed" => Some(Told::Closed { inode }),
        "listener.opened" | "listener.present" => {
            let args: Vec<&str> = event
                .at("process.args")
                .as_array()
                .map(|args| args.iter().filter_map(|arg| arg.as_str()).collect())
                .unwrap_or_default();
            let token = args.get(2).copied().unwrap_or_default().to_owned();
            Some(Told::Opened {
                token,
                pid: event.number("process.pid").unwrap_or(0),
                inode,
                exe: event.text("process.exe") == exe,
                args: args.get(1) == Some(&"blink") && args.len() == 3,
                parent: event
                    .at("process.ancestors")
                    .get(0)
                    .and_then(|parent| parent.get("exe")?.as_str())
                    == Some(exe),
            })
        }
        _ => None,
    }
}

fn wait_ready(told: &Receiver<Told>) -> Result<()> {
    loop {
        match told
            .recv_timeout(Duration::from_secs(60))
            .context("portwatch is not ready")?
        {
            Told::Ready => return Ok(()),
            Told::Broken(why) => bail!("the stream broke: {why}"),
            _ => {}
        }
    }
}

/// Takes events until every listener was opened and closed, or none has come for a while.
fn count(told: &Receiver<Told>, pids: &HashMap<String, u64>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mine = prefix();
    let all = pids.len();
    while tally.opened.len() < all || (tally.closed as usize) < all {
        let Ok(one) = told.recv_timeout(PATIENCE) else {
            break;
        };
        match one {
            Told::Opened {
                token,
                pid,
                inode,
                exe,
                args,
                parent,
            } => {
                if !token.starts_with(&mine) {
                    continue;
                }
                tally.wrong_pid += u32::from(pids.get(&token) != Some(&pid));
                tally.wrong_exe += u32::from(!exe);
                tally.wrong_args += u32::from(!args);
                tally.wrong_parent += u32::from(!parent);
                if pids.get(&token) != Some(&pid) || !(exe && args && parent) {
                    tally.example.get_or_insert_with(|| {
                        format!("{token:?}, pid {pid}, {exe} {args} {parent}")
                    });
                }
                tally.twice += u32::from(tally.opened.insert(token, inode).is_some());
                *tally.inodes.entry(inode).or_default() += 1;
            }
            Told::Closed { inode } => {
                let waiting = tally.inodes.get_mut(&inode).filter(|open| **open > 0);
                if let Some(open) = waiting {
                    *open -= 1;
                    tally.closed += 1;
                }
            }
            Told::Lost { ring, events } => *tally.lost.entry(ring).or_default() += events,
            Told::Broken(why) => bail!("the stream broke: {why}"),
            Told::Ready => {}
        }
    }
    Ok(tally)
}

/// What is not counted event by event.
struct Summary {
    all: usize,
    missing: usize,
    took: Duration,
    execs: Option<u64>,
}

fn print_table(tally: &Tally, summary: &Summary) {
    let all = summary.all;
    let row = |name: &str, value: &dyn std::fmt::Display| println!("{name:<34} {value:>10}");
    row("listeners opened", &all);
    row("  told", &(all - summary.missing));
    row("  not told", &summary.missing);
    row("  told twice", &tally.twice);
    row("  told to be closed", &tally.closed);
    row("with another pid", &tally.wrong_pid);
    row("with another program", &tally.wrong_exe);
    row("with other arguments", &tally.wrong_args);
    row("with another parent", &tally.wrong_parent);
    for (ring, lost) in &tally.lost {
        row(&format!("told to be lost (gap, {ring})"), lost);
    }
    if let Some(execs) = summary.execs {
        row("programs started meanwhile", &execs);
    }
    let seconds = summary.took.as_secs_f64();
    row("seconds", &format!("{seconds:.1}"));
    row(
        "listeners per second",
        &format!("{:.0}", all as f64 / seconds),
    );
    println!("seq without holes");
    if let Some(example) = &tally.example {
        println!("for example {example}");
    }
}

fn print_json(tally: &Tally, summary: &Summary) {
    let seconds = summary.took.as_secs_f64();
    let mut told = json!({
        "listeners": summary.all,
        "told": summary.all - summary.missing,
        "missing": summary.missing,
        "twice": tally.twice,
        "closed": tally.closed,
        "wrong_pid": tally.wrong_pid,
        "wrong_exe": tally.wrong_exe,
        "wrong_args": tally.wrong_args,
        "wrong_parent": tally.wrong_parent,
        "lost": tally.lost,
        "seconds": seconds,
        "per_second": summary.all as f64 / seconds,
        "ok": is_right(tally, summary),
    });
    if let (Some(execs), Some(told)) = (summary.execs, told.as_object_mut()) {
        told.insert("execs".to_owned(), json!(execs));
    }
    println!("{told}");
}

/// Every listener told, once, rightly, to its end; lost at most records of other processes.
fn is_right(tally: &Tally, summary: &Summary) -> bool {
    let storm = summary.execs.is_some();
    summary.missing == 0
        && tally.twice == 0
        && tally.closed as usize == summary.all
        && tally.wrong_pid + tally.wrong_exe + tally.wrong_args + tally.wrong_parent == 0
        && tally
            .lost
            .iter()
            .all(|(ring, lost)| *lost == 0 || (storm && ring == "process"))
}

/// Programs that start and end without pause, until they are told to stop.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Storm {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("tiny");
        tiny::write(&program)?;
        let mut actor = Actor::start("churn-storm")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let program = hex(program.as_os_str().as_encoded_bytes());
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = actor.call(&format!("exec-storm 1000 {program}"))?;
                count += answer.number::<u64>("count")?;
            }
            drop(folder);
            Ok(count)
        });
        Ok(Self { stop, thread })
    }

    /// How many programs were started.
    fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the storm panicked"))?
    }
}

/// nginx, and wrk that opens a connection for each request; both end with the value.
fn load(seconds: u32) -> Result<(Program, Program)> {
    let nginx_program = find("nginx").context("--wrk needs nginx on PATH")?;
    let wrk_program = find("wrk").context("--wrk needs wrk on PATH")?;
    let port = free_tcp_port()?;
    let server = nginx(&nginx_program, port, 1)?;
    let client = Program::start(|_| {
        let mut command = Command::new(wrk_program);
        command
            .args([
                "-t",
                "1",
                "-c",
                "16",
                "-d",
                &format!("{seconds}s"),
                "-H",
                "Connection: close",
            ])
            .arg(format!("http://127.0.0.1:{port}/"));
        Ok(command)
    })?;
    Ok((server, client))
}
