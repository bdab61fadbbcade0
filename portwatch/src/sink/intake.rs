//! From the bus to one sink: takes what the sink wants, makes lines of it, and writes them. On a thread of its own, so
//! that neither a disk nor a filter holds the pipeline up.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::chain::{Chain, Head};
use super::deliver::gap;
use super::figures::{Figures, Side};
use super::pace::{Pace, Sync};
use super::wait::wait;
use super::{Item, Line, Numbering, Selection, States, Subscriber};
use crate::event::{Event, GapCause, Host};
use crate::render::Format;

/// Bytes that are taken from the bus at once.
const BATCH: usize = 256 * 1024;
/// A batch is written when it has so many bytes.
const FULL: usize = 256 * 1024;
/// Pause after so few lines that the bus wakes this thread for each …
const GATHER: Duration = Duration::from_millis(1);
/// … which costs more than what is done with them. What the pause gathers are some hundred lines at most: the bus has
/// room for more.
const FEW: u64 = 64;
/// How often the place is looked after.
const BEAT: Duration = Duration::from_secs(1);
/// Pause after the disk took nothing.
const RETRY: Duration = Duration::from_secs(1);
/// So long a sink that was taken away or changed waits for a disk that takes nothing: what comes behind it waits too.
const LEAVE: Duration = Duration::from_secs(30);

/// Where lines go. What it does may wait for a disk.
pub trait Place: Send {
    /// Writes whole lines, each with its newline: all of them or, after an error, none. After one it is called with the
    /// same lines again, until they are written or [`Place::give_up`] is called.
    ///
    /// # Errors
    /// When they cannot be written now, a full disk for example.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// The lines that could not be written do not come again.
    fn give_up(&mut self) {}

    /// What was written survives the end of the machine from here on.
    ///
    /// # Errors
    /// When the disk refuses. After that, some of it may be gone: it is called again until it succeeds.
    fn settle(&mut self) -> io::Result<()>;

    /// How many lines that were written are gone, of those that this has not told of yet.
    fn lost(&mut self) -> u64 {
        0
    }

    /// The lines that were written last end the chain here.
    fn sealed(&mut self, _head: Head) {}

    /// Looks after it, about every second.
    ///
    /// # Errors
    /// When it is no longer as it should be.
    fn beat(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Opens it anew: somebody may have put it away.
    fn reopen(&mut self) {}
}

/// What becomes of events.
#[derive(Debug)]
pub struct Shape {
    /// How lines are made.
    pub format: Format,
    /// Their hash chain.
    pub chain: Option<Chain>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            format: Format::Json,
            chain: None,
        }
    }
}

/// A place that is open.
pub struct Opened {
    /// The place.
    pub place: Box<dyn Place>,
    /// What it is to get.
    pub shape: Shape,
    /// What is told before all else.
    pub first: Option<Event>,
}

/// What a thread is asked while it runs.
#[derive(Debug, Default)]
pub struct Orders {
    /// Opens its place anew.
    pub reopen: AtomicBool,
    /// Tries no longer what fails: the daemon ends.
    pub give_up: AtomicBool,
    /// Tries what fails for [`LEAVE`] at most: nothing more comes for it.
    pub leave: AtomicBool,
}

/// The reader of the bus for one sink.
pub struct Intake {
    /// What it is called.
    pub name: String,
    /// Its end of the bus.
    pub subscriber: Subscriber,
    /// What it wants of it.
    pub selection: Selection,
    /// When it syncs.
    pub sync: Sync,
    /// Who delivers what was written; where there is nobody for that, it is delivered. This does not keep them at work.
    pub wake: Option<Weak<SyncSender<()>>>,
    /// How it does.
    pub figures: Arc<Figures>,
    /// The host, for what it has to tell itself.
    pub host: Arc<Host>,
    /// What it is asked.
    pub orders: Arc<Orders>,
}

/// What a thread leaves to the next one on the same output.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// The numbers of its lines.
    pub numbering: Numbering,
    /// Events that it could not write, and of which nobody was told.
    pub lost: u64,
}

