//! One line of portwatch's output, as an outsider reads it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A line of JSON, its place in the stream and the moment it was read.
#[derive(Clone, Debug)]
pub struct Event {
    value: Arc<Value>,
    /// Place in the stream as read, from 0.
    pub index: usize,
    /// When the line was complete in this process.
    pub arrived: Instant,
}

impl Event {
    /// Parses a line.
    ///
    /// # Errors
    /// The line is no JSON object.
    pub fn parse(line: &[u8], index: usize, arrived: Instant) -> Result<Self> {
        let value: Value = serde_json::from_slice(line)
            .with_context(|| format!("no JSON: {:?}", String::from_utf8_lossy(line)))?;
        value.as_object().context("a line that is no JSON object")?;
        Ok(Self {
            value: Arc::new(value),
            index,
            arrived,
        })
    }

    /// The whole of it.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The value at a dotted path, for example `socket.port`; `Null` where there is none.
    #[must_use]
    pub fn at(&self, path: &str) -> &Value {
        let mut value = self.value();
        for key in path.split('.') {
            value = value.get(key).unwrap_or(&Value::Null);
        }
        value
    }

    /// The text at a dotted path, empty where there is none.
    #[must_use]
    pub fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }

    /// The number at a dotted path.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.at(path).as_u64()
    }

    /// The event's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("type")
    }

    /// Does it tell of a listener that is there: seen opening, or found?
    #[must_use]
    pub fn is_opening(&self) -> bool {
        matches!(self.kind(), "listener.opened" | "listener.present")
    }

    /// Is it about the socket with this inode?
    #[must_use]
    pub fn has_inode(&self, inode: u64) -> bool {
        self.number("socket.inode") == Some(inode)
    }

    /// Is it about this process?
    #[must_use]
    pub fn has_pid(&self, pid: u32) -> bool {
        self.number("process.pid") == Some(u64::from(pid))
    }

    /// The event without what is the same or long in every one, for the text of a failure.
    #[must_use]
    pub fn brief(&self) -> String {
        let mut value = self.value().clone();
        if let Some(event) = value.as_object_mut() {
            for key in ["schema", "id", "host", "message", "policy"] {
                event.remove(key);
            }
        }
        if let Some(process) = value.get_mut("process").and_then(Value::as_object_mut) {
            process.remove("ancestors");
        }
        value.to_string()
    }

    /// Is this one of the process's arguments?
    #[must_use]
    pub fn has_argument(&self, argument: &str) -> bool {
        self.at("process.args")
            .as_array()
            .is_some_and(|args| args.iter().any(|arg| arg.as_str() == Some(argument)))
    }

    /// Pids in `owners`.
    #[must_use]
    pub fn owner_pids(&self) -> Vec<u64> {
        let owners = self.at("owners").as_array().map_or(&[][..], Vec::as_slice);
        owners
            .iter()
            .filter_map(|owner| owner.get("pid")?.as_u64())
            .collect()
    }
}
