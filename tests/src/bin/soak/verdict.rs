//! The verdict: what was told against what happened, and what grew. Pure.

use crate::flatness::Trend;
use crate::judge::{Fault, Judgement};
use crate::run::Outcome;
use crate::sample::Sample;
use crate::stream::Story;

/// Growth of the heap that still counts as flat, in percent.
pub(crate) const FLAT_PERCENT: f64 = 2.0;

/// A quantity in silence, minute by minute.
pub(crate) struct Quantity {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pick: fn(&Sample) -> f64,
    /// The most that it may grow, from the first third's median.
    allowed: fn(f64) -> f64,
}

/// What must not grow.
pub(crate) const QUANTITIES: [Quantity; 5] = [
    Quantity {
        name: "RssAnon",
        unit: "KiB",
        pick: |sample| number(sample.anon),
        allowed: |first| first * FLAT_PERCENT / 100.0,
    },
    Quantity {
        name: "RssFile without rings",
        unit: "KiB",
        pick: |sample| number(sample.file),
        allowed: |first| first * FLAT_PERCENT / 100.0,
    },
    Quantity {
        name: "ring pages",
        unit: "KiB",
        pick: |sample| number(sample.rings),
        allowed: |first| first * FLAT_PERCENT / 100.0,
    },
    Quantity {
        name: "descriptors",
        unit: "",
        pick: |sample| number(sample.descriptors),
        allowed: |_| 0.0,
    },
    Quantity {
        name: "threads",
        unit: "",
        pick: |sample| number(sample.threads),
        // Threads for blocking calls are kept for some seconds after their last one.
        allowed: |_| 1.0,
    },
];

/// What was found.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Everything that must not be, in words; empty when all is well.
    pub(crate) failures: Vec<String>,
    /// What gaps told of, in words.
    pub(crate) losses: Option<String>,
    /// How each of [`QUANTITIES`] went; `None` when the run was too short to say.
    pub(crate) trends: Vec<Option<Trend>>,
}

impl Verdict {
    pub(crate) fn new(
        judgement: &Judgement,
        story: &Story,
        outcome: &Outcome,
        crowded: bool,
    ) -> Self {
        let broken = outcome.broken.as_ref();
        let mut failures: Vec<String> = broken
            .map(|why| format!("the run broke off: {why}"))
            .into_iter()
            .collect();
        let mut counts = std::collections::BTreeMap::<Fault, u64>::new();
        for (fault, _) in &judgement.faults {
            *counts.entry(*fault).or_default() += 1;
        }
        let lost = counts.remove(&Fault::Lost).unwrap_or(0);
        let gaps = story.lines.get("gap").copied().unwrap_or(0);
        let losses = (gaps > 0).then(|| {
            format!("{gaps} gaps, in which {lost} openings or closings of the run were lost")
        });
        if !crowded {
            failures.extend(losses.clone());
        }
        failures.extend(
            counts
                .iter()
                .map(|(fault, count)| format!("{count} × {}", words(*fault))),
        );
        if !story.trouble.is_empty() {
            failures.push(format!("{} breaks of the stream", story.trouble.len()));
        }
        let wrong = outcome
            .audits
            .iter()
            .filter(|one| !one.disagreements.is_empty());
        let wrong = wrong.count();
        if wrong > 0 {
            failures.push(format!("{wrong} audits found disagreements"));
        }
        let trends: Vec<Option<Trend>> = QUANTITIES
            .iter()
            .map(|quantity| quantity.trend(&outcome.idle))
            .collect();
        for (quantity, trend) in QUANTITIES.iter().zip(&trends) {
            let Some(trend) = trend else { continue };
            if trend.last - trend.first > (quantity.allowed)(trend.first) {
                failures.push(format!(
                    "{} grew from {:.0} to {:.0} {}",
                    quantity.name, trend.first, trend.last, quantity.unit
                ));
            }
        }
        Self {
            failures,
            losses,
            trends,
        }
    }

