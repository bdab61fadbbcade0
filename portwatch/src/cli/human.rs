//! `-o human`: an event as one aligned line.
//!
//! ```text
//! 19:42:01.123  + open     all-ifaces  tcp      0.0.0.0:80 (http)    nginx[812]    root   nginx.service  /usr/sbin/nginx  -g daemon on;
//! ```

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::style::{Line, Style, Terminal};
use crate::event::message::{changes, endpoint, peer, protocol_number, sentence, span};
use crate::event::words::Word;
use crate::event::{Event, EventType, Exposure, Process, Socket, State};

/// Characters of a container's id that are shown, as its runtime's own tools do.
const CONTAINER_ID_CHARS: usize = 12;

/// Writes events as lines for people.
#[derive(Clone, Debug)]
pub struct Human {
    terminal: Terminal,
    zone: TimeZone,
    has_dates: bool,
}

impl Human {
    /// Lines for this terminal, with times of this zone.
    #[must_use]
    pub const fn new(terminal: Terminal, zone: TimeZone) -> Self {
        Self {
            terminal,
            zone,
            has_dates: false,
        }
    }

    /// The same, with the day before the time.
    #[must_use]
    pub fn with_dates(self) -> Self {
        Self {
            has_dates: true,
            ..self
        }
    }

    /// The event's line, without a line feed. No control character, whatever the event holds, other
    /// than the terminal's own style sequences.
    #[must_use]
    pub fn line(&self, event: &Event) -> String {
        let (style, sign) = sign(event.kind);
        let (format, width) = match self.has_dates {
            true => ("%Y-%m-%d %H:%M:%S%.3f", 23),
            false => ("%H:%M:%S%.3f", 12),
        };
        let line = Line::default()
            .cell(Style::Dim, &clock(&event.ts, &self.zone, format), width)
            .cell(style, sign, 9);
        let line = match (&event.socket, event.kind) {
            (Some(socket), EventType::ConnectionState) => connection(line, event, socket),
            (
                _,
                EventType::ListenerDown
                | EventType::ListenerRecovered
                | EventType::StormStarted
                | EventType::StormUpdated
                | EventType::StormEnded,
            )
            | (None, _) => line.cell(Style::Plain, &sentence(event), 0),
            (Some(socket), _) => listener(line, event, socket),
        };
        line.finish(self.terminal)
    }
}

/// `nginx[812]`, or `-` when nobody is known.
pub(super) fn process_cell(process: Option<&Process>) -> String {
    process.map_or_else(
        || "-".to_owned(),
        |process| format!("{}[{}]", process.name, process.pid),
    )
}

/// The user's name or else number, or `-`.
pub(super) fn user_cell(process: Option<&Process>) -> String {
    let user = process.and_then(|process| match (&process.user, process.uid) {
        (Some(user), _) => Some(user.clone()),
        (None, uid) => uid.map(|uid| uid.to_string()),
    });
    user.unwrap_or_else(|| "-".to_owned())
}

/// `docker:3f2a9c41d07b`, or the systemd unit.
pub(super) fn home_cell(process: Option<&Process>) -> Option<String> {
    let process = process?;
    let Some(container) = &process.container else {
        return process.unit.clone();
    };
    let id: String = container.id.chars().take(CONTAINER_ID_CHARS).collect();
    Some(format!(
        "{}:{id}",
        container.runtime.as_deref().unwrap_or("container")
    ))
}

/// The exposure in at most ten columns, in the colour of its danger.
pub(super) fn exposure_cell(exposure: Option<Exposure>) -> (Style, &'static str) {
    match exposure {
        Some(Exposure::AllInterfaces) => (Style::Red, "all-ifaces"),
        Some(Exposure::PublicInterface) => (Style::Yellow, "public"),
        Some(Exposure::PrivateInterface) => (Style::Yellow, "private"),
        Some(Exposure::OtherNamespace) => (Style::Cyan, "other-ns"),
        Some(Exposure::LinkLocal) => (Style::Green, "link-local"),
        Some(Exposure::Loopback) => (Style::Green, "loopback"),
        None => (Style::Dim, "-"),
    }
}

/// `0.0.0.0:80 (http)`, `/run/x.sock`, `eth0 (all protocols)`.
pub(super) fn endpoint_cell(socket: &Socket) -> String {
    let at = endpoint(socket);
    match socket.service.clone().or_else(|| protocol_number(socket)) {
        Some(what) => format!("{at} ({what})"),
        None => at,
    }
}

