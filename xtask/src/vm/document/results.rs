//! The part of docs/kernels.md about what was not tried, what failed, and how long it took.

use std::collections::BTreeMap;

use super::by_cell;
use crate::vm::grid;
use crate::vm::outcome::{Outcome, Verdict};

/// Scenarios that were not tried, and why.
pub(super) fn untried(outcomes: &[Outcome]) -> String {
    let list = scenarios(outcomes, Verdict::Untried);
    match list.is_empty() {
        true => String::new(),
        false => format!("\n## Not tried\n\n{list}"),
    }
}

/// Whatever went wrong, in full view.
pub(super) fn failed(outcomes: &[Outcome]) -> String {
    let mut list = scenarios(outcomes, Verdict::Failed);
    for outcome in outcomes
        .iter()
        .filter(|one| one.count(None, Verdict::Failed) == 0)
    {
        if let Some(trouble) = outcome.trouble() {
            list += &format!("- {} on {}: {trouble}\n", outcome.cell.name, outcome.kernel);
        }
    }
    match list.is_empty() {
        true => String::new(),
        false => format!("\n## Failed\n\n{list}"),
    }
}

/// Scenarios with a verdict, why, and where.
fn scenarios(outcomes: &[Outcome], verdict: Verdict) -> String {
    let mut found: BTreeMap<(&str, &str), Vec<(&str, &str)>> = BTreeMap::new();
    for outcome in outcomes {
        for one in outcome
            .scenarios
            .iter()
            .filter(|one| one.verdict == verdict)
        {
            let why = one.why.lines().next().unwrap_or_default();
            let place = (outcome.kernel.as_str(), outcome.cell.name.as_str());
            found.entry((&one.name, why)).or_default().push(place);
        }
    }
    let mut text = String::new();
    for ((name, why), places) in found {
        let mut kernels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kernel, cell) in &places {
            kernels.entry(kernel).or_default().push(cell);
        }
        let on = kernels.iter().map(|(kernel, names)| {
            let here = outcomes.iter().filter(|one| one.kernel == **kernel).count();
            match names.len() == here {
                true => (*kernel).to_owned(),
                false => format!("{kernel} ({})", names.join(", ")),
            }
        });
        let on: Vec<String> = on.collect();
        text += &format!("- `{name}`: {why}. On {}.\n", on.join("; "));
    }
    text
}

pub(super) fn times(outcomes: &[Outcome]) -> String {
    let seconds = by_cell(outcomes, |outcome| {
        format!("{:.0}", outcome.run.took.as_secs_f32())
    });
    let kernels = grid::by_kernel(outcomes);
    let boots = kernels.iter().map(|(name, list)| {
        let boots = list.iter().filter_map(|one| one.boot);
        let slowest = boots.fold(0.0_f32, f32::max);
        format!("{name} in {slowest:.1} s")
    });
    let boots: Vec<String> = boots.collect();
    let mut slow: Vec<(u64, &str, &Outcome)> = outcomes
        .iter()
        .flat_map(|one| {
            one.scenarios
                .iter()
                .map(move |scenario| (scenario.ms, scenario.name.as_str(), one))
        })
        .collect();
    slow.sort_by_key(|(ms, ..)| std::cmp::Reverse(*ms));
    let mut text = format!(
        "\n## Times\n\nSeconds of wall clock for the suite, emulated, several guests side by side; no measure of portwatch.\n\n{seconds}\nInit was reached, at the latest, by {}.\n",
        boots.join(", ")
    );
    if !slow.is_empty() {
        text += "\nThe slowest scenarios:\n\n";
        for (ms, name, outcome) in slow.into_iter().take(5) {
            text += &format!(
                "- `{name}`, {:.0} s, {} on {}\n",
                ms as f64 / 1000.0,
                outcome.cell.name,
                outcome.kernel
            );
        }
    }
    text
}
