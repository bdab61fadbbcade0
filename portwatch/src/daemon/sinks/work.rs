//! The thread that reads the bus for a sink, and what comes behind it on the same output.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::config::Sink;
use crate::config::sinks::Kind;
use crate::sink::intake::Left;

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
    thread: Option<JoinHandle<Left>>,
    left: Left,
}

impl State {
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.left = thread.join().unwrap_or_default();
        }
    }
}

impl Work {
    /// Begins it.
    pub(super) fn begin(
        name: String,
        run: impl FnOnce() -> Left + Send + 'static,
    ) -> io::Result<Self> {
        let thread = thread::Builder::new().name(name).spawn(run)?;
        Ok(Self(Mutex::new(State {
            thread: Some(thread),
            left: Left::default(),
        })))
    }

    /// Waits until it has ended. What it left, its lost events to the first who asks; numbers begin anew behind one that has
    /// panicked, which said so.
    pub(super) fn end(&self) -> Left {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.join();
        let left = state.left.clone();
        state.left.lost = 0;
        left
    }

    /// Waits until it has ended.
    pub(super) fn wait(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.join();
    }

    /// Has it ended?
    pub(super) fn is_over(&self) -> bool {
        // Whoever waits for it holds the lock.
        let state = self.0.try_lock();
        state.is_ok_and(|state| state.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }
}
