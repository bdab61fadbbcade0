//! `policy`: how long it takes to judge one event by a thousand rules.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::lab::Lab;
use super::table::{Budget, Row};
use super::{Bench, build};
use crate::host;

pub(super) const BENCH: Bench = Bench {
    name: "policy",
    title: "Judging one event by 1,000 rules, none of which matches",
    run,
};

/// Microseconds.
const BUDGET: f64 = 5.0;
const KINDS: [(&str, &str); 3] = [
    ("ports_ns", "rules about ports"),
    ("programs_ns", "rules about executables, by glob"),
    (
        "expressions_ns",
        "rules with an expression of two comparisons",
    ),
];

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let release = ["--release", "--package", "portwatch", "--example", "judge"];
    let program = build(&host::root()?, &release)?.join("examples/judge");
    let mut samples = KINDS.map(|_| Vec::new());
    for _ in 0..lab.rounds {
        let told = host::output(&mut Command::new(&program))?;
        let told: Value = serde_json::from_str(&told).context("judge tells no JSON")?;
        for ((key, _), samples) in KINDS.iter().zip(&mut samples) {
            samples.extend(told[key].as_f64().map(|ns| ns / 1e3));
        }
    }
    let rows = KINDS.iter().zip(&samples).map(|((key, what), samples)| {
        let row = Row::new(*what, "µs", samples);
        // Most rules name a port or a program; an expression is there for what nothing else can say.
        if *key == "expressions_ns" {
            row
        } else {
            row.within(Budget::AtMost(BUDGET))
        }
    });
    Ok(rows.collect())
}
