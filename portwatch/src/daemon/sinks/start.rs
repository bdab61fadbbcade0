//! Sinks at the start of the daemon: those that are ready in time begin at once, and the others when their disk answers.
//! The daemon watches meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::prepare::{Change, Full, Prepared, Ready};
use super::{Kept, Sinks};
use crate::config::Sink;
use crate::interface::status::SinkStatus;
use crate::sink::{Leash, Subscriber};

/// One that has not begun. Events wait for it, as many as for every reader: also when something is wrong with it, for that may be
/// mended.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) sink: Sink,
    leash: Leash,
    /// With whoever waits for its files, as long as somebody does.
    pub(super) subscriber: Option<Subscriber>,
    why: String,
}

impl Sinks {
    /// Begins these sinks. What one of them has to open may take so long; then the others begin without it, and it
    /// begins when that is open. Until then there is no other configuration for sinks.
    ///
    /// # Errors
    /// What is wrong with one of them, in a sentence.
    pub(in crate::daemon) async fn start(
        self: &Arc<Self>,
        sinks: &[Sink],
        patience: Duration,
    ) -> Result<(), String> {
        let alone = Arc::new(self.alone()?);
        let until = Instant::now() + patience;
        let preparing: Vec<_> = sinks.iter().map(|sink| self.prepare_one(sink)).collect();
        let (mut ready, mut late) = (Vec::new(), Vec::new());
        for (sink, mut task) in sinks.iter().zip(preparing) {
            match timeout_at(until, &mut task).await {
                Ok(done) => ready.extend(prepared(sink, done)?),
                Err(_) => late.push((sink, task)),
            }
        }
        let sinks = ready.iter().map(|one| one.sink.clone()).collect();
        self.switch(Prepared::Changed(Change { sinks, ready }));
        for (sink, task) in late {
            self.wait_for(sink, task, Arc::clone(&alone));
        }
        Ok(())
    }

    /// On a thread that may wait for a disk.
    fn prepare_one(self: &Arc<Self>, sink: &Sink) -> JoinHandle<Result<Option<Ready>, String>> {
        let (this, sink) = (Arc::clone(self), sink.clone());
        spawn_blocking(move || this.ready(&sink, None, Kept::default(), Full::IsWaitedFor))
    }

    fn wait_for(
        self: &Arc<Self>,
        sink: &Sink,
        task: JoinHandle<Result<Option<Ready>, String>>,
        alone: Arc<OwnedMutexGuard<()>>,
    ) {
        let why = "its files are not open yet: is their disk there, and not full?".to_owned();
        tracing::error!(sink = sink.name, why, "begins later; events wait");
        let subscriber = self.subscribe(sink);
        self.all().awaited.push(Awaited {
            sink: sink.clone(),
            leash: subscriber.leash(),
            subscriber: None,
            why,
        });
        let (this, sink) = (Arc::clone(self), sink.clone());
        tokio::spawn(async move {
            let done = prepared(&sink, task.await);
            this.arrived(&sink, done, subscriber);
            drop(alone);
        });
    }

    fn arrived(&self, sink: &Sink, done: Result<Option<Ready>, String>, subscriber: Subscriber) {
        let mut all = self.all();
        if all.is_closed {
            return;
        }
        match done {
            Ok(ready) => {
                all.awaited.retain(|one| one.sink != *sink);
                if let Some(ready) = ready {
                    tracing::info!(sink = sink.name, "its files are open, it begins");
                    self.add(&mut all, ready, subscriber);
                }
            }
            Err(why) => {
                tracing::error!(
                    why,
                    "a sink does not begin, events wait: mend it, then reload"
                );
                if let Some(one) = all.awaited.iter_mut().find(|one| one.sink == *sink) {
                    one.why = why;
                    one.subscriber = Some(subscriber);
                }
            }
        }
    }
}

impl Awaited {
    /// Is what waits for it what this one would get, whatever else of it is another?
    pub(super) fn is_for(&self, sink: &Sink) -> bool {
        (&self.sink.name, self.sink.states) == (&sink.name, sink.states)
    }

    /// Nobody will take what waits for it: so many events are lost.
    pub(super) fn give_up(self) -> u64 {
        self.leash.cut();
        let reader = self.leash.status();
        let events = reader.missed.saturating_add(reader.queued);
        if events > 0 {
            let sink = self.sink.name;
            tracing::error!(
                sink,
                events,
                "the events that waited for it are lost: it never began"
            );
        }
        events
    }

    pub(super) fn status(&self) -> SinkStatus {
        let reader = self.leash.status();
        SinkStatus {
            name: self.sink.name.clone(),
            kind: self.sink.kind.as_str().to_owned(),
            queued: reader.queued,
            queued_bytes: None,
            delivered: 0,
            refused: 0,
            lost: reader.missed,
            head: None,
            error: Some(self.why.clone()),
        }
    }
}

fn prepared(
    sink: &Sink,
    done: Result<Result<Option<Ready>, String>, JoinError>,
) -> Result<Option<Ready>, String> {
    done.unwrap_or_else(|error| Err(format!("it cannot be prepared: {error}")))
        .map_err(|why| format!("sink {}: {why}", sink.name))
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
