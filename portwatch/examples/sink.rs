//! How many lines a second one thread makes of events and writes to a file, beside serde_json alone, which writes to
//! nothing: as JSON.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use portwatch::decode::record::{SockId, SockInfo};
use portwatch::event::example::examples;
use portwatch::event::{
    Event, EventType, Exposure, Family, Mechanism, Protocol, SocketType, State,
};
use portwatch::render::Format;
use portwatch::sink::file::{FileSink, Turnover};
use portwatch::sink::intake::Opened;
use portwatch::sink::{
    Bus, ConnectionOwner, Figures, Intake, Interest, Limits, Line, Numbering, Occasion, Orders,
    Reader, Selection, Shape, States, Sync, Transition,
};
use portwatch::time::{BootNs, WallClock};
use portwatch_common::socket::TcpState;
use serde_json::json;
use uuid::Uuid;

/// Measures a file sink.
#[derive(Debug, Parser)]
struct Arguments {
    /// State changes, and listener events.
    #[arg(long, default_value_t = 400_000)]
    events: usize,
    /// Folder to write to.
    #[arg(long, default_value = "/tmp")]
    folder: PathBuf,
    /// Only state changes as JSON without a chain, so many times: for a profiler.
    #[arg(long)]
    profile: Option<u32>,
}

/// All that waits on the bus, and more.
const LIMITS: Limits = Limits {
    lines: usize::MAX / 32,
    bytes: usize::MAX / 32,
};
/// Nothing is put away.
const NEVER: Turnover = Turnover {
    bytes: 0,
    age: None,
    keep: 0,
    keep_age: None,
    compress: false,
};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile_folder(&arguments.folder)?;
    let result = measure(arguments, &folder);
    std::fs::remove_dir_all(&folder).context("the folder stays")?;
    result
}

fn measure(arguments: &Arguments, folder: &Path) -> Result<()> {
    let count = arguments.events;
    if let Some(times) = arguments.profile {
        for _ in 0..times {
            let rate = written(folder, count, Format::Json, false, publish_states)?;
            println!("{rate:.0}");
        }
        return Ok(());
    }
    let states = written(folder, count, Format::Json, false, publish_states)?;
    let chained = written(folder, count, Format::Json, true, publish_states)?;
    let ecs = written(folder, count / 8, Format::Ecs, false, publish_states)?;
    let listeners = written(folder, count, Format::Json, false, publish_listeners)?;
    let told = json!({
        "states_per_s": states,
        "chained_per_s": chained,
        "ecs_per_s": ecs,
        "listeners_per_s": listeners,
        "serde_json_per_s": serialized(count / 4)?,
    });
    println!("{told}");
    Ok(())
}

/// Lines a second from the bus to the file, all by one thread.
fn written(
    folder: &Path,
    count: usize,
    format: Format,
    is_chained: bool,
    publish: fn(&Bus, usize) -> Result<()>,
) -> Result<f64> {
    let bus = Bus::new(LIMITS, Limits::REPLAY);
    let reader = Reader {
        uid: 0,
        pid: None,
        is_own: true,
    };
    let interest = Interest {
        states: true,
        since: None,
    };
    let subscriber = bus.subscribe(reader, interest).subscriber;
    publish(&bus, count)?;
    bus.close();
    let path = folder.join("events");
    let begin = FileSink::begin(&path, NEVER, is_chained.then_some(folder))?;
    let opened = Opened {
        place: Box::new(begin.sink),
        shape: Shape {
            format,
            chain: begin.chain,
        },
        first: None,
    };
    let figures = Arc::new(Figures::default());
    let intake = Intake {
        name: "bench".to_owned(),
        subscriber,
        selection: Selection::default(),
        sync: Sync::Within(Duration::from_secs(1)),
        wake: None,
        figures: Arc::clone(&figures),
        orders: Arc::new(Orders::default()),
    };
    let start = Instant::now();
    let numbering = intake.run(opened, Numbering::default());
    let took = start.elapsed();
    ensure!(
        figures.all_delivered() == count as u64 && numbering.last() == count as u64,
        "not all lines were written"
    );
    std::fs::remove_file(path)?;
    Ok(count as f64 / took.as_secs_f64())
}

/// Lines a second that serde_json makes of the same state changes, in memory.
fn serialized(count: usize) -> Result<f64> {
    let event = batch(1, 1)?.event(0).context("an event")?;
    let mut out = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    for _ in 0..count {
        if out.len() > 1 << 19 {
            out.clear();
        }
        serde_json::to_writer(&mut out, black_box(&event))?;
        out.push(b'\n');
    }
    black_box(&out);
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn publish_states(bus: &Bus, count: usize) -> Result<()> {
    let mut first = 0;
    while first < count {
        let size = States::MAX.min(count - first);
        bus.publish_states(batch(first as u64 + 1, size)?);
        first += size;
    }
    Ok(())
}

fn publish_listeners(bus: &Bus, count: usize) -> Result<()> {
    let event = example(EventType::ListenerOpened)?;
    for seq in 1..=count as u64 {
        let event = Event {
            id: Uuid::now_v7().to_string(),
            seq,
            ..event.clone()
        };
        bus.publish(&Line::new(Arc::new(event)));
    }
    Ok(())
}

fn example(kind: EventType) -> Result<Event> {
    let found = examples().into_iter().find(|event| event.kind == kind);
    found.context("an example")
}

/// State changes of connections to one server.
fn batch(first: u64, count: usize) -> Result<Arc<States>> {
    let example = example(EventType::ConnectionState)?;
    let owner = Arc::new(ConnectionOwner::new(example.process.context("a process")?));
    let change = |index: usize| {
        let number = first + index as u64;
        Transition {
            at: BootNs(number * 1_000),
            place: 0,
            sock: sock(number),
            interface: None,
            exposure: Exposure::AllInterfaces,
            old: State::SynRecv,
            new: State::Established,
            mechanism: Mechanism::TpBtf,
            owner: Some(Arc::clone(&owner)),
        }
    };
    let occasion = Occasion {
        host: example.host,
        clock: WallClock::read(),
        first_seq: first,
        id: Uuid::now_v7(),
        at: BootNs((first + count as u64) * 1_000),
    };
    States::new(occasion, (0..count).map(change).collect()).context("no state changes")
}

fn sock(number: u64) -> SockInfo {
    SockInfo {
        id: SockId(0xffff_8880_0000_0000 | number),
        cookie: Some(number),
        inode: None,
        netns: 4_026_531_840,
        family: Family::Ipv4,
        kind: SocketType::Stream,
        protocol: Protocol::Tcp,
        protocol_number: None,
        local: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))),
        port: Some(443),
        peer: Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | number as u32))),
        peer_port: Some((number % 60_000) as u16 + 1_024),
        state: TcpState::ESTABLISHED,
        backlog: 0,
        ifindex: None,
        v6only: false,
        reuseport: false,
    }
}

fn tempfile_folder(under: &Path) -> Result<PathBuf> {
    let folder = under.join(format!("portwatch-sink-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("no folder in {}", under.display()))?;
    Ok(folder)
}
