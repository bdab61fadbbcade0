//! The hole that a slow reader has in its stream, and the event that tells it so.

use std::sync::Arc;

use uuid::Uuid;

use super::item::{Extent, Item};
use crate::event::{Event, EventType, Gap, GapCause, RingName, Severity};
use crate::sink::Line;

/// Consecutive events that one reader did not get.
#[derive(Debug)]
pub(super) struct Hole {
    lost: u64,
    /// From the first of them in the order of the stream; the times are those that the kernel saw first
    /// and last, because the order of the stream is not quite the order of time.
    extent: Extent,
}

impl Hole {
    pub(super) fn new(item: &Item) -> Self {
        Self {
            lost: item.count() as u64,
            extent: item.extent(),
        }
    }

    pub(super) fn extend(&mut self, item: &Item) {
        self.lost += item.count() as u64;
        let extent = item.extent();
        // RFC 3339 in UTC with a fixed number of digits sorts as text.
        if extent.earliest < self.extent.earliest {
            self.extent.earliest = extent.earliest;
        }
        if extent.latest > self.extent.latest {
            self.extent.latest = extent.latest;
        }
    }

    /// The `gap` that stands where the hole is. It takes the place of the first lost event in the
    /// daemon's stream; in the reader's output it has the next number, as every line there.
    pub(super) fn into_line(self) -> Arc<Line> {
        let extent = self.extent;
        let events = if self.lost == 1 { "event" } else { "events" };
        Line::new(Arc::new(Event {
            id: Uuid::now_v7().to_string(),
            seq: extent.first_seq,
            severity: Severity::Warning,
            message: format!(
                "this reader was too slow: {} {events} did not reach it",
                self.lost
            ),
            gap: Some(Gap {
                ring: RingName::Client,
                cause: Some(GapCause::SlowReader),
                lost: self.lost,
                from: extent.earliest,
                to: extent.latest,
                probe: None,
                cgroups: Vec::new(),
            }),
            ..Event::new(EventType::Gap, extent.first_ts, extent.host)
        }))
    }
}
