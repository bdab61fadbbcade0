//! The report: Markdown for people, JSON for programs, a picture for both.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::chart::chart;
use crate::flatness::median;
use crate::judge::Judgement;
use crate::run::Outcome;
use crate::sample::Sample;
use crate::stream::Story;
use crate::verdict::{QUANTITIES, Verdict, words};

/// Faults and disagreements that are written out; the counts hold them all.
const SHOWN: usize = 40;

/// How the run was asked for.
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) minutes: u32,
    pub(crate) build: String,
}

/// Everything that is reported.
pub(crate) struct Report<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) outcome: &'a Outcome,
    pub(crate) judgement: &'a Judgement,
    pub(crate) story: &'a Story,
    pub(crate) verdict: &'a Verdict,
}

impl Report<'_> {
    /// Writes `report.md`, `report.json` and `memory.svg`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let svg = chart(
            &self.outcome.samples,
            &self.outcome.idle,
            self.outcome.filled,
        );
        let json = format!("{:#}\n", self.json());
        for (name, text) in [
            ("report.md", self.markdown()),
            ("report.json", json),
            ("memory.svg", svg),
        ] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn markdown(&self) -> String {
        let (outcome, setting) = (self.outcome, self.setting);
        let text = |pointer: &str| {
            let value = outcome.status.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or("?").to_owned()
        };
        let mut out = format!(
            "# Soak: {}\n\n{} build of portwatch {}, kernel {}, seed {}: {} minutes after {:.0} s \
             in which its tables were filled, {:.0} s in all.\n\n![Memory over time](memory.svg)\n",
            self.verdict.headline(),
            setting.build,
            text("/version"),
            text("/host/kernel"),
            setting.seed,
            setting.minutes,
            outcome.filled.as_secs_f64(),
            outcome.took.as_secs_f64(),
        );
        self.listeners(&mut out);
        self.audits(&mut out);
        self.resources(&mut out);
        self.findings(&mut out);
        out
    }

    fn listeners(&self, out: &mut String) {
        out.push_str(
            "\n## Listeners\n\n| opened by | opened | told | closed | told |\n|---|--:|--:|--:|--:|\n",
        );
        let mut sum = [0; 4];
        for (player, row) in &self.judgement.rows {
            let cells = [row.opened, row.told_opened, row.closed, row.told_closed];
            for (sum, cell) in sum.iter_mut().zip(cells) {
                *sum += cell;
            }
            let [opened, told, closed, told_closed] = cells;
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                out,
                "| {player} | {opened} | {told} | {closed} | {told_closed} |"
            );
        }
        let [opened, told, closed, told_closed] = sum;
        let _ = writeln!(
            out,
            "| **all** | {opened} | {told} | {closed} | {told_closed} |"
        );
        let mut lines: Vec<_> = self.story.lines.iter().collect();
        lines.sort();
        let lines: Vec<String> = lines
            .iter()
            .map(|(kind, count)| format!("{count} `{kind}`"))
            .collect();
        let counters = &self.outcome.status["counters"];
        let _ = writeln!(
            out,
            "\nLines of `tail`: {}. Records lost: {}. TCP state changes that the kernel made: {}.",
            lines.join(", "),
            self.story.lost,
            counters["transitions_total"]
        );
    }

    fn audits(&self, out: &mut String) {
        let audits = &self.outcome.audits;
        let clean = audits.iter().filter(|one| one.disagreements.is_empty());
        let slowest = audits.iter().map(|one| one.took).max().unwrap_or_default();
        let (open, listed, in_kernel) = audits
            .last()
            .map_or((0, 0, 0), |last| (last.open, last.listed, last.in_kernel));
        let _ = writeln!(
            out,
            "\n## Audits\n\nEach minute `portwatch ls` was held against the ledger and `/proc/net`: {} of {} \
             agreed, the slowest after {:.1} s. In the last one {open} listeners were the run's own, {listed} \
             were listed, {in_kernel} sockets stood in the kernel's tables.",
            clean.count(),
            audits.len(),
            slowest.as_secs_f64(),
        );
    }

    fn resources(&self, out: &mut String) {
        out.push_str(
            "\n## Resources\n\nRead in silence at the end of each minute, always with the same listeners and \
             clients.\n\n| | first third | last third | growth | fitted |\n|---|--:|--:|--:|--:|\n",
        );
        for (quantity, trend) in QUANTITIES.iter().zip(&self.verdict.trends) {
            let Some(trend) = trend else {
                let _ = writeln!(out, "| {} | - | - | - | - |", quantity.name);
                continue;
            };
            let _ = writeln!(
                out,
                "| {} | {:.0} {unit} | {:.0} {unit} | {:+.2} % | {:+.1} {unit} |",
                quantity.name,
                trend.first,
                trend.last,
                trend.percent(),
                trend.fitted,
                unit = quantity.unit,
            );
        }
        let samples = &self.outcome.samples;
        let most = samples.iter().map(|sample| sample.anon).max().unwrap_or(0);
        let _ = writeln!(
            out,
            "\nRssAnon at the start: {} KiB, at its highest: {most} KiB. Processes remembered when the tables were full: {}. \
             Processor time: {:.1} % of one processor in noise, {:.2} % in silence.",
            samples.first().map_or(0, |sample| sample.anon),
            self.outcome.remembered,
            load(samples, self.outcome.filled, 2.0),
            silent_load(&self.outcome.idle),
        );
    }

    fn findings(&self, out: &mut String) {
        let faults = self
            .judgement
            .faults
            .iter()
            .map(|(fault, what)| format!("{}: {what}", words(*fault)));
        let audits = self.outcome.audits.iter().flat_map(|audit| {
            let at = audit.at.as_secs_f64();
            let each = audit.disagreements.iter();
            each.map(move |what| format!("audit at {at:.0} s: {what}"))
        });
        let gaps = self.story.gap_words.iter();
        let all: Vec<String> = gaps
            .map(|words| format!("gap {words}"))
            .chain(self.story.trouble.iter().cloned())
            .chain(faults)
            .chain(audits)
            .collect();
        if all.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n## Findings\n\n{} in all.\n", all.len());
        for one in all.iter().take(SHOWN) {
            let _ = writeln!(out, "- `{}`", one.replace('`', "'"));
        }
    }

    fn json(&self) -> Value {
        let samples = |all: &[Sample]| -> Vec<Value> { all.iter().map(one_sample).collect() };
        let faults: Vec<Value> = self
            .judgement
            .faults
            .iter()
            .map(|(fault, what)| json!({"fault": format!("{fault:?}"), "what": what}))
            .collect();
        let audits = self.outcome.audits.iter().map(|audit| {
            json!({
                "at_s": audit.at.as_secs_f64(), "open": audit.open, "listed": audit.listed,
                "in_kernel": audit.in_kernel, "took_s": audit.took.as_secs_f64(),
                "waited_for": audit.waited_for,
                "disagreements": audit.disagreements,
            })
        });
        let audits: Vec<Value> = audits.collect();
        let rows = self.judgement.rows.iter().map(|(player, row)| {
            json!({
                "player": player, "opened": row.opened, "told_opened": row.told_opened,
                "closed": row.closed, "told_closed": row.told_closed,
            })
        });
        let rows: Vec<Value> = rows.collect();
        json!({
            "verdict": self.verdict.headline(), "passed": self.verdict.failures.is_empty(),
            "failures": self.verdict.failures, "losses": self.verdict.losses, "seed": self.setting.seed,
            "minutes": self.setting.minutes, "build": self.setting.build,
            "filled_s": self.outcome.filled.as_secs_f64(), "took_s": self.outcome.took.as_secs_f64(),
            "listeners": rows, "faults": faults, "stream": {
                "lines": self.story.lines, "lost": self.story.lost, "trouble": self.story.trouble,
                "gaps": self.story.gap_words,
            },
            "audits": audits, "samples": samples(&self.outcome.samples),
            "idle": samples(&self.outcome.idle), "status": self.outcome.status,
        })
    }
}

