//! The sinks at work: one thread a sink that reads the bus, and one that delivers where there is a peer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::places;
use super::service::myself;
use super::transports::transport;
use crate::config::Sink;
use crate::event::{EventType, Host, SinkCount};
use crate::filter::Filter;
use crate::interface::server::{Beat, Query};
use crate::interface::status::SinkStatus;
use crate::sink::buffer::{self, Gauge};
use crate::sink::transport::Transport;
use crate::sink::{
    Bus, Figures, Intake, Interest, Lane, Leash, Numbering, Orders, Predicate, Selection,
};

/// Name of the folder in the state directory.
const FOLDER: &str = "sinks";

/// Every sink.
#[derive(Debug)]
pub(super) struct Sinks {
    bus: Arc<Bus>,
    folder: PathBuf,
    host: Arc<Host>,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    running: Vec<Running>,
    /// What stays while the daemon runs, by the name of the sink: one that was taken away may come back.
    kept: BTreeMap<String, Kept>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    figures: Arc<Figures>,
    buffer: Option<(Arc<Lane>, Gauge)>,
}

/// One sink at work.
#[derive(Debug)]
struct Running {
    sink: Sink,
    kept: Kept,
    orders: Arc<Orders>,
    leash: Leash,
    intake: JoinHandle<Numbering>,
    delivery: Option<Delivery>,
}

/// The thread that delivers for a sink. It ends when the wake is dropped, after its attempt.
#[derive(Debug)]
struct Delivery {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
}

/// A sink that can begin: nothing is wrong with its settings.
struct Ready {
    sink: Sink,
    transport: Option<Box<dyn Transport>>,
}

impl Sinks {
    /// None at work yet.
    pub(super) fn new(bus: &Arc<Bus>, state_dir: &Path, host: Host) -> Arc<Self> {
        Arc::new(Self {
            bus: Arc::clone(bus),
            folder: state_dir.join(FOLDER),
            host: Arc::new(host),
            all: Mutex::default(),
        })
    }

    /// These sinks from now on. Those that are as before go on, and open their files anew. No event is missed or told
    /// twice by one that changes: nothing is published in between, because this runs where the pipeline does.
    ///
    /// # Errors
    /// What is wrong with one of them, in a sentence; then all is as before.
    pub(super) fn apply(&self, sinks: &[Sink]) -> Result<(), String> {
        let mut all = self.all();
        let is_new = |sink: &&Sink| all.running.iter().all(|one| one.sink != **sink);
        let ready = sinks.iter().filter(is_new).map(|sink| self.ready(sink));
        let ready: Vec<Ready> = ready.collect::<Result<_, _>>()?;
        for one in &ready {
            self.keep(one, &mut all.kept)?;
        }
        let (same, mut before): (Vec<_>, Vec<_>) = std::mem::take(&mut all.running)
            .into_iter()
            .partition(|one| sinks.contains(&one.sink));
        for one in &same {
            one.orders.reopen.store(true, Ordering::Relaxed);
        }
        all.running = same;
        for one in ready {
            let at = before.iter().position(|old| old.sink.name == one.sink.name);
            let old = at.map(|at| before.remove(at));
            let kept = all.kept.get(&one.sink.name).cloned().unwrap_or_default();
            match self.begin(one, old, kept) {
                Ok(running) => all.running.push(running),
                Err(error) => tracing::error!(%error, "a thread for a sink cannot be had"),
            }
        }
        for gone in &before {
            gone.leash.cut();
            tracing::info!(sink = gone.sink.name, "is no longer configured");
        }
        all.running
            .sort_by_key(|one| sinks.iter().position(|sink| *sink == one.sink));
        Ok(())
    }

    /// How the sinks do.
    pub(super) fn status(&self) -> Vec<SinkStatus> {
        self.all().running.iter().map(Running::status).collect()
    }

    /// Tells the pipeline about the sinks, every so often, for it to tell everybody. Nothing while there are none.
    pub(super) async fn beat(
        &self,
        queries: mpsc::Sender<Query>,
        mut every: watch::Receiver<Option<Duration>>,
    ) {
        let mut due = Instant::now();
        loop {
            let span = *every.borrow_and_update();
            let next = span.map(|span| due + span);
            let is_due = tokio::select! {
                () = until(next) => true,
                changed = every.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
            };
            due = Instant::now();
            let (true, Some(every)) = (is_due, span) else {
                continue;
            };
            let sinks = self.counts();
            if sinks.is_empty() {
                continue;
            }
            for (name, head) in sinks
                .iter()
                .filter_map(|one| Some((&one.name, one.head.as_ref()?)))
            {
                tracing::info!(sink = name, head, "the chain has come so far");
            }
            let beat = Box::new(Beat { every, sinks });
            if queries.send(Query::Heartbeat(beat)).await.is_err() {
                return;
            }
        }
    }

    fn counts(&self) -> Vec<SinkCount> {
        let count = |sink: SinkStatus| SinkCount {
            name: sink.name,
            delivered: sink.delivered,
            queued: sink.queued,
            refused: sink.refused,
            lost: sink.lost,
            head: sink.head,
        };
        self.status().into_iter().map(count).collect()
    }

