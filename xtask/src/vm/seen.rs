//! Cells that were good with these very programs: a matrix that was broken off goes on where it ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::cell::Cell;
use super::outcome::Outcome;
use super::suite::Suite;
use super::transcript::{CellRun, End};

/// The good cells of runs of one suite.
#[derive(Debug)]
pub(crate) struct Seen {
    folder: PathBuf,
}

impl Seen {
    /// Those below `target/vm` that ran exactly these programs with these arguments and in these circumstances.
    ///
    /// # Errors
    /// When a program cannot be read.
    pub(crate) fn of(below: &Path, suite: &Suite, arguments: &[String]) -> Result<Self> {
        let mut hash = Sha256::new();
        // In an order of their own: cargo tells them in one that differs from run to run.
        let mut programs: Vec<&PathBuf> = [&suite.executable, &suite.init]
            .into_iter()
            .chain(&suite.programs)
            .collect();
        programs.sort();
        for program in programs {
            let bytes = fs::read(program);
            hash.update(bytes.with_context(|| format!("cannot read {}", program.display()))?);
        }
        for argument in arguments {
            hash.update([0]);
            hash.update(argument);
        }
        let name: String = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            folder: below.join("seen").join(name),
        })
    }

    /// Remembers a cell if it was good.
    pub(crate) fn remember(&self, outcome: &Outcome) -> Result<()> {
        if !outcome.good() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let file = self.file(&outcome.kernel, &outcome.cell);
        let text = json!({
            "boot": outcome.boot,
            "ms": outcome.run.took.as_millis() as u64,
            "findings": outcome.run.findings,
            "lines": outcome.run.lines,
        });
        fs::write(&file, text.to_string())
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// What a cell showed, if it was good before.
    pub(crate) fn recall(&self, kernel: &str, cell: &Cell) -> Option<Outcome> {
        let text = fs::read_to_string(self.file(kernel, cell)).ok()?;
        let kept: Value = serde_json::from_str(&text).ok()?;
        let lines = kept["lines"].as_array()?.iter();
        let run = CellRun::ended(
            &cell.name,
            End::Exit(0),
            kept["findings"].as_array()?.clone(),
            lines
                .filter_map(|line| line.as_str().map(str::to_owned))
                .collect(),
            Duration::from_millis(kept["ms"].as_u64()?),
            Instant::now(),
        );
        let boot = kept["boot"].as_f64().map(|seconds| seconds as f32);
        Some(Outcome::new(kernel, cell.clone(), run, boot)).filter(Outcome::good)
    }

    fn file(&self, kernel: &str, cell: &Cell) -> PathBuf {
        let name = format!("{kernel} {}.json", cell.name).replace('/', "-");
        self.folder.join(name)
    }
}
