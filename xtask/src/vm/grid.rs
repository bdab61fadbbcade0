//! The results as a table for the terminal: a row a group of scenarios, a column a cell.

use super::outcome::{Outcome, Verdict};

/// Columns that fit beside each other.
const COLUMNS: usize = 7;

/// The groups of scenarios, in the order in which they were first met.
pub(crate) fn groups<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<&'a str> {
    let mut groups = Vec::new();
    for scenario in outcomes.into_iter().flat_map(|outcome| &outcome.scenarios) {
        if !groups.contains(&scenario.group()) {
            groups.push(scenario.group());
        }
    }
    groups.sort_unstable();
    groups
}

/// The whole table, kernel by kernel, with a legend.
pub(crate) fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (kernel, of_kernel) in by_kernel(outcomes) {
        for block in of_kernel.chunks(COLUMNS) {
            text += &format!("\nkernel {kernel}\n");
            text += &table(block);
        }
    }
    text += "\n12 seen · +2 not seen, and portwatch says so · -1 not tried here · !1 FAILED\n";
    for outcome in outcomes {
        if let Some(trouble) = outcome.trouble() {
            text += &format!("{} {}: {trouble}\n", outcome.kernel, outcome.cell.name);
        }
    }
    text
}

/// The outcomes of each kernel, in the order in which the kernels first came.
pub(crate) fn by_kernel(outcomes: &[Outcome]) -> Vec<(&str, Vec<&Outcome>)> {
    let mut kernels: Vec<(&str, Vec<&Outcome>)> = Vec::new();
    for outcome in outcomes {
        match kernels.iter_mut().find(|(name, _)| *name == outcome.kernel) {
            Some((_, list)) => list.push(outcome),
            None => kernels.push((&outcome.kernel, vec![outcome])),
        }
    }
    kernels
}

/// `12 +2 -1 !1`: what there is of each verdict.
pub(crate) fn entry(outcome: &Outcome, group: Option<&str>) -> String {
    let of = |verdict| outcome.count(group, verdict);
    let mut parts = Vec::new();
    for (sign, number) in [
        ("", of(Verdict::Passed)),
        ("+", of(Verdict::Admitted)),
        ("-", of(Verdict::Untried)),
        ("!", of(Verdict::Failed)),
    ] {
        if number > 0 {
            parts.push(format!("{sign}{number}"));
        }
    }
    parts.join(" ")
}

fn table(block: &[&Outcome]) -> String {
    let width = |outcome: &Outcome| outcome.cell.name.len().max(11) + 2;
    let mut rows = vec![("", Vec::new())];
    rows[0].1 = block
        .iter()
        .map(|outcome| outcome.cell.name.clone())
        .collect();
    for group in groups(block.iter().copied()) {
        let entries = block.iter().map(|outcome| entry(outcome, Some(group)));
        rows.push((group, entries.collect()));
    }
    let all = block.iter().map(|outcome| match outcome.counts {
        Some(counts) if outcome.scenarios.is_empty() => {
            format!("{} -{} !{}", counts.passed, counts.ignored, counts.failed)
        }
        _ => entry(outcome, None),
    });
    rows.push(("all", all.collect()));
    let seconds = |seconds: f32| format!("{seconds:.1}");
    let took = block
        .iter()
        .map(|outcome| seconds(outcome.run.took.as_secs_f32()));
    rows.push(("seconds", took.collect()));
    let boot = block
        .iter()
        .map(|outcome| outcome.boot.map_or_else(|| "-".to_owned(), seconds));
    rows.push(("boot, guest s", boot.collect()));
    let result = block
        .iter()
        .map(|outcome| if outcome.good() { "ok" } else { "FAILED" }.to_owned());
    rows.push(("result", result.collect()));
    let mut text = String::new();
    for (head, entries) in rows {
        let mut line = format!("  {head:<14}");
        for (entry, outcome) in entries.iter().zip(block) {
            line += &format!("{entry:>width$}", width = width(outcome));
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::outcome;
    use super::super::transcript::End;
    use super::*;

    const LINES: [&str; 4] = [
        r#"{"scenario":"tcp::a","outcome":"passed","why":"","ms":1}"#,
        r#"{"scenario":"tcp::b","outcome":"skipped","why":"tp_btf does not see it, and says so","ms":1}"#,
        r#"{"scenario":"udp::c","outcome":"failed","why":"nothing came","ms":1}"#,
        "test result: FAILED. 1 passed; 1 failed; 1 ignored",
    ];

    #[test]
    fn each_cell_has_a_column_and_each_group_a_row() {
        let outcomes = [
            outcome("6.1", "fexit", End::Exit(101), &LINES),
            outcome("6.1", "no-btf", End::Died, &[]),
            outcome("7.3", "fexit", End::Exit(0), &LINES[..1]),
        ];
        assert_eq!(
            render(&outcomes),
            "
kernel 6.1
                        fexit       no-btf
  tcp                    1 +1
  udp                      !1
  all                 1 +1 !1
  seconds                40.0         40.0
  boot, guest s           2.5          2.5
  result               FAILED       FAILED

kernel 7.3
                        fexit
  tcp                       1
  all                       1
  seconds                40.0
  boot, guest s           2.5
  result                   ok

12 seen · +2 not seen, and portwatch says so · -1 not tried here · !1 FAILED
6.1 fexit: failed: udp::c
6.1 no-btf: the guest died
"
        );
    }
}
