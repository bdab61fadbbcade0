//! What a run of the suite found, a JSON object a line, for a program that reads it while it goes on.
//!
//! Written to the file (or FIFO) that `PORTWATCH_TEST_REPORT` names; nowhere without.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// Where the findings go.
#[derive(Debug, Default)]
pub struct Report {
    file: Option<Mutex<File>>,
}

impl Report {
    /// The report that the environment asks for; a file that cannot be opened is none.
    #[must_use]
    pub fn asked_for() -> Self {
        let path = std::env::var_os("PORTWATCH_TEST_REPORT");
        let open = |path| OpenOptions::new().append(true).create(true).open(path);
        Self {
            file: path.and_then(|path| open(path).ok()).map(Mutex::new),
        }
    }

    /// Does anybody read it?
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.file.is_some()
    }

    /// A scenario begins: what hangs is what has begun and not ended.
    pub fn begin(&self, scenario: &str) {
        self.write(&json!({"began": scenario}));
    }

    /// A scenario ended: `passed`, `skipped` or `failed`, and why if not passed.
    pub fn end(&self, scenario: &str, outcome: &str, why: &str, took: Duration) {
        self.write(&json!({
            "scenario": scenario, "outcome": outcome, "why": why,
            "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }));
    }

    /// A finding that is about no scenario.
    pub fn find(&self, key: &str, value: &Value) {
        self.write(&json!({"found": key, "value": value}));
    }

    fn write(&self, line: &Value) {
        if let Some(file) = &self.file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // One write a line, so that lines stay whole. A reader that is gone is no reason to fail.
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }
}
