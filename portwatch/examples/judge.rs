//! How long it takes to judge one event by many rules, of which the last or none matches: nanoseconds, as JSON.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use portwatch::config::paths::Given;
use portwatch::config::{self, Paths};
use portwatch::event::Event;
use portwatch::event::example::examples;
use portwatch::policy::{Facts, Policy};
use serde_json::json;

/// Measures how long it takes to judge one event.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rules.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    rules: u32,
    /// Events that are judged.
    #[arg(long, default_value_t = 20_000)]
    events: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let event = examples().into_iter().next().context("an example")?;
    // Where every rule is about another port; and where every rule must look at the executable.
    let ports = measure(arguments, &event, |rule| {
        format!(
            "port = {}\nunit = \"x{rule}.service\"",
            1_000 + rule % 60_000
        )
    })?;
    let programs = measure(arguments, &event, |rule| {
        format!("exe = \"/opt/app-{rule}/bin/*\"")
    })?;
    let expressions = measure(arguments, &event, |rule| {
        format!("match = \"user == root and cwd == '/srv/{rule}'\"")
    })?;
    println!(
        "{}",
        json!({"rules": arguments.rules, "ports_ns": ports, "programs_ns": programs, "expressions_ns": expressions})
    );
    Ok(())
}

fn measure(arguments: &Arguments, event: &Event, rule: impl Fn(u32) -> String) -> Result<f64> {
    let mut text = String::new();
    for number in 0..arguments.rules {
        write!(
            text,
            "[[allow]]\nname = \"rule {number}\"\n{}\n",
            rule(number)
        )?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("portwatch.toml");
    fs::write(&file, text)?;
    let given = Given {
        config: Some(file),
        ..Given::default()
    };
    let loaded = config::load(&Paths::resolve(given, |_| None))?;
    let policy = Policy::new(loaded.config.rules);
    let judge = || {
        let facts = Facts::of(black_box(event), 1)?;
        Some(policy.decide(&facts))
    };
    let decision = judge().context("the event has a socket")?;
    ensure!(&*decision.rule == "default", "{} decided", decision.rule);
    let began = Instant::now();
    for _ in 0..arguments.events {
        black_box(judge());
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(arguments.events))
}
