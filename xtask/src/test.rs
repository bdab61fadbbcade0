//! `cargo xtask test`: every test there is, in steps, and one line that adds them up.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use crate::fuzz;
use crate::host;
use crate::results::{self, Counts};
use crate::servers;
use crate::sigma;
use crate::vm;

/// The part of the VM's matrix that fits into every run of the tests: every rung on one kernel, without what the kernel has no part
/// in. `cargo xtask vm` runs all of it.
const RUNGS: [&str; 6] = [
    "fexit",
    "kretprobe",
    "cgroup",
    "tp_btf",
    "tracepoint",
    "reconcile",
];
/// So many of them at once: no guest waits for another.
const SIDE_BY_SIDE: usize = 2;
/// After so long no further rungs are begun in VMs, so that a slow machine comes to an end too.
const LONG: Duration = Duration::from_secs(65 * 60);
const VM_KERNEL: &str = "6.1";
/// Of what the kernel has a part in, this runs on this machine's kernel only: hostile texts, floods and scans take minutes for each
/// rung where they are emulated.
const NOT_IN_VM: [&str; 8] = [
    "hostile::",
    "identity::",
    "loss::",
    "episodes::",
    "floods::",
    "kinds::",
    "scans::",
    "storm::",
];
/// Seconds for each fuzz target.
const FUZZ_SECONDS: u32 = 15;

/// What the live scenarios start: a command, and the Debian package that has it.
const NEEDS: [(&str, &str); 15] = [
    ("nginx", "nginx-light"),
    ("redis-server", "redis-server"),
    ("python3", "python3"),
    ("openssl", "openssl"),
    ("sshd", "openssh-server"),
    ("dnsmasq", "dnsmasq-base"),
    ("dovecot", "dovecot-imapd"),
    // Beside the one above; it has no command of its own.
    ("/usr/lib/dovecot/pop3", "dovecot-pop3d"),
    ("logrotate", "logrotate"),
    ("kcat", "kcat"),
    ("wrk", "wrk"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nmap", "nmap"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// The same where the package starts a service of the host's: its program alone is taken, by this path in it.
const UNPACKED: [(&str, &str); 4] = [
    ("usr/bin/prometheus-alertmanager", "prometheus-alertmanager"),
    ("usr/bin/prometheus", "prometheus"),
    ("usr/sbin/rsyslogd", "rsyslog"),
    ("usr/sbin/syslog-ng", "syslog-ng-core"),
];

/// Arguments of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave a step out; may be repeated
    #[arg(long, value_name = "STEP", conflicts_with = "only")]
    skip: Vec<Step>,
    /// Run this step; may be repeated
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
}

/// The steps, in the order in which they run: cheap ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Install the programs that the tests start
    Needs,
    /// `cargo fmt --check`
    Fmt,
    /// Licences, sources and advisories of the dependencies, where cargo-deny is installed
    Deny,
    /// `cargo clippy`, warnings are errors
    Clippy,
    /// Unit, property and manifest tests
    Unit,
    /// Generated documents are up to date
    Gen,
    /// The eBPF object is what the sources build, byte for byte
    Ebpf,
    /// The fuzz targets, for a short time each
    Fuzz,
    /// What the scenarios' triggers do, held against `/proc`
    Triggers,
    /// Scenarios on this machine's kernel
    Scenarios,
    /// Real programs on this machine's kernel
    Programs,
    /// Scenarios in VMs: kernels, mechanisms, and things taken away
    Vm,
}

/// How a step ended when nothing went wrong.
enum Done {
    /// It ran.
    Ran,
    /// It could not run here, and why.
    Skipped(&'static str),
    /// There was no time for the rest, which is this.
    InPart(String),
}

/// Runs the chore. A failed step does not hide the ones after it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let begun = Instant::now();
    let mut total = Counts::default();
    let mut failed_steps = Vec::new();
    let mut summary = Vec::new();
    for &step in Step::value_variants() {
        let wanted = args.only.is_empty() || args.only.contains(&step);
        if !wanted || args.skip.contains(&step) {
            continue;
        }
        let name = format!("{step:?}").to_lowercase();
        println!("\n=== {name}");
        let started = Instant::now();
        let mut counts = Counts::default();
        let word = match step.run(begun, &mut counts) {
            Ok(Done::Ran) => "ok".to_owned(),
            Ok(Done::Skipped(why)) => format!("skipped: {why}"),
            Ok(Done::InPart(rest)) => format!("ok, but no time was left for: {rest}"),
            Err(error) => {
                println!("error: {error:#}");
                // A step that failed without a failed test is a failure all the same.
                counts.failed = counts.failed.max(1);
                failed_steps.push(name.clone());
                "FAILED".to_owned()
            }
        };
        total += counts;
        let took = started.elapsed().as_secs_f32();
        let line = format!(
            "{name:<10} {took:>7.1} s  {:>5} passed  {:>3} failed  {word}",
            counts.passed, counts.failed
        );
        println!("=== {line}");
        summary.push(line);
    }
    println!("\n{}\n", summary.join("\n"));
    println!("{} passed, {} failed", total.passed, total.failed);
    if !failed_steps.is_empty() {
        bail!("failed: {}", failed_steps.join(", "));
    }
    Ok(())
}

