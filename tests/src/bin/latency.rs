//! How long after `listen` a reader of `portwatch tail` has the whole line: percentiles, on an idle machine.
//!
//! The daemon runs with folders of its own; a `tail -o json` is attached to it and read through a pipe.
//! The clock starts right before the system call and stops when the line's last byte was read.
//!
//! On its way the news wakes three that sleep: the daemon, the tail, the reader. How long that alone takes on this
//! machine is measured beside it: a byte is handed on by three threads that do nothing else.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::trigger::own_inode;
use portwatch_tests::percentile::{self, PERCENTILES, percentiles};
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
    let mut floor = Vec::with_capacity(arguments.count as usize);
    let mut relay = Relay::start()?;
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
        thread::sleep(Duration::from_micros(arguments.pause_us));
        let took = relay.run()?;
        if round >= arguments.warm_up {
            floor.push(took);
        }
        thread::sleep(Duration::from_micros(arguments.pause_us));
    }
    ensure!(
        watch.interrupt()?.code() == Some(130),
        "tail did not end as Ctrl-C ends it"
    );
    drop(daemon);
    report(
        arguments,
        percentiles(&mut whole),
        percentiles(&mut inside),
        percentiles(&mut floor),
    );
    Ok(())
}

/// Those that wake one another: each waits for a byte and hands it on.
struct Relay {
    begin: UnixStream,
    end: UnixStream,
}

impl Relay {
    /// As many as sleep between a listener and who reads of it; they end with the relay.
    const SLEEPERS: usize = 3;

    fn start() -> Result<Self> {
        let (begin, mut from) = UnixStream::pair()?;
        // The last of them is who waits for the end.
        for _ in 1..Self::SLEEPERS {
            let (mut to, next) = UnixStream::pair()?;
            let mut before = std::mem::replace(&mut from, next);
            thread::spawn(move || {
                let mut byte = [0];
                while before.read_exact(&mut byte).is_ok() && to.write_all(&byte).is_ok() {}
            });
        }
        let end = from;
        Ok(Self { begin, end })
    }

    /// How long a byte takes through all of them.
    fn run(&mut self) -> Result<Duration> {
        let before = Instant::now();
        self.begin.write_all(&[0])?;
        let mut byte = [0];
        self.end.read_exact(&mut byte)?;
        Ok(before.elapsed())
    }
}

/// Prints microseconds: from the call to the reader, of them those inside portwatch, and what waking takes at least.
fn report(
    arguments: &Arguments,
    whole: [Duration; PERCENTILES.len()],
    inside: [Duration; PERCENTILES.len()],
    floor: [Duration; PERCENTILES.len()],
) {
    if arguments.output == Output::Json {
        let [whole, inside, floor] = [whole, inside, floor].map(percentile::object);
        let listeners = arguments.count;
        let result = serde_json::json!({
            "listeners": listeners,
            "whole_us": whole,
            "inside_us": inside,
            "floor_us": floor,
        });
        println!("{result}");
        return;
    }
    let names = PERCENTILES.map(|(name, _)| name);
    println!("{:<44}{}", "microseconds", row(names));
    for (what, values) in [
        ("listen() to a complete line in a tail client", whole),
        ("kernel to line made (sensor.latency_us)", inside),
        ("three wake-ups that do nothing", floor),
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
