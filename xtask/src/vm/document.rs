//! Writes docs/kernels.md: what was observed in one run of the matrix, and nothing else.

mod condition;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::grid;
use super::outcome::{Outcome, Verdict};

const FILE: &str = "docs/kernels.md";

const INTRO: &str = "\
<!-- Written by `cargo xtask vm`; do not edit. -->

# Kernels

What portwatch sees on which kernel, by which mechanism, and what it says that it does not see. All of
it was observed in one run of `cargo xtask vm`: Debian's kernels under QEMU without KVM, the scenarios
of `tests/tests/scenario/` on each, once for each rung of the ladder of mechanisms, and once for each
thing that was taken away. On your own machine, `portwatch doctor` says which rung it gets.

An entry reads `12 +2 -1 !1`: twelve scenarios seen, two not seen *and portwatch says so*, one not tried
because the kernel lacks what it would use, one failed. `–`: this was not run.
";

/// Writes the document.
pub(crate) fn write(root: &Path, outcomes: &[Outcome]) -> Result<()> {
    let file = root.join(FILE);
    fs::write(&file, render(outcomes))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {FILE}");
    Ok(())
}

fn render(outcomes: &[Outcome]) -> String {
    let mut text = INTRO.to_owned();
    text += &glance(outcomes);
    text += &features(outcomes);
    text += &groups(outcomes);
    text += &blind(outcomes);
    text += &condition::render(outcomes);
    text += &untried(outcomes);
    text += &failed(outcomes);
    text += &times(outcomes);
    text
}

/// The cells of the run, in order, each name once.
fn cells(outcomes: &[Outcome]) -> Vec<&str> {
    let mut names = Vec::new();
    for outcome in outcomes {
        if !names.contains(&outcome.cell.name.as_str()) {
            names.push(outcome.cell.name.as_str());
        }
    }
    names
}

fn at<'a>(list: &[&'a Outcome], cell: &str) -> Option<&'a Outcome> {
    list.iter().find(|one| one.cell.name == cell).copied()
}

/// A table: a row a cell, a column a kernel.
fn by_cell(outcomes: &[Outcome], entry: impl Fn(&Outcome) -> String) -> String {
    let kernels = grid::by_kernel(outcomes);
    let mut text = row("", kernels.iter().map(|(name, _)| (*name).to_owned()));
    text += &rule(kernels.len());
    for cell in cells(outcomes) {
        let entries = kernels
            .iter()
            .map(|(_, list)| at(list, cell).map_or_else(|| "–".to_owned(), &entry));
        text += &row(cell, entries);
    }
    text
}

fn row(head: &str, entries: impl Iterator<Item = String>) -> String {
    let entries: Vec<String> = entries.collect();
    format!("| {head} | {} |\n", entries.join(" | "))
}

fn rule(columns: usize) -> String {
    format!("|---|{}\n", "---|".repeat(columns))
}

fn glance(outcomes: &[Outcome]) -> String {
    let table = by_cell(outcomes, |outcome| {
        let refused = outcome.good() && condition::is_refusal(outcome);
        match refused {
            true => "refuses, says why".to_owned(),
            false => grid::entry(outcome, None),
        }
    });
    format!("\n## At a glance\n\n{table}")
}

/// What `doctor` said of the kernel itself, where nothing was taken away.
fn features(outcomes: &[Outcome]) -> String {
    let kernels = grid::by_kernel(outcomes);
    let doctors: Vec<Option<&Value>> = kernels
        .iter()
        .map(|(_, list)| {
            let mut plain = list.iter().filter(|one| one.cell.condition.is_none());
            plain.find_map(|one| one.found("doctor").next())
        })
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for feature in doctors
        .iter()
        .flatten()
        .flat_map(|doctor| list(doctor, "features"))
    {
        if let Some(name) = feature["name"]
            .as_str()
            .filter(|name| !names.contains(name))
        {
            names.push(name);
        }
    }
    let mut text = "\n## What each kernel permits\n\n".to_owned();
    text += &row("", kernels.iter().map(|(name, _)| (*name).to_owned()));
    text += &rule(kernels.len());
    for name in names {
        let entries = doctors.iter().map(|doctor| {
            let mut features = doctor.iter().flat_map(|doctor| list(doctor, "features"));
            let state = features
                .find(|feature| feature["name"] == name)
                .and_then(|feature| feature["state"].as_str());
            state.unwrap_or("–").to_owned()
        });
        text += &row(name, entries);
    }
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for ((kernel, _), doctor) in kernels.iter().zip(&doctors) {
        for field in doctor
            .iter()
            .flat_map(|doctor| list(doctor, "missing_fields"))
        {
            let line = format!("`{}`: {}", word(field, "field"), word(field, "costs"));
            missing.entry(line).or_default().push(kernel);
        }
    }
    if !missing.is_empty() {
        text += "\nFields that a kernel does not have, and what is not known without them:\n\n";
        for (line, kernels) in missing {
            text += &format!("- {line} ({})\n", kernels.join(", "));
        }
    }
    text
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// For each kernel: a row a group, a column a rung.
fn groups(outcomes: &[Outcome]) -> String {
    let mut text = "\n## What each rung sees\n".to_owned();
    for (kernel, list) in grid::by_kernel(outcomes) {
        let rungs: Vec<&Outcome> = list
            .into_iter()
            .filter(|one| one.cell.condition.is_none() && one.cell.cpus.is_none())
            .collect();
        if rungs.is_empty() {
            continue;
        }
        text += &format!("\n### {kernel}\n\n");
        text += &row("", rungs.iter().map(|one| one.cell.name.clone()));
        text += &rule(rungs.len());
        for group in grid::groups(rungs.iter().copied()) {
            let entries = rungs.iter().map(|one| grid::entry(one, Some(group)));
            text += &row(group, entries);
        }
    }
    text
}

/// What each rung is blind to, in portwatch's own words, and on which kernels it said so.
fn blind(outcomes: &[Outcome]) -> String {
    let mut text = "\n## What each rung does not see, and says\n\nFrom `sensor.degraded`: signal, the mechanism it then has, and what that does not see.\n".to_owned();
    let plain = |one: &&Outcome| one.cell.condition.is_none() && one.cell.cpus.is_none();
    for cell in cells(outcomes) {
        let of_cell: Vec<&Outcome> = outcomes
            .iter()
            .filter(|one| one.cell.name == cell)
            .filter(plain)
            .collect();
        if of_cell.is_empty() {
            continue;
        }
        text += &format!("\n### {cell}\n\n");
        let said = statements(&of_cell);
        if said.is_empty() {
            text += "Nothing is missed.\n";
        }
        text += &said;
    }
    text
}

/// One thing that is not seen, and who said so.
struct Statement<'a> {
    blind_to: &'a str,
    mechanism: &'a str,
    signals: Vec<&'a str>,
    kernels: Vec<&'a str>,
}

