//! The sinks at work: one thread a sink that reads the bus, and one that delivers where there is a peer.

mod beat;
mod prepare;
mod start;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::prepare::{Change, Ready};
pub(super) use self::prepare::{PATIENCE, Prepared};
use self::start::Awaited;
use self::work::{Output, Work};
use super::files::Print;
use super::places;
use super::service::myself;
use crate::config::Sink;
use crate::event::{EventType, Host};
use crate::filter::Filter;
use crate::interface::status::SinkStatus;
use crate::sink::buffer::Gauge;
use crate::sink::intake::Left;
use crate::sink::transport::Transport;
use crate::sink::{
    Bus, Figures, Intake, Interest, Lane, Leash, Orders, Predicate, Selection, Subscriber,
};

/// Name of the folder in the state directory.
const FOLDER: &str = "sinks";
/// Sinks that were taken away are remembered for their numbers; more than so many at once are not.
const GONE: usize = 256;

/// Every sink.
#[derive(Debug)]
pub(super) struct Sinks {
    bus: Arc<Bus>,
    folder: PathBuf,
    host: Arc<Host>,
    all: Mutex<All>,
    /// Held by who prepares sinks, which may wait for a disk.
    preparing: Arc<AsyncMutex<()>>,
}

#[derive(Debug, Default)]
struct All {
    running: Vec<Running>,
    /// Those that have not begun since the start, because a disk does not answer.
    awaited: Vec<Awaited>,
    /// Those that were taken away or changed. One may wait for a disk that is full; another one may come back, and its
    /// output goes on behind it.
    gone: Vec<Gone>,
    /// What stays while the daemon runs, by the name of the sink: one that was taken away may come back.
    kept: BTreeMap<String, Kept>,
    /// The daemon ends: a reload that comes too late begins nothing.
    is_closed: bool,
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
    /// What was in its secrets and certificates.
    print: Print,
    kept: Kept,
    orders: Arc<Orders>,
    leash: Leash,
    work: Arc<Work>,
    delivery: Option<Delivery>,
}

/// One that gets nothing more.
#[derive(Debug)]
struct Gone {
    sink: Sink,
    orders: Arc<Orders>,
    work: Arc<Work>,
}

/// The thread that delivers for a sink. It ends when the wake is dropped, after its attempt.
#[derive(Debug)]
struct Delivery {
    wake: Arc<SyncSender<()>>,
    thread: JoinHandle<()>,
}

impl Sinks {
    /// None at work yet.
    pub(super) fn new(bus: &Arc<Bus>, state_dir: &Path, host: Host) -> Arc<Self> {
        Arc::new(Self {
            bus: Arc::clone(bus),
            folder: state_dir.join(FOLDER),
            host: Arc::new(host),
            all: Mutex::default(),
            preparing: Arc::default(),
        })
    }

    /// These sinks from now on. Those that are as before go on, and open their files anew. No event is missed or told
    /// twice by one that changes: nothing is published in between, because this runs where the pipeline does. So it waits
    /// for no disk.
    pub(super) fn switch(&self, prepared: Prepared) {
        let mut all = self.all();
        if all.is_closed {
            return;
        }
        let Prepared::Changed(Change { sinks, ready }) = prepared else {
            all.running.iter().for_each(Running::reopen);
            return;
        };
        let (same, before): (Vec<_>, Vec<_>) = std::mem::take(&mut all.running)
            .into_iter()
            .partition(|one| {
                sinks.contains(&one.sink) && ready.iter().all(|new| new.sink != one.sink)
            });
        same.iter().for_each(Running::reopen);
        all.running = same;
        for one in before {
            match ready.iter().find(|new| new.sink.name == one.sink.name) {
                None => tracing::info!(sink = one.sink.name, "is no longer configured"),
                Some(new) if new.sink == one.sink => {
                    tracing::info!(
                        sink = one.sink.name,
                        "its secrets or certificates are others"
                    );
                }
                Some(_) => {}
            }
            all.gone.push(one.leave());
        }
        let mut awaited = std::mem::take(&mut all.awaited);
        for one in ready {
            // What waits for one that could not begin is its own, now that it can.
            let waits = awaited
                .iter()
                .position(|before| before.is_for(&one.sink))
                .and_then(|place| awaited.swap_remove(place).subscriber);
            let subscriber = waits.unwrap_or_else(|| self.subscribe(&one.sink));
            self.add(&mut all, one, subscriber);
        }
        for one in awaited {
            let kept = all.kept.entry(one.sink.name.clone()).or_default();
            kept.figures.lost(one.give_up());
        }
        all.running
            .sort_by_key(|one| sinks.iter().position(|sink| *sink == one.sink));
        all.forget();
    }

    /// One more sink.
    fn add(&self, all: &mut All, ready: Ready, subscriber: Subscriber) {
        let name = ready.sink.name.clone();
        all.kept.insert(name, ready.kept.clone());
        match self.begin(ready, subscriber, &all.gone) {
            Ok(running) => all.running.push(running),
            Err(error) => tracing::error!(%error, "a thread for a sink cannot be had"),
        }
    }

