//! The daemon's frame: control socket, pipeline, signals, and the service manager (sd_notify(3)).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{getuid, umask};
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::alerts::{self, Alerting, Running};
use super::metering::Metering;
use super::recorder::{Kept, record};
use super::reload::{Load, Reloader};
use super::sightings;
use super::sinks::{PATIENCE, Sinks};
use super::{Options, StartError, Watch, start};
use crate::baseline::Frame;
use crate::config::Config;
use crate::filter::Filter;
use crate::history::{self, Bounds, Writer};
use crate::interface::protocol::Fault;
use crate::interface::server::{self, Backend, Query};
use crate::interface::socket::{BindError, ControlSocket};
use crate::kernel::features::Features;
use crate::kernel::preflight::{self, NotPermitted};
use crate::sink::{Bus, Interest, Limits, Predicate, Reader};

/// How often the service manager is told how it goes (`systemctl status`).
const STATUS_EVERY: Duration = Duration::from_secs(60);

/// How long the end waits for a disk.
const FAREWELL: Duration = Duration::from_secs(5);

/// What to serve.
#[derive(Clone, Debug)]
pub struct Service {
    /// How to watch.
    pub options: Options,
    /// Where the control socket is.
    pub runtime_dir: PathBuf,
    /// Reads the configuration anew.
    pub load: Load,
    /// What it is now.
    pub config: Config,
}

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The process may not even prepare to watch.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// There is no control socket.
    #[error(transparent)]
    Control(#[from] BindError),
    /// Nothing can be watched.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Alerts cannot be sent as configured.
    #[error("alerts cannot be sent: {0}")]
    Alerts(String),
    /// A sink cannot work as configured.
    #[error("events cannot be written: {0}")]
    Sinks(String),
    /// The pipeline ended.
    #[error("watching has ended: {0}")]
    Pipeline(#[source] io::Error),
    /// The control server ended.
    #[error("the control socket is no longer served: {0}")]
    Server(#[source] io::Error),
    /// The runtime or a signal handler cannot be had.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

impl ServiceError {
    /// The exit code (sysexits).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotPermitted(_) => preflight::EXIT_NOT_PERMITTED,
            Self::Control(error) => error.exit_code(),
            Self::Start(error) => error.exit_code(),
            Self::Alerts(_) | Self::Sinks(_) => 78,
            Self::Pipeline(_) | Self::Server(_) | Self::Runtime(_) => 74,
        }
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or when it ends without having been asked.
pub fn run(service: Service) -> Result<(), ServiceError> {
    // What it makes is for root alone, unless a mode says otherwise.
    umask(Mode::RWXG | Mode::RWXO);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(service));
    // A look-up that still blocks in a file system is not waited for.
    runtime.shutdown_background();
    result
}

async fn serve(service: Service) -> Result<(), ServiceError> {
    let socket = bind(&service)?;
    let mut signals = Signals::new()?;
    let bus = Bus::new(Limits::READER, Limits::REPLAY);
    // Before the first event.
    let recording = keep_history(&service, &bus);
    let sighting = keep_sightings(&service, &bus);
    let alerting = alert(&service, &bus)?;
    let metering = Metering::prepare(&service.config).await;
    let state_dir = &service.options.approving.state_dir;
    let sinks = Sinks::new(&bus, state_dir, super::host::host());
    // As with alerts: what is wrong keeps the daemon from starting. A disk that does not answer does not.
    tokio::select! {
        begun = sinks.start(&service.config.sinks, PATIENCE) => begun.map_err(ServiceError::Sinks)?,
        () = signals.end() => return Ok(()),
    }
    tell(&[NotifyState::Status("loading the probes")]);
    let mut watch = tokio::select! {
        watch = start(service.options, Arc::clone(&bus)) => watch?,
        () = signals.end() => return Ok(()),
    };
    // It is set here and nowhere else.
    let _ = alerting.pipeline.set(watch.queries());
    let (stop, stopped) = oneshot::channel::<()>();
    let (every, heartbeat) = tokio::sync::watch::channel(service.config.heartbeat.every);
    let reloader = Arc::new(Reloader::new(
        service.load,
        watch.queries(),
        alerting.orders.clone(),
        (Arc::clone(&sinks), every),
        service.config.clone(),
    ));
    let courses = alerting.courses.clone();
    let told = Arc::clone(&sinks);
    let backend = Backend {
        reload: Some(reload_by(&reloader)),
        bus: Arc::clone(&bus),
        queries: watch.queries(),
        compile: Arc::new(compile),
        alerts: Some(Arc::new(move || courses.status())),
        sinks: Some(Arc::new(move || told.status())),
        history: recording.as_ref().map(|recording| {
            let kept = Arc::clone(&recording.kept);
            Arc::new(move || kept.status()) as _
        }),
        metrics: metering.as_ref().map(|metering| {
            let figures = metering.figures();
            Arc::new(move || figures.status()) as _
        }),
    };
    let metering = metering.map(|metering| metering.start(backend.clone()));
    let clients = usize::try_from(service.config.control.max_clients).unwrap_or(usize::MAX);
    let path = socket.path().to_owned();
    let mut server = tokio::spawn(server::serve(
        socket,
        backend,
        server::Limits::with_clients(clients),
        async { drop(stopped.await) },
    ));
    let beating = beat(&sinks, &watch, heartbeat);
    let status = tokio::spawn(tell_status(watch.queries(), Arc::clone(&bus)));
    tell(&[NotifyState::Ready]);
    tracing::info!(socket = %path.display(), "watching");

    let end = until_end(&mut watch, &mut server, &mut signals, &reloader).await;
    tell(&[NotifyState::Stopping]);
    status.abort();
    if let Some(metering) = metering {
        metering.end().await;
    }
    beating.abort();
    // The pipeline first: its last lines go out before clients are told that there are no more.
    if !matches!(end, End::Pipeline(_)) {
        watch.stop().await;
    }
    drop(stop);
    let result = match end {
        End::Asked => {
            joined(server.await)?;
            tracing::info!("stopped");
            Ok(())
        }
        End::Pipeline(error) => {
            joined(server.await)?;
            Err(ServiceError::Pipeline(error))
        }
        End::Server(error) => Err(error),
    };
    if let Some(recording) = recording {
        recording.end().await;
    }
    bus.close();
    sinks.end(FAREWELL).await;
    if tokio::time::timeout(FAREWELL, sighting).await.is_err() {
        tracing::error!("when listeners were seen last could not be written in time");
    }
    // The desk works for as long as somebody could send it a new configuration.
    drop((reloader, alerting.orders));
    let ended = tokio::time::timeout(FAREWELL, alerting.task).await;
    if ended.is_err() {
        tracing::error!("the last alerts could not be queued in time");
    }
    result
}

/// The history, being kept.
struct Recording {
    bus: Arc<Bus>,
    kept: Arc<Kept>,
    task: JoinHandle<()>,
}

impl Recording {
    /// The last lines are written. A disk that hangs is not waited for.
    async fn end(self) {
        self.bus.close();
        if tokio::time::timeout(FAREWELL, self.task).await.is_err() {
            tracing::error!("the end of the history could not be written in time");
        }
    }
}

fn keep_history(service: &Service, bus: &Arc<Bus>) -> Option<Recording> {
    let bounds = Bounds {
        bytes: u64::from(service.config.history.max_mib) << 20,
        age: service.config.history.max_age?,
    };
    let folder = history::folder(&service.options.approving.state_dir);
    let writer = match Writer::open(&folder, bounds) {
        Ok(writer) => writer,
        Err(error) => {
            let folder = folder.display();
            tracing::error!(%error, %folder, "no history is kept; --state-dir names another place");
            return None;
        }
    };
    let subscriber = bus.subscribe(myself(), Interest::default()).subscriber;
    let kept = Arc::new(Kept::default());
    let task = tokio::spawn(record(subscriber, writer, Arc::clone(&kept)));
    let bus = Arc::clone(bus);
    Some(Recording { bus, kept, task })
}

fn keep_sightings(service: &Service, bus: &Arc<Bus>) -> JoinHandle<()> {
    let subscriber = bus.subscribe(myself(), Interest::default()).subscriber;
    let state_dir = service.options.approving.state_dir.clone();
    let frame = Frame::of_host(super::host_network_namespace());
    tokio::spawn(sightings::keep(subscriber, state_dir, frame))
}

/// A part of the daemon that reads its events.
pub(super) fn myself() -> Reader {
    Reader {
        uid: getuid().as_raw(),
        pid: Some(std::process::id()),
        is_own: true,
    }
}

/// Nobody wants to find out in the night that a password was not readable: what is wrong keeps the daemon from starting.
fn alert(service: &Service, bus: &Arc<Bus>) -> Result<Running, ServiceError> {
    let alerting = Alerting {
        channels: service.config.channels.clone(),
        windows: service.config.maintenance.clone(),
        state_dir: service.options.approving.state_dir.clone(),
        host: super::host::host().name,
        frame: Frame::of_host(super::host_network_namespace()),
    };
    alerts::start(alerting, bus).map_err(ServiceError::Alerts)
}

fn beat(
    sinks: &Arc<Sinks>,
    watch: &Watch,
    every: tokio::sync::watch::Receiver<Option<Duration>>,
) -> JoinHandle<()> {
    let (sinks, queries) = (Arc::clone(sinks), watch.queries());
    tokio::spawn(async move { sinks.beat(queries, every).await })
}

/// Takes the socket. Whoever may not even make it hears what is needed for everything.
fn bind(service: &Service) -> Result<ControlSocket, ServiceError> {
    ControlSocket::bind(&service.runtime_dir, &service.config.control.group).map_err(|error| {
        let is_refused = matches!(&error, BindError::Io { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied);
        if is_refused && let Err(missing) = preflight::check(&Features::detect()) {
            return missing.into();
        }
        error.into()
    })
}

fn reload_by(reloader: &Arc<Reloader>) -> server::Reload {
    let reloader = Arc::clone(reloader);
    Arc::new(move || {
        let reloader = Arc::clone(&reloader);
        // Whoever asks may lose patience, and must not leave a reload half done behind.
        let reloading = tokio::spawn(async move { reloader.reload().await });
        Box::pin(async move {
            reloading.await.unwrap_or_else(|error| {
                Err(Fault::unavailable(format!("the reload failed: {error}")))
            })
        })
    })
}

fn compile(text: &str) -> Result<Predicate, String> {
    let filter = Filter::parse(text)
        .map_err(|error| format!("filter, column {}: {}", error.column(), error.message()))?;
    Ok(Box::new(move |event| filter.matches(event)))
}

enum End {
    Asked,
    Pipeline(io::Error),
    Server(ServiceError),
}

async fn until_end(
    watch: &mut Watch,
    server: &mut JoinHandle<io::Result<()>>,
    signals: &mut Signals,
    reloader: &Arc<Reloader>,
) -> End {
    let mut watchdog = Watchdog::new(sd_notify::watchdog_enabled());
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::End => return End::Asked,
                Asked::Reload => {
                    let reloader = Arc::clone(reloader);
                    // It has told in the log what it did.
                    tokio::spawn(async move { reloader.reload().await });
                }
            },
            error = watch.ended() => return End::Pipeline(error),
            ended = &mut *server => {
                let error = joined(ended).err().unwrap_or_else(|| {
                    ServiceError::Server(io::Error::other("the server ended without being asked"))
                });
                return End::Server(error);
            }
            () = watchdog.tick() => {
                if watchdog.pulse.is_alive(watch.heartbeat()) {
                    tell(&[NotifyState::Watchdog]);
                } else {
                    tracing::warn!("the pipeline has not moved since the last look; the watchdog is not fed");
                }
            }
        }
    }
}

