//! Writes docs/kernels.md, and the table in docs/storms.md: what was observed with one build of the programs, and nothing else.

mod condition;
mod permits;
mod results;
mod storms;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::grid;
use super::outcome::Outcome;

const FILE: &str = "docs/kernels.md";

const INTRO: &str = "\
<!-- Written by `cargo xtask vm`; do not edit. -->

# Kernels

What portwatch sees on which kernel, by which mechanism, and what it says that it does not see. All of
it was observed with one build by `cargo xtask vm`: Debian's kernels under QEMU without KVM, the scenarios
of `tests/tests/scenario/` on each with portwatch's own choice (`best`); and those that the kernel has a part in
once for each rung of the ladder of mechanisms, and once for each thing that was taken away. On your own machine, `portwatch doctor` says which rung it gets.

An entry reads `12 +2 -1 !1`: twelve scenarios seen, two not seen *and portwatch says so*, one not tried
because the kernel lacks what it would use, one failed. `–`: this was not run.
";

/// Writes the documents.
pub(crate) fn write(root: &Path, outcomes: &[Outcome]) -> Result<()> {
    let file = root.join(FILE);
    fs::write(&file, render(outcomes))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {FILE}");
    storms::write(root, outcomes)
}

/// Writes the table in docs/storms.md alone.
pub(crate) fn write_storms(root: &Path, outcomes: &[Outcome]) -> Result<()> {
    storms::write(root, outcomes)
}

fn render(outcomes: &[Outcome]) -> String {
    let mut text = INTRO.to_owned();
    text += &glance(outcomes);
    text += &permits::render(outcomes);
    text += &groups(outcomes);
    text += &blind(outcomes);
    text += &condition::render(outcomes);
    text += &results::untried(outcomes);
    text += &results::failed(outcomes);
    text += &results::times(outcomes);
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
