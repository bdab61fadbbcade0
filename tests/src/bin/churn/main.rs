//! Listeners that live for less than a millisecond, in processes that live for a few: is every one told,
//! with the right program and arguments, and is nothing missing from `seq`?
//!
//! `--wrk` puts nginx under a load of short connections at the same time: the flood of transitions may
//! not push a single listener out; `--storm` starts programs as fast as it goes besides: what the process
//! ring loses may not make a listener wrong. `--poll` asks what `ss` would see instead. Loopback only, bounded in count and time.

mod beside;
mod poll;
mod tally;

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use portwatch_tests::harness::Actor;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use beside::Storm;
use poll::Poll;
use tally::{Tally, Told};

/// Processes that one command to the actor starts.
const PART: u32 = 100;

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
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=900))]
    wrk_seconds: u32,
    /// Start a tiny program again and again meanwhile, on every processor.
    #[arg(long)]
    storm: bool,
    /// Instead of portwatch, ask `ss` at this distance, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    poll: Option<u64>,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Forms of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table.
    #[default]
    Human,
    /// One line of JSON.
    Json,
}

/// What was done: the processes by their token, how long it took, and how fast the storm was.
struct Done {
    pids: HashMap<String, u64>,
    took: Duration,
    storm: Option<f64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.poll {
        Some(distance) => polled(&arguments, Duration::from_millis(distance)),
        None => watched(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("churn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn watched(arguments: &Arguments) -> Result<bool> {
    let (mut watcher, told) = tally::watch(arguments.rung.as_deref())?;
    let outcome = churn_watched(arguments, &told);
    kill_process(Pid::from_child(&watcher), Signal::INT)?;
    let status = watcher.wait()?;
    let broken = told.iter().find_map(|one| match one {
        Told::Broken(why) => Some(why),
        _ => None,
    });
    if let Some(why) = broken {
        bail!("the stream broke: {why}");
    }
    // What broke it comes before how it ended: its reader is gone by then.
    let outcome = outcome?;
    ensure!(status.code() == Some(130), "portwatch ended with {status}");
    Ok(outcome)
}

fn churn_watched(arguments: &Arguments, told: &Receiver<Told>) -> Result<bool> {
    tally::wait_ready(told)?;
    let done = churn(arguments)?;
    let tally = tally::count(told, &done.pids)?;
    Ok(report(arguments, &tally, &done))
}

/// `ss` instead: how many listeners did it ever see, and how many of them with their process?
fn polled(arguments: &Arguments, distance: Duration) -> Result<bool> {
    let poll = Poll::start(distance)?;
    let done = churn(arguments)?;
    let seen = poll.end()?;
    let pids: HashSet<u64> = done.pids.values().copied().collect();
    let (listeners, polls) = (done.pids.len(), seen.polls);
    let (seen, right) = (seen.count(), seen.of(&pids));
    match arguments.output {
        Output::Json => println!(
            "{}",
            json!({"listeners": listeners, "polls": polls, "seen": seen, "right": right})
        ),
        Output::Human => println!(
            "{listeners} listeners, {polls} polls: {seen} seen, {right} with the right process"
        ),
    }
    Ok(true)
}

/// Opens all the listeners.
fn churn(arguments: &Arguments) -> Result<Done> {
    let load = arguments.wrk.then(|| beside::load(arguments.wrk_seconds));
    let load = load.transpose()?;
    let storm = arguments.storm.then(Storm::start).transpose()?;
    let prefix = prefix();
    let mut actor = Actor::start(&prefix)?;
    let rounds = arguments.count.div_ceil(PART);
    let mut pids: HashMap<String, u64> = HashMap::new();
    let start = Instant::now();
    for round in 0..rounds {
        let command = format!("blink {PART} {prefix}-{round} {}", arguments.parallel);
        let answer = actor.call(&command)?;
        for (at, pid) in answer.text("pids")?.split(',').enumerate() {
            let pid = pid.parse().context("a pid that is no number")?;
            pids.insert(format!("{prefix}-{round}-{at}"), pid);
        }
    }
    let took = start.elapsed();
    let per_second = storm.as_ref().map(Storm::per_second);
    drop((storm, load));
    Ok(Done {
        pids,
        took,
        storm: per_second,
    })
}

/// What marks the processes of this run, and of no other that runs beside it.
fn prefix() -> String {
    format!("churn{}", std::process::id())
}

/// Prints the result; is everything as it should be?
fn report(arguments: &Arguments, tally: &Tally, done: &Done) -> bool {
    let all = done.pids.len();
    let missing = done
        .pids
        .keys()
        .filter(|token| !tally.opened.contains_key(*token))
        .count();
    let per_second = all as f64 / done.took.as_secs_f64();
    if arguments.output == Output::Json {
        let mut result = json!({
            "listeners": all, "told": all - missing, "right": tally.right, "twice": tally.twice,
            "closed": tally.closed, "lost": tally.lost, "per_second": per_second,
        });
        if let Some(storm) = done.storm {
            result["storm_per_second"] = json!(storm);
        }
        println!("{result}");
    } else {
        println!("{:<34} {:>10}", "listeners opened", all);
        println!("{:<34} {:>10}", "  told", all - missing);
        println!("{:<34} {:>10}", "  not told", missing);
        println!("{:<34} {:>10}", "  told twice", tally.twice);
        println!("{:<34} {:>10}", "  told to be closed", tally.closed);
        println!("{:<34} {:>10}", "with another pid", tally.wrong_pid);
        println!("{:<34} {:>10}", "with another program", tally.wrong_exe);
        println!("{:<34} {:>10}", "with other arguments", tally.wrong_args);
        println!("{:<34} {:>10}", "with another parent", tally.wrong_parent);
        for (ring, lost) in &tally.lost {
            println!(
                "{:<34} {lost:>10}",
                format!("told to be lost (gap, {ring})")
            );
        }
        println!("{:<34} {:>10.1}", "seconds", done.took.as_secs_f64());
        println!("{:<34} {per_second:>10.0}", "listeners per second");
        if let Some(storm) = done.storm {
            println!("{:<34} {storm:>10.0}", "programs per second besides");
        }
        println!("seq without holes");
        if let Some(example) = &tally.example {
            println!("for example {example}");
        }
    }
    missing == 0
        && tally.twice == 0
        && tally.closed as usize == all
        && tally.wrong_pid + tally.wrong_exe + tally.wrong_args + tally.wrong_parent == 0
        && tally.lost.iter().all(is_harmless)
}

/// A storm of programs may overflow the ring of processes; no listener may go missing by that.
fn is_harmless((ring, _): (&String, &u64)) -> bool {
    ring == "process"
}