fn joined(ended: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), ServiceError> {
    ended
        .map_err(io::Error::other)
        .and_then(|served| served)
        .map_err(ServiceError::Server)
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    End,
    Reload,
}

/// What ends the daemon, and what many daemons reload on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Completes when the daemon is asked to end. Cancel-safe.
    async fn end(&mut self) {
        while self.next().await == Asked::Reload {
            tracing::info!("SIGHUP while starting: the configuration has just been read");
        }
    }

    /// Completes when something is asked for. Cancel-safe.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// Pings twice in each interval that the service manager grants.
struct Watchdog {
    interval: Option<Interval>,
    pulse: Pulse,
}

impl Watchdog {
    fn new(granted: Option<Duration>) -> Self {
        let interval = granted.map(|granted| {
            let mut interval = interval((granted / 2).max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self {
            interval,
            pulse: Pulse::default(),
        }
    }

    async fn tick(&mut self) {
        match &mut self.interval {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }
}

/// Has a counter grown since the last look? Pure.
#[derive(Debug, Default)]
struct Pulse {
    last: Option<u64>,
}

impl Pulse {
    fn is_alive(&mut self, heartbeat: u64) -> bool {
        self.last.replace(heartbeat) != Some(heartbeat)
    }
}

/// Tells the service manager what `portwatch status` says in its first line.
async fn tell_status(queries: mpsc::Sender<Query>, bus: Arc<Bus>) {
    let mut interval = interval(STATUS_EVERY);
    loop {
        interval.tick().await;
        let (sender, receiver) = oneshot::channel();
        if queries.send(Query::Status(sender)).await.is_err() {
            return;
        }
        let Ok(mut status) = receiver.await else {
            return;
        };
        status.losses.client_missed = bus.missed();
        let text = status.human(false);
        tell(&[NotifyState::Status(text.lines().next().unwrap_or_default())]);
    }
}

/// Does nothing where no service manager listens.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_that_stands_still_is_not_alive() {
        let mut pulse = Pulse::default();
        assert!(
            pulse.is_alive(0),
            "the first look has nothing to compare with"
        );
        assert!(!pulse.is_alive(0));
        assert!(pulse.is_alive(7));
        assert!(!pulse.is_alive(7));
    }

    #[test]
    fn a_wrong_filter_is_told_in_one_line() {
        let sentence = compile("port == \x1bx").err().expect("wrong");
        assert!(sentence.starts_with("filter, column "), "{sentence}");
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
    }

    #[test]
    fn a_filter_becomes_a_predicate() {
        let examples = crate::event::example::examples();
        let all = compile("").expect("right");
        let none = compile("port == 1 and port == 2").expect("right");
        assert!(examples.iter().all(|event| all(event) && !none(event)));
    }
}
