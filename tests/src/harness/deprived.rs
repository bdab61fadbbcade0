//! The scenario that stands before all others when something was taken away: portwatch keeps to the
//! claim of the condition.

use std::process::Output;

use anyhow::{Context as _, Result, bail, ensure};

use super::condition::Claim;
use super::rungs::Rung;
use super::suite::{Company, Context, Outcome, Part, Scenario};
use super::watch::{self, Watch};

/// The scenario.
pub const SCENARIO: Scenario = Scenario {
    name: "condition::claim_is_kept",
    run: claim_is_kept,
    company: Company::Together,
    part: Part::Kernel,
};

/// The answer of `doctor -o json`.
///
/// # Errors
/// portwatch cannot be started.
pub fn doctor(rung: Option<&str>) -> Result<Output> {
    let mut args = vec!["doctor".to_owned(), "-o".to_owned(), "json".to_owned()];
    args.extend(watch::rung_args(rung));
    watch::output(&args)
}

fn claim_is_kept(context: &Context) -> Result<Outcome> {
    let condition = context.condition().context("there is no condition")?;
    match condition.claim {
        Claim::Refuses(names) => return refuses(names).map(Into::into),
        Claim::Whole => whole(context.watch()?)?,
        Claim::Says(words) => says(context, words)?,
        Claim::WholeOrSays(words) => {
            let watch = context.watch()?;
            whole(watch).or_else(|_| says(context, words))?;
        }
    }
    Ok(Outcome::Done)
}

/// The best rung, and no complaint.
fn whole(watch: &Watch) -> Result<()> {
    let rung = watch.rung();
    ensure!(
        rung == Rung::Fexit,
        "the rung in use is {}, {}",
        rung.name(),
        complaints(watch)
    );
    let complaints = complaints(watch);
    ensure!(
        complaints.is_empty(),
        "it should miss nothing: {complaints}"
    );
    Ok(())
}

/// In the stream, or by `doctor`, for every word.
fn says(context: &Context, words: &[&str]) -> Result<()> {
    let told = complaints(context.watch()?);
    let doctor = doctor(context.rung())?;
    let doctor = String::from_utf8_lossy(&doctor.stdout);
    for word in words {
        ensure!(
            told.contains(word) || doctor.contains(word),
            "neither sensor.degraded nor doctor says {word:?}: {told}; doctor: {doctor}"
        );
    }
    Ok(())
}

fn complaints(watch: &Watch) -> String {
    let all = watch.all(|event| event.kind() == "sensor.degraded");
    let texts: Vec<String> = all
        .iter()
        .map(|event| event.at("sensor").to_string())
        .collect();
    texts.join("\n")
}

/// Ends with 77, nothing on standard output, and every name in the one sentence on standard error.
fn refuses(names: &[&str]) -> Result<()> {
    for command in [&["tail", "--no-daemon", "-o", "json"][..], &["run"]] {
        let told = watch::output(command)?;
        let text = String::from_utf8_lossy(&told.stderr);
        if told.status.code() != Some(77) || !told.stdout.is_empty() {
            bail!(
                "{command:?} ended with {}, not with 77: {text}",
                told.status
            );
        }
        for name in names {
            ensure!(
                text.contains(name),
                "{command:?} does not name {name}: {text}"
            );
        }
    }
    Ok(())
}
