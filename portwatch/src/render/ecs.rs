//! An event as Elastic Common Schema has it, version 9.4.
//!
//! The listener is `server`; `source` and `destination` are there only where a peer is. What ECS has no field for
//! stands under `portwatch`.

mod ends;
mod kind;
mod process;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::facts::{self, Span};
use super::own::{Model, Own};
use super::{PRODUCT, VENDOR, VERSION};
use crate::event::{Event, Host, Severity};
use ends::{Ends, Network};
use kind::Kind;
use process::{Id, Process};

/// The version of ECS whose names these are.
pub const ECS_VERSION: &str = "9.4.0";

/// Appends the event as one JSON object, without a newline.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    // Fails only for values that are not JSON, and this type is.
    let _ = serde_json::to_writer(out, &Document::of(event));
}

/// The whole document, in the order of its keys.
#[derive(Debug, Serialize)]
struct Document<'e> {
    #[serde(rename = "@timestamp")]
    timestamp: &'e str,
    ecs: Version,
    event: EventFields<'e>,
    message: &'e str,
    log: Log,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields<'e>>,
    host: HostFields<'e>,
    observer: Observer<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ends::Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<ends::Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<ends::Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<ends::Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Id<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Id<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Container<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<Package<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule<'e>>,
    related: Related<'e>,
    portwatch: Own<'e>,
}

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct EventFields<'e> {
    kind: &'static str,
    category: &'static [&'static str],
    #[serde(rename = "type")]
    types: &'static [&'static str],
    action: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    severity: u8,
    id: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<i64>,
    module: &'static str,
    dataset: &'static str,
    provider: &'static str,
}

#[derive(Debug, Serialize)]
struct Log {
    level: Severity,
}

#[derive(Debug, Serialize)]
struct ErrorFields<'e> {
    code: &'e str,
}

#[derive(Debug, Serialize)]
struct HostFields<'e> {
    name: &'e str,
    hostname: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<Boot<'e>>,
    os: Os<'e>,
}

#[derive(Debug, Serialize)]
struct Boot<'e> {
    id: &'e str,
}

#[derive(Debug, Serialize)]
struct Os<'e> {
    #[serde(rename = "type")]
    kind: &'static str,
    kernel: &'e str,
}

#[derive(Debug, Serialize)]
struct Observer<'e> {
    vendor: &'static str,
    product: &'static str,
    version: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    hostname: &'e str,
}

#[derive(Debug, Serialize)]
struct Container<'e> {
    id: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'e str>,
}

#[derive(Debug, Serialize)]
struct Package<'e> {
    name: &'e str,
}

#[derive(Debug, Serialize)]
struct Rule<'e> {
    name: &'e str,
    category: &'static str,
    ruleset: &'static str,
}

/// What one searches for, wherever it stood.
#[derive(Debug, Serialize)]
struct Related<'e> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ip: Vec<IpAddr>,
    hosts: [&'e str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<[&'e str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<[&'e str; 1]>,
}

impl<'e> Document<'e> {
    fn of(event: &'e Event) -> Self {
        let process = event.process.as_ref();
        let container = process.and_then(|process| process.container.as_ref());
        let ends = Ends::of(event);
        Self {
            timestamp: &event.ts,
            ecs: Version {
                version: ECS_VERSION,
            },
            event: EventFields::of(event),
            message: &event.message,
            log: Log {
                level: event.severity,
            },
            error: event.error.as_deref().map(|code| ErrorFields { code }),
            host: HostFields::of(&event.host),
            observer: Observer {
                vendor: VENDOR,
                product: PRODUCT,
                version: VERSION,
                kind: "sensor",
                hostname: &event.host.name,
            },
            related: Related::of(event, &ends),
            network: Network::of(event),
            server: ends.server,
            client: ends.client,
            source: ends.source,
            destination: ends.destination,
            process: process.map(Process::of),
            user: process.and_then(|process| Id::of(process.uid, process.user.as_deref())),
            group: process.and_then(|process| Id::of(process.gid, process.group.as_deref())),
            container: container.map(|container| Container {
                id: &container.id,
                runtime: container.runtime.as_deref(),
            }),
            package: process
                .and_then(|process| process.package.as_deref())
                .map(|name| Package { name }),
            rule: event.policy.as_ref().map(|policy| Rule {
                name: &policy.rule,
                category: kind::judgement(policy.state),
                ruleset: "portwatch",
            }),
            portwatch: Own::of(event, Model::Ecs),
        }
    }
}

impl<'e> EventFields<'e> {
    fn of(event: &'e Event) -> Self {
        let Kind {
            kind,
            category,
            types,
            action,
            outcome,
        } = Kind::of(event);
        let span = Span::of(event);
        let length = span
            .as_ref()
            .and_then(|span| i64::try_from(span.end.duration_since(span.start).as_nanos()).ok());
        Self {
            kind,
            category,
            types,
            action,
            code: event.kind.as_str(),
            outcome,
            reason: event
                .sensor
                .as_ref()
                .and_then(|sensor| sensor.reason.as_deref()),
            severity: facts::level(event.severity),
            id: &event.id,
            sequence: i64::try_from(event.seq).ok(),
            created: facts::told_at(event).map(rfc3339),
            start: span.as_ref().map(|span| rfc3339(span.start)),
            end: span.map(|span| rfc3339(span.end)),
            duration: length.filter(|length| *length >= 0),
            module: PRODUCT,
            dataset: "portwatch.event",
            provider: PRODUCT,
        }
    }
}

/// With nanoseconds, like every time of an event.
fn rfc3339(at: Timestamp) -> String {
    format!("{at:.9}")
}

impl<'e> HostFields<'e> {
    fn of(host: &'e Host) -> Self {
        Self {
            name: &host.name,
            hostname: &host.name,
            id: host.id.as_deref(),
            boot: host.boot_id.as_deref().map(|id| Boot { id }),
            os: Os {
                kind: "linux",
                kernel: &host.kernel,
            },
        }
    }
}

impl<'e> Related<'e> {
    fn of(event: &'e Event, ends: &Ends) -> Self {
        let process = event.process.as_ref();
        Self {
            ip: ends.addresses(),
            hosts: [&event.host.name],
            user: process
                .and_then(|process| process.user.as_deref())
                .map(|user| [user]),
            hash: process
                .and_then(|process| process.sha256.as_deref())
                .map(|hash| [hash]),
        }
    }
}
