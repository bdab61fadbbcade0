//! Reads what libFuzzer logs, and says it in a line.

use std::fmt;
use std::path::Path;

/// What became of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    name: String,
    is_clean: bool,
    executions: u64,
    /// Edges reached.
    edges: u64,
    /// What libFuzzer counts: edges, how often, comparisons.
    features: u64,
    /// Inputs that reach something which no other does.
    inputs: u64,
    /// Where the input lies that broke the property, from the root of the repository.
    artifact: Option<String>,
    /// What the target said of it, and the end of its log.
    complaint: String,
}

impl Report {
    /// Reads a log. `status` tells whether the target ended by itself.
    pub(super) fn read(name: &str, status: bool, log: &str, root: &Path) -> Self {
        let mut report = Self {
            name: name.to_owned(),
            is_clean: status,
            ..Self::default()
        };
        for line in log.lines() {
            let mut words = line.split_ascii_whitespace();
            while let Some(word) = words.next() {
                let place = match word {
                    "stat::number_of_executed_units:" => &mut report.executions,
                    "cov:" => &mut report.edges,
                    "ft:" => &mut report.features,
                    "corp:" => &mut report.inputs,
                    _ => continue,
                };
                // Inputs are followed by their bytes: `corp: 5/27b`.
                let number = words.next().and_then(|word| word.split('/').next());
                *place = number
                    .and_then(|number| number.parse().ok())
                    .unwrap_or(*place);
            }
            if let Some((_, path)) = line.split_once("Test unit written to ") {
                let path = Path::new(path.trim());
                let inside = path.strip_prefix(root).unwrap_or(path);
                report.artifact = Some(inside.display().to_string());
            }
        }
        if !status {
            report.complaint = complaint(log);
        }
        report
    }

    /// Did nothing break the property?
    pub(super) const fn is_clean(&self) -> bool {
        self.is_clean
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            executions,
            edges,
            features,
            inputs,
            ..
        } = self;
        write!(
            out,
            "{name:<10} {executions:>11} executions  {edges:>6} edges  {features:>6} features  \
             {inputs:>5} inputs  {}",
            if self.is_clean { "ok" } else { "FAILED" }
        )?;
        if self.is_clean {
            return Ok(());
        }
        write!(out, "\n{}", self.complaint)?;
        if let Some(artifact) = &self.artifact {
            write!(
                out,
                "\n  the input: {artifact}\n  to reproduce: cargo xtask fuzz {name} --input {artifact}"
            )?;
        }
        Ok(())
    }
}

/// The panic with its message, or libFuzzer's own complaint, without the backtrace; else the end of the log.
fn complaint(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let is_cause = |line: &str| line.contains(" panicked at ") || line.contains("ERROR: libFuzzer");
    let start = lines.iter().position(|line| is_cause(line));
    let start = start.unwrap_or(lines.len().saturating_sub(10));
    let shown = lines.iter().skip(start).take(10);
    let shown = shown.take_while(|line| !line.starts_with("stack backtrace:"));
    let shown: Vec<String> = shown.map(|line| format!("  {line}")).collect();
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "\
        #52417\tREDUCE cov: 10 ft: 10 corp: 4/13b lim: 517 exec/s: 0 rss: 27Mb L: 5/5 MS: 2\n\
        #6954816\tDONE   cov: 11 ft: 12 corp: 5/27b lim: 4096 exec/s: 632256 rss: 27Mb\n\
        Done 6954816 runs in 11 second(s)\n\
        stat::number_of_executed_units: 6954816\n";

    #[test]
    fn numbers_are_the_last_ones() {
        let report = Report::read("text", true, CLEAN, Path::new("/r"));
        assert!(report.is_clean());
        assert_eq!((report.executions, report.edges), (6_954_816, 11));
        assert_eq!((report.features, report.inputs), (12, 5));
        assert_eq!(report.to_string().lines().count(), 1);
    }

    #[test]
    fn a_failure_is_told_with_its_input_and_how_to_see_it_again() {
        let log = "\
            #9\tNEW    cov: 7 ft: 8 corp: 2/5b\n\
            thread '<unnamed>' (7) panicked at src/text.rs:1:2:\n\
            half an escape\n\
            stack backtrace:\n   0: rust_begin_unwind\n\
            ==7== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='/r/a/'; Test unit written to /r/portwatch/fuzz/artifacts/text/crash-0a\n";
        let report = Report::read("text", false, log, Path::new("/r"));
        let told = report.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].ends_with("FAILED"), "{told}");
        assert_eq!(lines[2], "  half an escape");
        assert_eq!(lines.len(), 5, "{told}");
        assert!(
            told.ends_with("cargo xtask fuzz text --input portwatch/fuzz/artifacts/text/crash-0a"),
            "{told}"
        );
    }

    #[test]
    fn a_death_without_words_shows_the_end_of_the_log() {
        let report = Report::read("text", false, "one\ntwo\n", Path::new("/r"));
        assert!(report.to_string().ends_with("  one\n  two"));
    }
}
