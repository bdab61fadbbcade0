//! Wiring: start-up, the one ordered pipeline task, and the way out.
//!
//! Architecture invariant: there is one pipeline task, and everything that changes the inventory or the
//! stream of events happens in it, in order. It does no slow I/O: look-ups that can block run elsewhere
//! and answer through bounded channels.

mod alerts;
mod announce;
mod answerable;
mod approvals;
mod carriers;
mod connections;
mod courier;
mod desk;
mod draft;
mod episodes;
mod errand;
mod errno;
mod expected;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod glance;
mod habits;
mod host;
mod kernel_log;
mod latency;
mod look;
mod metering;
mod observer;
mod outside;
mod pending;
mod pipeline;
mod places;
mod queries;
mod reconcile;
mod recorder;
pub mod reload;
mod responses;
mod rings;
mod secret;
mod selftest;
pub mod service;
mod sightings;
mod sinks;
mod startup;
mod stats;
mod status;
mod storm_looks;
mod storms;
mod stream;
mod tell;
mod transports;
mod trial;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::alert::Message;
use crate::config::{Channel, Config, Enrich, Inventory, LogLevel};
use crate::event::{Event, EventType};
use crate::interface::server::Query;
use crate::kernel::features::Features;
use crate::kernel::preflight::{self, NotPermitted};
use crate::memory;
use crate::policy::Policy;
use crate::probe::load::{KernelLogLevel, LoadError, Request, Sizes, load};
use crate::probe::plan::Rung;
use crate::sink::Bus;
use crate::storm::Settings;
use crate::storm::response::Terms;
use crate::time::BootNs;

pub use approvals::{Approving, read_only as baseline};
pub use host::network_namespace as host_network_namespace;
pub use look::look;
pub use stats::stats;
pub use trial::stumbles;

/// Sends a message through a channel at once, past its queue; the other side's own answer comes back.
///
/// # Errors
/// Why it was not taken, in a sentence.
pub fn send_once(channel: &Channel, message: &Message) -> Result<String, String> {
    let carrier = carriers::carrier(channel, &host::host().name)?;
    carrier.send(message).map_err(|refusal| refusal.to_string())
}

/// An event of this host that nothing is said in yet.
#[must_use]
pub fn bare_event(kind: EventType) -> Event {
    look::surroundings().event(kind, BootNs::now())
}

/// Questions that may wait for the pipeline.
const QUERIES: usize = 32;

/// How to watch.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ring sizes.
    pub sizes: Sizes,
    /// A forced rung.
    pub rung: Option<Rung>,
    /// What the probes may log.
    pub log: KernelLogLevel,
    /// What is found out about processes.
    pub enrich: Enrich,
    /// How often to look again.
    pub inventory: Inventory,
    /// The rules.
    pub policy: Policy,
    /// The baseline.
    pub approving: Approving,
    /// What storms are.
    pub storm: Settings,
    /// What is done about them.
    pub response: Terms,
}

impl Options {
    /// From the configuration; a level on the command line wins over the configured one.
    #[must_use]
    pub fn new(
        config: &Config,
        approving: Approving,
        rung: Option<Rung>,
        log: Option<KernelLogLevel>,
    ) -> Self {
        let configured = match config.log.kernel {
            LogLevel::Off => 0,
            LogLevel::Error => 1,
            LogLevel::Warn => 2,
            LogLevel::Info => 3,
            LogLevel::Debug => 4,
        };
        Self {
            sizes: Sizes {
                critical: config.ring.critical_kib.saturating_mul(1024),
                process: config.ring.process_kib.saturating_mul(1024),
                bulk: config.ring.bulk_kib.saturating_mul(1024),
            },
            rung,
            log: log.unwrap_or(KernelLogLevel(configured)),
            enrich: config.enrich.clone(),
            inventory: config.inventory.clone(),
            policy: Policy::new(config.rules.clone()),
            approving,
            storm: config.storm.clone(),
            response: config.response.clone(),
        }
    }
}

/// Why nothing can be watched.
#[derive(Debug, Error)]
pub enum StartError {
    /// A capability is missing.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// The probes cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Neither a probe nor looking again shows anything.
    #[error("no sensor works on this host: {0}; `portwatch doctor` says what is missing")]
    NoSensor(String),
    /// Something ordinary failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl StartError {
    /// The program's exit code (sysexits).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotPermitted(_) => preflight::EXIT_NOT_PERMITTED,
            Self::Load(_) | Self::NoSensor(_) => 69,
            Self::Io { .. } => 74,
        }
    }
}

/// A running pipeline.
#[derive(Debug)]
pub struct Watch {
    queries: mpsc::Sender<Query>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
    heartbeat: Arc<AtomicU64>,
}

/// Loads the probes, starts the pipeline on the current runtime, runs the self-test and the first
/// inventory; returns when ready. Subscribe to `bus` first to get everything from the first event on.
///
/// # Errors
/// When a capability is missing or nothing works.
pub async fn start(options: Options, bus: Arc<Bus>) -> Result<Watch, StartError> {
    memory::settle();
    let features = Features::detect();
    preflight::check(&features)?;
    let request = Request {
        sizes: options.sizes,
        rung: options.rung,
        log: options.log,
    };
    let outcome = load(features, request)?;
    let (queries, receiver) = mpsc::channel(QUERIES);
    let (stop, stopped) = oneshot::channel();
    let heartbeat = Arc::new(AtomicU64::new(0));
    let mut pipeline = pipeline::Pipeline::new(outcome, &options, bus, Arc::clone(&heartbeat))?;
    pipeline.begin().await?;
    memory::give_back();
    let task = tokio::spawn(pipeline.run(receiver, stopped));
    Ok(Watch {
        queries,
        stop: Some(stop),
        task,
        heartbeat,
    })
}

impl Watch {
    /// Where questions go.
    #[must_use]
    pub fn queries(&self) -> mpsc::Sender<Query> {
        self.queries.clone()
    }

    /// Grows while the pipeline is alive, at least every second.
    #[must_use]
    pub fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Ordering::Relaxed)
    }

    /// Completes when the pipeline ended by itself: a fault. Cancel-safe.
    pub async fn ended(&mut self) -> std::io::Error {
        match (&mut self.task).await {
            Ok(Ok(())) => std::io::Error::other("the pipeline ended"),
            Ok(Err(error)) => error,
            Err(error) => std::io::Error::other(format!("the pipeline failed: {error}")),
        }
    }

    /// Stops the pipeline after it has published what it holds.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // The pipeline may have ended before.
            let _ = stop.send(());
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the pipeline did not stop cleanly");
        }
    }
}
