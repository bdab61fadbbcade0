//! Metrics in the frame of the daemon: the listener, from before the first look on, and the text file at its beat.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::{Config, Metrics};
use crate::interface::metrics::Format;
use crate::interface::metrics::listen::{Endpoint, Listener};
use crate::interface::metrics::server::{self, Figures, Press};
use crate::interface::metrics::textfile;
use crate::interface::server::Backend;

/// How often the file is written: as often as most scrape.
const TEXTFILE_EVERY: Duration = Duration::from_secs(15);
/// Until a place that was taken is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Metrics that somebody wants.
#[derive(Debug)]
pub(super) struct Metering {
    wanted: Metrics,
    group: String,
    listener: Option<Listener>,
    figures: Arc<Figures>,
}

impl Metering {
    /// Listens, where that is wanted; before the first look at what listens, so that this one is found and learned with all
    /// the others. That the place is taken is no reason not to watch: then any user could keep the daemon from starting.
    pub(super) async fn prepare(config: &Config) -> Option<Self> {
        let wanted = config.metrics.clone();
        if wanted == Metrics::default() {
            return None;
        }
        let mut metering = Self {
            wanted,
            group: config.control.group.clone(),
            listener: None,
            figures: Arc::new(Figures::default()),
        };
        if let Some(endpoint) = metering.wanted.listen.clone() {
            metering.listener = metering.bind(&endpoint).await;
        }
        Some(metering)
    }

    /// How it goes.
    pub(super) fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Tells metrics from here on.
    pub(super) fn start(self, backend: Backend) -> Running {
        let backend = Backend {
            reload: None,
            ..backend
        };
        let press = Arc::new(Press::new(backend));
        let textfile = self.wanted.textfile.clone();
        let mut tasks = JoinSet::new();
        if let Some(path) = textfile.clone() {
            tasks.spawn(write(path, Arc::clone(&press), self.figures()));
        }
        if let Some(endpoint) = self.wanted.listen.clone() {
            tasks.spawn(self.serve(endpoint, press));
        }
        Running { tasks, textfile }
    }

    async fn bind(&self, endpoint: &Endpoint) -> Option<Listener> {
        let bound = Listener::bind(endpoint, &self.group).await;
        if self.figures.listens(bound.as_ref().err().cloned()) {
            match &bound {
                Ok(_) => tracing::info!(%endpoint, "metrics are served after all"),
                Err(error) => tracing::error!("{error}; it is tried again and again"),
            }
        }
        bound.ok()
    }

    async fn serve(mut self, endpoint: Endpoint, press: Arc<Press>) {
        let listener = loop {
            if let Some(listener) = self.listener.take() {
                break listener;
            }
            sleep(RETRY).await;
            self.listener = self.bind(&endpoint).await;
        };
        server::serve(listener, press, self.figures).await;
    }
}

/// Metrics, being told.
#[derive(Debug)]
pub(super) struct Running {
    tasks: JoinSet<()>,
    textfile: Option<PathBuf>,
}

impl Running {
    /// Tells no more. The file goes too: figures of a daemon that has ended look like those of one that lives.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
        if let Some(path) = self.textfile {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn write(path: PathBuf, press: Arc<Press>, figures: Arc<Figures>) {
    let mut beat = interval(TEXTFILE_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let Some(page) = press.page(Format::Text).await else {
            continue;
        };
        let file = path.clone();
        // A disk that hangs holds up the next page, and nothing else.
        let written = spawn_blocking(move || textfile::write(&file, &page)).await;
        let written = written
            .map_err(std::io::Error::other)
            .and_then(|written| written);
        let file = path.display();
        let error = written
            .err()
            .map(|error| format!("metrics cannot be written to {file}: {error}"));
        if figures.wrote(error.clone()) {
            match error {
                Some(error) => tracing::error!("{error}"),
                None => tracing::info!(%file, "metrics are written again"),
            }
        }
    }
}
