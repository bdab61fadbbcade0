//! Alerts in the frame of the daemon: where the desk gets its events, and how a new configuration reaches it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::courier::Courses;
use super::desk::Desk;
use super::service::myself;
use crate::alert::Window;
use crate::baseline::Frame;
use crate::config::{Channel, Config};
use crate::event::Event;
use crate::interface::server::Query;
use crate::sink::{Bus, Interest, Item, Subscriber};
use crate::time::BootNs;

/// Bytes of lines that are taken at once.
const BATCH: usize = 256 * 1024;

/// What is needed to alert.
#[derive(Debug)]
pub(super) struct Alerting {
    /// Channels; none when nobody is to be told.
    pub(super) channels: Vec<Channel>,
    /// When alerts wait.
    pub(super) windows: Vec<Window>,
    /// The state directory.
    pub(super) state_dir: PathBuf,
    /// Name of the host.
    pub(super) host: String,
    /// What identities are relative to.
    pub(super) frame: Frame,
}

/// A new configuration for the desk, which it takes as a whole or not at all.
#[derive(Debug)]
pub(super) struct Order {
    channels: Vec<Channel>,
    windows: Vec<Window>,
    answer: oneshot::Sender<Result<(), String>>,
}

/// Where orders go.
#[derive(Clone, Debug)]
pub(super) struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// The way to a desk, and its end of it.
    pub(super) fn channel() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// The way to a desk that takes every configuration.
    #[cfg(test)]
    pub(super) fn to_an_obliging_desk() -> Self {
        let (orders, mut receiver) = Self::channel();
        tokio::spawn(async move {
            while let Some(Order { answer, .. }) = receiver.recv().await {
                answer.send(Ok(())).expect("waiting");
            }
        });
        orders
    }

    /// Has the desk work by this configuration.
    ///
    /// # Errors
    /// Why it cannot, in a sentence; then it works as before.
    pub(super) async fn apply(&self, config: &Config) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let order = Order {
            channels: config.channels.clone(),
            windows: config.maintenance.clone(),
            answer,
        };
        let gone = |()| "the daemon is stopping".to_owned();
        let sent = self.0.send(order).await;
        sent.map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?
    }
}

/// Alerts, at work.
#[derive(Debug)]
pub(super) struct Running {
    /// How the channels do.
    pub(super) courses: Courses,
    /// For a new configuration.
    pub(super) orders: Orders,
    /// Where the desk asks what listens, once there is somebody to ask.
    pub(super) pipeline: Arc<OnceLock<mpsc::Sender<Query>>>,
    /// Ends when the bus is closed.
    pub(super) task: JoinHandle<()>,
}

/// Starts to alert, before the first event.
///
/// # Errors
/// What is wrong, in a sentence.
pub(super) fn start(alerting: Alerting, bus: &Arc<Bus>) -> Result<Running, String> {
    let desk = Desk::open(alerting)?;
    let courses = desk.courses();
    let (orders, receiver) = Orders::channel();
    let subscriber = desk.is_needed().then(|| subscribe(bus));
    let pipeline = Arc::default();
    let asked = Arc::clone(&pipeline);
    let task = tokio::spawn(run(desk, Arc::clone(bus), subscriber, receiver, asked));
    Ok(Running {
        courses,
        orders,
        pipeline,
        task,
    })
}

/// What may come next.
enum Turn {
    Events(Option<Vec<Item>>),
    Order(Option<Order>),
    Due,
}

/// Reads events until there are no more. Without channels there is no subscription: nobody pays for what nobody wants.
async fn run(
    mut desk: Desk,
    bus: Arc<Bus>,
    mut subscriber: Option<Subscriber>,
    mut orders: mpsc::Receiver<Order>,
    pipeline: Arc<OnceLock<mpsc::Sender<Query>>>,
) {
    let mut missed = None;
    loop {
        let turn = tokio::select! {
            biased;
            items = next(&mut subscriber) => Turn::Events(items),
            order = orders.recv() => Turn::Order(order),
            () = until(desk.due()) => Turn::Due,
        };
        match turn {
            Turn::Events(Some(items)) => {
                let count = items.len() as u64;
                missed = earlier(missed, desk.take(items));
                if let Some(subscriber) = &subscriber {
                    subscriber.count_delivered(count);
                }
            }
            Turn::Order(Some(order)) => {
                let applied = desk.apply(order.channels, order.windows);
                // Whoever asked may have gone.
                let _ = order.answer.send(applied);
                if desk.is_needed() {
                    subscriber.get_or_insert_with(|| subscribe(&bus));
                } else {
                    subscriber = None;
                }
            }
            Turn::Events(None) | Turn::Order(None) => break,
            Turn::Due => {}
        }
        // A queue that was too short loses nobody's alerts: what listens can be asked for.
        if let Some(since) = missed.take() {
            match listeners(&pipeline).await {
                Some(all) => desk.catch_up(&all, &since),
                None => missed = Some(since),
            }
        }
        desk.work().await;
    }
    desk.close().await;
}

/// Of two times in RFC 3339 with the same digits.
fn earlier(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Every listener now, judged; none while the pipeline does not answer yet, or no longer.
async fn listeners(pipeline: &OnceLock<mpsc::Sender<Query>>) -> Option<Vec<Arc<Event>>> {
    let (answer, answered) = oneshot::channel();
    pipeline.get()?.send(Query::List(answer)).await.ok()?;
    answered.await.ok()
}

async fn next(subscriber: &mut Option<Subscriber>) -> Option<Vec<Item>> {
    match subscriber {
        Some(subscriber) => subscriber.next_batch(BATCH).await,
        None => std::future::pending().await,
    }
}

fn subscribe(bus: &Arc<Bus>) -> Subscriber {
    bus.subscribe(myself(), Interest::default()).subscriber
}

async fn until(due: Option<BootNs>) {
    match due {
        Some(due) => {
            let left = due.since(BootNs::now());
            sleep(Duration::from_nanos(left)).await;
        }
        None => std::future::pending().await,
    }
}
