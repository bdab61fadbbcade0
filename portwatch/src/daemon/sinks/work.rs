//! The thread that reads the bus for a sink, and what comes behind it on the same output.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::config::Sink;
use crate::config::sinks::Kind;
use crate::sink::Numbering;

/// Where lines go in the end: those of one output have one row of numbers, and one thread at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    File(PathBuf),
    /// The buffer of the sink of this name.
    Buffer(String),
}

impl Output {
    pub(super) fn of(sink: &Sink) -> Self {
        match &sink.kind {
            Kind::Stdout => Self::Stdout,
            Kind::File(file) => Self::File(file.path.clone()),
            _ => Self::Buffer(sink.name.clone()),
        }
    }
}

/// Do both keep the head of their chain in one place?
pub(super) fn share_a_chain(one: &Sink, other: &Sink) -> bool {
    let has_chain = |sink: &Sink| matches!(&sink.kind, Kind::File(file) if file.chain);
    one.name == other.name && has_chain(one) && has_chain(other)
}

/// A thread that ends by itself, and leaves its numbers to whoever asks.
#[derive(Debug)]
pub(super) struct Work(Mutex<State>);

#[derive(Debug)]
struct State {
    thread: Option<JoinHandle<Numbering>>,
    numbering: Numbering,
}

impl Work {
    /// Begins it.
    pub(super) fn begin(
        name: String,
        run: impl FnOnce() -> Numbering + Send + 'static,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new().name(name).spawn(run)?;
        Ok(Self(Mutex::new(State {
            thread: Some(thread),
            numbering: Numbering::default(),
        })))
    }

    /// Waits until it has ended. Its numbers; they begin anew behind one that has panicked, which said so.
    pub(super) fn end(&self) -> Numbering {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = state.thread.take() {
            state.numbering = thread.join().unwrap_or_default();
        }
        state.numbering.clone()
    }

    /// Has it ended?
    pub(super) fn is_over(&self) -> bool {
        // Whoever waits for it holds the lock.
        let state = self.0.try_lock();
        state.is_ok_and(|state| state.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }
}
