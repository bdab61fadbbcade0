//! Checks, many at a time, on a thread of their own: a handshake or a slow resolver must not hold up the pipeline.

use std::io;
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};

use super::ask::ask;
use super::{AT_ONCE, Asked, Failure, Order};

/// Names that are resolved at the same time.
const LOOKUPS: usize = 4;

/// Makes checks; starts its thread with the first of them.
#[derive(Debug)]
pub struct Checker {
    orders: Option<mpsc::Sender<Order>>,
    outcomes: mpsc::Sender<Asked>,
}

impl Checker {
    /// The checker, and where the outcome of every order comes out. Neither channel is ever full as long as no more
    /// than [`AT_ONCE`] orders are without their outcome.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (outcomes, receiver) = mpsc::channel(AT_ONCE);
        let checker = Self {
            orders: None,
            outcomes,
        };
        (checker, receiver)
    }

    /// Makes this check; its outcome comes within its time. Does not wait.
    ///
    /// # Errors
    /// The thread cannot be started or has too much to do; then no outcome comes.
    pub fn order(&mut self, order: Order) -> io::Result<()> {
        let orders = match &self.orders {
            Some(orders) => orders,
            None => {
                let orders = start(self.outcomes.clone())?;
                self.orders.insert(orders)
            }
        };
        orders.try_send(order).map_err(|error| {
            let gone = matches!(error, mpsc::error::TrySendError::Closed(_));
            let error = io::Error::other(error.to_string());
            if gone {
                self.orders = None;
            }
            error
        })
    }
}

fn start(outcomes: mpsc::Sender<Asked>) -> io::Result<mpsc::Sender<Order>> {
    let (sender, mut orders) = mpsc::channel::<Order>(AT_ONCE);
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUPS)
        .thread_name("check-lookup")
        .build()?;
    std::thread::Builder::new()
        .name("check".to_owned())
        .spawn(move || {
            let lookups = Arc::new(Semaphore::new(LOOKUPS));
            runtime.block_on(async {
                while let Some(order) = orders.recv().await {
                    tokio::spawn(make(order, Arc::clone(&lookups), outcomes.clone()));
                }
            });
            // A resolver that hangs is not waited for.
            runtime.shutdown_background();
        })?;
    Ok(sender)
}

async fn make(order: Order, lookups: Arc<Semaphore>, outcomes: mpsc::Sender<Asked>) {
    let ticket = order.ticket;
    let asked = tokio::spawn(async move { ask(&order, &lookups).await });
    // A bug in one check must not leave its order without an outcome.
    let result = asked
        .await
        .unwrap_or_else(|error| Err(Failure::Unmade(error.to_string())));
    // Nobody waits for it when the daemon stops.
    let _ = outcomes.send(Asked { ticket, result }).await;
}
