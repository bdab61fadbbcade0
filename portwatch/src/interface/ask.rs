//! Questions to the pipeline, and what the frame of the daemon adds to its answer.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::protocol::Fault;
use super::server::{Backend, Query};
use super::status::{ClientStatus, Status};

impl Backend {
    /// Puts a question to the pipeline and waits for its answer, both within this time.
    ///
    /// # Errors
    /// When the daemon is stopping or overloaded.
    pub async fn ask<T>(
        &self,
        time: Duration,
        query: impl FnOnce(oneshot::Sender<T>) -> Query,
    ) -> Result<T, Fault> {
        let (sender, receiver) = oneshot::channel();
        let exchange = async {
            let stopping = |()| Fault::unavailable("the daemon is stopping".to_owned());
            let sent = self.queries.send(query(sender)).await;
            sent.map_err(|_| stopping(()))?;
            receiver.await.map_err(|_| stopping(()))
        };
        timeout(time, exchange).await.unwrap_or_else(|_| {
            Err(Fault::unavailable(format!(
                "the daemon did not answer within {} s: it is overloaded, try again",
                time.as_secs()
            )))
        })
    }

    /// The health of the daemon, as `portwatch status` and the metrics tell it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn status(&self, time: Duration) -> Result<Status, Fault> {
        let mut status = self.ask(time, Query::Status).await?;
        status.losses.client_missed = self.bus.missed();
        status.alerts = self.alerts.as_ref().map(|of| of()).unwrap_or_default();
        status.history = self.history.as_ref().map(|of| of());
        status.sinks = self.sinks.as_ref().map(|of| of()).unwrap_or_default();
        status.metrics = self.metrics.as_ref().map(|of| of());
        let readers = self.bus.readers().into_iter();
        status.clients = readers
            .filter(|one| !one.reader.is_own)
            .map(|one| ClientStatus {
                uid: one.reader.uid,
                pid: one.reader.pid,
                states: one.states,
                delivered: one.delivered,
                missed: one.missed,
                queued: one.queued,
            })
            .collect();
        Ok(status)
    }
}
