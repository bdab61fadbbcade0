//! What a run yields: rows with an estimate or the reason why there is none, and how they fare against
//! their budgets. This is also the form of `docs/performance.json`.

use serde::{Deserialize, Serialize};

use super::estimate::Estimate;
use super::machine::Machine;

/// The name of this form.
pub(crate) const SCHEMA: &str = "portwatch.bench/1";

/// Everything measured on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Always [`SCHEMA`].
    pub(crate) schema: String,
    /// Where it was measured.
    pub(crate) machine: Machine,
    /// In the order of the list of benchmarks.
    pub(crate) sections: Vec<Section>,
}

/// What one benchmark found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    /// The benchmark's name, as `--only` takes it.
    pub(crate) name: String,
    /// What it is about.
    pub(crate) title: String,
    /// Circumstances of this run.
    pub(crate) run: Run,
    /// The numbers.
    pub(crate) rows: Vec<Row>,
}

/// The circumstances under which a section was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Version of the program.
    pub(crate) version: String,
    /// Rounds asked for; a benchmark that is slow makes fewer, as each row's samples say.
    pub(crate) rounds: usize,
    /// Load average of the last minute when it began.
    pub(crate) load: f64,
    /// BPF programs that were loaded already: they cost too, also where nothing of ours runs.
    pub(crate) foreign_programs: usize,
    /// Mechanism that tells of TCP listeners here.
    pub(crate) mechanism: String,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was measured, in Markdown.
    pub(crate) what: String,
    /// The unit of all numbers of the row.
    pub(crate) unit: String,
    /// The number, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) estimate: Option<Estimate>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) not_measured: Option<String>,
    /// What it may be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) budget: Option<Budget>,
}

/// A bound that a number is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Budget {
    /// The number may not be larger.
    AtMost(f64),
    /// The number may not be smaller.
    AtLeast(f64),
}

/// Whether a budget is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The median and its whole interval keep it.
    Met,
    /// The median keeps it, a part of the interval does not.
    PerhapsMet,
    /// The median does not keep it, a part of the interval does.
    PerhapsNot,
    /// Neither the median nor any part of its interval keeps it.
    NotMet,
}

impl Row {
    /// A number from samples, each of them independent of the others.
    pub(crate) fn new(what: impl Into<String>, unit: &str, samples: &[f64]) -> Self {
        let estimate = Estimate::of(samples);
        let not_measured = estimate
            .is_none()
            .then(|| "no round gave a number".to_owned());
        Self {
            what: what.into(),
            unit: unit.to_owned(),
            estimate,
            not_measured,
            budget: None,
        }
    }

    /// A number that could not be had.
    pub(crate) fn missing(what: impl Into<String>, unit: &str, why: impl Into<String>) -> Self {
        Self {
            not_measured: Some(why.into()),
            ..Self::new(what, unit, &[])
        }
    }

    /// With a bound.
    pub(crate) fn within(self, budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// How it fares; `None` without a number or a bound.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let estimate = self.estimate?;
        let budget = self.budget?;
        let ends = budget.keeps(estimate.low) && budget.keeps(estimate.high);
        let either = budget.keeps(estimate.low) || budget.keeps(estimate.high);
        Some(match (budget.keeps(estimate.median), ends, either) {
            (true, true, _) => Verdict::Met,
            (true, false, _) => Verdict::PerhapsMet,
            (false, _, true) => Verdict::PerhapsNot,
            (false, _, false) => Verdict::NotMet,
        })
    }
}

impl Budget {
    /// Is this value within?
    pub(crate) fn keeps(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    /// The bound itself.
    pub(crate) const fn limit(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => limit,
        }
    }
}

impl Verdict {
    /// In words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::PerhapsMet => "undecided (median within)",
            Self::PerhapsNot => "undecided (median beyond)",
            Self::NotMet => "not met",
        }
    }
}

