//! `churn`: listeners that live for less than a millisecond; how many are caught, with the right program.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Bench;
use super::lab::Lab;
use super::load::need;
use super::table::{Budget, Row};

pub(super) const BENCH: Bench = Bench {
    name: "churn",
    title: "Short-lived listeners, each in a process of its own that ends at once",
    run,
};

/// Listeners that portwatch has to tell of, and those that are opened for a tool that polls.
const COUNT: (u32, u32) = (100_000, 10_000);
const QUICK: (u32, u32) = (5_000, 1_000);

/// What runs beside the listeners.
const BESIDES: [(&str, &[&str]); 3] = [
    ("alone", &[]),
    ("with wrk", &["--wrk"]),
    ("with wrk and an exec storm", &["--wrk", "--storm"]),
];
/// Distances of polling, in milliseconds.
const POLLS: [&str; 2] = ["1000", "100"];

fn run(lab: &Lab) -> Result<Vec<Row>> {
    for command in ["nginx", "wrk", "ss"] {
        need(command)?;
    }
    let (count, polled) = if lab.quick { QUICK } else { COUNT };
    let count = lab.listeners.unwrap_or(count).to_string();
    let mut rows = Vec::new();
    for (besides, arguments) in BESIDES {
        let arguments = [&["--output", "json", "--count", &count], arguments].concat();
        let found = lab.measure("churn", &arguments)?;
        println!("  {besides}: {found}");
        rows.extend(told(&found, besides)?);
    }
    let polled = polled.to_string();
    for distance in POLLS {
        let arguments = ["--output", "json", "--count", &polled, "--poll", distance];
        let found = lab.measure("churn", &arguments)?;
        println!("  polling: {found}");
        let all = number(&found, "listeners")?;
        for (key, words) in [("seen", "seen"), ("right", "seen with the right process")] {
            let share = number(&found, key)? / all * 100.0;
            let what = format!("`ss -ltnp` every {distance} ms: {words}, of {polled}");
            rows.push(Row::new(what, "%", &[share]));
        }
    }
    Ok(rows)
}

fn told(found: &Value, besides: &str) -> Result<Vec<Row>> {
    let all = number(found, "listeners")?;
    let share = |key| number(found, key).map(|number| number / all * 100.0);
    let row = |what: &str, share| {
        let what = format!("portwatch, {besides}: {what}, of {all}");
        Row::new(what, "%", &[share]).within(Budget::AtLeast(100.0))
    };
    let mut rows = vec![
        row("told", share("told")?),
        row(
            "told with the right process, program and arguments",
            share("right")?,
        ),
        Row::new(
            format!("portwatch, {besides}: listeners opened"),
            "1/s",
            &[number(found, "per_second")?],
        ),
    ];
    if let Ok(storm) = number(found, "storm_per_second") {
        let what = format!("portwatch, {besides}: execs of the storm");
        rows.push(Row::new(what, "1/s", &[storm]));
    }
    Ok(rows)
}

fn number(found: &Value, key: &str) -> Result<f64> {
    let number = found.get(key).and_then(Value::as_f64);
    number.with_context(|| format!("churn does not say {key}: {found}"))
}
