//! An event as Common Event Format, version 0: a header of seven fields and `key=value` pairs.
//!
//! Keys are those of the CEF dictionary (producer set); six custom texts and three custom numbers carry what it has no key
//! for. CEF has no lists and no room for the rest: the JSON formats say more.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::facts::{self, Direction, Span, Step};
use super::{PRODUCT, VENDOR, VERSION};
use crate::event::words::Word as _;
use crate::event::{Event, EventType, Exposure};
use crate::text::{clip, guard};

/// Longest values that the dictionary permits, in characters.
const NAME: usize = 512;
const TEXT: usize = 1023;
const CUSTOM: usize = 4000;

/// Appends the event, without a newline.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    let mut line = String::with_capacity(1024);
    let head = [
        VENDOR,
        PRODUCT,
        VERSION,
        event.kind.as_str(),
        name(event.kind),
    ];
    line.push_str("CEF:0");
    for field in head {
        line.push('|');
        push_escaped(&mut line, field, NAME, '|');
    }
    // Writing to a String cannot fail.
    let _ = write!(line, "|{}|", facts::level(event.severity));
    let mut pairs = Pairs {
        line,
        is_first: true,
    };
    about(event, &mut pairs);
    ends(event, &mut pairs);
    process(event, &mut pairs);
    custom(event, &mut pairs);
    out.extend_from_slice(pairs.line.as_bytes());
}

/// What happened, in two or three words; the same for all events of a type.
const fn name(kind: EventType) -> &'static str {
    match kind {
        EventType::ListenerOpened => "Listener opened",
        EventType::ListenerClosed => "Listener closed",
        EventType::ListenerPresent => "Listener present",
        EventType::ListenerChanged => "Listener changed",
        EventType::BindFailed => "Bind failed",
        EventType::ConnectionState => "Connection state changed",
        EventType::ListenerDown => "Expected listener down",
        EventType::ListenerRecovered => "Expected listener recovered",
        EventType::SensorReady => "Sensors ready",
        EventType::SensorDegraded => "Sensor degraded",
        EventType::Gap => "Events lost",
        EventType::GapReconciled => "Loss reconciled",
        EventType::StormStarted => "Storm started",
        EventType::StormUpdated => "Storm goes on",
        EventType::StormEnded => "Storm ended",
        EventType::ScanDetected => "Scan detected",
        EventType::StormResponse => "Storm answered",
        EventType::Heartbeat => "Heartbeat",
    }
}

/// Writes `key=value` pairs.
struct Pairs {
    line: String,
    is_first: bool,
}

impl Pairs {
    /// Adds a text, cut to `most` characters.
    fn text(&mut self, key: &str, value: Option<&str>, most: usize) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return;
        };
        self.key(key);
        push_escaped(&mut self.line, value, most, '=');
    }

    fn number(&mut self, key: &str, value: Option<impl Into<i128>>) {
        if let Some(value) = value {
            self.key(key);
            // Writing to a String cannot fail.
            let _ = write!(self.line, "{}", value.into());
        }
    }

    /// Adds a custom text with its label.
    fn labelled(&mut self, key: &str, label: &str, value: Option<&str>) {
        if value.is_some_and(|value| !value.is_empty()) {
            self.text(key, value, CUSTOM);
            self.key(&format!("{key}Label"));
            self.line.push_str(label);
        }
    }

    fn labelled_number(&mut self, key: &str, label: &str, value: Option<u64>) {
        if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
            self.number(key, Some(value));
            self.key(&format!("{key}Label"));
            self.line.push_str(label);
        }
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.line.push(' ');
        }
        self.line.push_str(key);
        self.line.push('=');
    }
}

/// The backslash and `special` get a backslash; nothing that could end the line or forge a pair is left.
fn push_escaped(line: &mut String, value: &str, most: usize, special: char) {
    let value = guard(value);
    for c in clip(&value, most, |_| 1).chars() {
        if c == '\\' || c == special {
            line.push('\\');
        }
        line.push(c);
    }
}

/// When, which, on which host, and the sentence.
fn about(event: &Event, pairs: &mut Pairs) {
    let span = Span::of(event);
    pairs.number("rt", Some(facts::epoch_ms(&event.ts)));
    pairs.number("start", span.as_ref().map(|s| s.start.as_millisecond()));
    pairs.number("end", span.map(|span| span.end.as_millisecond()));
    pairs.text("externalId", Some(&event.id), 40);
    pairs.text("dvchost", Some(&event.host.name), 100);
    pairs.text("deviceExternalId", event.host.id.as_deref(), 255);
    pairs.text("cat", Some(category(event)), TEXT);
    let done = event.response.as_ref().map(|done| done.action.word());
    let act = event.policy.as_ref().map(|policy| policy.state.word());
    pairs.text("act", done.or(act), 63);
    pairs.text("outcome", outcome(event), 63);
    let reason = event
        .sensor
        .as_ref()
        .and_then(|sensor| sensor.reason.as_deref());
    pairs.text("reason", event.error.as_deref().or(reason), TEXT);
    pairs.number("cnt", facts::count(event));
    pairs.text("msg", Some(&event.message), TEXT);
}

const fn category(event: &Event) -> &'static str {
    match event.kind {
        EventType::ConnectionState => "connection",
        EventType::SensorReady
        | EventType::SensorDegraded
        | EventType::Gap
        | EventType::GapReconciled
        | EventType::Heartbeat => "sensor",
        EventType::StormStarted
        | EventType::StormUpdated
        | EventType::StormEnded
        | EventType::StormResponse => "storm",
        EventType::ScanDetected => "scan",
        EventType::ListenerOpened
        | EventType::ListenerClosed
        | EventType::ListenerPresent
        | EventType::ListenerChanged
        | EventType::BindFailed
        | EventType::ListenerDown
        | EventType::ListenerRecovered => "listener",
    }
}

