//! `cargo xtask fuzz`: builds the fuzz targets with stable Rust and runs them under libFuzzer.
//!
//! libFuzzer needs a program that counts its edges and shows its comparisons. LLVM's pass for that is
//! in every rustc; only the sanitizers, which safe code gains little from, need a nightly one.

mod report;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::host;
use report::Report;

/// Where cargo-fuzz would look for it all.
const CRATE: &str = "portwatch/fuzz";
/// What is built here and found in earlier runs stays out of the repository.
const TARGET_DIR: &str = "target/fuzz";
/// What cargo-fuzz passes too, without a sanitizer.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];
/// Longest input, in bytes: a little more than the longest filter.
const MAX_LEN: usize = 9_000;
/// Inputs that are committed for a target, at most.
const MAX_INPUTS: usize = 150;
/// One input may take this long, in seconds, on a machine that does other things too.
const INPUT_SECONDS: u32 = 25;
/// Memory that one target may take, in MiB.
const MEMORY_MIB: u32 = 2_048;
/// Where the search of the tests starts. It is the same in every run, so that a failure there comes from a
/// change and not from luck; `cargo xtask fuzz` starts elsewhere each time and is what finds new ones.
const TEST_SEED: u32 = 1;

/// Arguments of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Targets; all of them when none is named
    targets: Vec<String>,
    /// How long each target runs; 0 tries the known inputs alone
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Where the search starts: the same number tries the same inputs first [default: another each time]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Try this input with the one target that is named, and show what happens
    #[arg(long, value_name = "FILE", conflicts_with = "minimise")]
    input: Option<PathBuf>,
    /// Add to the committed corpora what earlier runs found and what reaches code that nothing there
    /// reaches; runs nothing else
    #[arg(long)]
    minimise: bool,
}

/// Runs the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    let fuzzer = Fuzzer::build(&args.targets)?;
    if let Some(input) = &args.input {
        return fuzzer.reproduce(input);
    }
    if args.minimise {
        return fuzzer.minimise();
    }
    fuzzer.search(args.seconds, args.seed)
}

/// Every target for so many seconds, as a step of all tests.
pub(crate) fn search(seconds: u32) -> Result<()> {
    Fuzzer::build(&[])?.search(seconds, Some(TEST_SEED))
}

/// Built targets.
struct Fuzzer {
    root: PathBuf,
    /// Where the programs are.
    programs: PathBuf,
    targets: Vec<String>,
}

