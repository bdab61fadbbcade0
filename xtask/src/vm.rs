//! `cargo xtask vm`: boots Debian kernels under QEMU and runs the scenario suite there.

mod apt;
mod arch;
mod cpio;
mod cross;
mod initramfs;
mod kernel;
mod machine;
mod mirror;
mod modules;
mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::host;
use crate::results::{self, Counts};
use arch::Arch;
use cross::Cross;
use initramfs::Contents;
use kernel::Kernel;
use machine::{End, Machine, Run};
use suite::Suite;

/// Lines of the kernel's console that a failure shows.
const CONSOLE_LINES: usize = 60;
/// How often a kernel may try to reach init.
const BOOTS: u32 = 3;

/// Arguments of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Architecture of the guest; another than the host's is cross-compiled
    #[arg(long, value_name = "ARCH", value_enum, default_value_t)]
    pub(crate) arch: Arch,
    /// Kernel series (5.10, 6.1, 6.12, 7.3, or another that Debian carries) or path of an image;
    /// may be repeated
    #[arg(long = "kernel", value_name = "SERIES|PATH", default_value = "6.1")]
    pub(crate) kernels: Vec<String>,
    /// Mechanism to hold portwatch to, given to the suite as PORTWATCH_TEST_RUNG; may be repeated,
    /// each kernel boots once for each
    #[arg(long = "rung", value_name = "RUNG")]
    pub(crate) rungs: Vec<String>,
    /// Test target (or program) of portwatch-tests to run
    #[arg(long, default_value = "scenarios")]
    pub(crate) suite: String,
    /// Virtual processors; with two, one run was seen to hang in a soft lockup of both while probes
    /// were attached
    #[arg(long, default_value_t = 1)]
    pub(crate) cpus: u16,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    pub(crate) memory: u32,
    /// Seconds until a guest is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,
    /// File systems to withhold from the guest: tracefs, cgroup2, bpffs, sysfs, securityfs
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub(crate) append: String,
    /// Put a program of this machine, with its libraries, into the guest; may be repeated
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) add: Vec<PathBuf>,
    /// Build with the release profile
    #[arg(long)]
    pub(crate) release: bool,
    /// Keep initramfs and console log below target/vm
    #[arg(long)]
    pub(crate) keep: bool,
    /// Arguments of the suite
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<String>,
}

/// What one boot showed.
pub(crate) struct Outcome {
    kernel: String,
    rung: String,
    run: Run,
    /// Test results; `None` when the program printed none.
    pub(crate) counts: Option<Counts>,
}

/// Runs the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    let outcomes = matrix(args)?;
    let bad = outcomes.iter().filter(|outcome| !outcome.good()).count();
    if bad > 0 {
        bail!("{bad} of {} runs failed", outcomes.len());
    }
    Ok(())
}

/// Boots every kernel once for every rung, prints the table and returns it.
pub(crate) fn matrix(args: &Args) -> Result<Vec<Outcome>> {
    machine::require(args.arch)?;
    let root = host::root()?;
    let kernels = args
        .kernels
        .iter()
        .map(|wanted| kernel::resolve(wanted, args.arch))
        .collect::<Result<Vec<_>>>()?;
    let cross = match args.arch {
        Arch::Amd64 => None,
        Arch::Arm64 => Some(Cross::find(args.arch)?),
    };
    let suite = Suite::build(&root, &args.suite, args.release, cross.as_ref())?;
    let mut append = args.append.clone();
    if !args.without.is_empty() {
        append = format!("pw.without={} {append}", args.without.join(","));
    }
    let machine = Machine {
        arch: args.arch,
        cpus: args.cpus,
        memory: args.memory,
        timeout: Duration::from_secs(args.timeout),
        append,
    };
    let rungs: Vec<Option<&str>> = match args.rungs.as_slice() {
        [] => vec![None],
        rungs => rungs.iter().map(|rung| Some(rung.as_str())).collect(),
    };
    let mut outcomes = Vec::new();
    for kernel in &kernels {
        for &rung in &rungs {
            let label = rung.unwrap_or("best");
            let work = root
                .join("target/vm")
                .join(format!("{}-{label}", kernel.release));
            fs::create_dir_all(&work)
                .with_context(|| format!("cannot create {}", work.display()))?;
            let contents = Contents {
                suite: &suite,
                extra: &args.add,
                arguments: &args.arguments,
                scratch: &work,
            };
            let (image, log) = (work.join("initramfs"), work.join("console.log"));
            fs::write(&image, contents.pack(kernel, rung)?)
                .with_context(|| format!("cannot write {}", image.display()))?;
            println!("=== kernel {}, rung {label}", kernel.release);
            let run = boot(&machine, kernel, &image, &log)?;
            let outcome = Outcome::new(kernel.release.clone(), label.to_owned(), run);
            if let Some(trouble) = outcome.trouble() {
                println!("=== kernel {}, rung {label}: {trouble}", kernel.release);
                if outcome.counts.is_none() {
                    println!("--- the last lines of its console ({})", log.display());
                    println!("{}\n---", machine::tail(&log, CONSOLE_LINES));
                }
            } else if !args.keep {
                fs::remove_dir_all(&work).context("cannot remove the run's files")?;
            }
            outcomes.push(outcome);
        }
    }
    table(&outcomes);
    Ok(outcomes)
}

