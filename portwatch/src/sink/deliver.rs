//! Delivers what the buffer of a sink holds: in order, again and again until the peer has acknowledged it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use super::buffer::{Hole, Read, Reader};
use super::figures::{Figures, Side};
use super::transport::{Parcel, Transport, Trouble};
use super::{Head, Numbering};
use crate::event::{Event, EventType, Gap, GapCause, Host, RingName, Severity};
use crate::render::Format;
use crate::sink::encode_line;

/// Distance of two attempts: doubled each time, from this …
const FIRST: Duration = Duration::from_millis(250);
/// … to this.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long without anything to do, a connection may go.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after the buffer could not be read.
const UNREAD: Duration = Duration::from_secs(1);
/// Most records that are handed over at once.
const RECORDS: usize = 1024;
/// About as many bytes of them.
const BYTES: usize = 1 << 20;

/// The way from the buffer to the peer. It outlives a new configuration, which may change the peer and the format.
#[derive(Debug)]
pub struct Lane {
    name: String,
    figures: Arc<Figures>,
    host: Arc<Host>,
    /// Held by who delivers: after a new configuration the next one waits until the last attempt of the one before is
    /// over.
    turn: Mutex<Turn>,
    is_ending: AtomicBool,
}

#[derive(Debug)]
struct Turn {
    reader: Reader,
    numbering: Numbering,
    /// What is out of the buffer and not acknowledged.
    pending: Vec<Pending>,
    /// When the last event was seen that came out, ns since 1970.
    last_ts: i64,
}

/// An event with its number in this output.
#[derive(Debug)]
struct Pending {
    /// Index of what comes behind it in the buffer.
    next: u64,
    seq: u64,
    head: Head,
    /// Its JSON with its newline.
    json: Vec<u8>,
    /// It tells that another one was refused.
    is_excuse: bool,
}

impl Lane {
    /// For this buffer; nothing is delivered yet.
    #[must_use]
    pub fn new(name: &str, reader: Reader, host: Arc<Host>, figures: Arc<Figures>) -> Arc<Self> {
        let last_ts = reader.acknowledged_ts();
        Arc::new(Self {
            name: name.to_owned(),
            figures,
            host,
            turn: Mutex::new(Turn {
                reader,
                numbering: Numbering::default(),
                pending: Vec::new(),
                last_ts,
            }),
            is_ending: AtomicBool::new(false),
        })
    }

