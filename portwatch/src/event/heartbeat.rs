//! A sign of life, with what was counted since the start: who hears none knows that something is wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EventType;

/// What the daemon has counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// For how long it watches, in milliseconds (suspend included).
    pub uptime_ms: u64,
    /// When the next one is due, in milliseconds.
    pub every_ms: u64,
    /// Events by type, state changes of connections left out; types that never came are absent.
    pub events: Vec<EventCount>,
    /// `gap` events among them.
    pub gaps: u64,
    /// Events that were lost between the kernel and the daemon.
    pub lost: u64,
    /// The sinks, as the configuration has them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sinks: Vec<SinkCount>,
}

/// How many events of one type there were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventCount {
    /// The type.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// How many.
    pub count: u64,
}

/// How one sink does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkCount {
    /// Its name.
    pub name: String,
    /// Events that its file, or its receiver, took.
    pub delivered: u64,
    /// Events that wait, in memory and on disk.
    pub queued: u64,
    /// Events that its receiver refused for good.
    pub refused: u64,
    /// Events that it was too slow for, that found no room on disk, or that were damaged there.
    pub lost: u64,
    /// Number and hash of the last record of its chain, for `portwatch verify --head`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head: Option<String>,
}
