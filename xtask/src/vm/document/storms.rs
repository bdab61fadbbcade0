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

/// Writes the table behind its mark; leaves the file alone where no scenario of storms was run.
pub(super) fn write(root: &Path, outcomes: &[Outcome]) -> Result<()> {
    let text = render(outcomes);
    if text.is_empty() {
        return Ok(());
    }
    let file = root.join(FILE);
    let cannot = |what| format!("cannot {what} {}", file.display());
    let old = fs::read_to_string(&file).with_context(|| cannot("read"))?;
    let before = old.split_once(BEGIN).map(|(before, _)| before);
    let before = before.with_context(|| format!("{FILE} has no line {BEGIN}"))?;
    fs::write(&file, format!("{before}{BEGIN}\n{text}")).with_context(|| cannot("write"))?;
    println!("wrote {FILE}");
    Ok(())
}

/// For each kernel: a row a kind, a column a rung.
fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (kernel, list) in grid::by_kernel(outcomes) {
        let plain = |one: &&Outcome| one.cell.condition.is_none() && one.found("storm").count() > 0;
        let rungs: Vec<&Outcome> = list.into_iter().filter(plain).collect();
        if rungs.is_empty() {
            continue;
        }
        text += &format!("\n### {kernel}, emulated\n\n");
        text += &row("", rungs.iter().map(|one| one.cell.name.clone()));
        text += &rule(rungs.len());
        for kind in kinds(&rungs) {
            let name = if kind.is_empty() { "no storm" } else { kind };
            text += &row(name, rungs.iter().map(|one| entry(one, kind)));
        }
    }
    text
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
    use super::render;

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
        let text = render(&cells);
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
        assert_eq!(
            render(&[outcome("6.1.0-50", "fexit", End::Exit(0), &[])]),
            ""
        );
    }
}
