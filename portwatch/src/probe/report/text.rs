//! The doctor's report as a person reads it.

use std::fmt::Write as _;

use super::{DoctorReport, FeatureState, SignalReport, Verdict};
use crate::event::Mechanism;

const WIDTH: usize = 100;

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// The whole report, ending with a newline.
pub(super) fn render(report: &DoctorReport, colour: bool) -> String {
    let mut page = Page {
        out: String::new(),
        colour,
    };
    page.verdict(report);
    page.features(report);
    page.capabilities(report);
    page.signals(report);
    page.grouped(
        "Passed over",
        report.signals.iter().flat_map(|signal| {
            signal.rejected.iter().map(|rejected| {
                let head = format!("{}: {}", rejected.mechanism.as_str(), rejected.reason);
                (head, signal.signal.as_str())
            })
        }),
    );
    page.grouped(
        "What you can do",
        report.signals.iter().filter_map(|signal| {
            let remedy = signal.remedy.clone()?;
            Some((remedy, signal.signal.as_str()))
        }),
    );
    page.grouped(
        "Not known on this kernel",
        report
            .missing_fields
            .iter()
            .map(|missing| (missing.costs.clone(), missing.field.as_str())),
    );
    page.out
}

struct Page {
    out: String,
    colour: bool,
}

impl Page {
    fn verdict(&mut self, report: &DoctorReport) {
        let (word, colour) = match report.verdict {
            Verdict::Complete => ("complete", GREEN),
            Verdict::Degraded => ("degraded", YELLOW),
            Verdict::Blind => ("blind", RED),
        };
        let word = self.painted(word, colour);
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.out, "Kernel   {}", report.kernel);
        let _ = writeln!(self.out, "Verdict  {word}: {}", report.summary);
    }

    fn features(&mut self, report: &DoctorReport) {
        self.heading("Features");
        let name_width = widest(report.features.iter().map(|one| one.name.as_str()));
        for feature in &report.features {
            let (word, colour) = match feature.state {
                FeatureState::Yes => ("yes", GREEN),
                FeatureState::No => ("no", RED),
                FeatureState::Unknown => ("unknown", YELLOW),
            };
            let detail = feature.detail.as_deref().unwrap_or_default();
            self.row((&feature.name, name_width), (word, 7, colour), detail);
        }
    }

    fn capabilities(&mut self, report: &DoctorReport) {
        if report.missing_capabilities.is_empty() {
            return;
        }
        self.heading("Missing capabilities");
        let missing = &report.missing_capabilities;
        let name_width = widest(missing.iter().map(|one| one.name.as_str()));
        for capability in missing {
            let (word, colour) = match capability.required {
                true => ("required", RED),
                false => ("optional", YELLOW),
            };
            self.row(
                (&capability.name, name_width),
                (word, 8, colour),
                &capability.loses,
            );
        }
    }

    fn signals(&mut self, report: &DoctorReport) {
        self.heading("Signals");
        let name_width = widest(report.signals.iter().map(|one| one.signal.as_str()));
        for signal in &report.signals {
            let blind = signal.blind_to.as_ref();
            let detail = blind.map_or_else(String::new, |blind| format!("blind to {blind}"));
            let mechanism = signal.mechanism.as_str();
            self.row(
                (&signal.signal, name_width),
                (mechanism, 10, health(signal)),
                &detail,
            );
        }
    }

    /// What several signals have in common is said once, with their names below.
    fn grouped<'a>(&mut self, heading: &str, pairs: impl Iterator<Item = (String, &'a str)>) {
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        for (head, name) in pairs {
            match groups.iter_mut().find(|(known, _)| *known == head) {
                Some((_, names)) => names.push(name),
                None => groups.push((head, vec![name])),
            }
        }
        if groups.is_empty() {
            return;
        }
        self.heading(heading);
        for (head, names) in groups {
            self.wrapped("  ", 4, &head);
            self.wrapped("    ", 4, &names.join(", "));
        }
    }

    fn heading(&mut self, text: &str) {
        let text = self.painted(text, BOLD);
        let _ = writeln!(self.out, "\n{text}");
    }

    /// Name, coloured word, and the rest, each in its column.
    fn row(&mut self, name: (&str, usize), word: (&str, usize, &str), detail: &str) {
        let (name, name_width) = name;
        let (word, word_width, colour) = word;
        let indent = 2 + name_width + 2 + word_width + 2;
        let painted = self.painted(word, colour);
        let mut lead = format!("  {name:name_width$}  {painted}");
        if !detail.is_empty() {
            let padding = (word_width + 2).saturating_sub(word.chars().count());
            lead.extend(std::iter::repeat_n(' ', padding));
        }
        self.wrapped(&lead, indent, detail);
    }

    /// `lead`, then the words of `text`; lines that continue begin at column `indent`.
    fn wrapped(&mut self, lead: &str, indent: usize, text: &str) {
        self.out.push_str(lead);
        let mut column = visible(lead);
        let mut first = true;
        for word in text.split(' ') {
            let len = word.chars().count();
            if !first && column + 1 + len > WIDTH {
                self.out.push('\n');
                self.out.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            } else if !first {
                self.out.push(' ');
                column += 1;
            }
            self.out.push_str(word);
            column += len;
            first = false;
        }
        self.out.push('\n');
    }

    fn painted(&self, text: &str, colour: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn health(signal: &SignalReport) -> &'static str {
    match (signal.degraded, signal.mechanism) {
        (false, _) => GREEN,
        (true, Mechanism::Reconcile) => RED,
        (true, _) => YELLOW,
    }
}

