//! `portwatch status`: is the daemon watching, how, and what was lost.

use super::args::{self, Output};
use super::exit::Exit;
use super::failure::Failure;
use super::print;
use super::style::Terminal;
use crate::config::Paths;
use crate::interface::client::Client;

pub(super) fn run(report: &args::Report, paths: &Paths) -> Result<Exit, Failure> {
    let status = Client::connect(&paths.runtime_dir)?.status()?;
    match report.output {
        Output::Human => print(status.human(Terminal::stdout().colour).as_bytes()),
        Output::Json => print(&json(&status)?),
    }
}

/// One line of JSON.
pub(super) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| {
        Failure::new(
            Exit::Software,
            format_args!("bug: the answer is no JSON: {error}"),
        )
    })?;
    line.push(b'\n');
    Ok(line)
}
