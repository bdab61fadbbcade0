//! The tables of `docs/performance.md`, between two markers; what people wrote around them stays.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::estimate::Estimate;
use super::table::{Budget, Results, Row, Section};

const BEGIN: &str = "<!-- measured: written by `cargo xtask bench` -->";
const END: &str = "<!-- end of what was measured -->";

/// The document with its tables replaced.
pub(crate) fn replace(document: &str, results: &Results) -> Result<String> {
    let missing = || format!("docs/performance.md needs the lines `{BEGIN}` and `{END}`");
    let (before, rest) = document.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    let mut text = format!("{before}{BEGIN}\n\n");
    let _ = writeln!(text, "Measured on {}.", results.machine.sentence());
    for section in &results.sections {
        text.push('\n');
        text.push_str(&table(section));
    }
    Ok(format!("{text}\n{END}{after}"))
}

/// A section as a heading, a sentence and a table.
pub(crate) fn table(section: &Section) -> String {
    let run = &section.run;
    let mut text = format!("### `{}`: {}\n\n", section.name, section.title);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "portwatch {}, TCP listeners told by {}; rounds: {}, load average {:.2} and {} other BPF \
         programs at the beginning.\n",
        run.version, run.mechanism, run.rounds, run.load, run.foreign_programs
    );
    text.push_str("| what | median | interval | samples | budget | |\n|---|--:|--:|--:|--:|---|\n");
    for row in &section.rows {
        text.push_str(&line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let unit = &row.unit;
    let budget = match row.budget {
        None => String::new(),
        Some(Budget::AtMost(limit)) => format!("≤ {} {unit}", number(limit)),
        Some(Budget::AtLeast(limit)) => format!("≥ {} {unit}", number(limit)),
    };
    let verdict = row.verdict().map_or("", super::table::Verdict::words);
    match (&row.estimate, &row.not_measured) {
        (Some(estimate), _) => format!(
            "| {} | {} {unit} | {} | {} | {budget} | {verdict} |\n",
            row.what,
            number(estimate.median),
            interval(estimate),
            estimate.samples,
        ),
        (None, why) => {
            let why = why.as_deref().unwrap_or("no reason is known");
            // A reason may hold what other programs said.
            let why = why.replace('|', "\\|").replace('\n', " ");
            format!("| {} | | not measured: {why} | | {budget} | |\n", row.what)
        }
    }
}

/// Ends of the interval, and its confidence where it is less than asked for.
fn interval(estimate: &Estimate) -> String {
    if estimate.samples < 2 {
        return "one sample".to_owned();
    }
    let ends = format!("{} … {}", number(estimate.low), number(estimate.high));
    if estimate.confidence < 0.95 {
        return format!("{ends} ({:.0} %)", estimate.confidence * 100.0);
    }
    ends
}

/// Three digits or all before the point, with thin groups from ten thousand on.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        small if small >= 99.95 || small == 0.0 => 0,
        small if small >= 9.995 => 1,
        _ => 2,
    };
    // No digits that say nothing: 100 % of something is exact, 99.996 % must not look like it.
    let digits = if (99.0..100.0).contains(&value) {
        3
    } else {
        digits
    };
    let text = format!("{value:.digits$}");
    if value.abs() < 9_999.5 {
        return text;
    }
    let (sign, plain) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |rest| ("-", rest));
    let groups = plain.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    format!("{sign}{}", groups.join("\u{202f}"))
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{machine, section};
    use super::super::table::{Results, SCHEMA};
    use super::*;

    #[test]
    fn what_people_wrote_stays() {
        let results = Results {
            schema: SCHEMA.to_owned(),
            machine: machine("Some CPU"),
            sections: vec![section("size", vec![Row::new("x", "MB", &[1.0])])],
        };
        let document = format!("# Speed\n\nWhy.\n\n{BEGIN}\nstale numbers\n{END}\n\nMore.\n");
        let once = replace(&document, &results).expect("markers");
        assert!(once.starts_with("# Speed\n\nWhy.\n"), "{once}");
        assert!(once.ends_with(&format!("{END}\n\nMore.\n")), "{once}");
        assert!(
            once.contains("Some CPU") && !once.contains("stale"),
            "{once}"
        );
        assert_eq!(replace(&once, &results).expect("markers"), once);
        assert!(replace("# Speed\n", &results).is_err());
    }

    #[test]
    fn a_line_says_how_it_fares_or_why_it_is_missing() {
        let good = Row::new("`x`", "ms", &[1.0, 2.0, 3.0]).within(Budget::AtMost(4.0));
        assert_eq!(
            line(&good),
            "| `x` | 2.00 ms | 1.00 … 3.00 (75 %) | 3 | ≤ 4.00 ms | met |\n"
        );
        let missing = Row::missing("y", "%", "a | b\nc").within(Budget::AtLeast(100.0));
        assert_eq!(
            line(&missing),
            "| y | | not measured: a \\| b c | | ≥ 100 % | |\n"
        );
    }

    #[test]
    fn numbers_are_short_but_never_round_up_to_perfection() {
        for (value, expected) in [
            (0.0, "0"),
            (0.034, "0.03"),
            (9.999, "10.0"),
            (12.345, "12.3"),
            (99.97, "99.970"),
            (100.0, "100"),
            (1234.6, "1235"),
            (-0.5, "-0.50"),
        ] {
            assert_eq!(number(value), expected);
        }
        assert_eq!(number(1_234_567.0), "1\u{202f}234\u{202f}567");
        assert_eq!(number(-12_345.0), "-12\u{202f}345");
    }
}
