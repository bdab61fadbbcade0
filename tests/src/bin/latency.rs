//! How long after `listen` a reader of `portwatch tail` has the whole line: percentiles, on an idle machine.
//!
//! The daemon runs with folders of its own; a `tail -o json` is attached to it and read through a pipe.
//! The clock starts right before the system call and stops when the line's last byte was read.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::trigger::own_inode;
use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, listen, socket};

/// How long one listener may take to be told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures the time from listen() to a complete JSON line in a tail client.
#[derive(Debug, Parser)]
struct Arguments {
    /// Listeners to open.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Pause between two listeners, in microseconds, so that the machine is idle.
    #[arg(long, default_value_t = 2000)]
    pause_us: u64,
    /// Listeners opened before the measurement.
    #[arg(long, default_value_t = 20)]
    warm_up: u32,
    /// Rung to measure, as `portwatch run --rung` takes it.
    #[arg(long)]
    rung: Option<String>,
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

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latency: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let home = Home::new()?;
    let daemon = home.start(arguments.rung.as_deref())?;
    let watch = home.tail(&[])?;
    let mut whole = Vec::with_capacity(arguments.count as usize);
    let mut inside = Vec::with_capacity(arguments.count as usize);
    for round in 0..arguments.warm_up + arguments.count {
        let after = watch.position();
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&fd, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let inode = own_inode(&fd)?;
        let before = Instant::now();
        listen(&fd, 1)?;
        let event = watch
            .next_after(after, PATIENCE, |event| {
                event.kind() == "listener.opened" && event.has_inode(inode)
            })
            .with_context(|| format!("listener {round} was not told within {PATIENCE:?}"))?;
        if round >= arguments.warm_up {
            whole.push(event.arrived.saturating_duration_since(before));
            let told = event.number("sensor.latency_us").unwrap_or(0);
            inside.push(Duration::from_micros(told));
        }
        drop(fd);
        std::thread::sleep(Duration::from_micros(arguments.pause_us));
    }
    ensure!(
        watch.interrupt()?.code() == Some(130),
        "tail did not end as Ctrl-C ends it"
    );
    drop(daemon);
    report(arguments, percentiles(&mut whole), percentiles(&mut inside));
    Ok(())
}

/// What is told of many samples.
const PERCENTILES: [(&str, usize); 4] = [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)];

/// Prints microseconds: from the call to the reader, and of them those inside portwatch.
fn report(
    arguments: &Arguments,
    whole: [Duration; PERCENTILES.len()],
    inside: [Duration; PERCENTILES.len()],
) {
    if arguments.output == Output::Json {
        let object = |values: [Duration; PERCENTILES.len()]| {
            let names = PERCENTILES.iter().map(|(name, _)| (*name).to_owned());
            let values = values.map(|value| (value.as_secs_f64() * 1e6).into());
            names.zip(values).collect::<serde_json::Map<_, _>>()
        };
        let (whole, inside) = (object(whole), object(inside));
        let listeners = arguments.count;
        let result =
            serde_json::json!({"listeners": listeners, "whole_us": whole, "inside_us": inside});
        println!("{result}");
        return;
    }
    let names = PERCENTILES.map(|(name, _)| name);
    println!("{:<44}{}", "microseconds", row(names));
    for (what, values) in [
        ("listen() to a complete line in a tail client", whole),
        ("kernel to line made (sensor.latency_us)", inside),
    ] {
        println!("{what:<44}{}", row(values.map(|value| value.as_micros())));
    }
    println!(
        "{} listeners, {} us apart",
        arguments.count, arguments.pause_us
    );
}

fn row<T: std::fmt::Display>(cells: [T; PERCENTILES.len()]) -> String {
    cells.map(|cell| format!(" {cell:>9}")).concat()
}

fn percentiles(samples: &mut [Duration]) -> [Duration; PERCENTILES.len()] {
    samples.sort_unstable();
    PERCENTILES.map(|(_, percent)| percentile(samples, percent))
}

/// The smallest sample that is not exceeded by this percentage of them; `samples` are sorted.
fn percentile(samples: &[Duration], percent: usize) -> Duration {
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    samples.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::percentile;

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&samples, 50), Duration::from_micros(100));
        assert_eq!(percentile(&samples, 99), Duration::from_micros(198));
        assert_eq!(percentile(&samples, 100), Duration::from_micros(200));
        assert_eq!(percentile(&samples[..1], 50), Duration::from_micros(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
