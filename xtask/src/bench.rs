//! `cargo xtask bench`: what watching costs and how fast it is, beside other tools, in one run.
//!
//! Everything that is compared runs on the same machine in the same minutes: in each round every way of
//! watching has its turn, and ratios are taken within a round.

mod chart;
mod churn;
mod estimate;
mod growth;
mod lab;
mod latency;
mod load;
mod machine;
mod markdown;
mod memory;
mod order;
mod policy;
mod probes;
mod process;
mod rate;
mod sinks;
mod size;
mod start;
mod storm;
mod table;
mod transition;
mod warden;
mod watcher;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::builder::PossibleValuesParser;
use portwatch::interface::status::Status;

use crate::host;
use lab::Lab;
use machine::Machine;
use table::{Results, Row, Run, SCHEMA, Section, Verdict};
use warden::Warden;

const DOCUMENT: &str = "docs/performance.md";
const NUMBERS: &str = "docs/performance.json";
const PICTURE: &str = "docs/performance.svg";
/// Rounds of a quick run.
const QUICK_ROUNDS: usize = 3;

/// A benchmark.
struct Bench {
    /// As `--only` takes it.
    name: &'static str,
    /// What it measures.
    title: &'static str,
    /// Measures.
    run: fn(&Lab) -> Result<Vec<Row>>,
}

/// All of them, in the order of the document.
const ALL: [Bench; 11] = [
    rate::BENCH,
    transition::BENCH,
    latency::BENCH,
    churn::BENCH,
    start::BENCH,
    memory::BENCH,
    growth::BENCH,
    storm::BENCH,
    policy::BENCH,
    sinks::BENCH,
    size::BENCH,
];

/// Arguments of the chore.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run this benchmark; may be repeated
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(ALL.map(|bench| bench.name)))]
    only: Vec<String>,
    /// Rounds, of which each way of watching has one turn; slow benchmarks make fewer
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Small counts, short times and three rounds at most; changes no document
    #[arg(long)]
    quick: bool,
    /// Short-lived listeners of `churn`; 100000 without, 5000 in a quick run
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    listeners: Option<u32>,
    /// Measure this program; without, the release profile is built. Changes no document
    #[arg(long, value_name = "PROGRAM")]
    portwatch: Option<PathBuf>,
}

/// Runs the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !host::is_root() {
        bail!("benchmarks load probes and need root; run `cargo xtask bench` as root");
    }
    let root = host::root()?;
    let wanted =
        |bench: &&Bench| args.only.is_empty() || args.only.iter().any(|name| name == bench.name);
    let rounds = usize::from(args.rounds);
    let portwatch = match &args.portwatch {
        Some(program) => program
            .canonicalize()
            .with_context(|| format!("cannot find {}", program.display()))?,
        None => build(&root, &["--release", "--package", "portwatch"])?.join("portwatch"),
    };
    let programs = build(&root, &["--package", "portwatch-tests", "--bins"])?;
    let lab = Lab {
        portwatch,
        programs,
        rounds: if args.quick {
            rounds.min(QUICK_ROUNDS)
        } else {
            rounds
        },
        quick: args.quick,
        listeners: args.listeners,
        warden: Warden::new()?,
    };
    let foreign_programs = probes::loaded();
    if foreign_programs > 0 {
        println!("NOTICE: {foreign_programs} BPF programs are loaded already; they cost too");
    }
    let about = lab.daemon("")?.status()?;
    let mut sections = Vec::new();
    let mut failed = Vec::new();
    for bench in ALL.iter().filter(wanted) {
        println!("=== {}: {}", bench.name, bench.title);
        let run = Run {
            version: about.version.clone(),
            rounds: lab.rounds,
            load: machine::load(),
            foreign_programs,
            mechanism: mechanism(&about, "tcp.listen"),
        };
        match (bench.run)(&lab) {
            Ok(rows) => sections.push(Section {
                name: bench.name.to_owned(),
                title: bench.title.to_owned(),
                run,
                rows,
            }),
            Err(error) => {
                println!("error: {error:#}");
                failed.push(bench.name);
            }
        }
    }
    drop(lab);
    report(&root, sections, args.quick || args.portwatch.is_some())?;
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

/// Prints the tables, and keeps them unless the run was not a real one.
fn report(root: &Path, sections: Vec<Section>, only_print: bool) -> Result<()> {
    let rows = || sections.iter().flat_map(|section| &section.rows);
    let fare = |wanted: &[Verdict]| {
        let verdicts = rows().filter_map(Row::verdict);
        verdicts.filter(|verdict| wanted.contains(verdict)).count()
    };
    for section in &sections {
        println!("\n{}", markdown::table(section));
    }
    println!(
        "budgets: {} met, {} not met, {} undecided",
        fare(&[Verdict::Met]),
        fare(&[Verdict::NotMet]),
        fare(&[Verdict::PerhapsMet, Verdict::PerhapsNot])
    );
    if only_print || sections.is_empty() {
        return Ok(());
    }
    let new = Results {
        schema: SCHEMA.to_owned(),
        machine: Machine::here(),
        sections,
    };
    // One that cannot be read is of another form, and is written anew.
    let old = fs::read(root.join(NUMBERS)).ok();
    let old = old.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let results = Results::updated(old, new, &ALL.map(|bench| bench.name));
    let path = root.join(DOCUMENT);
    let document =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut numbers = serde_json::to_string_pretty(&results).context("cannot write JSON")?;
    numbers.push('\n');
    write(root, DOCUMENT, &markdown::replace(&document, &results)?)?;
    write(root, NUMBERS, &numbers)?;
    if let Some(picture) = chart::draw(&results) {
        write(root, PICTURE, &picture)?;
    }
    Ok(())
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))?;
    println!("wrote {path}");
    Ok(())
}

/// What tells of this signal here.
fn mechanism(status: &Status, signal: &str) -> String {
    let ours = status.mechanisms.iter().find(|one| one.signal == signal);
    let mechanism = ours.and_then(|one| one.mechanism);
    let word = mechanism.and_then(|mechanism| serde_json::to_value(mechanism).ok());
    let word = word.as_ref().and_then(serde_json::Value::as_str);
    word.unwrap_or("nothing").to_owned()
}

/// Builds, and gives the folder of the programs.
fn build(root: &Path, arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    host::run(cargo.arg("build").args(arguments).current_dir(root))?;
    let profile = if arguments.contains(&"--release") {
        "release"
    } else {
        "debug"
    };
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(profile))
}