    /// After the bus is closed: waits until what came last is written, and delivered where that goes at once. What is
    /// not delivered is on the disk.
    pub(super) async fn end(&self, patience: Duration) {
        let running = std::mem::take(&mut self.all().running);
        for one in &running {
            one.orders.give_up.store(true, Ordering::Relaxed);
        }
        let ended = spawn_blocking(move || {
            let mut deliveries = Vec::new();
            for one in running {
                // One that has panicked said so.
                let _ = one.intake.join();
                deliveries.extend(one.kept.buffer.zip(one.delivery));
            }
            for ((lane, _), delivery) in &deliveries {
                lane.end();
                // It is awake, then.
                let _ = delivery.wake.try_send(());
            }
            for (_, delivery) in deliveries {
                let _ = delivery.thread.join();
            }
        });
        if timeout(patience, ended).await.is_err() {
            tracing::warn!(
                "not every sink has ended in time; what has not been delivered waits on disk"
            );
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self, sink: &Sink) -> Result<Ready, String> {
        let of = |why| format!("sink {}: {why}", sink.name);
        places::check(sink).map_err(of)?;
        Ok(Ready {
            transport: transport(sink, &self.host.name).map_err(of)?,
            sink: sink.clone(),
        })
    }

    /// Opens the buffer of a sink that has a peer, unless it is open.
    fn keep(&self, ready: &Ready, kept: &mut BTreeMap<String, Kept>) -> Result<(), String> {
        let name = &ready.sink.name;
        let kept = kept.entry(name.clone()).or_default();
        if ready.transport.is_none() || kept.buffer.is_some() {
            return Ok(());
        }
        let folder = self.folder.join(name);
        let opened = buffer::open(&folder).map_err(|error| {
            let folder = folder.display();
            format!("sink {name}: no buffer can be had in {folder}: {error}")
        });
        let (reader, gauge) = opened?;
        let figures = Arc::clone(&kept.figures);
        let lane = Lane::new(name, reader, Arc::clone(&self.host), figures);
        kept.buffer = Some((lane, gauge));
        Ok(())
    }

    /// Puts a sink to work, behind the one of its name that was before.
    fn begin(&self, ready: Ready, old: Option<Running>, kept: Kept) -> io::Result<Running> {
        let Ready { sink, transport } = ready;
        let old = old.map(|old| {
            old.leash.cut();
            old.intake
        });
        let interest = Interest {
            states: sink.states,
            since: None,
        };
        let subscriber = self.bus.subscribe(myself(), interest).subscriber;
        let leash = subscriber.leash();
        // One of this name that had a peer may have left a buffer behind.
        let buffer = kept.buffer.as_ref().filter(|_| transport.is_some());
        let delivery = match (transport, buffer) {
            (Some(transport), Some((lane, _))) => Some(deliver(&sink, transport, lane)?),
            _ => None,
        };
        let wake = delivery.as_ref().map(|delivery| delivery.wake.clone());
        let orders = Arc::new(Orders::default());
        let mut intake = Intake {
            name: sink.name.clone(),
            subscriber,
            selection: Selection::new(sink.filter.clone().map(predicate)),
            sync: sink.sync,
            wake,
            figures: Arc::clone(&kept.figures),
            orders: Arc::clone(&orders),
        };
        let mut opening = places::Opening {
            sink: sink.clone(),
            folder: self.folder.join(&sink.name),
            gauge: buffer.map(|(_, gauge)| gauge.clone()),
            host: Arc::clone(&self.host),
        };
        let thread = thread::Builder::new().name(format!("for {}", sink.name));
        let intake = thread.spawn(move || {
            let numbering = old.and_then(|old| old.join().ok()).unwrap_or_default();
            match intake.open(|| opening.open()) {
                Some(opened) => intake.run(opened, numbering),
                None => numbering,
            }
        })?;
        Ok(Running {
            sink,
            kept,
            orders,
            leash,
            intake,
            delivery,
        })
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn predicate(filter: Filter) -> Predicate {
    // Who filters wants to know all the more that silence is silence.
    Box::new(move |event| event.kind == EventType::Heartbeat || filter.matches(event))
}

fn deliver(
    sink: &Sink,
    mut transport: Box<dyn Transport>,
    lane: &Arc<Lane>,
) -> io::Result<Delivery> {
    let (wake, woken) = sync_channel(1);
    let (lane, format) = (Arc::clone(lane), sink.format);
    let thread = thread::Builder::new()
        .name(format!("to {}", sink.name))
        .spawn(move || lane.deliver(&mut *transport, format, &woken))?;
    Ok(Delivery { wake, thread })
}

impl Running {
    fn status(&self) -> SinkStatus {
        let figures = &self.kept.figures;
        let reader = self.leash.status();
        let gauge = self.kept.buffer.as_ref().map(|(_, gauge)| gauge);
        SinkStatus {
            name: self.sink.name.clone(),
            kind: self.sink.kind.as_str().to_owned(),
            queued: reader.queued + gauge.map_or(0, Gauge::queued),
            queued_bytes: gauge.map(Gauge::bytes),
            delivered: figures.all_delivered(),
            refused: figures.all_refused(),
            lost: reader.missed + figures.all_lost() + gauge.map_or(0, Gauge::dropped),
            head: figures.head().map(|head| head.to_string()),
            error: figures.error(),
        }
    }
}
