//! What a Detection Finding says: what was found, by which rule, and on what evidence.

use serde::Serialize;

use super::endpoint::{Connection, Endpoint, Ends};
use super::process::Process;
use crate::event::{Event, EventType};
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
                name: rule.unwrap_or("default"),
                type_id: 1,
                kind: "Rule",
            },
            data_sources: ["portwatch"],
            first_seen_time: facts::Span::of(event).map(|span| span.start.as_millisecond()),
        }
    }
}

/// A listener that is down and then back is one finding, which the host and the rule name; any other is its event.
fn uid(event: &Event, expectation: Option<&str>) -> String {
    match expectation {
        Some(rule) => {
            let host = event.host.id.as_deref().unwrap_or(&event.host.name);
            format!("listener.down/{host}/{rule}")
        }
        None => event.id.clone(),
    }
}

fn title(event: &Event) -> &'static str {
    match event.kind {
        EventType::ListenerDown | EventType::ListenerRecovered => "Expected listener down",
        _ if facts::is_denied(event) => "Denied listener",
        _ => "Suspicious listener",
    }
}

impl<'e> Evidence<'e> {
    /// `None` where nothing is known but that it is missing.
    pub(super) fn of(event: &'e Event, ends: Ends<'e>) -> Option<Self> {
        event.socket.as_ref()?;
        Some(Self {
            process: event.process.as_ref().map(Process::of),
            src_endpoint: ends.src,
            dst_endpoint: ends.dst,
            connection_info: Some(Connection::of(event)),
        })
    }
}
