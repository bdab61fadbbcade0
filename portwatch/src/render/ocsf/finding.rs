//! What a Detection Finding says: what was found, by which rule, and on what evidence.

use serde::Serialize;

use super::endpoint::{Connection, Endpoint, Ends};
use super::process::Process;
use crate::event::words::Word as _;
use crate::event::{Event, EventType, StormKind};
use crate::render::facts;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct FindingInfo<'e> {
    /// The same for all that is said of one finding.
    uid: String,
    title: &'static str,
    desc: &'e str,
    types: [&'static str; 1],
    analytic: Analytic<'e>,
    data_sources: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen_time: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Analytic<'e> {
    name: &'e str,
    type_id: u16,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// On what evidence.
#[derive(Debug, Serialize)]
pub(super) struct Evidence<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_endpoint: Option<Endpoint<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_endpoint: Option<Endpoint<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_info: Option<Connection>,
}

impl<'e> FindingInfo<'e> {
    /// Of an event that is one.
    pub(super) fn of(event: &'e Event) -> Self {
        let rule = event.policy.as_ref().map(|policy| policy.rule.as_str());
        let is_expectation = matches!(
            event.kind,
            EventType::ListenerDown | EventType::ListenerRecovered
        );
        Self {
            uid: uid(event, rule.filter(|_| is_expectation)),
            title: title(event),
            desc: &event.message,
            types: [event.kind.as_str()],
            analytic: Analytic {
                name: analytic(event).or(rule).unwrap_or("default"),
                type_id: 1,
                kind: "Rule",
            },
            data_sources: ["portwatch"],
            first_seen_time: facts::Span::of(event).map(|span| span.start.as_millisecond()),
        }
    }
}

/// A listener that is down and then back is one finding, which the host and the rule name; so is an episode of a storm,
/// which the boot and its number name; any other is its event.
fn uid(event: &Event, expectation: Option<&str>) -> String {
    let host = event.host.id.as_deref().unwrap_or(&event.host.name);
    let boot = event.host.boot_id.as_deref().unwrap_or(host);
    let episode = event.storm.as_ref().map(|storm| storm.episode);
    let of_response = || event.response.as_ref().and_then(|done| done.episode);
    if let Some(episode) = episode.or_else(of_response) {
        return format!("storm/{boot}/{episode}");
    }
    match expectation {
        Some(rule) => format!("listener.down/{host}/{rule}"),
        None => event.id.clone(),
    }
}

/// What found a storm or a scan: its kind.
fn analytic(event: &Event) -> Option<&'static str> {
    let storm = event.storm.as_ref().map(|storm| storm.kind.word());
    let scan = event.scan.as_ref().map(|scan| scan.shape.word());
    storm.or(scan)
}

fn title(event: &Event) -> &'static str {
    match event.kind {
        EventType::ListenerDown | EventType::ListenerRecovered => "Expected listener down",
        EventType::StormStarted | EventType::StormUpdated | EventType::StormEnded => event
            .storm
            .as_ref()
            .map_or("Storm", |storm| storm_title(storm.kind)),
        EventType::ScanDetected => "Port scan",
        EventType::StormResponse => "Response to a storm",
        _ if facts::is_denied(event) => "Denied listener",
        _ => "Suspicious listener",
    }
}

const fn storm_title(kind: StormKind) -> &'static str {
    match kind {
        StormKind::SynFlood => "SYN flood",
        StormKind::ConnectionStorm => "Storm of connections",
        StormKind::ConnectStorm => "Process opens or fails many connections",
        StormKind::ResetStorm => "Storm of resets",
        StormKind::RefusedStorm => "Storm of refused connections",
        StormKind::CloseWaitLeak => "Leak of sockets in CLOSE_WAIT",
        StormKind::TimeWaitPressure => "Local ports run out",
        StormKind::AcceptQueueOverflow => "Accept queue overflows",
    }
}

impl<'e> Evidence<'e> {
    /// `None` where nothing is known but that it is missing. Of a storm, the source is whoever sends most.
    pub(super) fn of(event: &'e Event, ends: Ends<'e>) -> Option<Self> {
        let source = facts::source(event).map(Endpoint::source);
        if event.socket.is_none() && event.process.is_none() && source.is_none() {
            return None;
        }
        let is_storm = event.storm.is_some() || event.scan.is_some();
        if event.socket.is_none() && !is_storm {
            return None;
        }
        Some(Self {
            process: event.process.as_ref().map(Process::of),
            src_endpoint: source.or(ends.src),
            dst_endpoint: ends.dst,
            connection_info: event.socket.as_ref().map(|_| Connection::of(event)),
        })
    }
}