/// Lines on their way.
struct Batch {
    place: Box<dyn Place>,
    shape: Shape,
    numbering: Numbering,
    /// Events that were given up, with those that gaps among them stand for.
    given_up: u64,
    pace: Pace,
    bytes: Vec<u8>,
    lines: u64,
    /// Events that gaps among them stand for.
    missing: u64,
    /// When it first failed although nothing more comes.
    left: Option<Instant>,
}

impl Intake {
    /// Opens a place, again and again.
    ///
    /// # Errors
    /// When nothing more comes before: so many events are lost.
    pub fn open(&mut self, mut open: impl FnMut() -> io::Result<Opened>) -> Result<Opened, u64> {
        let mut left = None;
        loop {
            match open() {
                Ok(opened) => return Ok(opened),
                Err(error) => self.judge(Some(error)),
            }
            if self.gives_up(&mut left) {
                let reader = self.subscriber.leash().status();
                // What was missed is counted by whoever took the reader away, and told by nobody.
                self.figures.lost(reader.queued);
                return Err(reader.queued.saturating_add(reader.missed));
            }
            thread::sleep(RETRY);
        }
    }

    /// Something failed once more: is that enough? `left` is when it was first seen that nothing more comes.
    fn gives_up(&self, left: &mut Option<Instant>) -> bool {
        if self.orders.leave.load(Ordering::Relaxed) {
            left.get_or_insert_with(Instant::now);
        }
        let is_late = left.is_some_and(|left| left.elapsed() >= LEAVE);
        is_late || self.orders.give_up.load(Ordering::Relaxed)
    }

    /// Works until the bus has no more for it, behind what was left to it. What is left of it comes back.
    #[must_use]
    pub fn run(mut self, opened: Opened, left: Left) -> Left {
        let mut batch = Batch {
            place: opened.place,
            shape: opened.shape,
            numbering: left.numbering,
            given_up: 0,
            pace: Pace::new(self.sync),
            bytes: Vec::with_capacity(FULL + FULL / 4),
            lines: 0,
            missing: 0,
            left: None,
        };
        if let Some(event) = opened.first {
            batch.line(&Line::new(event.into()));
        }
        if left.lost > 0 {
            let (now, why) = (Timestamp::now(), "could not be written before");
            let gap = gap(&self.host, left.lost, GapCause::Unwritten, (now, now), why);
            batch.line(&Line::new(gap.into()));
        }
        self.write(&mut batch);
        let mut beat = Instant::now() + BEAT;
        loop {
            let until = batch.pace.due().map_or(beat, |due| due.min(beat));
            let items = wait(self.subscriber.next_batch(BATCH), Some(until));
            if self.orders.reopen.swap(false, Ordering::Relaxed) {
                batch.place.reopen();
            }
            match items {
                Some(Some(items)) => {
                    let taken = items.iter().map(Item::count).sum::<usize>() as u64;
                    for item in items {
                        self.take(&item, &mut batch);
                    }
                    self.write(&mut batch);
                    self.subscriber.count_delivered(taken);
                    if taken < FEW {
                        thread::sleep(GATHER);
                    }
                }
                Some(None) => break,
                None => {}
            }
            let now = Instant::now();
            self.settle(&mut batch, now);
            if now >= beat {
                beat = now + BEAT;
                if let Err(error) = batch.place.beat() {
                    self.judge(Some(error));
                }
            }
            self.excuse(&mut batch);
        }
        if self.sync != Sync::Never {
            // The second attempt writes again what the first one could not.
            let settled = batch.place.settle().or_else(|_| batch.place.settle());
            if let Err(error) = settled {
                self.judge(Some(error));
            }
        }
        self.excuse(&mut batch);
        Left {
            numbering: batch.numbering,
            lost: batch.given_up,
        }
    }

