//! The table of storms in docs/storms.md: what was named of what the generators made, on which kernel and rung, and how soon.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::super::grid;
use super::super::outcome::Outcome;
use super::{row, rule, word};

const FILE: &str = "docs/storms.md";
const BEGIN: &str = "<!-- measured: written by `cargo xtask vm` -->";
const HEADING: &str = "### ";
const EMULATED: &str = ", emulated";

/// Writes the tables behind their mark, a kernel each. Those of kernels that were not run stay: all of them take longer than
/// anybody has at a time.
pub(super) fn write(root: &Path, outcomes: &[Outcome]) -> Result<()> {
    let tables = render(outcomes);
    if tables.is_empty() {
        return Ok(());
    }
    let file = root.join(FILE);
    let cannot = |what| format!("cannot {what} {}", file.display());
    let old = fs::read_to_string(&file).with_context(|| cannot("read"))?;
    let (before, measured) = old
        .split_once(BEGIN)
        .with_context(|| format!("{FILE} has no line {BEGIN}"))?;
    let text = merge(measured, tables);
    fs::write(&file, format!("{before}{BEGIN}\n{text}")).with_context(|| cannot("write"))?;
    println!("wrote {FILE}");
    Ok(())
}

/// The tables of before, each in its place, with the new ones for theirs; a kernel that is new comes last.
fn merge(before: &str, tables: Vec<(String, String)>) -> String {
    let mut all: Vec<(&str, String)> = before
        .split(HEADING)
        .skip(1)
        .filter_map(|section| Some((section.split_once(EMULATED)?.0, section.to_owned())))
        .collect();
    for (kernel, table) in &tables {
        let section = format!("{kernel}{EMULATED}\n\n{table}");
        // Another build of the same series takes its place.
        match all
            .iter_mut()
            .find(|(known, _)| series(known) == series(kernel))
        {
            Some(known) => *known = (kernel, section),
            None => all.push((kernel, section)),
        }
    }
    let sections = all.iter().map(|(_, section)| section.trim_end());
    sections
        .map(|section| format!("\n{HEADING}{section}\n"))
        .collect()
}

/// `6.1` of `6.1.0-50-cloud-amd64`.
fn series(kernel: &str) -> &str {
    let end = kernel.match_indices('.').nth(1);
    end.map_or(kernel, |(at, _)| &kernel[..at])
}

/// For each kernel: a row a kind, a column a rung.
fn render(outcomes: &[Outcome]) -> Vec<(String, String)> {
    let mut tables = Vec::new();
    for (kernel, list) in grid::by_kernel(outcomes) {
        let plain = |one: &&Outcome| one.cell.condition.is_none() && one.found("storm").count() > 0;
        let rungs: Vec<&Outcome> = list.into_iter().filter(plain).collect();
        if rungs.is_empty() {
            continue;
        }
        let mut text = row("", rungs.iter().map(|one| one.cell.name.clone()));
        text += &rule(rungs.len());
        for kind in kinds(&rungs) {
            let name = if kind.is_empty() { "no storm" } else { kind };
            text += &row(name, rungs.iter().map(|one| entry(one, kind)));
        }
        tables.push((kernel.to_owned(), text));
    }
    tables
}

/// Every kind that was made, in the order in which it was.
fn kinds<'a>(rungs: &[&'a Outcome]) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = Vec::new();
    for found in rungs.iter().flat_map(|one| one.found("storm")) {
        let kind = word(found, "kind");
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    // What is none comes last.
    kinds.sort_by_key(|kind| kind.is_empty());
    kinds
}

/// `named/made, the slowest`, and what was named wrongly.
fn entry(outcome: &Outcome, kind: &str) -> String {
    let made: Vec<&Value> = outcome
        .found("storm")
        .filter(|found| word(found, "kind") == kind)
        .collect();
    if made.is_empty() {
        return "–".to_owned();
    }
    let named: Vec<u64> = made.iter().filter_map(|one| one["ms"].as_u64()).collect();
    let wrong: usize = made
        .iter()
        .filter_map(|one| one["wrong"].as_array())
        .map(Vec::len)
        .sum();
    let mut text = match (kind, named.iter().max()) {
        ("", _) => format!("0 of {} named", made.len()),
        (_, None) => format!("0/{}", made.len()),
        (_, Some(slowest)) => format!("{}/{}, {slowest} ms", named.len(), made.len()),
    };
    if wrong > 0 {
        text += &format!(", {wrong} wrong");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::outcome::tests::outcome;
    use super::super::super::transcript::End;
    use super::{merge, render};

    #[test]
    fn what_was_made_and_named_is_counted_by_kind() {
        let cells = [
            outcome(
                "6.1.0-50",
                "fexit",
                End::Exit(0),
                &[
                    r#"{"found":"storm","value":{"kind":"","case":"a burst","mechanism":"fentry","ms":null,"wrong":["syn-flood"]}}"#,
                    r#"{"found":"storm","value":{"kind":"syn-flood","case":"a","mechanism":"fentry","ms":700,"wrong":[]}}"#,
                    r#"{"found":"storm","value":{"kind":"syn-flood","case":"b","mechanism":"fentry","ms":900,"wrong":[]}}"#,
                ],
            ),
            outcome(
                "6.1.0-50",
                "cgroup",
                End::Exit(0),
                &[
                    r#"{"found":"storm","value":{"kind":"syn-flood","case":"a","mechanism":"cgroup","ms":null,"wrong":[]}}"#,
                ],
            ),
            outcome("6.12.0-9", "fexit", End::Exit(0), &[]),
        ];
        let text = merge("", render(&cells));
        for line in [
            "### 6.1.0-50, emulated",
            "|  | fexit | cgroup |",
            "| syn-flood | 2/2, 900 ms | 0/1 |",
            "| no storm | 0 of 1 named, 1 wrong | – |",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
        assert!(!text.contains("6.12"), "{text}");
    }

    #[test]
    fn without_storms_there_is_no_table() {
        assert!(render(&[outcome("6.1.0-50", "fexit", End::Exit(0), &[])]).is_empty());
    }

    #[test]
    fn a_kernel_that_was_not_run_keeps_its_table() {
        let of = |kernel: &str, table: &str| (kernel.to_owned(), table.to_owned());
        let first = merge("", vec![of("5.10.1", "| a |\n"), of("6.1.0-50", "| b |\n")]);
        let second = merge(
            &first,
            vec![of("6.1.0-51", "| c |\n"), of("7.3.4", "| d |\n")],
        );
        assert_eq!(
            second,
            "\n### 5.10.1, emulated\n\n| a |\n\n### 6.1.0-51, emulated\n\n| c |\n\n### 7.3.4, emulated\n\n| d |\n"
        );
        assert_eq!(merge(&second, Vec::new()), second);
    }
}
