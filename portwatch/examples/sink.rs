//! How many lines a second of one core are made of events and written to a file, beside serde_json alone, which writes
//! to nothing: as JSON.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
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
use portwatch::sink::intake::{Left, Opened};
use portwatch::sink::{
    Bus, ConnectionOwner, Figures, Intake, Interest, Limits, Line, Occasion, Orders, Reader,
    Selection, Shape, States, Sync, Transition,
};
use portwatch::time::{BootNs, WallClock};
use portwatch_common::socket::TcpState;
use rustix::time::{ClockId, clock_gettime};
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

/// Pause until the sink may have room.
const PAUSE: Duration = Duration::from_micros(50);
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
            let rate = written(folder, count, Format::Json, false, What::States)?;
            println!("{:.0}", rate.all);
        }
        return Ok(());
    }
    let states = written(folder, count, Format::Json, false, What::States)?;
    let chained = written(folder, count, Format::Json, true, What::States)?;
    let ecs = written(folder, count / 8, Format::Ecs, false, What::States)?;
    let listeners = written(folder, count, Format::Json, false, What::Listeners)?;
    let told = json!({
        "states_per_s": states.all,
        "chained_per_s": chained.all,
        "ecs_per_s": ecs.all,
        "listeners_per_s": listeners.all,
        "listeners_sink_per_s": listeners.sink,
        "serde_json_per_s": serialized(&batch(1, 1)?.event(0).context("an event")?, count / 4)?,
        "serde_json_listeners_per_s": serialized(&example(EventType::ListenerOpened)?, count / 4)?,
    });
    println!("{told}");
    Ok(())
}

/// Lines a second of one core.
#[derive(Clone, Copy)]
struct Rates {
    /// From the event to the file, in the thread that tells the bus and in the sink's.
    all: f64,
    /// What the sink's thread can take.
    sink: f64,
}

/// Writes events to a file and measures the processor's time of both threads. Few lines wait at any time,
/// as in a daemon that keeps up, so that they are in the processor's caches.
fn written(
    folder: &Path,
    count: usize,
    format: Format,
    is_chained: bool,
    what: What,
) -> Result<Rates> {
    let bus = Bus::new(Limits::READER, Limits::REPLAY);
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
    let leash = subscriber.leash();
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
        host: example(EventType::Heartbeat)?.host,
        orders: Arc::new(Orders::default()),
    };
    let sink = thread::spawn(move || {
        let start = used();
        let left = intake.run(opened, Left::default());
        (left.numbering, used().saturating_sub(start))
    });
    let mut took = Duration::ZERO;
    let mut first = 0;
    while first < count {
        let size = what.at_once().min(count - first);
        let told = what.make(first as u64 + 1, size)?;
        while leash.status().queued > what.at_once() as u64 {
            ensure!(!sink.is_finished(), "the sink ended early");
            thread::sleep(PAUSE);
        }
        let start = used();
        told.publish(&bus);
        took += used().saturating_sub(start);
        first += size;
    }
    bus.close();
    let ended = sink.join();
    let (numbering, used) = ended.map_err(|_| anyhow::anyhow!("the sink failed"))?;
    ensure!(
        figures.all_delivered() == count as u64 && numbering.last() == count as u64,
        "not all lines were written"
    );
    std::fs::remove_file(path)?;
    Ok(Rates {
        all: count as f64 / (took + used).as_secs_f64(),
        sink: count as f64 / used.as_secs_f64(),
    })
}

/// Time that this thread was on a processor.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Lines a second that serde_json makes of an event, in memory.
fn serialized(event: &Event, count: usize) -> Result<f64> {
    let mut out = Vec::with_capacity(1 << 20);
    let start = Instant::now();
    for _ in 0..count {
        if out.len() > 1 << 19 {
            out.clear();
        }
        serde_json::to_writer(&mut out, black_box(event))?;
        out.push(b'\n');
    }
    black_box(&out);
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// What is told.
#[derive(Clone, Copy)]
enum What {
    States,
    Listeners,
}

/// Events that nobody was told of yet.
enum Told {
    States(Arc<States>),
    Listeners(Vec<Arc<Event>>),
}

impl What {
    /// Events that are told in one go: two times as many have room on the bus.
    const fn at_once(self) -> usize {
        match self {
            Self::States => States::MAX,
            Self::Listeners => 1_000,
        }
    }

    fn make(self, first: u64, count: usize) -> Result<Told> {
        Ok(match self {
            Self::States => Told::States(batch(first, count)?),
            Self::Listeners => {
                let event = example(EventType::ListenerOpened)?;
                let one = |index| Event {
                    id: Uuid::now_v7().to_string(),
                    seq: first + index,
                    ..event.clone()
                };
                Told::Listeners((0..count as u64).map(one).map(Arc::new).collect())
            }
        })
    }
}

impl Told {
    fn publish(self, bus: &Bus) {
        match self {
            Self::States(states) => bus.publish_states(states),
            Self::Listeners(events) => events
                .into_iter()
                .for_each(|event| bus.publish(&Line::new(event))),
        }
    }
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