    /// Delivery ends as soon as there is nothing more, or something goes wrong.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Delivers until `wake` has no sender any more, or all is delivered after [`Lane::end`]. A message on it says that
    /// there is something new.
    pub fn deliver(&self, transport: &mut dyn Transport, format: Format, wake: &Receiver<()>) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parcels: Vec<Parcel> = Vec::new();
        parcels.extend(turn.pending.iter().map(|one| one.parcel(format)));
        let mut pause = Duration::ZERO;
        let mut is_unread = false;
        loop {
            if parcels.is_empty() {
                match turn.fill(self, Instant::now()) {
                    Err(error) => {
                        is_unread = true;
                        self.judge(Some(format!("the buffer cannot be read: {error}")));
                    }
                    Ok(()) if is_unread => {
                        is_unread = false;
                        self.judge(None);
                    }
                    Ok(()) => {}
                }
                parcels.extend(turn.pending.iter().map(|one| one.parcel(format)));
            }
            if parcels.is_empty() {
                if self.is_ending.load(Ordering::Relaxed) {
                    return;
                }
                match wake.recv_timeout(if is_unread { UNREAD } else { IDLE }) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) if is_unread => {}
                    Err(RecvTimeoutError::Timeout) => transport.rest(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                continue;
            }
            // Perhaps it waited for its turn until somebody else was to deliver, and then nothing may go to its peer. What is
            // left must not keep it from ending.
            if !self.is_ending.load(Ordering::Relaxed) && is_over(wake) {
                return;
            }
            let delivery = transport.deliver(&parcels);
            let taken = delivery.taken.min(parcels.len());
            parcels.drain(..taken);
            turn.took(taken, self);
            if taken > 0 {
                pause = Duration::ZERO;
            }
            let (why, least) = match delivery.trouble {
                None => {
                    self.judge(None);
                    continue;
                }
                Some(Trouble::Refused(why)) => {
                    turn.refuse(&why, self);
                    parcels.clear();
                    parcels.extend(turn.pending.iter().map(|one| one.parcel(format)));
                    self.judge(Some(why));
                    continue;
                }
                Some(Trouble::Later(why)) => (why, Duration::ZERO),
                Some(Trouble::After(why, span)) => (why, span),
            };
            self.judge(Some(why));
            pause = (pause * 2).clamp(FIRST, LONGEST);
            let span = jittered(pause).max(least);
            if self.is_ending.load(Ordering::Relaxed) || self.wait(span, wake).is_break() {
                return;
            }
        }
    }

    /// Waits for the next attempt; breaks when there is to be none. What comes meanwhile waits too.
    fn wait(&self, span: Duration, wake: &Receiver<()>) -> ControlFlow<()> {
        let until = Instant::now() + span;
        loop {
            match wake.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) if self.is_ending.load(Ordering::Relaxed) => return ControlFlow::Break(()),
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }

    fn judge(&self, error: Option<String>) {
        let why = error.clone().unwrap_or_default();
        if self.figures.judge(Side::Peer, error) {
            match why.is_empty() {
                true => tracing::info!(sink = self.name, "delivers again"),
                false => tracing::warn!(sink = self.name, why, "not taken now, tried again"),
            }
        }
    }
}

/// Is there another one to deliver, or nobody any more? That there is something new is found out anyway.
fn is_over(wake: &Receiver<()>) -> bool {
    matches!(wake.try_recv(), Err(TryRecvError::Disconnected))
}

impl Turn {
    /// Takes the next records out of the buffer, and gives them their numbers.
    fn fill(&mut self, lane: &Lane, now: Instant) -> std::io::Result<()> {
        for read in self.reader.read(RECORDS, BYTES, now)? {
            match read {
                Read::Record { index, payload } => match Head::read(&payload) {
                    Some(head) => {
                        let mut json = Vec::with_capacity(payload.len() + 1 + Numbering::GROWTH);
                        self.numbering.append_json(&payload, &mut json);
                        json.push(b'\n');
                        self.last_ts = head.ts_ns;
                        self.pending.push(Pending {
                            next: index + 1,
                            seq: self.numbering.last(),
                            head,
                            json,
                            is_excuse: false,
                        });
                    }
                    // Its CRC is right, and it is no event: of a version to come, perhaps.
                    None => self.tell_hole(
                        Hole {
                            lost: 1,
                            next: index + 1,
                            is_damage: true,
                        },
                        lane,
                    ),
                },
                Read::Hole(hole) => self.tell_hole(hole, lane),
            }
        }
        Ok(())
    }

    fn tell_hole(&mut self, hole: Hole, lane: &Lane) {
        let (cause, why) = match hole.is_damage {
            true => (GapCause::Damaged, "were damaged in the buffer on disk"),
            false => (GapCause::BufferFull, "found no room in the buffer on disk"),
        };
        if hole.is_damage {
            lane.figures.lost(hole.lost);
        }
        let mut gap = self.gap(hole.lost, cause, why, lane);
        gap = self.numbering.numbered(gap);
        self.pending.extend(Pending::new(&gap, hole.next, false));
    }

    fn gap(&self, lost: u64, cause: GapCause, why: &str, lane: &Lane) -> Event {
        let now = Timestamp::now();
        let from = match self.last_ts {
            0 => now,
            ns => Timestamp::from_nanosecond(ns.into()).unwrap_or(now),
        };
        gap(&lane.host, lost, cause, (from.min(now), now), why)
    }

