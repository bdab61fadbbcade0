//! What we ship for a SOC, held against our own events: Sigma rules by an evaluator of their language, and everything that
//! names a field of ours or of ECS.
//!
//! The programs that read the other files are started by the scenarios of portwatch-tests.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground gives way"
)]

mod elastic;
mod pipelines;
mod rules;
mod sigma;

use std::path::{Path, PathBuf};

use portwatch::event::example::{examples, variants};
use portwatch::render::Format;
use serde_json::Value;

/// A file of etc/siem.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../etc/siem")
        .join(name)
}

/// The text of a file of etc/siem.
fn text(name: &str) -> String {
    std::fs::read_to_string(shipped(name)).expect(name)
}

/// The pinned events, and some of types and kinds that are not among them, by hand.
fn events() -> Vec<Value> {
    let pinned = [examples(), variants()].concat();
    let pinned = pinned
        .iter()
        .map(|event| serde_json::from_slice(&Format::Json.line(event)).expect("JSON"));
    let more = include_str!("../data/siem.jsonl").lines();
    pinned
        .chain(more.map(|line| serde_json::from_str(line).expect("JSON")))
        .collect()
}
