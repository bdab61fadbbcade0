//! The control server: who gets in, how many, and how it ends. Read-only.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::peer::Peer;
use super::protocol::{Fault, MAX_REQUEST, Reloaded, Reply, to_line};
use super::seats::{Seat, Seats};
use super::session::{self, Context};
use super::socket::ControlSocket;
use super::stats::Stats;
use super::status::{ChannelStatus, HistoryStatus, MetricsStatus, SinkStatus, Status};
use crate::event::{Event, SinkCount};
use crate::policy::Policy;
use crate::sink::{Bus, Compile};
use crate::storm::Settings;
use crate::storm::response::Terms;

/// Time that clients get to read what waits for them when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after a failed accept, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A question to the pipeline task, which answers between two records. Nothing is locked for it.
#[derive(Debug)]
pub enum Query {
    /// Every listener now, as an event each.
    List(oneshot::Sender<Vec<Arc<Event>>>),
    /// Work by these rules and settings from now on.
    Apply(Box<Applied>, oneshot::Sender<()>),
    /// Storms and scans, those that go on first, as the event that was told of each last.
    Storms(oneshot::Sender<Vec<Arc<Event>>>),
    /// TCP sockets by state, listener, process and peer.
    Stats(oneshot::Sender<Stats>),
    /// Tell everybody that the daemon is alive.
    Heartbeat(Box<Beat>),
    /// Health; [`Backend::status`] adds what the frame of the daemon knows.
    Status(oneshot::Sender<Status>),
}

/// What a running daemon can take over of a new configuration.
#[derive(Debug)]
pub struct Applied {
    /// The rules.
    pub policy: Policy,
    /// What storms are.
    pub storm: Settings,
    /// What is done about them.
    pub response: Terms,
}

/// What a heartbeat says besides what the pipeline counts itself.
#[derive(Clone, Debug)]
pub struct Beat {
    /// Distance of two of them.
    pub every: Duration,
    /// The sinks.
    pub sinks: Vec<SinkCount>,
}

/// Reads the configuration anew and applies it.
pub type Reload =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Reloaded, Fault>> + Send>> + Send + Sync>;

/// What the server serves from.
#[derive(Clone)]
pub struct Backend {
    /// Events as they come.
    pub bus: Arc<Bus>,
    /// Questions to the pipeline; a bounded channel.
    pub queries: mpsc::Sender<Query>,
    /// The filter language.
    pub compile: Arc<Compile>,
    /// How keeping the history goes, where it is kept.
    pub history: Option<Arc<dyn Fn() -> HistoryStatus + Send + Sync>>,
    /// How alerts go, channel by channel.
    pub alerts: Option<Arc<dyn Fn() -> Vec<ChannelStatus> + Send + Sync>>,
    /// How metrics go, where they are told.
    pub metrics: Option<Arc<dyn Fn() -> MetricsStatus + Send + Sync>>,
    /// How the sinks do.
    pub sinks: Option<Arc<dyn Fn() -> Vec<SinkStatus> + Send + Sync>>,
    /// For a client who may.
    pub reload: Option<Reload>,
}

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at once.
    pub clients: usize,
    /// Clients of one user at once.
    pub per_uid: usize,
    /// Bytes of a request.
    pub request_bytes: usize,
    /// Time in which the request must come.
    pub request_time: Duration,
    /// Time in which the pipeline must answer a query.
    pub query_time: Duration,
    /// How long a client may take nothing while its queue is full.
    pub stall_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 64,
            per_uid: 16,
            request_bytes: MAX_REQUEST,
            request_time: Duration::from_secs(5),
            query_time: Duration::from_secs(5),
            stall_time: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The defaults with this many clients, a quarter of which (at least one) may belong to one user.
    #[must_use]
    pub fn with_clients(clients: usize) -> Self {
        Self {
            clients,
            per_uid: (clients / 4).max(1),
            ..Self::default()
        }
    }
}

/// Serves until `shutdown` completes, then lets clients read what waits for them, and removes the socket.
/// Closes the bus on the way out.
///
/// # Errors
/// When the socket cannot be handed to the runtime. Failures of single clients are theirs alone.
pub async fn serve(
    socket: ControlSocket,
    backend: Backend,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let ControlSocket {
        listener,
        group,
        file,
        lock,
    } = socket;
    let listener = UnixListener::from_std(listener)?;
    let bus = Arc::clone(&backend.bus);
    let context = Arc::new(Context { backend, limits });
    let seats = Seats::new(limits.clients, limits.per_uid);
    let mut sessions = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            // Collects ended sessions, so that the set does not grow.
            Some(ended) = sessions.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a control session ended abnormally");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match check(&stream, group, file.path(), &seats) {
                    Ok((peer, seat)) => {
                        let context = Arc::clone(&context);
                        sessions.spawn(async move {
                            session::run(stream, peer, &context).await;
                            drop(seat);
                        });
                    }
                    Err(fault) => turn_away(&stream, fault),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    bus.close();
    // New clients hear at once that nobody is here; another daemon has to wait for the lock.
    drop(listener);
    drop(file);
    let farewell = async { while sessions.join_next().await.is_some() {} };
    // Those who still do not read are cut off when the set is dropped.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    drop(lock);
    Ok(())
}

/// Who is it, may it read, and is there room?
fn check(
    stream: &UnixStream,
    group: Option<u32>,
    path: &Path,
    seats: &Arc<Seats>,
) -> Result<(Peer, Seat), Fault> {
    let peer = Peer::of(stream).map_err(|error| {
        Fault::not_permitted(format!("the kernel does not say who you are: {error}"))
    })?;
    if !peer.is_permitted(group) {
        tracing::warn!(peer.uid, "a control client was turned away: not permitted");
        return Err(Fault::not_permitted(format!(
            "user {} may not read from the daemon: become a member of the group that owns {}, or use root",
            peer.uid,
            path.display()
        )));
    }
    let seat = seats
        .take(peer.uid)
        .map_err(|full| Fault::unavailable(full.to_string()))?;
    Ok((peer, seat))
}

/// One line into the empty send buffer of a new connection; never waits.
fn turn_away(stream: &UnixStream, fault: Fault) {
    if let Ok(line) = to_line(&Reply::fault(fault)) {
        let _ = rustix::net::send(
            stream,
            &line,
            rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT,
        );
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
