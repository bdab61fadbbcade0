//! `docs/performance.svg`: bars with whiskers and budgets, readable on light and dark ground.

use std::fmt::Write as _;

use super::markdown::number;
use super::table::{Results, Row};

const WIDTH: f64 = 860.0;
/// Where the bars begin, and where they end at the latest.
const LEFT: f64 = 430.0;
const RIGHT: f64 = 770.0;
const LINE: f64 = 26.0;
const BAR: f64 = 14.0;
const HEAD: f64 = 40.0;
const GAP: f64 = 20.0;

/// Colours of ground and ink come from the reader; bars are legible on both.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.head{font-weight:600}.small{font-size:11px;fill:#59636e}\
.ours{fill:#0a7ea4}.theirs{fill:#9aa4ae}.whisker{stroke:#1f2328;stroke-width:1.5}\
.axis{stroke:#59636e;stroke-width:1}.budget{stroke:#c4320a;stroke-width:2;stroke-dasharray:4 2}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.ours{fill:#39b6dc}\
.theirs{fill:#6b7580}.whisker{stroke:#e6edf3}.axis{stroke:#9198a1}.budget{stroke:#ff8a5c}}";

/// Sections that are drawn, each with the unit of its bars.
const PANELS: [(&str, &str, &str); 2] = [
    (
        "rate",
        "%",
        "Cost of watching: connections per second lost, %",
    ),
    (
        "transition",
        "ns",
        "Time in the kernel for one state change, ns",
    ),
];

/// The picture; `None` when nothing was measured that it shows.
pub(crate) fn draw(results: &Results) -> Option<String> {
    let mut body = String::new();
    let mut top = GAP;
    for (name, unit, title) in PANELS {
        let section = results.sections.iter().find(|section| section.name == name);
        let rows: Vec<&Row> = section
            .map(|section| section.rows.iter())
            .into_iter()
            .flatten()
            .filter(|row| row.unit == unit && row.estimate.is_some() && !row.what.contains("lost"))
            .collect();
        if !rows.is_empty() {
            top = panel(&mut body, title, &rows, top);
        }
    }
    (!body.is_empty()).then(|| {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" \
             width=\"{WIDTH}\" height=\"{top}\" role=\"img\">\n\
             <title>What watching costs, with budgets</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
        )
    })
}

/// One panel; gives where the next may begin.
fn panel(body: &mut String, title: &str, rows: &[&Row], top: f64) -> f64 {
    let ends = rows.iter().flat_map(|row| {
        let estimate = row.estimate.map(|one| [one.low, one.high]);
        let budget = row.budget.map(super::table::Budget::limit);
        estimate.into_iter().flatten().chain(budget)
    });
    let (low, high) = ends.fold((0.0_f64, 0.0_f64), |(low, high), end| {
        (low.min(end), high.max(end))
    });
    let span = if high > low { high - low } else { 1.0 };
    let x = |value: f64| LEFT + (value - low) / span * (RIGHT - LEFT);
    // Writing to a string cannot fail.
    let _ = writeln!(
        body,
        "<text class=\"head\" x=\"12\" y=\"{:.1}\">{}</text>",
        top + 16.0,
        escape(title)
    );
    let bottom = top + HEAD + rows.len() as f64 * LINE;
    let _ = writeln!(
        body,
        "<line class=\"axis\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{bottom:.1}\"/>",
        x(0.0),
        top + HEAD - 6.0
    );
    for (index, row) in rows.iter().enumerate() {
        bar(body, row, top + HEAD + index as f64 * LINE, &x);
    }
    let _ = writeln!(
        body,
        "<text class=\"small\" x=\"12\" y=\"{:.1}\">bar: median; whisker: interval of the median; \
         dashed: budget</text>",
        bottom + 14.0
    );
    bottom + 14.0 + GAP
}

fn bar(body: &mut String, row: &Row, top: f64, x: &impl Fn(f64) -> f64) {
    let Some(estimate) = row.estimate else {
        return;
    };
    let middle = top + BAR / 2.0;
    let class = if row.what.contains("portwatch") {
        "ours"
    } else {
        "theirs"
    };
    let (from, to) = (x(estimate.median.min(0.0)), x(estimate.median.max(0.0)));
    let what = row.what.strip_prefix("cost of ").unwrap_or(&row.what);
    let what = what.replace('`', "");
    let (what, width, base) = (escape(&what), to - from, middle + 4.5);
    let (low, high, tip) = (x(estimate.low), x(estimate.high), middle - 3.0);
    let _ = write!(
        body,
        "<text x=\"12\" y=\"{base:.1}\">{what}</text>\
         <rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\" \
         rx=\"2\"/>\
         <path class=\"whisker\" fill=\"none\" d=\"M{low:.1} {middle:.1}H{high:.1}\
         M{low:.1} {tip:.1}v6M{high:.1} {tip:.1}v6\"/>",
    );
    if let Some(budget) = row.budget {
        let _ = write!(
            body,
            "<line class=\"budget\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\"/>",
            x(budget.limit()),
            top - 4.0,
            top + BAR + 4.0
        );
    }
    let _ = writeln!(
        body,
        "<text x=\"{:.1}\" y=\"{base:.1}\">{}</text>",
        RIGHT + 14.0,
        escape(&number(estimate.median))
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{machine, section};
    use super::super::table::{Budget, Results, SCHEMA};
    use super::*;

    fn results(rows: Vec<Row>) -> Results {
        Results {
            schema: SCHEMA.to_owned(),
            machine: machine("Some CPU"),
            sections: vec![section("rate", rows)],
        }
    }

    #[test]
    fn every_row_has_a_bar_and_every_budget_a_line() {
        let text = draw(&results(vec![
            Row::new("nothing watches", "connections/s", &[20_000.0]),
            Row::new("cost of `portwatch run`", "%", &[1.0, 2.0]).within(Budget::AtMost(3.0)),
            Row::new("cost of a & b > c", "%", &[-1.0, 40.0]),
            Row::missing("cost of d", "%", "no d"),
        ]))
        .expect("a picture");
        assert_eq!(text.matches("<rect").count(), 2, "{text}");
        assert_eq!(text.matches("class=\"budget\"").count(), 1);
        assert!(text.contains("a &amp; b &gt; c") && text.contains("prefers-color-scheme"));
        // Every element that opens closes: what is left after all pairs is balanced.
        for tag in ["svg", "title", "style", "text"] {
            let open = text.matches(&format!("<{tag}")).count();
            assert_eq!(open, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn all_that_is_drawn_lies_within_the_picture() {
        let rows = vec![Row::new("x", "%", &[-5.0, 80.0]).within(Budget::AtMost(200.0))];
        let text = draw(&results(rows)).expect("a picture");
        for place in text.split("x1=\"").skip(1) {
            let end = place.find('"').expect("closed");
            let x: f64 = place[..end].parse().expect("a number");
            assert!((LEFT..=RIGHT).contains(&x), "{x}");
        }
        assert_eq!(draw(&results(vec![])), None);
    }
}
