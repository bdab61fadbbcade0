//! Events for tests.

use std::sync::Arc;

use crate::event::{Event, EventType, Host, Severity};
use crate::sink::Line;

/// The host of every test event.
pub(crate) fn host() -> Arc<Host> {
    Arc::new(Host {
        name: "web1".to_owned(),
        id: None,
        boot_id: None,
        kernel: "6.1.0".to_owned(),
    })
}

/// An event whose time is `seq` milliseconds after 2026-11-21T19:00:00Z.
pub(crate) fn event(seq: u64, kind: EventType) -> Event {
    let ts = format!(
        "2026-11-21T19:00:{:02}.{:03}000000Z",
        seq / 1000,
        seq % 1000
    );
    Event {
        id: format!("id-{seq}"),
        seq,
        severity: Severity::Notice,
        message: format!("event {seq}"),
        ..Event::new(kind, ts, host())
    }
}

/// A listener's line.
pub(crate) fn opened(seq: u64) -> Arc<Line> {
    Line::new(Arc::new(event(seq, EventType::ListenerOpened)))
}

/// A connection's line.
pub(crate) fn state(seq: u64) -> Arc<Line> {
    Line::new(Arc::new(event(seq, EventType::ConnectionState)))
}
