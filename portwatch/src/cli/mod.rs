//! The command line: one file per command, one per output format.

mod alert;
pub mod args;
mod baseline;
mod check;
pub mod completions;
mod doctor;
pub mod exit;
mod explain;
pub mod failure;
mod history;
pub mod human;
mod log;
mod ls;
pub mod man;
mod matches;
pub mod output;
mod policy;
mod reload;
mod run;
pub mod schema;
mod sightings;
pub mod signal;
mod stats;
mod status;
mod storms;
pub mod style;
pub mod table;
mod tail;
mod verify;

use std::io::{self, Write as _};
use std::process::ExitCode;

use args::{Args, Command};
use exit::Exit;
use failure::Failure;

use crate::config::Paths;
use crate::config::paths::Given;

/// Does what the command line asks for; what goes wrong is said on standard error.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    dispatch(&args).map_or_else(
        |failure| {
            failure.report();
            failure.code().into()
        },
        ExitCode::from,
    )
}

fn dispatch(args: &Args) -> Result<Exit, Failure> {
    let paths = resolve(&args.paths);
    match &args.command {
        Command::Run(run) => run::run(run, &paths),
        Command::Tail(tail) => tail::run(tail, &paths),
        Command::History(wanted) => history::run(wanted, &paths),
        Command::Ls(ls) => ls::run(ls, &paths),
        Command::Status(report) => status::run(report, &paths),
        Command::Storms(report) => storms::run(report, &paths),
        Command::Stats(wanted) => stats::run(wanted, &paths),
        Command::Doctor(report) => doctor::run(report),
        Command::Check(check) => check::run(check, &paths),
        Command::Baseline(baseline) => baseline::run(baseline, &paths),
        Command::Match(wanted) => matches::run(wanted, &paths),
        Command::Policy(policy) => policy::run(policy, &paths),
        Command::Alert(alert) => alert::run(alert, &paths),
        Command::Reload => reload::run(&paths),
        Command::Explain(explain) => explain::run(explain, &paths),
        Command::Verify(wanted) => verify::run(wanted),
        Command::Schema => print(schema::event_schema_text().as_bytes()),
        Command::Completions(wanted) => {
            let mut script = Vec::new();
            completions::print(wanted.shell, &mut script).map_err(cannot_write)?;
            print(&script)
        }
        Command::Man(wanted) => manual(wanted),
    }
}

fn manual(wanted: &args::Man) -> Result<Exit, Failure> {
    if let Some(dir) = &wanted.dir {
        man::write_all(dir)?;
        return Ok(Exit::Ok);
    }
    let mut page = Vec::new();
    man::print(wanted.subcommand.as_deref(), &mut page)?;
    print(&page)
}

/// The places, of which the command line has read its own part of the environment; what is empty is unset.
fn resolve(paths: &args::Paths) -> Paths {
    let given =
        |path: &std::path::PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
    let given = Given {
        config: paths.config.as_ref().and_then(given),
        state_dir: given(&paths.state_dir),
        runtime_dir: given(&paths.runtime_dir),
    };
    Paths::resolve(given, |_| None)
}

/// Writes a complete result to standard output. A reader that wants no more of it is content.
fn print(text: &[u8]) -> Result<Exit, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(cannot_write(error)),
        _ => Ok(Exit::Ok),
    }
}

fn cannot_write(error: io::Error) -> Failure {
    Failure::new(
        Exit::Io,
        format_args!("cannot write to standard output: {error}"),
    )
}