fn outcome(event: &Event) -> Option<&'static str> {
    match event.kind {
        EventType::BindFailed => Some("failure"),
        EventType::ListenerOpened => Some("success"),
        EventType::ConnectionState => match facts::step(event) {
            Step::Opened | Step::Listening => Some("success"),
            Step::Failed => Some("failure"),
            Step::Closed | Step::Silent | Step::Other => None,
        },
        _ => None,
    }
}

/// A listener is the destination. Where a state change does not tell who opened the connection, this host is the source.
fn ends(event: &Event, pairs: &mut Pairs) {
    let source = facts::source(event).map(|source| source.to_string());
    let Some(socket) = &event.socket else {
        address(
            source.as_deref(),
            "src",
            "c6a2",
            "Source IPv6 Address",
            pairs,
        );
        return;
    };
    let local = (socket.address.as_deref(), socket.port);
    let peer = (socket.peer_address.as_deref(), socket.peer_port);
    let direction = facts::direction(event);
    let (source, destination) = match (peer.0, direction) {
        (None, _) => ((source.as_deref(), None), local),
        (Some(_), Direction::Inbound) => (peer, local),
        (Some(_), Direction::Outbound | Direction::Unknown) => (local, peer),
    };
    address(source.0, "src", "c6a2", "Source IPv6 Address", pairs);
    pairs.number("spt", source.1);
    let label = "Destination IPv6 Address";
    address(destination.0, "dst", "c6a3", label, pairs);
    pairs.number("dpt", destination.1);
    let protocol = facts::transport(socket).map(|(name, _)| name);
    let protocol = protocol.unwrap_or_else(|| socket.protocol.word());
    pairs.text("proto", Some(&protocol.to_uppercase()), 31);
    let direction = match direction {
        Direction::Inbound => Some(0_u8),
        Direction::Outbound => Some(1),
        Direction::Unknown => None,
    };
    pairs.number("deviceDirection", direction.filter(|_| peer.0.is_some()));
    pairs.text("deviceInboundInterface", socket.interface.as_deref(), 128);
    pairs.text("destinationServiceName", socket.service.as_deref(), TEXT);
}

/// CEF has keys of their own for the two kinds of addresses.
fn address(text: Option<&str>, v4: &str, v6: &str, label: &str, pairs: &mut Pairs) {
    match facts::ip(text) {
        Some(IpAddr::V4(address)) => pairs.text(v4, Some(&address.to_string()), TEXT),
        Some(IpAddr::V6(address)) => pairs.labelled(v6, label, Some(&address.to_string())),
        None => {}
    }
}

/// Of a connection that this host opened, the process is at the source; else at the destination.
fn process(event: &Event, pairs: &mut Pairs) {
    let Some(process) = &event.process else {
        return;
    };
    let has_peer = event
        .socket
        .as_ref()
        .is_some_and(|s| s.peer_address.is_some());
    let is_source = has_peer && facts::direction(event) != Direction::Inbound;
    let keys = if is_source {
        ["sproc", "spid", "suser", "suid"]
    } else {
        ["dproc", "dpid", "duser", "duid"]
    };
    pairs.text(keys[0], Some(&process.name), TEXT);
    pairs.number(keys[1], Some(process.pid));
    pairs.text(keys[2], process.user.as_deref(), TEXT);
    let uid = process.uid.map(|uid| uid.to_string());
    pairs.text(keys[3], uid.as_deref(), TEXT);
    pairs.text("filePath", process.exe.as_deref(), TEXT);
    pairs.text("fname", process.exe.as_deref().map(facts::base_name), TEXT);
    pairs.text("fileHash", process.sha256.as_deref(), 255);
}

/// What CEF has no key for and is needed most.
fn custom(event: &Event, pairs: &mut Pairs) {
    let socket = event.socket.as_ref();
    let process = event.process.as_ref();
    let rule = event.policy.as_ref().map(|policy| policy.rule.as_str());
    pairs.labelled("cs1", "rule", rule);
    let exposure = socket.and_then(|socket| socket.exposure);
    pairs.labelled("cs2", "exposure", exposure.map(Exposure::word));
    let command = process.and_then(facts::command_line);
    pairs.labelled("cs3", "command", command.as_deref());
    let path = socket.and_then(facts::local_name);
    pairs.labelled("cs4", "socketPath", path.as_deref());
    let container = process.and_then(|process| process.container.as_ref());
    let unit = process.and_then(|process| process.unit.as_deref());
    match container {
        Some(container) => pairs.labelled("cs5", "container", Some(&container.id)),
        None => pairs.labelled("cs5", "unit", unit),
    }
    match &event.storm {
        Some(storm) => pairs.labelled("cs6", "storm", Some(storm.kind.word())),
        None => pairs.labelled("cs6", "state", states(event).as_deref()),
    }
    pairs.labelled_number("cn1", "sequence", Some(event.seq));
    pairs.labelled_number("cn2", "durationMs", event.duration_ms);
    let cookie = socket.and_then(|socket| socket.cookie);
    pairs.labelled_number("cn3", "socketCookie", cookie);
}

/// `SYN_RECV ESTABLISHED`: from and to.
fn states(event: &Event) -> Option<String> {
    let new = event.new_state?.word();
    Some(match event.old_state {
        Some(old) => format!("{} {new}", old.word()),
        None => new.to_owned(),
    })
}