/// The `sensor.degraded` of these cells as a list; what only some kernels say names them.
fn statements(of_cell: &[&Outcome]) -> String {
    let mut said: Vec<Statement<'_>> = Vec::new();
    for outcome in of_cell {
        for sensor in outcome.found("sensor.degraded") {
            let (blind_to, mechanism) = (word(sensor, "blind_to"), word(sensor, "mechanism"));
            let signal = match word(sensor, "signal") {
                "" => word(sensor, "reason"),
                signal => signal,
            };
            let known = said
                .iter_mut()
                .find(|one| (one.blind_to, one.mechanism) == (blind_to, mechanism));
            match known {
                Some(known) => {
                    add(&mut known.signals, signal);
                    add(&mut known.kernels, &outcome.kernel);
                }
                None => said.push(Statement {
                    blind_to,
                    mechanism,
                    signals: vec![signal],
                    kernels: vec![&outcome.kernel],
                }),
            }
        }
    }
    let lines = said.iter().map(|one| {
        let by = match one.mechanism {
            "" => String::new(),
            by => format!(" by {by}"),
        };
        let only = match one.kernels.len() == of_cell.len() {
            true => String::new(),
            false => format!(" (on {})", one.kernels.join(", ")),
        };
        let signals = one.signals.join(", ");
        format!("- {signals}{by}: {}{only}\n", one.blind_to)
    });
    lines.collect()
}

fn add<'a>(list: &mut Vec<&'a str>, one: &'a str) {
    if !list.contains(&one) {
        list.push(one);
    }
}

/// Scenarios that were not tried, and why.
fn untried(outcomes: &[Outcome]) -> String {
    let list = scenarios(outcomes, Verdict::Untried);
    match list.is_empty() {
        true => String::new(),
        false => format!("\n## Not tried\n\n{list}"),
    }
}

/// Whatever went wrong, in full view.
fn failed(outcomes: &[Outcome]) -> String {
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

fn times(outcomes: &[Outcome]) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::outcome;
    use super::super::transcript::End;
    use super::*;

    const PASSED: &str = r#"{"scenario":"tcp::a","outcome":"passed","why":"","ms":1200}"#;
    const OK: &str = "test result: ok. 1 passed; 0 failed; 0 ignored";

    fn text() -> String {
        render(&[
            outcome("5.10.0-9", "fexit", End::Exit(0), &[PASSED, OK]),
            outcome(
                "5.10.0-9",
                "reconcile",
                End::Exit(0),
                &[
                    r#"{"scenario":"tcp::a","outcome":"skipped","why":"reconcile does not see it, and says so","ms":9}"#,
                    r#"{"found":"sensor.degraded","value":{"signal":"tcp.listen","mechanism":"reconcile","blind_to":"short ones"}}"#,
                    r#"{"found":"doctor","value":{"features":[{"name":"kprobes","state":"yes"}]}}"#,
                    OK,
                ],
            ),
            outcome(
                "6.1.0-50",
                "fexit",
                End::Exit(101),
                &[
                    r#"{"scenario":"tcp::a","outcome":"failed","why":"no event\nmore","ms":9}"#,
                    "test result: FAILED. 0 passed; 1 failed; 0 ignored",
                ],
            ),
            outcome(
                "6.1.0-50",
                "no-cap-bpf-at-all",
                End::Exit(0),
                &[
                    r#"{"scenario":"condition::claim_is_kept","outcome":"passed","why":"","ms":9}"#,
                    r#"{"found":"doctor","value":{"missing_capabilities":[{"name":"CAP_BPF","required":true,"loses":"no probe can be loaded"}]}}"#,
                    OK,
                ],
            ),
        ])
    }

    #[test]
    fn every_cell_is_in_it_and_none_that_was_not_run() {
        let text = text();
        for line in [
            "|  | 5.10.0-9 | 6.1.0-50 |",
            "| fexit | 1 | !1 |",
            "| reconcile | +1 | – |",
            "| no-cap-bpf-at-all | – | refuses, says why |",
            "| kprobes | yes | – |",
            "- tcp.listen by reconcile: short ones",
            "- `tcp::a`: no event. On 6.1.0-50 (fexit).",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        assert!(!text.contains("tp_btf") && !text.contains("6.12"));
    }

    #[test]
    fn a_refusal_names_the_capability() {
        let text = text();
        assert!(text.contains("CAP_BPF"), "{text}");
        assert!(text.contains("### fexit\n\nNothing is missed."), "{text}");
    }
}
