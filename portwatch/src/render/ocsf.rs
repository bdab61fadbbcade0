//! An event as the Open Cybersecurity Schema Framework has it, version 1.8.
//!
//! What happens to sockets is Network Activity; what somebody has to act on is a Detection Finding; what portwatch says of
//! itself is Application Lifecycle or Application Error. What OCSF has no attribute for stands under `unmapped`.

mod class;
mod endpoint;
mod finding;
mod process;

use serde::Serialize;

use super::facts::{self, Span};
use super::own::{Model, Own};
use super::{PRODUCT, VENDOR, VERSION};
use crate::event::{Event, EventType, Host, PolicyState, Severity};
use class::{Class, Life};
use endpoint::{Connection, Endpoint, Ends};
use finding::{Evidence, FindingInfo};
use process::{Actor, Process};

/// The version of OCSF whose names these are.
pub const OCSF_VERSION: &str = "1.8.0";

/// Appends the event as one JSON object, without a newline.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    // Fails only for values that are not JSON, and this type is.
    let _ = serde_json::to_writer(out, &Record::of(event));
}

/// A number and its caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coded(pub(super) u16, pub(super) &'static str);

/// The whole record, in the order of its keys. Times are milliseconds since 1970.
#[derive(Debug, Serialize)]
struct Record<'e> {
    class_uid: u32,
    class_name: &'static str,
    category_uid: u32,
    category_name: &'static str,
    activity_id: u16,
    activity_name: &'static str,
    type_uid: u32,
    type_name: String,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<i64>,
    severity_id: u16,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'e str>,
    message: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_alert: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy<'e>>,
    metadata: Metadata<'e>,
    device: Device<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Actor<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_endpoint: Option<Endpoint<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_endpoint: Option<Endpoint<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_src_dst_assignment_known: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_info: Option<Connection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<Product<'static>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding_info: Option<FindingInfo<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidences: Option<[Evidence<'e>; 1]>,
    unmapped: Own<'e>,
}

#[derive(Debug, Serialize)]
struct Policy<'e> {
    name: &'e str,
}

#[derive(Debug, Serialize)]
struct Metadata<'e> {
    version: &'static str,
    profiles: Vec<&'static str>,
    product: Product<'static>,
    uid: &'e str,
    event_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<i32>,
    original_time: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logged_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_truncated: Option<bool>,
}

/// A program: ours, or the package of another one.
#[derive(Debug, Serialize)]
pub(super) struct Product<'e> {
    name: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
}

impl<'e> Product<'e> {
    const OURS: Self = Product {
        name: PRODUCT,
        vendor_name: Some(VENDOR),
        version: Some(VERSION),
    };

