//! Memory over time as a small SVG picture that needs nothing but a viewer. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use crate::sample::Sample;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 28.0;

/// Line: `RssAnon` every few seconds. Dots: the same in silence. Grey: while the tables filled.
pub(crate) fn chart(samples: &[Sample], idle: &[Sample], filled: Duration) -> String {
    let last = samples
        .last()
        .map_or(1.0, |sample| sample.at.as_secs_f64().max(1.0));
    let most = samples.iter().map(|sample| sample.anon).max().unwrap_or(1);
    // Whole steps of 4 MiB, so that two runs can be laid side by side.
    let top = ((mib(most) / 4.0).floor() + 1.0) * 4.0;
    let x = |time: f64| LEFT + time / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#eee\"/>\n\
         <text x=\"{LEFT}\" y=\"14\">RssAnon of the daemon, MiB (dots: idle; grey: tables filling)</text>\n",
        x(filled.as_secs_f64()) - LEFT,
        HEIGHT - TOP - BOTTOM,
    );
    for step in 0..=4 {
        let value = top / 4.0 * f64::from(step);
        let at = y(value);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ccc\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for step in 0..=6 {
        let time = last / 6.0 * f64::from(step);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.1} min</text>",
            x(time).clamp(LEFT, WIDTH - 24.0),
            HEIGHT - 8.0,
            time / 60.0
        );
    }
    let mut line = String::new();
    for sample in samples {
        let (x, y) = (x(sample.at.as_secs_f64()), y(mib(sample.anon)));
        let _ = write!(line, "{x:.1},{y:.1} ");
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#36c\" stroke-width=\"1.2\"/>",
        line.trim_end()
    );
    for sample in idle {
        let (x, y) = (x(sample.at.as_secs_f64()), y(mib(sample.anon)));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\" fill=\"#c30\"/>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_in_the_picture() {
        let sample = |at| Sample {
            at: Duration::from_secs(at),
            anon: 5000,
            ..Sample::default()
        };
        let samples: Vec<Sample> = (0..10).map(sample).collect();
        let svg = chart(&samples, &samples[5..], Duration::from_secs(3));
        assert_eq!(svg.matches("<circle").count(), 5);
        let points = svg
            .split("points=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        assert_eq!(points.map(|points| points.split(' ').count()), Some(10));
        assert!(chart(&[], &[], Duration::ZERO).ends_with("</svg>\n"));
    }
}
