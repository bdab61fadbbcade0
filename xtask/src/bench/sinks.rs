//! `sinks`: how many lines a second of one core are made of events and written to a file.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::lab::Lab;
use super::table::{Budget, Row};
use super::{Bench, build};
use crate::host;

pub(super) const BENCH: Bench = Bench {
    name: "sinks",
    title: "A file sink on one core",
    run,
};

/// Thousands of lines a second.
const BUDGET: f64 = 300.0;
const KINDS: [(&str, &str); 7] = [
    (
        "states_per_s",
        "state changes as JSON, from the event to the file",
    ),
    (
        "listeners_sink_per_s",
        "listeners as JSON, what the sink's thread takes (their JSON is made once for all outputs)",
    ),
    (
        "listeners_per_s",
        "listeners as JSON, from the event to the file",
    ),
    ("chained_per_s", "state changes as JSON, with a hash chain"),
    ("ecs_per_s", "state changes as ECS"),
    (
        "serde_json_per_s",
        "serde_json alone, the same state change, written nowhere",
    ),
    (
        "serde_json_listeners_per_s",
        "serde_json alone, the same listener, written nowhere",
    ),
];

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let release = ["--release", "--package", "portwatch", "--example", "sink"];
    let program = build(&host::root()?, &release)?.join("examples/sink");
    let mut samples = KINDS.map(|_| Vec::new());
    for _ in 0..lab.rounds {
        let told = host::output(&mut Command::new(&program))?;
        let told: Value = serde_json::from_str(&told).context("sink tells no JSON")?;
        for ((key, _), samples) in KINDS.iter().zip(&mut samples) {
            samples.extend(told[key].as_f64().map(|lines| lines / 1e3));
        }
    }
    let rows = KINDS.iter().zip(&samples).map(|((key, what), samples)| {
        let row = Row::new(*what, "1,000 lines/s", samples);
        match *key {
            "states_per_s" | "listeners_sink_per_s" => row.within(Budget::AtLeast(BUDGET)),
            _ => row,
        }
    });
    Ok(rows.collect())
}