    /// The package of this name.
    const fn package(name: &'e str) -> Self {
        Product {
            name,
            vendor_name: None,
            version: None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Device<'e> {
    hostname: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_uid: Option<&'e str>,
    type_id: u16,
    #[serde(rename = "type")]
    kind: &'static str,
    os: Os<'e>,
}

#[derive(Debug, Serialize)]
struct Os<'e> {
    name: &'static str,
    type_id: u16,
    #[serde(rename = "type")]
    kind: &'static str,
    kernel_release: &'e str,
}

impl<'e> Record<'e> {
    fn of(event: &'e Event) -> Self {
        let class = Class::of(event);
        let is_finding = class.is_finding();
        let is_network = class.is_network();
        let Coded(severity_id, severity) = severity(event.severity);
        let span = Span::of(event);
        let verdict = event.policy.as_ref().map(|policy| match class {
            Class::Finding(Life::Created) => ALERT,
            _ => disposition(policy.state),
        });
        let ends = || Ends::of(event);
        let evidence = is_finding.then(|| Evidence::of(event, ends())).flatten();
        let ends = is_network.then(ends).unwrap_or_default();
        Self {
            class_uid: class.uid(),
            class_name: class.name(),
            category_uid: class.category().0.into(),
            category_name: class.category().1,
            activity_id: class.activity().0,
            activity_name: class.activity().1,
            type_uid: class.uid() * 100 + u32::from(class.activity().0),
            type_name: class.type_name(),
            time: facts::epoch_ms(&event.ts),
            start_time: span.as_ref().map(|span| span.start.as_millisecond()),
            end_time: span.as_ref().map(|span| span.end.as_millisecond()),
            duration: event
                .duration_ms
                .and_then(|duration| duration.try_into().ok()),
            severity_id,
            severity,
            status_id: class.status().map(|status| status.0),
            status: class.status().map(|status| status.1),
            status_code: event.error.as_deref(),
            status_detail: event
                .sensor
                .as_ref()
                .and_then(|sensor| sensor.reason.as_deref()),
            message: &event.message,
            count: facts::count(event).and_then(|count| count.try_into().ok()),
            is_alert: is_finding.then(|| facts::is_alert(event)),
            action_id: verdict.map(|_| OBSERVED.0),
            action: verdict.map(|_| OBSERVED.1),
            disposition_id: verdict.map(|disposition| disposition.0),
            disposition: verdict.map(|disposition| disposition.1),
            policy: event
                .policy
                .as_ref()
                .map(|policy| Policy { name: &policy.rule }),
            metadata: Metadata::of(event),
            device: Device::of(&event.host),
            // Who held a listener last did not make it fall silent.
            actor: event
                .process
                .as_ref()
                .filter(|_| event.kind != EventType::ListenerDown)
                .map(Actor::of),
            src_endpoint: ends.src,
            dst_endpoint: ends.dst,
            is_src_dst_assignment_known: ends.is_assignment_known,
            connection_info: is_network.then(|| Connection::of(event)),
            app: class.is_lifecycle().then_some(Product::OURS),
            finding_info: is_finding.then(|| FindingInfo::of(event)),
            evidences: evidence.map(|evidence| [evidence]),
            unmapped: Own::of(event, Model::Ocsf),
        }
    }
}

impl<'e> Metadata<'e> {
    fn of(event: &'e Event) -> Self {
        let process = event.process.as_ref();
        let mut profiles = vec!["host"];
        if process.is_some_and(|process| process.container.is_some()) {
            profiles.push("container");
        }
        if process.is_some_and(Process::is_linux) {
            profiles.push("linux/linux_users");
        }
        if event.policy.is_some() {
            profiles.push("security_control");
        }
        Self {
            version: OCSF_VERSION,
            profiles,
            product: Product::OURS,
            uid: &event.id,
            event_code: event.kind.as_str(),
            sequence: i32::try_from(event.seq).ok(),
            original_time: &event.ts,
            logged_time: facts::told_at(event).map(jiff::Timestamp::as_millisecond),
            is_truncated: process.and_then(|process| process.args_truncated),
        }
    }
}

impl<'e> Device<'e> {
    fn of(host: &'e Host) -> Self {
        Self {
            hostname: &host.name,
            uid: host.id.as_deref(),
            boot_uid: host.boot_id.as_deref(),
            type_id: 0,
            kind: "Unknown",
            os: Os {
                name: "Linux",
                type_id: 200,
                kind: "Linux",
                kernel_release: &host.kernel,
            },
        }
    }
}

/// portwatch looks on; it stops nothing.
const OBSERVED: Coded = Coded(3, "Observed");

/// Somebody has to act.
const ALERT: Coded = Coded(19, "Alert");

const fn disposition(state: PolicyState) -> Coded {
    match state {
        PolicyState::Denied => ALERT,
        PolicyState::Allowed | PolicyState::Expected => Coded(1, "Allowed"),
        PolicyState::Baseline => Coded(8, "Approved"),
        PolicyState::New => Coded(17, "Logged"),
    }
}

const fn severity(severity: Severity) -> Coded {
    match severity {
        Severity::Debug | Severity::Info => Coded(1, "Informational"),
        Severity::Notice => Coded(2, "Low"),
        Severity::Warning => Coded(3, "Medium"),
        Severity::Critical => Coded(5, "Critical"),
    }
}