/// Boots, and again when the kernel did not live to start init: emulated kernels from 6.12 on
/// crash there about once in ten times (QEMU 7.2, no probes loaded yet). What happens after init
/// has started is a result, whatever it is.
fn boot(machine: &Machine, kernel: &Kernel, initramfs: &Path, log: &Path) -> Result<Run> {
    let mut run = machine.boot(kernel, initramfs, log)?;
    for again in 2..=BOOTS {
        if run.end != End::Died || run.ready.is_some() {
            break;
        }
        println!("the kernel crashed before init ran; boot {again} of {BOOTS}");
        run = machine.boot(kernel, initramfs, log)?;
    }
    Ok(run)
}

impl Outcome {
    fn new(kernel: String, rung: String, run: Run) -> Self {
        let mut counts = None;
        for found in run.lines.iter().filter_map(|line| results::counts(line)) {
            *counts.get_or_insert_with(Counts::default) += found;
        }
        Self {
            kernel,
            rung,
            run,
            counts,
        }
    }

    /// Whether the program ran to its end, succeeded, and (if it tests) tested something.
    pub(crate) fn good(&self) -> bool {
        self.trouble().is_none()
    }

    /// What went wrong, in words.
    fn trouble(&self) -> Option<String> {
        let failed = || {
            let names = self
                .run
                .lines
                .iter()
                .filter_map(|line| results::failure(line));
            names.collect::<Vec<_>>().join(", ")
        };
        match (&self.run.end, self.counts) {
            (End::Exit(0), Some(counts)) if counts.failed > 0 => {
                Some(format!("failed: {}", failed()))
            }
            (End::Exit(0), Some(counts)) if counts.passed == 0 => Some("no test ran".to_owned()),
            (End::Exit(0), _) => None,
            (End::Exit(_), Some(counts)) if counts.failed > 0 => {
                Some(format!("failed: {}", failed()))
            }
            (End::Exit(code), _) => Some(format!("the suite ended with status {code}")),
            (End::Error(error), _) => Some(error.clone()),
            (End::Died, _) => Some("the guest stopped before the suite ended".to_owned()),
            (End::TimedOut, _) => Some(format!(
                "stopped after {} s, still running",
                self.run.took.as_secs()
            )),
        }
    }
}

fn table(outcomes: &[Outcome]) {
    println!(
        "\n{:<28} {:<11} {:>6} {:>6} {:>7} {:>7} {:>7}  result",
        "kernel", "rung", "passed", "failed", "ignored", "boot s", "total s"
    );
    for outcome in outcomes {
        let counts = outcome.counts.unwrap_or_default();
        let ready = outcome
            .run
            .ready
            .map_or_else(|| "-".to_owned(), |ready| format!("{ready:.1}"));
        println!(
            "{:<28} {:<11} {:>6} {:>6} {:>7} {ready:>7} {:>7.1}  {}",
            outcome.kernel,
            outcome.rung,
            counts.passed,
            counts.failed,
            counts.ignored,
            outcome.run.took.as_secs_f32(),
            outcome.trouble().as_deref().unwrap_or("ok")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(end: End, lines: &[&str]) -> Option<String> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let run = Run {
            end,
            lines,
            ready: None,
            took: Duration::from_secs(300),
        };
        Outcome::new("6.1".into(), "fexit".into(), run).trouble()
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
}
