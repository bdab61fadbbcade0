//! What a guest said, line by line, sorted by cells (pure).

use std::time::{Duration, Instant};

use serde_json::Value;

/// Leads the init's own lines on the second serial port (`tests/src/bin/vm_init`).
const MARK: &str = "@vm ";

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The program ended with this status.
    Exit(i32),
    /// The guest could not run the program, or a signal killed it.
    Error(String),
    /// The machine stopped before the program did: a kernel panic, most likely.
    Died,
    /// Still running when the time was up.
    TimedOut,
}

/// One cell, as far as it came.
#[derive(Clone, Debug)]
pub(crate) struct CellRun {
    pub(crate) name: String,
    /// `None` while it runs.
    pub(crate) end: Option<End>,
    /// What the suite reported (`tests/src/harness/report.rs`).
    pub(crate) findings: Vec<Value>,
    /// The program's output.
    pub(crate) lines: Vec<String>,
    /// Wall-clock time.
    pub(crate) took: Duration,
    began: Instant,
}

/// All that came out of one boot.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// The guest's uptime when init was ready, in seconds.
    pub(crate) ready: Option<f32>,
    pub(crate) cells: Vec<CellRun>,
    /// What the init complained of, outside all cells.
    pub(crate) error: Option<String>,
    /// When the present phase (boot, or a cell) began.
    pub(crate) phase: Instant,
    /// When the guest said something last.
    pub(crate) heard: Instant,
}

impl CellRun {
    /// One of an earlier time.
    pub(crate) fn ended(
        name: &str,
        end: End,
        findings: Vec<Value>,
        lines: Vec<String>,
        took: Duration,
        began: Instant,
    ) -> Self {
        Self {
            name: name.to_owned(),
            end: Some(end),
            findings,
            lines,
            took,
            began,
        }
    }
}

impl Transcript {
    /// Of a machine that was switched on at this time.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            ready: None,
            cells: Vec::new(),
            error: None,
            phase: now,
            heard: now,
        }
    }

    /// Takes a line; whether it is one of the program's, for a person to read.
    pub(crate) fn take(&mut self, line: String, now: Instant) -> bool {
        self.heard = now;
        let Some(mark) = line.strip_prefix(MARK) else {
            if let Some(cell) = self.running() {
                cell.lines.push(line);
            }
            return true;
        };
        match mark.split_once(' ').unwrap_or((mark, "")) {
            ("ready", rest) => {
                self.ready = rest.split(' ').next().and_then(|s| s.parse().ok());
                self.phase = now;
            }
            ("cell", name) => {
                self.phase = now;
                self.cells.push(CellRun {
                    name: name.to_owned(),
                    end: None,
                    findings: Vec::new(),
                    lines: Vec::new(),
                    took: Duration::ZERO,
                    began: now,
                });
            }
            ("report", json) => {
                if let (Some(cell), Ok(value)) = (self.running(), serde_json::from_str(json)) {
                    cell.findings.push(value);
                }
            }
            ("exit", code) => self.finish(
                code.parse()
                    .map_or_else(|_| End::Error(line.clone()), End::Exit),
                now,
            ),
            ("signal", number) => {
                self.finish(End::Error(format!("killed by signal {number}")), now);
            }
            ("refused", why) => self.finish(End::Error(why.to_owned()), now),
            (_, rest) => self.error = Some(rest.to_owned()),
        }
        false
    }

    /// The machine stopped; whatever still ran has ended with it.
    pub(crate) fn close(&mut self, end: End, now: Instant) {
        if self.running().is_some() {
            self.finish(end, now);
        }
    }

    fn running(&mut self) -> Option<&mut CellRun> {
        self.cells.last_mut().filter(|cell| cell.end.is_none())
    }

    fn finish(&mut self, end: End, now: Instant) {
        self.phase = now;
        if let Some(cell) = self.running() {
            cell.took = now.saturating_duration_since(cell.began);
            cell.end = Some(end);
        }
    }
}

impl CellRun {
    /// A cell that no boot came to.
    pub(crate) fn never(name: &str, end: End, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            end: Some(end),
            findings: Vec::new(),
            lines: Vec::new(),
            took: Duration::ZERO,
            began: now,
        }
    }

    /// All that was said, for a file.
    pub(crate) fn log(&self) -> String {
        let findings = self.findings.iter().map(|finding| format!("{finding}\n"));
        let lines = self.lines.iter().map(|line| format!("{line}\n"));
        lines.chain(findings).collect()
    }

    /// The scenarios that had begun and not ended.
    pub(crate) fn unfinished(&self) -> Vec<&str> {
        let ended = |name: &str| {
            let mut all = self.findings.iter();
            all.any(|finding| finding["scenario"] == name)
        };
        self.findings
            .iter()
            .filter_map(|finding| finding["began"].as_str())
            .filter(|name| !ended(name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str) -> Transcript {
        let now = Instant::now();
        let mut transcript = Transcript::new(now);
        for line in text.lines() {
            transcript.take(line.to_owned(), now + Duration::from_secs(2));
        }
        transcript
    }

    #[test]
    fn lines_and_reports_belong_to_the_cell_that_runs() {
        let text = "@vm ready 2.31 6.1.0-50\n@vm cell fexit\ntest a ... ok\n\
            @vm report {\"scenario\":\"a\",\"outcome\":\"passed\"}\n@vm exit 0\nstray\n\
            @vm cell no-btf\n@vm refused cannot hide it\n";
        let transcript = transcript(text);
        assert_eq!(transcript.ready, Some(2.31));
        let [first, second] = &transcript.cells[..] else {
            panic!("{:?}", transcript.cells);
        };
        assert_eq!((&first.end, first.lines.len()), (&Some(End::Exit(0)), 1));
        assert_eq!(first.findings[0]["scenario"], "a");
        assert_eq!(second.end, Some(End::Error("cannot hide it".to_owned())));
    }

    #[test]
    fn what_runs_when_the_machine_stops_died_and_is_named() {
        let text = "@vm cell a\n@vm report {\"began\":\"x\"}\n@vm report {\"scenario\":\"x\"}\n\
            @vm report {\"began\":\"tcp::hangs\"}\n";
        let mut transcript = transcript(text);
        transcript.close(End::Died, Instant::now());
        assert_eq!(transcript.cells[0].end, Some(End::Died));
        assert_eq!(transcript.cells[0].unfinished(), ["tcp::hangs"]);
    }

    #[test]
    fn only_the_exit_mark_is_success() {
        for (text, end) in [
            ("@vm cell a\n@vm exit 101", Some(End::Exit(101))),
            (
                "@vm cell a\n@vm signal 11",
                Some(End::Error("killed by signal 11".into())),
            ),
            ("@vm cell a\ntest a ... ok", None),
        ] {
            assert_eq!(transcript(text).cells[0].end, end, "{text}");
        }
        assert_eq!(
            transcript("@vm error no run").error.as_deref(),
            Some("no run")
        );
    }
}
