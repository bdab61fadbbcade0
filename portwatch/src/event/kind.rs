//! Event types and severities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum EventType {
    /// A socket became able to receive.
    #[serde(rename = "listener.opened")]
    ListenerOpened,
    /// A listener can no longer receive.
    #[serde(rename = "listener.closed")]
    ListenerClosed,
    /// Found at start-up or by reconciliation, not seen opening.
    #[serde(rename = "listener.present")]
    ListenerPresent,
    /// New backlog, interface, or set of owning processes.
    #[serde(rename = "listener.changed")]
    ListenerChanged,
    /// A bind or listen was refused.
    #[serde(rename = "bind.failed")]
    BindFailed,
    /// One TCP state change; only when asked for.
    #[serde(rename = "connection.state")]
    ConnectionState,
    /// What must listen does not, for longer than its grace time, or does not answer when it is asked.
    #[serde(rename = "listener.down")]
    ListenerDown,
    /// What was told to be down listens again, and answers where it is asked.
    #[serde(rename = "listener.recovered")]
    ListenerRecovered,
    /// The self-test passed.
    #[serde(rename = "sensor.ready")]
    SensorReady,
    /// Something cannot be seen, or only later, and why.
    #[serde(rename = "sensor.degraded")]
    SensorDegraded,
    /// Events were lost.
    #[serde(rename = "gap")]
    Gap,
    /// What the re-inventory after a gap found.
    #[serde(rename = "gap.reconciled")]
    GapReconciled,
    /// A storm began: a flood, or something that runs out.
    #[serde(rename = "storm.started")]
    StormStarted,
    /// It goes on.
    #[serde(rename = "storm.updated")]
    StormUpdated,
    /// It is over.
    #[serde(rename = "storm.ended")]
    StormEnded,
    /// Somebody tries which ports answer.
    #[serde(rename = "scan.detected")]
    ScanDetected,
    /// Something was done about a storm or a scan, or would have been.
    #[serde(rename = "storm.response")]
    StormResponse,
    /// A sign of life, where there are sinks.
    #[serde(rename = "heartbeat")]
    Heartbeat,
}

impl EventType {
    /// Every type this version can emit.
    pub const ALL: [Self; 18] = [
        Self::ListenerOpened,
        Self::ListenerClosed,
        Self::ListenerPresent,
        Self::ListenerChanged,
        Self::BindFailed,
        Self::ConnectionState,
        Self::ListenerDown,
        Self::ListenerRecovered,
        Self::SensorReady,
        Self::SensorDegraded,
        Self::Gap,
        Self::GapReconciled,
        Self::StormStarted,
        Self::StormUpdated,
        Self::StormEnded,
        Self::ScanDetected,
        Self::StormResponse,
        Self::Heartbeat,
    ];

    /// The name in the `type` key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ListenerOpened => "listener.opened",
            Self::ListenerClosed => "listener.closed",
            Self::ListenerPresent => "listener.present",
            Self::ListenerChanged => "listener.changed",
            Self::BindFailed => "bind.failed",
            Self::ConnectionState => "connection.state",
            Self::ListenerDown => "listener.down",
            Self::ListenerRecovered => "listener.recovered",
            Self::SensorReady => "sensor.ready",
            Self::SensorDegraded => "sensor.degraded",
            Self::Gap => "gap",
            Self::GapReconciled => "gap.reconciled",
            Self::StormStarted => "storm.started",
            Self::StormUpdated => "storm.updated",
            Self::StormEnded => "storm.ended",
            Self::ScanDetected => "scan.detected",
            Self::StormResponse => "storm.response",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// How much an event matters, in rising order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Detail, only useful in bulk.
    Debug,
    /// Normal life of the host.
    Info,
    /// Worth a look: something new listens.
    Notice,
    /// Something is wrong, or cannot be seen.
    Warning,
    /// Act now.
    Critical,
}

impl Severity {
    /// The name in the `severity` key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The number that syslog has for it (RFC 5424, table 2).
    #[must_use]
    pub const fn syslog(self) -> u8 {
        match self {
            Self::Critical => 2,
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}
