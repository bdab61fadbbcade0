//! The heartbeat: how the sinks do, told to everybody every so often.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::Sinks;
use crate::event::SinkCount;
use crate::interface::server::{Beat, Query};
use crate::interface::status::SinkStatus;

impl Sinks {
    /// Tells the pipeline about the sinks, every so often, for it to tell everybody. Nothing while there are none.
    pub(in crate::daemon) async fn beat(
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
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