    /// What is told from here on waits for this sink.
    fn subscribe(&self, sink: &Sink) -> Subscriber {
        let interest = Interest {
            states: sink.states,
            since: None,
        };
        self.bus.subscribe(myself(), interest).subscriber
    }

    /// How the sinks do.
    pub(super) fn status(&self) -> Vec<SinkStatus> {
        let all = self.all();
        let running = all.running.iter().map(Running::status);
        let awaited = all.awaited.iter().map(Awaited::status);
        running.chain(awaited).collect()
    }

    /// After the bus is closed: waits until what came last is written, and delivered where that goes at once. What is
    /// not delivered is on the disk.
    pub(super) async fn end(&self, patience: Duration) {
        let closed = All {
            is_closed: true,
            ..All::default()
        };
        let All {
            running,
            gone,
            awaited,
            ..
        } = std::mem::replace(&mut *self.all(), closed);
        for one in awaited {
            one.give_up();
        }
        let orders = gone.iter().map(|one| &one.orders);
        for orders in running.iter().map(|one| &one.orders).chain(orders) {
            orders.give_up.store(true, Ordering::Relaxed);
        }
        let ended = spawn_blocking(move || {
            let mut deliveries = Vec::new();
            for one in running {
                one.work.wait();
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
            for one in gone {
                one.work.wait();
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

    /// Puts a sink to work, behind those that wrote to its output before.
    fn begin(&self, ready: Ready, subscriber: Subscriber, gone: &[Gone]) -> io::Result<Running> {
        let Ready {
            sink,
            transport,
            print,
            kept,
        } = ready;
        let output = Output::of(&sink);
        let before: Vec<(Arc<Work>, bool)> = gone
            .iter()
            .map(|one| (one, Output::of(&one.sink) == output))
            .filter(|(one, is_same)| *is_same || work::share_a_chain(&one.sink, &sink))
            .map(|(one, is_same)| (Arc::clone(&one.work), is_same))
            .collect();
        let leash = subscriber.leash();
        // One of this name that had a peer may have left a buffer behind.
        let buffer = kept.buffer.as_ref().filter(|_| transport.is_some());
        let delivery = match (transport, buffer) {
            (Some(transport), Some((lane, _))) => Some(deliver(&sink, transport, lane)?),
            _ => None,
        };
        let wake = delivery
            .as_ref()
            .map(|delivery| Arc::downgrade(&delivery.wake));
        let orders = Arc::new(Orders::default());
        let mut intake = Intake {
            name: sink.name.clone(),
            subscriber,
            selection: Selection::new(sink.filter.clone().map(predicate)),
            sync: sink.sync,
            wake,
            figures: Arc::clone(&kept.figures),
            host: Arc::clone(&self.host),
            orders: Arc::clone(&orders),
        };
        let mut opening = places::Opening {
            sink: sink.clone(),
            folder: self.folder.join(&sink.name),
            gauge: buffer.map(|(_, gauge)| gauge.clone()),
            host: Arc::clone(&self.host),
        };
        let work = Work::begin(format!("for {}", sink.name), move || {
            let mut left = Left::default();
            // Of those that only share a chain, nothing is to be told here.
            for (work, _) in before.iter().filter(|(_, is_same)| !is_same) {
                work.wait();
            }
            for (work, _) in before.iter().filter(|(_, is_same)| *is_same) {
                let ended = work.end();
                left = Left {
                    numbering: ended.numbering,
                    lost: left.lost.saturating_add(ended.lost),
                };
            }
            match intake.open(|| opening.open()) {
                Ok(opened) => intake.run(opened, left),
                Err(lost) => Left {
                    lost: left.lost.saturating_add(lost),
                    ..left
                },
            }
        })?;
        Ok(Running {
            sink,
            print,
            kept,
            orders,
            leash,
            work: Arc::new(work),
            delivery,
        })
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
    let thread = std::thread::Builder::new()
        .name(format!("to {}", sink.name))
        .spawn(move || lane.deliver(&mut *transport, format, &woken))?;
    let wake = Arc::new(wake);
    Ok(Delivery { wake, thread })
}

impl All {
    /// Forgets those whose output goes on behind them, and who have ended.
    fn forget(&mut self) {
        let running: Vec<Output> = self
            .running
            .iter()
            .map(|one| Output::of(&one.sink))
            .collect();
        self.gone
            .retain(|one| !one.work.is_over() || !running.contains(&Output::of(&one.sink)));
        while self.gone.len() > GONE {
            self.gone.remove(0);
        }
    }
}

impl Running {
    /// It opens its files anew.
    fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Relaxed);
    }

    /// Nothing more comes for it, and nothing more goes to its peer: its delivery ends after its attempt, though its intake may
    /// still wait for a disk. What it missed stays in its figures.
    fn leave(self) -> Gone {
        self.leash.cut();
        self.orders.leave.store(true, Ordering::Relaxed);
        self.kept.figures.lost(self.leash.status().missed);
        Gone {
            sink: self.sink,
            orders: self.orders,
            work: self.work,
        }
    }

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

#[cfg(test)]
#[path = "sinks_tests.rs"]
mod tests;
