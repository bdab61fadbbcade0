//! `cargo xtask vm`: proves on Debian kernels under QEMU, rung by rung and with things taken away, that
//! portwatch sees what it promises and admits what it does not see.

pub(crate) mod apt;
pub(crate) mod arch;
mod cell;
mod cpio;
mod cross;
mod document;
mod grid;
mod initramfs;
mod kernel;
mod machine;
pub(crate) mod mirror;
mod modules;
mod outcome;
mod peers;
mod runner;
mod seen;
mod suite;
mod transcript;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::host;
use arch::Arch;
use cross::Cross;
use kernel::Kernel;
use machine::Machine;
pub(crate) use outcome::Outcome;
use runner::{Job, Runner};
use seen::Seen;
use suite::Suite;

/// The kernels of the matrix: Debian's, from the oldest that is supported to the newest.
pub(crate) const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.3"];
/// The kernel for other architectures.
const ELSEWHERE: &str = "6.1";
/// The suite that the matrix runs.
const SCENARIOS: &str = "scenarios";
/// Guests side by side at most, unless told otherwise.
const SIDE_BY_SIDE: usize = 4;

/// Arguments of the chore.
#[derive(Clone, clap::Args)]
pub(crate) struct Args {
    /// Architecture of the guest; another than the host's is cross-compiled
    #[arg(long, value_name = "ARCH", value_enum, default_value_t)]
    pub(crate) arch: Arch,
    /// Kernel series (5.10, 6.1, 6.12, 7.3, or another that Debian carries) or path of an image;
    /// may be repeated. All four when left out
    #[arg(long = "kernel", value_name = "SERIES|PATH")]
    kernels: Vec<String>,
    /// Mechanism to hold portwatch to: fexit, kretprobe, cgroup, tp_btf, tracepoint, reconcile, or
    /// best for its own choice; may be repeated. All when left out
    #[arg(long = "rung", value_name = "RUNG")]
    rungs: Vec<String>,
    /// What to take away (no-btf, no-tracefs, lockdown-integrity, no-cap-bpf, 4-cpus and others); may be
    /// repeated. All when left out; nothing when only a rung is asked for
    #[arg(long = "condition", value_name = "NAME")]
    conditions: Vec<String>,
    /// Test target (or program) of portwatch-tests to run
    #[arg(long, default_value = SCENARIOS)]
    suite: String,
    /// Guests side by side; one for each processor when left out
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
    /// Only the storms and scans that are told in the table of docs/storms.md, which it writes; on each rung, with nothing
    /// taken away, unless other cells are asked for
    #[arg(long)]
    storms: bool,
    /// Virtual processors of a guest
    #[arg(long, default_value_t = 1)]
    cpus: u16,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Seconds until a cell is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
    /// More words for the kernel's command line; `pw.fault=panic` and `pw.fault=hang` make it fail
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Put a program of this machine, with its libraries, into the guest; may be repeated
    #[arg(long, value_name = "PROGRAM")]
    add: Vec<PathBuf>,
    /// Build with the release profile
    #[arg(long)]
    release: bool,
    /// Keep initramfs, console log and report below target/vm
    #[arg(long)]
    keep: bool,
    /// Write docs/kernels.md also when not the whole matrix was run
    #[arg(long)]
    write: bool,
    /// Leave out the cells that were good with these very programs before
    #[arg(long)]
    resume: bool,
    /// Arguments of the suite
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Runs the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Matrix { outcomes, missing } = matrix(args)?;
    // Of each kernel that was run.
    let whole = args.arch == Arch::Amd64
        && missing.is_empty()
        && args.rungs.is_empty()
        && args.conditions.is_empty()
        && args.arguments.is_empty()
        && args.append.is_empty()
        && args.suite == SCENARIOS;
    if args.storms {
        if whole || args.write {
            document::write_storms(&host::root()?, &outcomes)?;
        }
    } else if (whole && args.kernels.is_empty()) || args.write {
        document::write(&host::root()?, &outcomes)?;
    }
    let bad = outcomes.iter().filter(|outcome| !outcome.good()).count();
    if bad > 0 {
        bail!("{bad} of {} cells failed", outcomes.len());
    }
    if !missing.is_empty() {
        bail!("not run: {}", missing.join(", "));
    }
    Ok(())
}

/// What a run showed.
pub(crate) struct Matrix {
    /// Of each cell.
    pub(crate) outcomes: Vec<Outcome>,
    /// The kernels that there are none of.
    pub(crate) missing: Vec<String>,
}

