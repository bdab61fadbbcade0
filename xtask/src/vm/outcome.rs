//! What one cell showed, read from its transcript: good or not, and what to tell of it.

use serde_json::Value;

use super::cell::Cell;
use super::transcript::{CellRun, End};
use crate::results::{self, Counts};

/// How a scenario ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was seen.
    Passed,
    /// It is not seen, and portwatch says so.
    Admitted,
    /// It was not tried here.
    Untried,
    /// portwatch broke its promise.
    Failed,
}

/// One scenario of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// `group::name`.
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// Why it was not passed.
    pub(crate) why: String,
    pub(crate) ms: u64,
}

/// What one cell showed.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The kernel's release.
    pub(crate) kernel: String,
    pub(crate) cell: Cell,
    pub(crate) run: CellRun,
    /// The guest's uptime when its init was ready, in seconds.
    pub(crate) boot: Option<f32>,
    pub(crate) scenarios: Vec<Scenario>,
    /// Test results; `None` when the program reported none.
    pub(crate) counts: Option<Counts>,
}

impl Outcome {
    pub(crate) fn new(kernel: &str, cell: Cell, run: CellRun, boot: Option<f32>) -> Self {
        let scenarios: Vec<_> = run.findings.iter().filter_map(scenario).collect();
        let mut counts = None;
        for found in run.lines.iter().filter_map(|line| results::counts(line)) {
            *counts.get_or_insert_with(Counts::default) += found;
        }
        Self {
            kernel: kernel.to_owned(),
            cell,
            run,
            boot,
            scenarios,
            counts,
        }
    }

    /// Whether the program ran to its end, succeeded, and (if it tests) tested something.
    pub(crate) fn good(&self) -> bool {
        self.trouble().is_none()
    }

    /// The cell's name: a rung, or what was taken away.
    pub(crate) fn cell(&self) -> &str {
        &self.cell.name
    }

    /// What went wrong, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        let failed: Vec<&str> = match self.scenarios.is_empty() {
            true => {
                let lines = self.run.lines.iter();
                lines.filter_map(|line| results::failure(line)).collect()
            }
            false => {
                let bad = |one: &&Scenario| one.verdict == Verdict::Failed;
                let scenarios = self.scenarios.iter().filter(bad);
                scenarios.map(|one| one.name.as_str()).collect()
            }
        };
        let during = match self.run.unfinished().as_slice() {
            [] => String::new(),
            names => format!(", during {}", names.join(", ")),
        };
        match (&self.run.end, self.counts) {
            (Some(End::Exit(_)), Some(counts)) if counts.failed > 0 => {
                Some(format!("failed: {}", failed.join(", ")))
            }
            (Some(End::Exit(0)), Some(counts)) if counts.passed + counts.ignored == 0 => {
                Some("no test ran".to_owned())
            }
            (Some(End::Exit(0)), _) => None,
            (Some(End::Exit(code)), _) => {
                let stream = self.found("stream").next().and_then(Value::as_str);
                Some(stream.map_or_else(
                    || format!("the suite ended with status {code}"),
                    |why| format!("the stream as a whole: {why}"),
                ))
            }
            (Some(End::Error(error)), _) => Some(error.clone()),
            (Some(End::Died) | None, _) => Some(format!("the guest died{during}")),
            (Some(End::TimedOut), _) => Some(format!(
                "stopped after {} s, still running{during}",
                self.run.took.as_secs()
            )),
        }
    }

    /// Those scenarios that took longest, with their seconds.
    pub(crate) fn slowest(&self, count: usize) -> Vec<String> {
        let mut slow: Vec<&Scenario> = self.scenarios.iter().collect();
        slow.sort_by_key(|one| std::cmp::Reverse(one.ms));
        let told = |one: &&Scenario| format!("{} {:.1} s", one.name, one.ms as f64 / 1000.0);
        slow.iter().take(count).map(told).collect()
    }

    /// Whether the machine itself is to blame, so that its console is worth reading.
    pub(crate) const fn is_machine_trouble(&self) -> bool {
        matches!(self.run.end, Some(End::Died | End::TimedOut) | None)
    }

    /// Findings of a kind: `rung`, `doctor`, `sensor.degraded` and the like.
    pub(crate) fn found<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Value> {
        self.run
            .findings
            .iter()
            .filter(move |finding| finding["found"] == key)
            .map(|finding| &finding["value"])
    }

    /// Scenarios of a group that ended like this; of all groups, when none is given.
    pub(crate) fn count(&self, group: Option<&str>, verdict: Verdict) -> usize {
        self.scenarios
            .iter()
            .filter(|one| group.is_none_or(|group| one.group() == group) && one.verdict == verdict)
            .count()
    }
}

