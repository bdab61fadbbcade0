//! The part of docs/kernels.md about what happens when something is taken away.

use std::collections::BTreeMap;

use portwatch_tests::harness::condition::{self, Change, Claim};

use super::{list, statements, word};
use crate::vm::outcome::Outcome;

/// Is portwatch held to refusing here?
pub(super) fn is_refusal(outcome: &Outcome) -> bool {
    let found = outcome.cell.condition.and_then(condition::named);
    found.is_some_and(|one| matches!(one.claim, Claim::Refuses(_)))
}

/// A section for each condition.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    let mut text = "\n## When something is missing\n".to_owned();
    let mut any = false;
    for condition in condition::ALL {
        let of_condition: Vec<&Outcome> = outcomes
            .iter()
            .filter(|one| one.cell.condition == Some(condition.name))
            .collect();
        if of_condition.is_empty() {
            continue;
        }
        any = true;
        text += &format!("\n### {}\n\n{}\n\n", condition.name, taken(&condition));
        text += &in_use(&of_condition);
        text += &capabilities(&of_condition);
        text += &reasons(&of_condition);
        text += &statements(&of_condition);
    }
    match any {
        true => text,
        false => String::new(),
    }
}

fn taken(condition: &condition::Condition) -> String {
    match condition.change {
        Change::Hide(directory) => format!("`{directory}` is empty."),
        Change::Unmount(point) => format!("Nothing is mounted on `{point}`."),
        Change::LockDown(level) => format!("The kernel is locked down, `{level}`."),
        Change::Nothing => format!(
            "portwatch runs as root without {}.",
            condition.drops.join(" and ")
        ),
    }
}

/// The rung that portwatch took, by kernels.
fn in_use(of_condition: &[&Outcome]) -> String {
    let mut rungs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for outcome in of_condition {
        let rung = match outcome.found("rung").next() {
            Some(rung) => rung.as_str().unwrap_or_default(),
            None if is_refusal(outcome) && outcome.good() => "none: it ends with 77",
            None => "none: it did not start",
        };
        rungs.entry(rung).or_default().push(&outcome.kernel);
    }
    let parts: Vec<String> = match rungs.len() {
        1 => rungs.keys().map(|rung| (*rung).to_owned()).collect(),
        _ => {
            let each = rungs.iter();
            each.map(|(rung, kernels)| format!("{rung} (on {})", kernels.join(", ")))
                .collect()
        }
    };
    format!("Best rung in use: {}.\n\n", parts.join("; "))
}

fn capabilities(of_condition: &[&Outcome]) -> String {
    let mut lines = Vec::new();
    for doctor in of_condition.iter().flat_map(|one| one.found("doctor")) {
        for missing in list(doctor, "missing_capabilities") {
            let line = format!(
                "- doctor: {} is missing: {}\n",
                word(missing, "name"),
                word(missing, "loses")
            );
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines.concat()
}

/// Why better mechanisms are not in use, each reason once.
fn reasons(of_condition: &[&Outcome]) -> String {
    let mut lines = Vec::new();
    for sensor in of_condition
        .iter()
        .flat_map(|one| one.found("sensor.degraded"))
    {
        let reason = word(sensor, "reason");
        let line = format!("- reason: {reason}\n");
        if !reason.is_empty() && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}