/// Keeps the folder of the guests for this run: another one would write its programs over those that guests boot from.
fn hold(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another `cargo xtask vm` runs in this tree; wait for its end, or stop it")
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Runs the cells that are asked for, prints the grid and returns what it was made of. A kernel that cannot be had does
/// not keep the others from being run.
pub(crate) fn matrix(args: &Args) -> Result<Matrix> {
    let started = Instant::now();
    machine::require(args.arch)?;
    let root = host::root()?;
    let mut asked = Vec::new();
    // A run without scenarios, or a smoke run on another architecture, has no use for the matrix.
    let unasked = args.rungs.is_empty() && args.conditions.is_empty();
    let plain = unasked && (args.suite != SCENARIOS || args.arch != Arch::Amd64);
    let rungs = match plain {
        true => vec![cell::BEST.to_owned()],
        false => args.rungs.clone(),
    };
    let workers = args.jobs.unwrap_or_else(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        processors.min(SIDE_BY_SIDE)
    });
    let all = KERNELS.map(str::to_owned);
    let kernels = match args.kernels.as_slice() {
        [] if args.arch == Arch::Amd64 => &all[..],
        [] => &[ELSEWHERE.to_owned()],
        some => some,
    };
    let mut cells = cell::choose(&rungs, &args.conditions)?;
    if args.storms && unasked {
        cells.retain(|cell| cell.condition.is_none() && cell.cpus.is_none());
    }
    let mut arguments = args.arguments.clone();
    arguments.extend(args.storms.then(|| "--part=storm".to_owned()));
    let boots = cell::boots(&cells, kernels.len(), workers);
    let mut missing = Vec::new();
    for wanted in kernels {
        match kernel::resolve(wanted, args.arch) {
            Ok(kernel) => asked.push((kernel, boots.clone())),
            // A wrong word is a mistake, and told before anything runs.
            Err(error) if kernels.len() > 1 && kernel::is_series(wanted) => {
                eprintln!("kernel {wanted} is left out: {error:#}");
                missing.push(wanted.clone());
            }
            Err(error) => return Err(error),
        }
    }
    if asked.is_empty() {
        bail!("none of these kernels can be had: {}", missing.join(", "));
    }
    let cross = match args.arch {
        Arch::Amd64 => None,
        Arch::Arm64 => Some(Cross::find(args.arch)?),
    };
    let suite = Suite::build(&root, &args.suite, args.release, cross.as_ref())?;
    let folder = root.join("target/vm");
    let _held = hold(&folder)?;
    let seen = Seen::of(&folder, &suite, &circumstances(args, &arguments))?;
    let mut jobs = jobs(&asked);
    let order: Vec<(String, String)> = jobs
        .iter()
        .flat_map(|job| {
            let kernel = &job.kernel.release;
            job.cells
                .iter()
                .map(move |cell| (kernel.clone(), cell.name.clone()))
        })
        .collect();
    let mut known = Vec::new();
    if args.resume {
        for job in &mut jobs {
            job.cells
                .retain(|cell| match seen.recall(&job.kernel.release, cell) {
                    Some(outcome) => {
                        known.push(outcome);
                        false
                    }
                    None => true,
                });
        }
        jobs.retain(|job| !job.cells.is_empty());
        println!("{} cells were good before", known.len());
    }
    let cells: usize = jobs.iter().map(|job| job.cells.len()).sum();
    let workers = workers.clamp(1, jobs.len().max(1));
    println!(
        "{cells} cells in {} boots, {workers} side by side",
        jobs.len()
    );
    let runner = Runner {
        machine: Machine {
            arch: args.arch,
            cpus: args.cpus,
            memory: args.memory,
            boot_limit: runner::BOOT_LIMIT,
            cell_limit: Duration::from_secs(args.timeout),
            quiet_limit: runner::QUIET_LIMIT,
            append: args.append.clone(),
            live: workers == 1,
        },
        suite: &suite,
        extra: &args.add,
        arguments: &arguments,
        folder,
        keep: args.keep,
        // A fault that is asked for is no result.
        seen: args.append.is_empty().then_some(&seen),
    };
    let (mut outcomes, broken) = runner.run(jobs, workers)?;
    missing.extend(broken);
    outcomes.extend(known);
    let place = |outcome: &Outcome| {
        let is_it = |(kernel, cell): &(String, String)| {
            *kernel == outcome.kernel && *cell == outcome.cell.name
        };
        order.iter().position(is_it)
    };
    outcomes.sort_by_key(place);
    println!("{}", grid::render(&outcomes));
    println!(
        "{} cells in {:.0} s",
        outcomes.len(),
        started.elapsed().as_secs_f32()
    );
    Ok(Matrix { outcomes, missing })
}

/// What the results are of besides the programs.
fn circumstances(args: &Args, arguments: &[String]) -> Vec<String> {
    let machine = format!(
        "{} processors, {} MiB, {:?}",
        args.cpus, args.memory, args.add
    );
    arguments.iter().cloned().chain([machine]).collect()
}

fn jobs(asked: &[(Kernel, Vec<Vec<cell::Cell>>)]) -> Vec<Job<'_>> {
    let of_kernel = |(kernel, boots)| Job {
        kernel,
        cells: boots,
    };
    asked
        .iter()
        .flat_map(|(kernel, boots)| boots.iter().map(move |cells| (kernel, cells.clone())))
        .map(of_kernel)
        .collect()
}
