//! Boots guests, some side by side, until every cell has an outcome.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cell::Cell;
use super::initramfs::{Contents, STRIPPED};
use super::kernel::Kernel;
use super::machine::{self, Machine};
use super::outcome::Outcome;
use super::seen::Seen;
use super::suite::Suite;
use super::transcript::{CellRun, End, Transcript};

/// Scenarios whose time is told with each cell.
const SLOWEST: usize = 12;
/// Lines of the kernel's console that a failure shows.
const CONSOLE_LINES: usize = 60;
/// Lines of the suite's output that a failure shows.
const OUTPUT_LINES: usize = 120;
/// How often a kernel may try to reach init: emulated kernels from 6.12 on crash before it about once
/// in ten times (QEMU 7.2, no probes loaded yet). What happens after init has started is a result,
/// whatever it is.
const BOOTS: u32 = 3;

/// Cells of one kernel that share a boot.
pub(crate) struct Job<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) cells: Vec<Cell>,
}

/// What all boots have in common.
pub(crate) struct Runner<'a> {
    pub(crate) machine: Machine,
    pub(crate) suite: &'a Suite,
    /// Host programs to take along.
    pub(crate) extra: &'a [PathBuf],
    /// Arguments of the suite.
    pub(crate) arguments: &'a [String],
    /// Where the files of the boots go.
    pub(crate) folder: PathBuf,
    /// Keep them.
    pub(crate) keep: bool,
    /// Where good cells are remembered.
    pub(crate) seen: Option<&'a Seen>,
}

impl Runner<'_> {
    /// Runs the jobs, `workers` at once. The outcomes are in the order of the jobs; what cannot be run, and why, does not keep the
    /// others from being run.
    pub(crate) fn run(
        &self,
        jobs: Vec<Job<'_>>,
        workers: usize,
    ) -> Result<(Vec<Outcome>, Vec<String>)> {
        let base = self.base();
        fs::write(&base, self.contents().base()?)
            .with_context(|| format!("cannot write {}", base.display()))?;
        let queue: Mutex<VecDeque<_>> = Mutex::new(jobs.into_iter().enumerate().collect());
        let next = || {
            queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front()
        };
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let work = || {
                while let Some((at, job)) = next() {
                    let outcomes = self.job(at, &job).map_err(|error| {
                        let why = format!("{}: {error:#}", job.kernel.release);
                        eprintln!("{why}");
                        why
                    });
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((at, outcomes));
                }
            };
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a worker panicked"))?;
            }
            anyhow::Ok(())
        })?;
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        let (mut outcomes, mut broken) = (Vec::new(), Vec::new());
        for (_, job) in done {
            match job {
                Ok(some) => outcomes.extend(some),
                Err(why) => broken.push(why),
            }
        }
        if !self.keep {
            // Both are made anew by each run.
            let _ = fs::remove_file(&base);
            let _ = fs::remove_file(self.folder.join(STRIPPED));
        }
        Ok((outcomes, broken))
    }

    fn base(&self) -> PathBuf {
        self.folder.join("base")
    }

    fn contents(&self) -> Contents<'_> {
        Contents {
            suite: self.suite,
            extra: self.extra,
            arguments: self.arguments,
            is_native: self.machine.arch.is_native(),
            scratch: &self.folder,
        }
    }

    fn job(&self, at: usize, job: &Job<'_>) -> Result<Vec<Outcome>> {
        let work = self.folder.join(format!("{at:02}-{}", job.kernel.release));
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let outcomes = rounds(
            &job.cells,
            |cells| self.boot(job.kernel, cells, &work),
            |cell, run, boot| {
                let outcome = Outcome::new(&job.kernel.release, cell, run, boot);
                if let Some(Err(error)) = self.seen.map(|seen| seen.remember(&outcome)) {
                    eprintln!("a cell is not remembered: {error:#}");
                }
                self.tell(&outcome, &work.join("console.log"));
                // For whoever looks into it; when it cannot be kept, the results still stand.
                let log = outcome.run.log();
                let _ = fs::write(
                    work.join(format!("{}.log", outcome.cell.name.replace('/', "-"))),
                    log,
                );
                outcome
            },
        )?;
        if !self.keep
            && outcomes.iter().all(Outcome::good)
            && let Err(error) = fs::remove_dir_all(&work)
        {
            eprintln!("{} stays: {error}", work.display());
        }
        Ok(outcomes)
    }

    fn boot(&self, kernel: &Kernel, cells: &[Cell], work: &Path) -> Result<Transcript> {
        let (image, log) = (work.join("initramfs"), work.join("console.log"));
        let cannot = || format!("cannot write {}", image.display());
        fs::copy(self.base(), &image).with_context(cannot)?;
        let mut file = fs::OpenOptions::new().append(true).open(&image)?;
        let own = self.contents().boot(kernel, cells)?;
        file.write_all(&own).with_context(cannot)?;
        drop(file);
        let cpus = cells.iter().find_map(|cell| cell.cpus);
        let machine = Machine {
            cpus: cpus.unwrap_or(self.machine.cpus),
            ..self.machine.clone()
        };
        machine.boot(kernel, &image, &log)
    }

    /// A line for a cell; more where it went wrong.
    fn tell(&self, outcome: &Outcome, console: &Path) {
        let name = format!("{} {}", outcome.kernel, outcome.cell.name);
        let counts = outcome.counts.unwrap_or_default();
        let mut text = format!(
            "=== {name}: {} passed, {} ignored, {} failed, {:.0} s",
            counts.passed,
            counts.ignored,
            counts.failed,
            outcome.run.took.as_secs_f32()
        );
        let slow = outcome.slowest(SLOWEST);
        if !slow.is_empty() {
            text += &format!("; slowest: {}", slow.join(", "));
        }
        if let Some(trouble) = outcome.trouble() {
            text += &format!("\n=== {name}: {trouble}");
            let lines = &outcome.run.lines;
            if !self.machine.live {
                let from = lines.len().saturating_sub(OUTPUT_LINES);
                text += &format!("\n--- its output\n{}\n---", lines[from..].join("\n"));
            }
            if outcome.is_machine_trouble() {
                let tail = machine::tail(console, CONSOLE_LINES);
                text += &format!(
                    "\n--- the last lines of its console ({})",
                    console.display()
                );
                let tail = match tail.as_str() {
                    "" => "(the kernel said nothing)",
                    tail => tail,
                };
                text += &format!("\n{tail}\n---");
            }
        }
        // One call, so that guests side by side do not cut each other's text.
        println!("{text}");
    }
}

