//! A new configuration while watching: applied as a whole, or not at all.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::alerts::Orders;
use super::sinks::{PATIENCE, Prepared, Sinks};
use crate::config::{Config, ConfigError};
use crate::interface::protocol::{Fault, Reloaded};
use crate::interface::server::{Applied, Query};
use crate::policy::Policy;

/// Reads the configuration anew, from where the first one came.
#[derive(Clone)]
pub struct Load(Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>);

impl Load {
    /// By this function, which may block.
    pub fn new(load: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(load))
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Load")
    }
}

/// Applies new configurations, one at a time.
#[derive(Debug)]
pub(super) struct Reloader {
    load: Load,
    queries: mpsc::Sender<Query>,
    orders: Orders,
    sinks: Arc<Sinks>,
    every: watch::Sender<Option<Duration>>,
    /// What is in force.
    current: Mutex<Config>,
}

impl Reloader {
    pub(super) fn new(
        load: Load,
        queries: mpsc::Sender<Query>,
        orders: Orders,
        (sinks, every): (Arc<Sinks>, watch::Sender<Option<Duration>>),
        current: Config,
    ) -> Self {
        let current = Mutex::new(current);
        Self {
            load,
            queries,
            orders,
            sinks,
            every,
            current,
        }
    }

    /// Reads the configuration, and hands what can change to the pipeline; says both in the log.
    pub(super) async fn reload(&self) -> Result<Reloaded, Fault> {
        let mut current = self.current.lock().await;
        let Load(load) = self.load.clone();
        let loaded = spawn_blocking(move || load()).await;
        let config = match loaded {
            Ok(Ok(config)) => config,
            Ok(Err(error)) => return Err(mistaken(&error)),
            Err(error) => return Err(Fault::unavailable(format!("reading failed: {error}"))),
        };
        let reloaded = Reloaded {
            schema: Reloaded::SCHEMA.to_owned(),
            rules: config.rules.len() as u64,
            at_restart: current.fixed_that_differ(&config),
        };
        // First what can fail: a password that cannot be read leaves the rules as they are too.
        let prepared = self.prepare(&config).await;
        let prepared = prepared.map_err(|why| refused(78, &why))?;
        let alerting = self.orders.apply(&config).await;
        alerting.map_err(|why| refused(78, &why))?;
        self.sinks.switch(prepared);
        let (answer, applied) = oneshot::channel();
        let applied_config = Box::new(Applied {
            policy: Policy::new(config.rules.clone()),
            storm: config.storm.clone(),
            response: config.response.clone(),
        });
        let stopping = |()| Fault::unavailable("the daemon is stopping".to_owned());
        let sent = self
            .queries
            .send(Query::Apply(applied_config, answer))
            .await;
        sent.map_err(|_| stopping(()))?;
        applied.await.map_err(|_| stopping(()))?;
        current.rules = config.rules;
        current.channels = config.channels;
        current.maintenance = config.maintenance;
        current.storm = config.storm;
        current.response = config.response;
        current.sinks = config.sinks;
        current.heartbeat = config.heartbeat;
        self.every.send_replace(config.heartbeat.every);
        tracing::info!("{reloaded}");
        Ok(reloaded)
    }
}

impl Reloader {
    /// Opens what sinks need, on a thread that may wait for a disk; not for ever, which a disk of the network may take.
    async fn prepare(&self, config: &Config) -> Result<Prepared, String> {
        let (sinks, wanted) = (Arc::clone(&self.sinks), config.sinks.clone());
        let prepared = spawn_blocking(move || sinks.prepare(&wanted));
        match timeout(PATIENCE, prepared).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => Err(format!("sinks cannot be prepared: {error}")),
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                Err(format!(
                    "the files of a sink were not opened within {seconds} s: is their disk there?"
                ))
            }
        }
    }
}

/// Every mistake goes into the log, the first to who asked.
fn mistaken(error: &ConfigError) -> Fault {
    for mistake in &error.diagnostics {
        tracing::error!("{mistake}");
    }
    let first = error.diagnostics.first().map(ToString::to_string);
    let first = first.as_deref().and_then(|text| text.lines().next());
    let count = error.diagnostics.len();
    let more = match count {
        0 | 1 => String::new(),
        _ => format!(" (the first of {count} mistakes)"),
    };
    let first = first.unwrap_or("it cannot be read");
    let why = format!("{first}{more}; `portwatch check` tells every mistake");
    refused(error.exit_code(), &why)
}

