//! How long after `listen` a reader of `portwatch tail` has the whole line: percentiles, on an idle machine.
//!
//! The daemon runs with folders of its own; a `tail -o json` is attached to it and read through a pipe.
//! The clock starts right before the system call and stops when the line's last byte was read.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
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
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9}",
        "microseconds", "p50", "p90", "p99", "max"
    );
    row("listen() to a complete line in a tail client", &mut whole);
    row("kernel to line made (sensor.latency_us)", &mut inside);
    println!(
        "{} listeners, {} us apart",
        arguments.count, arguments.pause_us
    );
    Ok(())
}

fn row(name: &str, samples: &mut [Duration]) {
    samples.sort_unstable();
    let [p50, p90, p99, max] =
        [50, 90, 99, 100].map(|percent| percentile(samples, percent).as_micros());
    println!("{name:<44} {p50:>9} {p90:>9} {p99:>9} {max:>9}");
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