impl Fuzzer {
    fn build(wanted: &[String]) -> Result<Self> {
        let root = host::root()?;
        let known = targets(&root)?;
        if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
            bail!(
                "there is no target {unknown}; there are {}",
                known.join(", ")
            );
        }
        let triple = triple()?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(&root)
            .args(["build", "--release", "--locked", "--manifest-path"])
            .arg(Path::new(CRATE).join("Cargo.toml"))
            // With a target named, the flags do not reach build scripts and macros.
            .args(["--target", &triple, "--target-dir", TARGET_DIR])
            .args(wanted.iter().flat_map(|name| ["--bin", name]))
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
        host::run(&mut cargo).context(
            "the fuzz targets do not build; libFuzzer needs a C++ compiler, and after a change of \
             dependencies `cargo update --workspace --manifest-path portwatch/fuzz/Cargo.toml`",
        )?;
        Ok(Self {
            programs: root.join(TARGET_DIR).join(triple).join("release"),
            root,
            targets: if wanted.is_empty() {
                known
            } else {
                wanted.to_vec()
            },
        })
    }

    /// Runs every target, as many at once as there are processors.
    fn search(&self, seconds: u32, seed: Option<u32>) -> Result<()> {
        let waiting: Mutex<VecDeque<&String>> = Mutex::new(self.targets.iter().collect());
        let next = || {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop_front()
        };
        let failed = Mutex::new(Vec::new());
        let worker = || {
            while let Some(name) = next() {
                let told = match self.run_one(name, seconds, seed) {
                    Ok(report) if report.is_clean() => {
                        println!("{report}");
                        continue;
                    }
                    Ok(report) => report.to_string(),
                    Err(error) => format!("{name:<10} {error:#}"),
                };
                println!("{told}");
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push(name.as_str());
            }
        };
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(worker);
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }

    fn run_one(&self, name: &str, seconds: u32, seed: Option<u32>) -> Result<Report> {
        let found = self.found(name)?;
        let artifacts = self.root.join(CRATE).join("artifacts").join(name);
        let logs = self.root.join(TARGET_DIR).join("logs");
        make(&artifacts)?;
        make(&logs)?;
        let log = logs.join(format!("{name}.log"));
        let mut command = self.program(name);
        command
            // New inputs go into the first directory, the committed ones are only read.
            .arg(&found)
            .arg(self.corpus(name))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg("-print_final_stats=1");
        // No limit of time is what libFuzzer takes 0 for.
        command.arg(match seconds {
            0 => "-runs=0".to_owned(),
            _ => format!("-max_total_time={seconds}"),
        });
        if let Some(seed) = seed {
            command.arg(format!("-seed={seed}"));
        }
        let dictionary = self
            .root
            .join(CRATE)
            .join("dictionaries")
            .join(format!("{name}.dict"));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context("cannot share the log")?;
        let status = command
            .stdout(output)
            .stderr(errors)
            .status()
            .with_context(|| format!("cannot start the target {name}"))?;
        let text = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        let text = String::from_utf8_lossy(&text);
        Ok(Report::read(name, status.success(), &text, &self.root))
    }

    fn reproduce(&self, input: &Path) -> Result<()> {
        let [name] = self.targets.as_slice() else {
            bail!("name the one target that the input is for");
        };
        let input = input
            .canonicalize()
            .with_context(|| format!("cannot find {}", input.display()))?;
        host::run(self.program(name).arg(input))
    }

    fn minimise(&self) -> Result<()> {
        for name in &self.targets {
            let mut command = self.program(name);
            // By edges alone: counters would keep an input for every length of a loop.
            command
                .args(["-set_cover_merge=1", "-use_counters=0"])
                .arg(self.corpus(name))
                .arg(self.found(name)?)
                .stderr(Stdio::null());
            host::run(&mut command)?;
            let inputs = trim(&self.corpus(name))?;
            println!("{name:<10} {inputs:>4} inputs");
        }
        Ok(())
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .current_dir(&self.root)
            .env("RUST_BACKTRACE", "1")
            .arg(format!("-max_len={MAX_LEN}"))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        command
    }

    fn corpus(&self, name: &str) -> PathBuf {
        self.root.join(CRATE).join("corpus").join(name)
    }

    /// Inputs that earlier runs on this machine found.
    fn found(&self, name: &str) -> Result<PathBuf> {
        let dir = self.root.join(TARGET_DIR).join("found").join(name);
        make(&dir)?;
        Ok(dir)
    }
}

/// Removes the largest inputs that nobody made by hand, beyond what may be committed.
fn trim(corpus: &Path) -> Result<usize> {
    let cannot = || format!("cannot trim {}", corpus.display());
    let mut inputs = Vec::new();
    for entry in fs::read_dir(corpus).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let is_seed = entry.file_name().as_encoded_bytes().starts_with(b"seed-");
        let size = entry.metadata().with_context(cannot)?.len();
        inputs.push((!is_seed, size, entry.path()));
    }
    inputs.sort();
    for (_, _, path) in inputs.iter().skip(MAX_INPUTS) {
        fs::remove_file(path).with_context(cannot)?;
    }
    Ok(inputs.len().min(MAX_INPUTS))
}

/// The names of the targets: one program each.
fn targets(root: &Path) -> Result<Vec<String>> {
    let dir = root.join(CRATE).join("fuzz_targets");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.context("cannot read the targets")?.path();
        names.extend(
            path.file_stem()
                .and_then(|stem| stem.to_str())
                .map(str::to_owned),
        );
    }
    names.sort();
    Ok(names)
}

/// This machine, as rustc names it.
fn triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let details = host::output(Command::new(rustc).arg("-vV"))?;
    let line = details.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned)
        .context("`rustc -vV` does not name its host")
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}