fn refused(code: u8, why: &str) -> Fault {
    tracing::error!(why, "the configuration stays as it was");
    Fault {
        code,
        message: format!("the configuration stays as it was: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::sync::{mpsc, watch};

    use super::{Load, Orders, Reloader, Sinks};
    use crate::config::{Config, ConfigError, Diagnostic, Sink, sinks};
    use crate::interface::server::Query;
    use crate::render::Format;
    use crate::sink::{Bus, Limits, Sync};

    #[tokio::test]
    async fn a_wrong_configuration_changes_nothing_and_is_told() {
        let (queries, mut asked) = mpsc::channel(1);
        let turn = Arc::new(AtomicUsize::new(0));
        let load = Load::new(move || match turn.fetch_add(1, Ordering::Relaxed) {
            0 => Err(ConfigError {
                diagnostics: vec![Diagnostic::whole(Path::new("/a"), "wrong".to_owned())],
            }),
            _ => {
                let mut config = Config::default();
                config.ring.bulk_kib = 64;
                config.storm.syn_flood_rate = 7;
                Ok(config)
            }
        });
        let orders = Orders::to_an_obliging_desk();
        let bus = Bus::new(Limits::READER, Limits::REPLAY);
        let sinks = Sinks::new(&bus, Path::new("/nonexistent"), super::super::host::host());
        let reloader = Reloader::new(
            load,
            queries,
            orders,
            (sinks, watch::Sender::new(None)),
            Config::default(),
        );
        let fault = reloader.reload().await.expect_err("wrong");
        assert_eq!(fault.code, 78);
        assert!(
            fault.message.contains("stays as it was: /a: wrong;"),
            "{fault}"
        );
        assert!(asked.try_recv().is_err(), "the pipeline hears nothing");

        let pipeline = tokio::spawn(async move {
            if let Some(Query::Apply(applied, answer)) = asked.recv().await {
                answer.send(()).expect("waiting");
                return (applied.policy.rules().len(), applied.storm.syn_flood_rate);
            }
            panic!("another question");
        });
        let reloaded = reloader.reload().await.expect("right");
        assert_eq!(reloaded.at_restart, ["ring"]);
        assert_eq!(pipeline.await.expect("asked"), (0, 7));
    }

    /// A certificate that comes from a pipe, as from a disk of the network that hangs.
    #[tokio::test]
    async fn a_disk_that_hangs_does_not_stop_the_pipeline() {
        let dir = tempfile::tempdir().expect("dir");
        let fifo = dir.path().join("ca");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &fifo, FileType::Fifo, mode, 0).expect("a pipe");
        let way = sinks::Way {
            ca_file: Some(fifo.clone()),
            ..sinks::Way::default()
        };
        let sink = Sink {
            name: "siem".to_owned(),
            filter: None,
            format: Format::Json,
            states: false,
            sync: Sync::Never,
            buffer: sinks::Buffer::default(),
            kind: sinks::Kind::Syslog(sinks::Syslog {
                address: Some(sinks::Address {
                    tls: true,
                    host: "localhost".to_owned(),
                    port: 6514,
                }),
                way,
                ..sinks::Syslog::default()
            }),
        };
        let load = Load::new(move || {
            Ok(Config {
                sinks: vec![sink.clone()],
                ..Config::default()
            })
        });
        let (queries, _asked) = mpsc::channel(1);
        let bus = Bus::new(Limits::READER, Limits::REPLAY);
        let sinks = Sinks::new(&bus, dir.path(), super::super::host::host());
        let reloader = Reloader::new(
            load,
            queries,
            Orders::to_an_obliging_desk(),
            (sinks, watch::Sender::new(None)),
            Config::default(),
        );
        let disk = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(2));
            std::fs::write(fifo, "no certificate").expect("written");
        });
        let mut reload = std::pin::pin!(reloader.reload());
        let is_stopped = tokio::select! {
            _ = &mut reload => true,
            () = tokio::time::sleep(Duration::from_millis(100)) => false,
        };
        assert!(!is_stopped, "nothing else ran meanwhile");
        assert_eq!(reload.await.expect_err("no certificate").code, 78);
        disk.join().expect("ended");
    }
}