    /// The peer has the first ones.
    fn took(&mut self, count: usize, lane: &Lane) {
        let mut last = None;
        for one in self.pending.drain(..count) {
            last = Some((one.next, one.head.ts_ns));
        }
        let Some((next, ts_ns)) = last else {
            return;
        };
        lane.figures.delivered(count as u64);
        self.acknowledge(next, ts_ns, lane);
    }

    fn acknowledge(&mut self, next: u64, ts_ns: i64, lane: &Lane) {
        if let Err(error) = self.reader.acknowledge(next, ts_ns) {
            tracing::warn!(sink = lane.name, %error, "what was delivered may be delivered again");
        }
    }

    /// The peer will never take the first one. A `gap` takes its place and its number, so that there is no hole without
    /// a word; when not even that is taken, there is no way to say it.
    fn refuse(&mut self, why: &str, lane: &Lane) {
        if self.pending.is_empty() {
            return;
        }
        let refused = self.pending.remove(0);
        if refused.is_excuse {
            self.acknowledge(refused.next, refused.head.ts_ns, lane);
            return;
        }
        lane.figures.refused();
        tracing::error!(sink = lane.name, event = %refused.head.id, why, "refused for good");
        let at = Timestamp::from_nanosecond(refused.head.ts_ns.into()).unwrap_or_default();
        let why = "was refused by the receiver for good";
        // Of a gap that is refused, what it stood for is missing all the same.
        let stood_for = serde_json::from_slice::<Event>(&refused.json);
        let stood_for = stood_for.ok().and_then(|event| event.gap);
        let lost = stood_for.map_or(1, |gap| gap.lost.saturating_add(1));
        let mut excuse = gap(&lane.host, lost, GapCause::Refused, (at, at), why);
        excuse.seq = refused.seq;
        if let Some(excuse) = Pending::new(&excuse, refused.next, true) {
            self.pending.insert(0, excuse);
        }
    }
}

impl Pending {
    /// Nothing for what has no head: an event of our own always has one.
    fn new(event: &Event, next: u64, is_excuse: bool) -> Option<Self> {
        let json = encode_line(event);
        Some(Self {
            next,
            seq: event.seq,
            head: Head::read(&json)?,
            json,
            is_excuse,
        })
    }

    fn parcel(&self, format: Format) -> Parcel {
        let mut line = match format {
            Format::Json => self.json.clone(),
            other => match serde_json::from_slice::<Event>(&self.json) {
                Ok(event) => other.line(&event),
                // Better in our own words than not at all.
                Err(_) => self.json.clone(),
            },
        };
        if line.ends_with(b"\n") {
            line.pop();
        }
        Parcel {
            id: self.head.id,
            ts_ns: self.head.ts_ns,
            kind: self.head.kind,
            severity: self.head.severity,
            line,
        }
    }
}

/// The `gap` of one output: lost on its way there, between these times.
#[must_use]
pub fn gap(
    host: &Arc<Host>,
    lost: u64,
    cause: GapCause,
    (from, to): (Timestamp, Timestamp),
    why: &str,
) -> Event {
    let text = |at: Timestamp| format!("{at:.9}");
    let events = if lost == 1 { "event" } else { "events" };
    Event {
        id: Uuid::now_v7().to_string(),
        severity: Severity::Warning,
        message: format!("{lost} {events} {why} and did not reach this output"),
        gap: Some(Gap {
            ring: RingName::Sink,
            cause: Some(cause),
            lost,
            from: text(from),
            to: text(to),
            probe: None,
            cgroups: Vec::new(),
        }),
        ..Event::new(EventType::Gap, text(to), Arc::clone(host))
    }
}

/// A fleet whose peer was away must not come back as one.
fn jittered(pause: Duration) -> Duration {
    let random = Uuid::now_v7().as_u128() % 512;
    pause.mul_f64(0.75 + random as f64 / 1024.0)
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