impl Scenario {
    /// What stands before the name.
    pub(crate) fn group(&self) -> &str {
        self.name.split("::").next().unwrap_or_default()
    }
}

fn scenario(finding: &Value) -> Option<Scenario> {
    let why = finding["why"].as_str()?.to_owned();
    let verdict = match finding["outcome"].as_str()? {
        "passed" => Verdict::Passed,
        // The words of `Context::admits`.
        "skipped" if why.contains("says so") => Verdict::Admitted,
        "skipped" => Verdict::Untried,
        _ => Verdict::Failed,
    };
    Some(Scenario {
        name: finding["scenario"].as_str()?.to_owned(),
        verdict,
        why,
        ms: finding["ms"].as_u64()?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::vm::cell;

    /// An outcome out of what a guest would say.
    pub(in crate::vm) fn outcome(kernel: &str, name: &str, end: End, lines: &[&str]) -> Outcome {
        let mut run = CellRun::never(name, end, Instant::now());
        for line in lines {
            match serde_json::from_str(line) {
                Ok(finding) => run.findings.push(finding),
                Err(_) => run.lines.push((*line).to_owned()),
            }
        }
        run.took = Duration::from_secs(40);
        let asked = [name.to_owned()];
        let cells = cell::choose(&asked, &[]).or_else(|_| cell::choose(&[], &asked));
        let cell = cells.expect("a known cell").remove(0);
        Outcome::new(kernel, cell, run, Some(2.5))
    }

    fn trouble(end: End, lines: &[&str]) -> Option<String> {
        outcome("6.1", "fexit", end, lines).trouble()
    }

    #[test]
    fn success_needs_the_exit_status_and_at_least_one_test() {
        let passed = "test result: ok. 3 passed; 0 failed; 0 ignored";
        let failed = "test result: FAILED. 2 passed; 1 failed; 0 ignored";
        assert_eq!(trouble(End::Exit(0), &[passed]), None);
        assert_eq!(trouble(End::Exit(0), &["a program without tests"]), None);
        assert_eq!(
            trouble(End::Exit(101), &["test tcp::listen ... FAILED", failed]).as_deref(),
            Some("failed: tcp::listen")
        );
        assert_eq!(
            trouble(End::Exit(0), &[failed]).as_deref(),
            Some("failed: ")
        );
        assert_eq!(
            trouble(End::Exit(0), &["test result: ok. 0 passed; 0 failed"]).as_deref(),
            Some("no test ran")
        );
        for end in [
            End::Exit(1),
            End::Died,
            End::TimedOut,
            End::Error("x".into()),
        ] {
            assert!(trouble(end.clone(), &[passed]).is_some(), "{end:?}");
        }
    }

    #[test]
    fn a_dead_guest_names_what_was_going_on() {
        let began = r#"{"began":"flood::many"}"#;
        assert_eq!(
            trouble(End::Died, &[began]).as_deref(),
            Some("the guest died, during flood::many")
        );
    }

    #[test]
    fn a_skip_is_an_admission_only_in_the_words_of_one() {
        let of = |outcome: &str, why: &str| {
            let line =
                format!(r#"{{"scenario":"tcp::x","outcome":"{outcome}","why":"{why}","ms":7}}"#);
            let value = serde_json::from_str(&line).expect("JSON");
            scenario(&value).expect("a scenario").verdict
        };
        assert_eq!(of("passed", ""), Verdict::Passed);
        assert_eq!(
            of("skipped", "tp_btf does not see it, and says so"),
            Verdict::Admitted
        );
        assert_eq!(of("skipped", "io_uring here cannot bind"), Verdict::Untried);
        assert_eq!(of("failed", "no event"), Verdict::Failed);
    }
}
