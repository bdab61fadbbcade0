//! The two text formats that Prometheus reads, as they are written. Pure.
//!
//! Our own and no crate's: the figures come out of one [`super::Status`], so a registry of live counters would be a second
//! truth, and the format is a few rules. OpenMetrics differs in three: names of counters, fractions in `le`, and its end.

use std::fmt::Write as _;

use crate::text::escape;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, 0.0.4.
    Text,
    /// OpenMetrics text, 1.0.0.
    OpenMetrics,
}

impl Format {
    /// For `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What kind of figures a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows; its samples end in `_total`.
    Counter,
    /// May fall.
    Gauge,
    /// Cumulative buckets.
    Histogram,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Labels of a sample: names of our own, and values of whatever origin.
pub(super) type Labels<'a> = [(&'static str, &'a str)];

/// A page while it is written. Writing to a `String` cannot fail, so that results of `write!` are dropped.
pub(super) struct Page {
    text: String,
    format: Format,
}

impl Page {
    pub(super) const fn new(format: Format) -> Self {
        Self {
            text: String::new(),
            format,
        }
    }

    /// Begins a family; `name` of a counter without its `_total`.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let suffix = match (kind, self.format) {
            (Kind::Counter, Format::Text) => "_total",
            _ => "",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let word = kind.word();
        let _ = write!(
            self.text,
            "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {word}\n"
        );
        Family {
            page: self,
            name,
            suffix: if kind == Kind::Counter { "_total" } else { "" },
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// A family whose samples follow each other, as both formats want it.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
    suffix: &'static str,
}

impl Family<'_> {
    /// A whole number.
    pub(super) fn number(&mut self, labels: &Labels<'_>, value: u64) {
        self.sample(self.suffix, labels, &value.to_string());
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, labels: &Labels<'_>, value: bool) {
        self.number(labels, u64::from(value));
    }

    /// Nanoseconds, told in seconds.
    pub(super) fn nanoseconds(&mut self, labels: &Labels<'_>, value: u64) {
        self.sample(self.suffix, labels, &seconds(value));
    }

    /// Cumulative buckets, each up to so many microseconds; how many in all, and the sum in microseconds.
    pub(super) fn histogram(
        &mut self,
        buckets: impl Iterator<Item = (u64, u64)>,
        count: u64,
        sum_us: u64,
    ) {
        for (le_us, below) in buckets {
            let mut le = seconds(le_us.saturating_mul(1_000));
            if !le.contains('.') {
                le.push_str(".0");
            }
            self.sample("_bucket", &[("le", &le)], &below.to_string());
        }
        self.sample("_bucket", &[("le", "+Inf")], &count.to_string());
        self.sample("_sum", &[], &seconds(sum_us.saturating_mul(1_000)));
        self.sample("_count", &[], &count.to_string());
    }

    fn sample(&mut self, suffix: &str, labels: &Labels<'_>, value: &str) {
        let text = &mut self.page.text;
        text.push_str(self.name);
        text.push_str(suffix);
        for (nth, (name, value)) in labels.iter().enumerate() {
            let open = if nth == 0 { '{' } else { ',' };
            let _ = write!(text, "{open}{name}=\"{}\"", quoted(value));
        }
        text.push_str(if labels.is_empty() { " " } else { "} " });
        text.push_str(value);
        text.push('\n');
    }
}

/// A value of a label: first plain text, as everywhere, then as the formats want it.
fn quoted(value: &str) -> String {
    escape(value.as_bytes())
        .replace('\\', r"\\")
        .replace('"', "\\\"")
}

/// Exact, in decimal, without an exponent.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    let text = text.trim_end_matches('0');
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sample as a reader of the format sees it: name, labels, value.
    pub(in crate::interface::metrics) type Sample = (String, Vec<(String, String)>, f64);

    /// Reads a page, strictly.
    pub(in crate::interface::metrics) fn parse(page: &str) -> Vec<Sample> {
        assert!(page.ends_with('\n'));
        let lines = page.lines().filter(|line| !line.starts_with("# "));
        lines.map(sample).collect()
    }

    fn sample(line: &str) -> Sample {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = line.find(|c| !is_name(c)).expect("a value");
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        while let Some(label) = rest.strip_prefix(['{', ',']) {
            let (key, value) = label.split_once("=\"").expect("a label");
            assert!(key.chars().all(is_name), "{line}");
            let (value, after) = unquoted(value);
            labels.push((key.to_owned(), value));
            rest = after.strip_prefix('}').unwrap_or(after);
        }
        let value = rest.strip_prefix(' ').expect("a space");
        (name.to_owned(), labels, value.parse().expect("a number"))
    }

    fn unquoted(text: &str) -> (String, &str) {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return (value, &text[at + 1..]),
                '\\' => match chars.next().expect("an escape").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    other => panic!("no escape: {other}"),
                },
                c => value.push(c),
            }
        }
        panic!("no end of a label");
    }

    #[test]
    fn the_formats_differ_in_little() {
        let page = |format| {
            let mut page = Page::new(format);
            let mut family = page.family("a_things", Kind::Counter, "Things.\nOf \\ all kinds.");
            family.number(&[("kind", "x"), ("place", "y")], 7);
            let mut family = page.family("a_seconds", Kind::Histogram, "How long.");
            family.histogram([(50, 1), (1_000_000, 3)].into_iter(), 4, 2_500_000);
            page.family("a_state", Kind::Gauge, "State.")
                .flag(&[], true);
            page.finish()
        };
        let text = page(Format::Text);
        assert_eq!(
            text,
            "# HELP a_things_total Things.\\nOf \\\\ all kinds.\n# TYPE a_things_total counter\n\
             a_things_total{kind=\"x\",place=\"y\"} 7\n\
             # HELP a_seconds How long.\n# TYPE a_seconds histogram\n\
             a_seconds_bucket{le=\"0.00005\"} 1\na_seconds_bucket{le=\"1.0\"} 3\n\
             a_seconds_bucket{le=\"+Inf\"} 4\na_seconds_sum 2.5\na_seconds_count 4\n\
             # HELP a_state State.\n# TYPE a_state gauge\na_state 1\n"
        );
        let open = page(Format::OpenMetrics);
        let expected = text
            .replace("HELP a_things_total", "HELP a_things")
            .replace("TYPE a_things_total", "TYPE a_things");
        assert_eq!(open, expected + "# EOF\n");
    }

    #[test]
    fn seconds_are_exact() {
        for (ns, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (84_000, "0.000084"),
            (1_000_000_000, "1"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(seconds(ns), text);
        }
    }

    proptest! {
        /// Whatever a name is, the page stays a page, and says the name as our events do.
        #[test]
        fn no_label_breaks_a_page(values in proptest::collection::vec(any::<String>(), 1..4), number: u64) {
            for format in [Format::Text, Format::OpenMetrics] {
                let mut page = Page::new(format);
                let mut family = page.family("a_things", Kind::Counter, "Things.");
                for value in &values {
                    family.number(&[("first", value), ("second", "fixed")], number);
                }
                let page = page.finish();
                let samples = parse(&page);
                prop_assert_eq!(samples.len(), values.len());
                for ((name, labels, _), value) in samples.iter().zip(&values) {
                    prop_assert_eq!(name, "a_things_total");
                    prop_assert_eq!(&labels[0], &("first".to_owned(), escape(value.as_bytes())));
                    prop_assert_eq!(&labels[1], &("second".to_owned(), "fixed".to_owned()));
                }
                prop_assert!(!page.lines().any(|line| line.contains(char::is_control)));
            }
        }
    }
}
