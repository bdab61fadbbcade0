//! A long run of everything at once: real programs, scripted processes, floods and rude clients come and
//! go at random, and portwatch must tell of every listener and not grow.
//!
//! `cargo xtask soak` builds and starts it. Needs root. Loopback and namespaces of its own only; what it
//! starts is bounded in number and ends with it. The ledger of what really happened is kept here, and held
//! against `tail`, against `ls` every minute, and against the kernel's tables.

mod actors;
mod audit;
mod chance;
mod chart;
mod flatness;
mod guests;
mod judge;
mod kernel_view;
mod programs;
mod report;
mod run;
mod sample;
mod stage;
mod stream;
mod truth;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use judge::judge;
use report::{Report, Setting};
use run::Run;
use verdict::Verdict;

/// Random programs come and go; was every listener told, and is the daemon's memory flat?
#[derive(Debug, Parser)]
struct Arguments {
    /// How long, after the daemon's tables have been filled.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    /// What happens, and in which order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Others make this machine busy: a loss that a gap tells of is reported, but is no failure.
    #[arg(long)]
    crowded: bool,
    /// How the portwatch under test was built, for the report.
    #[arg(long, default_value = if cfg!(debug_assertions) { "debug" } else { "release" })]
    build: String,
    /// Where the report goes.
    #[arg(long, default_value = "target/soak")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match soak(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Is all well?
fn soak(arguments: &Arguments) -> Result<bool> {
    let setting = Setting {
        seed: arguments.seed,
        minutes: arguments.minutes,
        build: arguments.build.clone(),
    };
    let mut run = Run::new(arguments.seed)?;
    let outcome = run.play(arguments.minutes)?;
    let story = run.stream.story();
    let except = [std::process::id(), run.daemon.pid()];
    let judgement = judge(
        run.stage.truth.listeners(),
        &story.told,
        &story.gaps,
        &except,
    );
    let verdict = Verdict::new(&judgement, &story, &outcome, arguments.crowded);
    let report = Report {
        setting: &setting,
        outcome: &outcome,
        judgement: &judgement,
        story: &story,
        verdict: &verdict,
    };
    report.write(&arguments.out)?;
    println!("{}", verdict.headline());
    println!("report: {}", arguments.out.join("report.md").display());
    Ok(verdict.failures.is_empty())
}