impl Step {
    /// Runs the step; adds the tests it ran to `counts`, also when it fails.
    fn run(self, begun: Instant, counts: &mut Counts) -> Result<Done> {
        match self {
            Self::Needs => return needs(),
            Self::Fmt => host::run(&mut cargo(&["fmt", "--all", "--check"]))?,
            Self::Deny if host::find("cargo-deny").is_none() => {
                return Ok(Done::Skipped("cargo-deny is not installed"));
            }
            Self::Deny => host::run(&mut cargo(&["deny", "check"]))?,
            Self::Clippy => {
                host::run(&mut cargo(&["clippy", "--all-targets", "--", "-Dwarnings"]))?;
            }
            Self::Unit => {
                let packages = ["portwatch", "portwatch-common", "xtask"];
                let mut tests = cargo(&["test", "--no-fail-fast"]);
                tests.args(packages.iter().flat_map(|package| ["--package", package]));
                let harness = ["test", "--package", "portwatch-tests", "--lib", "--bins"];
                // The harness is tested too when the first command fails.
                tally(&mut tests, counts).and(tally(&mut cargo(&harness), counts))?;
            }
            Self::Gen => host::run(&mut xtask(&["gen", "--check"])?)?,
            Self::Ebpf => host::run(&mut xtask(&["ebpf", "--check"])?)?,
            Self::Fuzz => fuzz::search(FUZZ_SECONDS)?,
            Self::Triggers => return live("triggers", counts),
            Self::Scenarios => return live("scenarios", counts),
            Self::Programs => return live("programs", counts),
            Self::Vm => return in_vm(begun, counts),
        }
        Ok(Done::Ran)
    }
}

/// What packages are for.
const WHY: &str = "the tests with real programs";

fn needs() -> Result<Done> {
    let missing = NEEDS
        .iter()
        .filter(|(command, _)| host::find(command).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !packages.is_empty() {
        host::install(&packages, WHY)?;
    }
    let tools = host::tools()?;
    let is_missing = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        host::find(name).is_none() && !tools.join(path).exists()
    };
    let missing = UNPACKED.iter().filter(|(path, _)| is_missing(path));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !packages.is_empty() {
        host::unpack(&packages, WHY)?;
    }
    sigma::fetch()?;
    servers::fetch().context("the tests of mail and of sinks need servers")?;
    Ok(Done::Ran)
}

/// A suite of portwatch-tests on this machine's kernel.
fn live(suite: &str, counts: &mut Counts) -> Result<Done> {
    if !host::is_root() {
        return Ok(Done::Skipped("loading probes needs root"));
    }
    // The suites start the program by its path, of which cargo knows nothing.
    host::run(&mut cargo(&["build", "--package", "portwatch", "--bins"]))?;
    tally(
        &mut cargo(&["test", "--package", "portwatch-tests", "--test", suite]),
        counts,
    )?;
    Ok(Done::Ran)
}

/// Every rung on one kernel, as far as there is time.
fn in_vm(begun: Instant, counts: &mut Counts) -> Result<Done> {
    let mut bad = Vec::new();
    let mut rest = RUNGS.chunks(SIDE_BY_SIDE);
    for rungs in rest.by_ref() {
        let outcomes = cells(rungs)?;
        for outcome in &outcomes {
            *counts += outcome.counts.unwrap_or_default();
        }
        let failed = outcomes.iter().filter(|outcome| !outcome.good());
        bad.extend(failed.map(|outcome| outcome.cell().to_owned()));
        if begun.elapsed() >= LONG {
            break;
        }
    }
    if !bad.is_empty() {
        bail!("not passed on kernel {VM_KERNEL}: {}", bad.join(", "));
    }
    let rest: Vec<&str> = rest.flatten().copied().collect();
    Ok(match rest.is_empty() {
        true => Done::Ran,
        false => Done::InPart(rest.join(", ")),
    })
}

/// These rungs on one kernel.
fn cells(rungs: &[&str]) -> Result<Vec<vm::Outcome>> {
    #[derive(Parser)]
    struct Chore {
        #[command(flatten)]
        args: vm::Args,
    }
    let mut words: Vec<String> = ["vm", "--kernel", VM_KERNEL].map(str::to_owned).to_vec();
    words.extend(rungs.iter().map(|rung| format!("--rung={rung}")));
    words.push("--".to_owned());
    words.extend(NOT_IN_VM.map(|module| format!("--skip={module}")));
    let matrix = vm::matrix(&Chore::try_parse_from(words)?.args)?;
    if !matrix.missing.is_empty() {
        bail!("not run: {}", matrix.missing.join(", "));
    }
    Ok(matrix.outcomes)
}

/// Runs a test command, shows its output as it comes and adds up its result lines.
fn tally(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read the tests' output")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            *counts += results::counts(&line).unwrap_or_default();
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("`cargo test` failed: {status}");
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args);
    cargo
}

/// Another chore, in a process of its own, so that its failure is only a step's failure.
fn xtask(args: &[&str]) -> Result<Command> {
    let mut xtask = Command::new(std::env::current_exe().context("cannot find this program")?);
    xtask.args(args);
    Ok(xtask)
}