fn widest<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0)
}

/// Columns that a text takes, colours not counted.
fn visible(text: &str) -> usize {
    let mut columns = 0;
    let mut in_colour = false;
    for c in text.chars() {
        match (in_colour, c) {
            (false, '\x1b') => in_colour = true,
            (false, _) => columns += 1,
            (true, 'm') => in_colour = false,
            (true, _) => {}
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::super::{
        CapabilityReport, DoctorReport, FeatureReport, FeatureState, RejectedReport, SCHEMA,
        SignalReport, Verdict,
    };
    use crate::event::Mechanism;

    fn signal(name: &str, rejected: &str) -> SignalReport {
        SignalReport {
            signal: name.to_owned(),
            mechanism: Mechanism::Tracepoint,
            degraded: true,
            rejected: vec![RejectedReport {
                mechanism: Mechanism::Fexit,
                reason: rejected.to_owned(),
            }],
            blind_to: Some("calls made through io_uring or by 32-bit programs".to_owned()),
            remedy: Some("boot another kernel".to_owned()),
        }
    }

    #[test]
    fn columns_groups_and_continued_lines() {
        let report = DoctorReport {
            schema: SCHEMA.to_owned(),
            kernel: "6.1.0".to_owned(),
            verdict: Verdict::Degraded,
            summary: "2 of 2 signals miss something or come late".to_owned(),
            features: vec![
                FeatureReport {
                    name: "tracefs".to_owned(),
                    state: FeatureState::Yes,
                    detail: Some("/sys/kernel/tracing".to_owned()),
                },
                FeatureReport {
                    name: "kernel types (BTF)".to_owned(),
                    state: FeatureState::Unknown,
                    detail: Some("word ".repeat(16).trim_end().to_owned()),
                },
            ],
            missing_capabilities: vec![CapabilityReport {
                name: "CAP_SYS_PTRACE".to_owned(),
                required: false,
                loses: "less is known".to_owned(),
            }],
            signals: vec![
                signal("udp.bind", "refused"),
                signal("unix.listen", "refused"),
            ],
            missing_fields: Vec::new(),
        };
        let expected = "\
Kernel   6.1.0
Verdict  degraded: 2 of 2 signals miss something or come late

Features
  tracefs             yes      /sys/kernel/tracing
  kernel types (BTF)  unknown  word word word word word word word word word word word word word word
                               word word

Missing capabilities
  CAP_SYS_PTRACE  optional  less is known

Signals
  udp.bind     tracepoint  blind to calls made through io_uring or by 32-bit programs
  unix.listen  tracepoint  blind to calls made through io_uring or by 32-bit programs

Passed over
  fexit: refused
    udp.bind, unix.listen

What you can do
  boot another kernel
    udp.bind, unix.listen
";
        assert_eq!(report.to_text(false), expected);
    }
}