    /// The first line of the report.
    pub(crate) fn headline(&self) -> String {
        let flat = match self.trends.first() {
            Some(Some(trend)) => {
                let percent = trend.percent().abs().max(0.01);
                format!("memory flat within {percent:.2} %")
            }
            _ => "too short to judge growth".to_owned(),
        };
        if self.failures.is_empty() {
            let losses = self
                .losses
                .as_deref()
                .map(|words| format!("; told losses: {words}"));
            let losses = losses.unwrap_or_default();
            return format!(
                "nothing missed in silence, doubled, misattributed or left over; {flat}{losses}"
            );
        }
        format!("FAILED: {}", self.failures.join("; "))
    }
}

impl Quantity {
    fn trend(&self, idle: &[Sample]) -> Option<Trend> {
        let points: Vec<(f64, f64)> = idle
            .iter()
            .map(|sample| (sample.at.as_secs_f64(), (self.pick)(sample)))
            .collect();
        Trend::of(&points)
    }
}

/// A fault in the plural.
pub(crate) const fn words(fault: Fault) -> &'static str {
    match fault {
        Fault::Missed => "missed",
        Fault::FoundLate => "found by looking, not seen opening",
        Fault::Doubled => "told twice",
        Fault::Misattributed => "told with another process, program or place",
        Fault::ClosingMissed => "end not told",
        Fault::Lost => "lost in a gap that was told",
        Fault::ClosedWhileOpen => "told to be closed while open",
        Fault::Unexpected => "told, never opened",
    }
}

/// Sizes and counts here are far below 2⁵³.
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::Audit;

    fn outcome(idle: Vec<Sample>) -> Outcome {
        Outcome {
            samples: Vec::new(),
            idle,
            audits: Vec::new(),
            filled: Duration::ZERO,
            remembered: 0,
            broken: None,
            status: serde_json::Value::Null,
            took: Duration::ZERO,
        }
    }

    fn idle(step: u64) -> Vec<Sample> {
        let sample = |at: u64| Sample {
            at: Duration::from_secs(at * 60),
            anon: 10_000 + at * step,
            threads: 4,
            descriptors: 50,
            ..Sample::default()
        };
        (0..12).map(sample).collect()
    }

    #[test]
    fn a_leak_fails_and_a_flat_run_passes() {
        let none = Judgement::default();
        let flat = Verdict::new(&none, &Story::default(), &outcome(idle(0)), false);
        assert_eq!(flat.failures, Vec::<String>::new());
        assert!(flat.headline().ends_with("memory flat within 0.01 %"));
        let leak = Verdict::new(&none, &Story::default(), &outcome(idle(100)), false);
        assert_eq!(leak.failures.len(), 1);
        assert!(leak.headline().starts_with("FAILED: RssAnon grew"));
    }

    #[test]
    fn one_descriptor_more_is_a_leak() {
        let mut samples = idle(0);
        for sample in &mut samples[6..] {
            sample.descriptors += 1;
        }
        let verdict = Verdict::new(
            &Judgement::default(),
            &Story::default(),
            &outcome(samples),
            false,
        );
        assert_eq!(verdict.failures, ["descriptors grew from 50 to 51 "]);
    }

    #[test]
    fn faults_gaps_and_disagreements_fail() {
        let judgement = Judgement {
            faults: vec![(Fault::Missed, String::new())],
            ..Judgement::default()
        };
        let audit = Audit {
            at: Duration::ZERO,
            open: 0,
            listed: 0,
            in_kernel: 0,
            took: Duration::ZERO,
            waited_for: None,
            disagreements: vec!["something".to_owned()],
        };
        let story = Story {
            lines: [("gap".to_owned(), 2)].into(),
            trouble: vec!["half a line".to_owned()],
            ..Story::default()
        };
        let outcome = Outcome {
            audits: vec![audit],
            broken: Some("no more ports".to_owned()),
            ..outcome(idle(0))
        };
        let verdict = |crowded| Verdict::new(&judgement, &story, &outcome, crowded);
        assert_eq!(verdict(false).failures.len(), 5);
        assert_eq!(verdict(true).failures.len(), 4);
        assert!(verdict(true).losses.is_some());
    }
}
