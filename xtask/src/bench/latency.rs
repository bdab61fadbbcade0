//! `latency`: from `listen` to the complete line in a reader of `portwatch tail`.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::lab::Lab;
use super::table::{Budget, Row};

pub(super) const BENCH: Bench = Bench {
    name: "latency",
    title: "From `listen()` to a complete JSON line in a tail client",
    run,
};

/// Percentiles that are told, with their budgets on an idle machine.
const PERCENTILES: [(&str, Option<Budget>); 4] = [
    ("p50", Some(Budget::AtMost(100.0))),
    ("p90", None),
    ("p99", Some(Budget::AtMost(1000.0))),
    ("max", None),
];
/// What is told of three wake-ups that do nothing.
const FLOOR: [&str; 2] = ["p50", "p99"];
/// Each round starts a daemon of its own.
const ROUNDS: usize = 15;
/// Longest time of a loaded round; the load ends with the round.
const LOADED: Duration = Duration::from_secs(120);

fn run(lab: &Lab) -> Result<Vec<Row>> {
    let count = if lab.quick { "200" } else { "1000" };
    let arguments = ["--output", "json", "--count", count];
    let load = lab.load()?;
    let (mut idle, mut loaded) = (Samples::default(), Samples::default());
    for _ in 0..lab.rounds_up_to(ROUNDS) {
        idle.add(lab, &arguments)?;
        let under_way = load.spawn(LOADED)?;
        loaded.add(lab, &arguments)?;
        drop(under_way);
    }
    let mut rows = idle.rows("idle", true);
    rows.extend(loaded.rows("under the load of `rate`", false));
    Ok(rows)
}

/// The percentiles of each round.
#[derive(Default)]
struct Samples {
    whole: [Vec<f64>; PERCENTILES.len()],
    floor: [Vec<f64>; FLOOR.len()],
}

impl Samples {
    fn add(&mut self, lab: &Lab, arguments: &[&str]) -> Result<()> {
        let found = lab.measure("latency", arguments)?;
        let microseconds = |pointer: String| {
            let value = found.pointer(&pointer).and_then(serde_json::Value::as_f64);
            value.with_context(|| format!("latency does not say {pointer}"))
        };
        for (samples, (name, _)) in self.whole.iter_mut().zip(PERCENTILES) {
            samples.push(microseconds(format!("/whole_us/{name}"))?);
        }
        for (samples, name) in self.floor.iter_mut().zip(FLOOR) {
            samples.push(microseconds(format!("/floor_us/{name}"))?);
        }
        println!("  {found}");
        Ok(())
    }

    fn rows(&self, when: &str, bounded: bool) -> Vec<Row> {
        let all = self.whole.iter().zip(PERCENTILES);
        let mut rows: Vec<Row> = all
            .map(|(samples, (name, budget))| Row {
                budget: budget.filter(|_| bounded),
                ..Row::new(format!("{name}, {when}"), "µs", samples)
            })
            .collect();
        rows.extend(self.floor.iter().zip(FLOOR).map(|(samples, name)| {
            let what = format!("{name}, {when}: three wake-ups that do nothing");
            Row::new(what, "µs", samples)
        }));
        rows
    }
}