    /// Tells of lines that were written and are gone.
    fn excuse(&self, batch: &mut Batch) {
        let lost = batch.place.lost();
        if lost > 0 {
            self.figures.lost(lost);
            let (now, why) = (Timestamp::now(), "were lost by a disk that failed");
            let gap = gap(&self.host, lost, GapCause::Damaged, (now, now), why);
            batch.line(&Line::new(gap.into()));
            self.write(batch);
        }
    }

    fn take(&self, item: &Item, batch: &mut Batch) {
        match item {
            Item::Line(line) if self.selection.admits(line.event()) => {
                batch.line(line);
                if batch.bytes.len() >= FULL {
                    self.write(batch);
                }
            }
            Item::Line(_) => {}
            Item::States(states) => {
                for index in 0..states.count() {
                    if self.selection.admits_state(states, index) {
                        batch.state(states, index);
                        if batch.bytes.len() >= FULL {
                            self.write(batch);
                        }
                    }
                }
            }
        }
    }

    /// Writes the batch, again and again: meanwhile the queue of the bus fills, and tells what did not fit.
    fn write(&self, batch: &mut Batch) {
        if batch.bytes.is_empty() {
            return;
        }
        while let Err(error) = batch.place.write(&batch.bytes) {
            self.judge(Some(error));
            if self.gives_up(&mut batch.left) {
                let events = batch.lines;
                self.figures.lost(events);
                tracing::error!(
                    sink = self.name,
                    events,
                    "the last events could not be written"
                );
                batch.place.give_up();
                let lost = events.saturating_add(batch.missing);
                batch.given_up = batch.given_up.saturating_add(lost);
                batch.clear();
                return;
            }
            thread::sleep(RETRY);
            // Perhaps there is a good one in its place by now.
            if let Err(error) = batch.place.beat() {
                self.judge(Some(error));
            }
        }
        if let Some(chain) = &batch.shape.chain {
            batch.place.sealed(chain.head());
            self.figures.sealed(chain.head());
        }
        let now = Instant::now();
        batch.pace.wrote(now);
        self.settle(batch, now);
        if !batch.pace.has_failed() {
            self.judge(None);
        }
        match &self.wake {
            // It is awake, then; or it has ended, and another one delivers.
            Some(wake) => drop(wake.upgrade().map(|wake| wake.try_send(()))),
            None => self.figures.delivered(batch.lines),
        }
        batch.clear();
    }

    /// Syncs what was written, where it is time to.
    fn settle(&self, batch: &mut Batch, now: Instant) {
        if !batch.pace.is_due(now) {
            return;
        }
        let settled = batch.place.settle();
        batch.pace.tried(settled.is_ok(), now);
        self.judge(settled.err());
    }

    fn judge(&self, error: Option<io::Error>) {
        let why = error.map(|error| error.to_string());
        let shown = why.clone().unwrap_or_default();
        if self.figures.judge(Side::Disk, why) {
            match shown.is_empty() {
                true => tracing::info!(sink = self.name, "writes again"),
                false => {
                    tracing::error!(sink = self.name, error = shown, "cannot write; events wait");
                }
            }
        }
    }
}

impl Batch {
    fn line(&mut self, line: &Line) {
        let start = self.bytes.len();
        if let Some(gap) = &line.event().gap {
            self.missing = self.missing.saturating_add(gap.lost);
        }
        match self.shape.format {
            Format::Json => self.numbering.append(line, &mut self.bytes),
            other => other.append(&self.numbering.event(line), &mut self.bytes),
        }
        self.seal(start);
    }

    fn state(&mut self, states: &States, index: usize) {
        let start = self.bytes.len();
        match self.shape.format {
            Format::Json => self.numbering.append_state(states, index, &mut self.bytes),
            other => {
                if let Some(event) = self.numbering.state_event(states, index) {
                    other.append(&event, &mut self.bytes);
                }
            }
        }
        self.seal(start);
    }

    fn seal(&mut self, start: usize) {
        self.lines += 1;
        if let Some(chain) = &mut self.shape.chain {
            chain.seal(&mut self.bytes, start, self.shape.format);
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.lines = 0;
        self.missing = 0;
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