/// Boots until every cell has an outcome: again for those that a crash kept from running, and a few
/// times when the kernel does not reach init.
fn rounds(
    cells: &[Cell],
    mut boot: impl FnMut(&[Cell]) -> Result<Transcript>,
    mut conclude: impl FnMut(Cell, CellRun, Option<f32>) -> Outcome,
) -> Result<Vec<Outcome>> {
    let mut pending = cells.to_vec();
    let mut outcomes = Vec::new();
    let mut failed_boots = 0;
    while !pending.is_empty() {
        let transcript = boot(&pending)?;
        let ready = transcript.ready;
        if transcript.cells.is_empty() {
            failed_boots += 1;
            let first = &pending[0].name;
            if failed_boots < BOOTS && transcript.error.is_none() {
                println!(
                    "=== {first}: the kernel did not reach init; boot {} of {BOOTS}",
                    failed_boots + 1
                );
                continue;
            }
            let why = transcript.error.unwrap_or_else(|| {
                format!("the kernel did not reach init in {failed_boots} boots")
            });
            let run = CellRun::never(first, End::Error(why), Instant::now());
            outcomes.push(conclude(pending.remove(0), run, None));
            failed_boots = 0;
            continue;
        }
        for run in transcript.cells {
            if let Some(at) = pending.iter().position(|cell| cell.name == run.name) {
                outcomes.push(conclude(pending.remove(at), run, ready));
            }
        }
    }
    Ok(outcomes)
}

/// How long a suite may say nothing. The slowest scenario takes a minute on a slow machine.
pub(crate) const QUIET_LIMIT: Duration = Duration::from_secs(300);
/// How long a kernel may take to reach init; an idle machine needs 3 to 5 s.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::cell;

    /// Boots that say what they are told to; gives the end of every cell, and how often was booted.
    fn play(scripts: &[&str]) -> (Vec<(String, Option<End>)>, usize) {
        let cells = cell::choose(&["fexit".into(), "tp_btf".into(), "reconcile".into()], &[]);
        let mut boots = 0;
        let outcomes = rounds(
            &cells.expect("rungs"),
            |_| {
                let mut transcript = Transcript::new(Instant::now());
                for line in scripts[boots].lines() {
                    transcript.take(line.to_owned(), Instant::now());
                }
                transcript.close(End::Died, Instant::now());
                boots += 1;
                Ok(transcript)
            },
            |cell, run, boot| Outcome::new("6.1", cell, run, boot),
        );
        let ends = outcomes.expect("outcomes");
        let ends = ends.into_iter().map(|one| (one.cell.name, one.run.end));
        (ends.collect(), boots)
    }

    const GOOD: &str = "@vm ready 2 x\n@vm cell fexit\n@vm exit 0\n@vm cell tp_btf\n@vm exit 0\n\
        @vm cell reconcile\n@vm exit 0\n";

    #[test]
    fn a_kernel_that_does_not_reach_init_is_booted_again() {
        let (ends, boots) = play(&["", "", GOOD]);
        assert_eq!(boots, 3);
        assert!(ends.iter().all(|(_, end)| *end == Some(End::Exit(0))));
    }

    #[test]
    fn after_a_crash_the_other_cells_run_in_another_boot_and_the_crash_stays() {
        let crash = "@vm ready 2 x\n@vm cell fexit\n@vm exit 0\n@vm cell tp_btf\n";
        let rest = "@vm ready 2 x\n@vm cell reconcile\n@vm exit 0\n";
        let (ends, boots) = play(&[crash, rest]);
        assert_eq!(boots, 2);
        let tp_btf = ends.iter().find(|(name, _)| name == "tp_btf");
        assert_eq!(tp_btf.map(|(_, end)| end.clone()), Some(Some(End::Died)));
        assert_eq!(ends.len(), 3);
    }

    #[test]
    fn a_kernel_that_never_reaches_init_ends_all_the_same() {
        let (ends, boots) = play(&[""; 9]);
        assert_eq!((ends.len(), boots), (3, 9));
        assert!(
            ends.iter()
                .all(|(_, end)| matches!(end, Some(End::Error(_))))
        );
    }
}
