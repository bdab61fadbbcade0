//! `portwatch stats`: how many TCP sockets are in which state, where, and whose.

use super::args::{self, Output};
use super::exit::Exit;
use super::failure::{Failure, note};
use super::{print, status};
use crate::config::Paths;
use crate::daemon;
use crate::interface::client::{Client, ClientError};
use crate::interface::stats::Stats;

pub(super) fn run(wanted: &args::Stats, paths: &Paths) -> Result<Exit, Failure> {
    let stats = if wanted.no_daemon {
        look()?
    } else {
        ask(paths)?
    };
    match wanted.output {
        Output::Human => print(stats.human().as_bytes()),
        Output::Json => print(&status::json(&stats)?),
    }
}

fn ask(paths: &Paths) -> Result<Stats, Failure> {
    match Client::connect(&paths.runtime_dir) {
        Ok(client) => Ok(client.stats()?),
        Err(ClientError::NoDaemon(_)) => look(),
        Err(error @ ClientError::NotPermitted(_)) => {
            note(format_args!(
                "{error}; this is what can be seen without the daemon"
            ));
            look()
        }
        Err(error) => Err(error.into()),
    }
}

fn look() -> Result<Stats, Failure> {
    daemon::stats().map_err(|error| {
        Failure::new(
            Exit::Io,
            format_args!("TCP sockets cannot be counted: {error}; is /proc mounted?"),
        )
    })
}