/// A sign and a word: what happened, at one glance.
const fn sign(kind: EventType) -> (Style, &'static str) {
    match kind {
        EventType::ListenerOpened => (Style::Bold, "+ open"),
        EventType::ListenerClosed => (Style::Dim, "- close"),
        EventType::ListenerPresent => (Style::Plain, "= here"),
        EventType::ListenerChanged => (Style::Cyan, "~ change"),
        EventType::BindFailed => (Style::Yellow, "! refused"),
        EventType::ConnectionState => (Style::Dim, "> state"),
        EventType::ListenerDown => (Style::Red, "! down"),
        EventType::ListenerRecovered => (Style::Green, "+ back"),
        EventType::SensorReady => (Style::Green, "* ready"),
        EventType::SensorDegraded => (Style::Yellow, "! blind"),
        EventType::Gap => (Style::Red, "! lost"),
        EventType::GapReconciled => (Style::Cyan, "* again"),
        EventType::StormStarted => (Style::Red, "! storm"),
        EventType::StormUpdated => (Style::Yellow, "! storm"),
        EventType::StormEnded => (Style::Green, "+ calm"),
        EventType::ScanDetected => (Style::Yellow, "! scan"),
        EventType::StormResponse => (Style::Cyan, "* answer"),
        EventType::Heartbeat => (Style::Dim, "* alive"),
    }
}

/// Local time of day with milliseconds.
fn clock(ts: &str, zone: &TimeZone, format: &str) -> String {
    ts.parse::<Timestamp>().map_or_else(
        |_| "--:--:--.---".to_owned(),
        |ts| ts.to_zoned(zone.clone()).strftime(format).to_string(),
    )
}

fn listener(line: Line, event: &Event, socket: &Socket) -> Line {
    let process = event.process.as_ref();
    let (style, exposure) = exposure_cell(socket.exposure);
    let mut line = line
        .cell(style, exposure, 10)
        .cell(Style::Plain, socket.protocol.word(), 7)
        .cell(Style::Bold, &endpoint_cell(socket), 24)
        .cell(Style::Plain, &process_cell(process), 18)
        .cell(Style::Plain, &user_cell(process), 8);
    for (style, detail) in details(event) {
        line = line.cell(style, &detail, 0);
    }
    line
}

/// What is said behind the columns: first what is special to the type, then where the process comes from.
fn details(event: &Event) -> Vec<(Style, String)> {
    let mut details = Vec::new();
    if let Some(error) = &event.error {
        details.push((Style::Yellow, error.clone()));
    }
    if let Some(ms) = event.duration_ms {
        details.push((Style::Plain, format!("after {}", span(ms))));
    }
    if event.kind == EventType::ListenerChanged {
        details.extend(changes(event).map(|changes| (Style::Cyan, changes)));
    } else if event.owners.len() > 1 {
        details.push((Style::Plain, format!("held by {}", event.owners.len())));
    }
    let Some(process) = &event.process else {
        return details;
    };
    details.extend(home_cell(Some(process)).map(|home| (Style::Plain, home)));
    if let Some(exe) = &process.exe {
        let note = match (process.exe_memfd, process.exe_deleted) {
            (Some(true), _) => " (memfd)",
            (_, Some(true)) => " (deleted)",
            _ => "",
        };
        details.push((Style::Plain, format!("{exe}{note}")));
    }
    let args = process.args.as_deref().unwrap_or_default();
    let mut args = args.get(1..).unwrap_or_default().join(" ");
    if process.args_truncated == Some(true) {
        args.push('…');
    }
    if !args.is_empty() {
        details.push((Style::Dim, args));
    }
    details.extend(
        process
            .unresolved
            .iter()
            .map(|why| (Style::Dim, format!("({why})"))),
    );
    details
}

fn connection(line: Line, event: &Event, socket: &Socket) -> Line {
    let peer = peer(socket).unwrap_or_else(|| "-".to_owned());
    let state = |state: Option<State>| state.map_or("?", Word::word);
    let process = event.process.as_ref();
    line.cell(Style::Plain, state(event.old_state), 11)
        .cell(Style::Dim, ">", 0)
        .cell(Style::Bold, state(event.new_state), 11)
        .cell(Style::Plain, socket.protocol.word(), 5)
        .cell(Style::Plain, &format!("{} - {peer}", endpoint(socket)), 38)
        .cell(Style::Plain, &process_cell(process), 18)
        .cell(Style::Plain, &user_cell(process), 0)
}

#[cfg(test)]
mod tests;
