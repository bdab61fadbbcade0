//! The published event: what a line of JSON says. Everything here is promised to readers; it changes only additively.
//!
//! A key that is not known is absent, never null or empty. No `flatten` and no `untagged`, so that the
//! JSON Schema says exactly what is written.

pub mod check;
pub mod example;
pub mod fields;
pub mod heartbeat;
pub mod kind;
pub mod message;
pub mod misuse;
pub mod policy;
pub mod process;
pub mod sensor;
pub mod socket;
pub mod storm;
pub mod words;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{Check, CheckProtocol};
pub use heartbeat::{EventCount, Heartbeat, SinkCount};
pub use kind::{EventType, Severity};
pub use policy::{Policy, PolicyState};
pub use process::{Ancestor, Container, Owner, Process};
pub use sensor::{
    Gap, GapCause, GapCgroup, Mechanism, Reconciled, RingName, Sensor, SignalMechanism,
};
pub use socket::{Exposure, Family, Protocol, Socket, SocketType, State};
pub use storm::{Response, ResponseAction, Scan, ScanShape, Storm, StormKind, StormPeer};

/// The name of this schema; a change that must break a reader bumps the number.
pub const SCHEMA: &str = "portwatch.event/1";

/// One thing that happened, as one line of JSON tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "portwatch.event/1")]
pub struct Event {
    /// Always `portwatch.event/1`.
    pub schema: String,
    /// UUIDv7, unique to this event for ever.
    pub id: String,
    /// Position in this output, from 1, without holes; between outputs, `id` tells which events are the same.
    pub seq: u64,
    /// When the kernel saw it: RFC 3339, UTC, nanoseconds.
    pub ts: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence for a person; control characters escaped.
    pub message: String,
    /// The host that says so.
    pub host: Arc<Host>,
    /// The socket it is about; of `listener.down` the last one that met the expectation; of `storm.*` the listener.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub socket: Option<Socket>,
    /// Who opened the socket (listener events), was refused (`bind.failed`), or owns it (`connection.state`); of
    /// `listener.down` who held it last; of `storm.*` who owns the listener, or does it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<Process>,
    /// Every process that holds the socket now, when that is known to be more than `process` alone.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub owners: Vec<Owner>,
    /// How the listener is judged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<Policy>,
    /// `listener.changed`: what was different before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<Previous>,
    /// `connection.state`: the state before, by its kernel name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old_state: Option<State>,
    /// `connection.state`: the state after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub new_state: Option<State>,
    /// `listener.closed`: how long it listened, in milliseconds; absent when its opening was not seen.
    /// `listener.down` and `listener.recovered`: for how long nothing listened, or what did gave no answer.
    /// `storm.*`: how long the episode has been going on, or was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_ms: Option<u64>,
    /// `listener.down`: the active check that went unanswered, where something listens all the same.
    /// `listener.recovered`: the active check that was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check: Option<Check>,
    /// `bind.failed`: the errno's name, for example `EADDRINUSE`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// `gap`: what was lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gap: Option<Gap>,
    /// `gap.reconciled`: what looking again found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reconciled: Option<Reconciled>,
    /// How it was seen; for `sensor.*` events, what can and cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sensor: Option<Sensor>,
    /// `storm.*` but `storm.response`: the episode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub storm: Option<Storm>,
    /// `scan.detected`: who scans, and what.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scan: Option<Scan>,
    /// `storm.response`: what was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub response: Option<Response>,
    /// `heartbeat`: what was counted since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heartbeat: Option<Heartbeat>,
}

impl Event {
    /// An event of this type at this time, with nothing else in it yet.
    #[must_use]
    pub fn new(kind: EventType, ts: String, host: Arc<Host>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            id: String::new(),
            seq: 0,
            ts,
            kind,
            severity: Severity::Info,
            message: String::new(),
            host,
            socket: None,
            process: None,
            owners: Vec::new(),
            policy: None,
            previous: None,
            old_state: None,
            new_state: None,
            duration_ms: None,
            check: None,
            error: None,
            gap: None,
            reconciled: None,
            sensor: None,
            storm: None,
            scan: None,
            response: None,
            heartbeat: None,
        }
    }
}

/// The host an event comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Node name.
    pub name: String,
    /// `/etc/machine-id`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// Random id of this boot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boot_id: Option<String>,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
}

/// What a `listener.changed` replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Previous {
    /// The backlog before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backlog: Option<u32>,
    /// The holders before.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub owners: Vec<Owner>,
    /// The bound interface before (packet sockets).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
}
