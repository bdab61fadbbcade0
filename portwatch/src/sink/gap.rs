//! The hole that a slow reader has in its stream, and the event that tells it so.

use std::sync::Arc;

use uuid::Uuid;

use crate::event::{Event, EventType, Gap, RingName, SCHEMA, Severity};
use crate::sink::Line;

/// Consecutive lines that one reader did not get.
#[derive(Debug)]
pub(super) struct Hole {
    lost: u64,
    /// The first of them in the order of the stream.
    first: Arc<Line>,
    /// The one the kernel saw first. Order in the stream is not quite the order of time.
    earliest: Arc<Line>,
    /// The one the kernel saw last.
    latest: Arc<Line>,
}

impl Hole {
    pub(super) fn new(line: &Arc<Line>) -> Self {
        Self {
            lost: 1,
            first: Arc::clone(line),
            earliest: Arc::clone(line),
            latest: Arc::clone(line),
        }
    }

    pub(super) fn extend(&mut self, line: &Arc<Line>) {
        self.lost += 1;
        // RFC 3339 in UTC with a fixed number of digits sorts as text.
        if line.event().ts < self.earliest.event().ts {
            self.earliest = Arc::clone(line);
        }
        if line.event().ts > self.latest.event().ts {
            self.latest = Arc::clone(line);
        }
    }

    /// The `gap` that stands where the hole is. It takes the place of the first lost event in the
    /// daemon's stream; in the reader's output it has the next number, as every line there.
    pub(super) fn into_line(self) -> Arc<Line> {
        let first = self.first.event();
        let events = if self.lost == 1 { "event" } else { "events" };
        Line::new(Arc::new(Event {
            schema: SCHEMA.to_owned(),
            id: Uuid::now_v7().to_string(),
            seq: first.seq,
            ts: first.ts.clone(),
            kind: EventType::Gap,
            severity: Severity::Warning,
            message: format!(
                "this reader was too slow: {} {events} did not reach it",
                self.lost
            ),
            host: Arc::clone(&first.host),
            socket: None,
            process: None,
            owners: Vec::new(),
            previous: None,
            old_state: None,
            new_state: None,
            duration_ms: None,
            error: None,
            gap: Some(Gap {
                ring: RingName::Client,
                lost: self.lost,
                from: self.earliest.event().ts.clone(),
                to: self.latest.event().ts.clone(),
                probe: None,
                cgroups: Vec::new(),
            }),
            reconciled: None,
            sensor: None,
        }))
    }
}