fn one_sample(sample: &Sample) -> Value {
    json!({
        "at_s": sample.at.as_secs_f64(), "rss_anon_kib": sample.anon, "rss_file_kib": sample.file,
        "ring_kib": sample.rings, "descriptors": sample.descriptors, "threads": sample.threads,
        "cpu_s": sample.cpu.as_secs_f64(),
    })
}

/// Median share of a processor between readings that lie farther apart than this, in percent.
fn load(samples: &[Sample], from: Duration, least: f64) -> f64 {
    let steps = samples.windows(2).filter_map(|pair| match pair {
        [a, b] if a.at >= from && (b.at - a.at).as_secs_f64() > least => Some(share(a, b)),
        _ => None,
    });
    median(steps.collect())
}

/// The same between the readings of each silence.
fn silent_load(idle: &[Sample]) -> f64 {
    let silences: Vec<f64> = idle
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] if (b.at - a.at).as_secs_f64() < 10.0 => Some(share(a, b)),
            _ => None,
        })
        .collect();
    // Ticks are 10 ms: a median of so small counts would be 0.
    silences.iter().sum::<f64>() / (silences.len() as f64).max(1.0)
}

fn share(a: &Sample, b: &Sample) -> f64 {
    (b.cpu.saturating_sub(a.cpu)).as_secs_f64() / (b.at - a.at).as_secs_f64() * 100.0
}