impl Results {
    /// Takes over the sections of a newer run; those that it did not measure again stay, as long as they
    /// are of the same machine.
    pub(crate) fn updated(old: Option<Self>, new: Self, order: &[&str]) -> Self {
        let kept = old.filter(|old| old.machine == new.machine && old.schema == new.schema);
        let mut sections = new.sections;
        for section in kept.map(|old| old.sections).unwrap_or_default() {
            if sections.iter().all(|newer| newer.name != section.name) {
                sections.push(section);
            }
        }
        sections.retain(|section| order.contains(&section.name.as_str()));
        sections.sort_by_key(|section| order.iter().position(|name| *name == section.name));
        Self { sections, ..new }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn machine(cpu: &str) -> Machine {
        Machine {
            cpu: cpu.to_owned(),
            processors: 2,
            memory_mib: 1024,
            virtual_machine: true,
            kernel: "6.1.0".to_owned(),
            distribution: "Debian".to_owned(),
        }
    }

    pub(crate) fn section(name: &str, rows: Vec<Row>) -> Section {
        Section {
            name: name.to_owned(),
            title: format!("About {name}"),
            run: Run {
                version: "0.1.0".to_owned(),
                rounds: rows.len(),
                load: 0.25,
                foreign_programs: 0,
                mechanism: "fexit".to_owned(),
            },
            rows,
        }
    }

    fn results(cpu: &str, sections: Vec<Section>) -> Results {
        Results {
            schema: SCHEMA.to_owned(),
            machine: machine(cpu),
            sections,
        }
    }

    #[test]
    fn the_interval_decides_how_sure_the_verdict_is() {
        let row = |samples: &[f64], budget| Row::new("x", "ms", samples).within(budget).verdict();
        let samples = [1.0, 2.0, 3.0];
        assert_eq!(row(&samples, Budget::AtMost(3.0)), Some(Verdict::Met));
        assert_eq!(
            row(&samples, Budget::AtMost(2.5)),
            Some(Verdict::PerhapsMet)
        );
        assert_eq!(
            row(&samples, Budget::AtMost(1.5)),
            Some(Verdict::PerhapsNot)
        );
        assert_eq!(row(&samples, Budget::AtMost(0.5)), Some(Verdict::NotMet));
        assert_eq!(row(&samples, Budget::AtLeast(1.0)), Some(Verdict::Met));
        assert_eq!(row(&samples, Budget::AtLeast(4.0)), Some(Verdict::NotMet));
        assert_eq!(row(&[], Budget::AtMost(1.0)), None);
        assert_eq!(Row::new("x", "ms", &samples).verdict(), None);
    }

    #[test]
    fn a_row_has_a_number_or_a_reason() {
        assert!(Row::new("x", "ms", &[]).not_measured.is_some());
        assert!(Row::new("x", "ms", &[1.0]).not_measured.is_none());
        let missing = Row::missing("x", "ms", "no wrk");
        assert_eq!(missing.not_measured.as_deref(), Some("no wrk"));
        assert_eq!(missing.estimate, None);
    }

    #[test]
    fn a_partial_run_keeps_the_rest_of_the_same_machine() {
        let order = ["a", "b", "c"];
        let old = results("one", vec![section("a", vec![]), section("c", vec![])]);
        let measured = vec![Row::new("x", "ms", &[1.0])];
        let new = || {
            results(
                "one",
                vec![section("c", measured.clone()), section("b", vec![])],
            )
        };
        let both = Results::updated(Some(old.clone()), new(), &order);
        let names: Vec<_> = both.sections.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, order);
        assert_eq!(both.sections[2].rows.len(), 1, "the newer one");
        let elsewhere = results("two", vec![section("b", vec![])]);
        assert_eq!(
            Results::updated(Some(old), elsewhere, &order)
                .sections
                .len(),
            1
        );
        assert_eq!(Results::updated(None, new(), &["b"]).sections.len(), 1);
    }

    #[test]
    fn the_form_survives_a_round_trip() {
        let rows = vec![
            Row::new("x", "ms", &[1.0, 2.0]).within(Budget::AtMost(3.0)),
            Row::missing("y", "%", "because"),
        ];
        let results = results("one", vec![section("a", rows)]);
        let text = serde_json::to_string(&results).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Results>(&text).expect("same"),
            results
        );
    }
}
