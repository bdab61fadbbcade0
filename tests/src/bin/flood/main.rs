//! A flood of SYNs at the machine's maximum, from senders of which each is another one: alone, to be held against a daemon that
//! somebody else started; or against a daemon of its own, while listeners are opened.
//!
//! Prints one line of JSON. The flooded listener is in a network namespace of its own; count and time are bounded.

mod beat;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use target::{Poured, Target};

/// Floods a listener on loopback.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    flood: Flood,
}

/// What comes with the flood.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Flood {
    /// Nothing else.
    Syns {
        /// SYNs at most.
        #[arg(long, default_value_t = u64::from(u32::MAX), value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
        /// Longest time, in milliseconds.
        #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=600_000))]
        millis: u64,
        #[command(flatten)]
        how: How,
    },
    /// TCP listeners, opened at a beat while it goes on, and told by a daemon of its own.
    Listeners {
        /// Listeners to open.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: u32,
        /// From one to the next, in milliseconds.
        #[arg(long, value_name = "MS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        beat: u64,
        #[command(flatten)]
        how: How,
    },
}

/// How to flood.
#[derive(Clone, Copy, Debug, Args)]
struct How {
    /// Make the listener's queue so long that each SYN becomes a request; else the kernel soon answers by cookies.
    #[arg(long)]
    requests: bool,
    /// Threads that send; as many as there are processors without.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

fn main() -> ExitCode {
    let told = match Arguments::parse().flood {
        Flood::Syns { count, millis, how } => syns(count, Duration::from_millis(millis), how),
        Flood::Listeners { count, beat, how } => {
            beat::measure(count, Duration::from_millis(beat), how)
        }
    };
    match told {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("flood: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn syns(count: u64, time: Duration, how: How) -> Result<Value> {
    let mut target = Target::new(how)?;
    let poured = target.pour(count, time)?;
    Ok(told(poured, target.cookies()?))
}

/// A flood in the line that is printed.
fn told(poured: Poured, cookies: u64) -> Value {
    json!({
        "syns": poured.sent,
        "seconds": poured.time.as_secs_f64(),
        "cpu_seconds": poured.processors.as_secs_f64(),
        "cookies": cookies,
    })
}
