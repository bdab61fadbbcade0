//! What really happened: every listener that this run opened, by whom, where and until when.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A listener that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// The kind of player that opened it, for the report.
    pub(crate) player: &'static str,
    /// Process that opened it.
    pub(crate) pid: u32,
    /// That process's executable.
    pub(crate) exe: String,
    /// As `socket.protocol` names it.
    pub(crate) protocol: &'static str,
    /// As [`place_of`] and its kin write it; `None` where nobody told us.
    pub(crate) place: Option<String>,
    /// How events are recognised as being about it.
    pub(crate) mark: Mark,
    /// When the call that closed it began, and when it was over.
    pub(crate) closed: Option<(Duration, Duration)>,
    /// Before it could be open, and when it surely was.
    pub(crate) opened: (Duration, Duration),
}

/// What identifies a listener beyond doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    /// Inode in sockfs, which the kernel counts up.
    Inode(u64),
    /// A word in the arguments of a process that opens one listener.
    Token(String),
}

/// A listener in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(usize);

/// The ledger.
#[derive(Debug)]
pub(crate) struct Truth {
    start: Instant,
    listeners: Vec<Listener>,
}

impl Truth {
    pub(crate) const fn new(start: Instant) -> Self {
        Self {
            start,
            listeners: Vec::new(),
        }
    }

    /// Time since the start of the run.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// It is open; nothing of it was at `begun`.
    pub(crate) fn open(
        &mut self,
        begun: Duration,
        player: &'static str,
        (pid, exe): (u32, &str),
        (protocol, place): (&'static str, Option<String>),
        mark: Mark,
    ) -> Id {
        self.listeners.push(Listener {
            player,
            pid,
            exe: exe.to_owned(),
            protocol,
            place,
            mark,
            closed: None,
            opened: (begun, self.start.elapsed()),
        });
        Id(self.listeners.len() - 1)
    }

    /// It is closed now; the call that closed it began at `begun`.
    pub(crate) fn close(&mut self, id: Id, begun: Duration) {
        let now = self.now();
        if let Some(listener) = self.listeners.get_mut(id.0) {
            listener.closed.get_or_insert((begun, now));
        }
    }

    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }
}

/// An inet address, as events are read.
pub(crate) fn place_of(address: SocketAddr) -> String {
    format!("{}:{}", address.ip(), address.port())
}

/// An abstract unix name.
pub(crate) fn abstract_place(name: &str) -> String {
    format!("@{name}")
}
