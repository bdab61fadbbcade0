//! `portwatch tail`: events as they happen, from the daemon or, where none runs, from probes of our own.

mod attached;
mod direct;
mod printer;

use tracing::level_filters::LevelFilter;

use super::args;
use super::exit::Exit;
use super::failure::Failure;
use super::log;
use super::signal::Interrupt;
use crate::config::Paths;
use crate::interface::client::{Client, ClientError};
use printer::Printer;

pub(super) fn run(tail: &args::Tail, paths: &Paths) -> Result<Exit, Failure> {
    let filter = tail.filter()?;
    // Whoever asks for the probes' words wants to read them.
    let level = match tail.probing.kernel_log {
        Some(_) => LevelFilter::INFO,
        None => LevelFilter::WARN,
    };
    log::start(level);
    let client = if tail.no_daemon {
        None
    } else {
        connect(paths)?
    };
    check(tail, client.is_some())?;
    let interrupt = Interrupt::install().map_err(|error| {
        Failure::new(
            Exit::Io,
            format_args!("cannot prepare for signals: {error}"),
        )
    })?;
    let printer = Printer::new(tail, interrupt.clone());
    match client {
        Some(client) => attached::run(client, tail, paths, printer, &interrupt),
        None => direct::run(tail, paths, filter, printer, &interrupt),
    }
}

fn connect(paths: &Paths) -> Result<Option<Client>, Failure> {
    match Client::connect(&paths.runtime_dir) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoDaemon(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Options that belong to the other way of watching.
fn check(tail: &args::Tail, has_daemon: bool) -> Result<(), Failure> {
    let sentence = match has_daemon {
        true if tail.probing.is_given() => {
            "--rung and --kernel-log concern probes of our own, but a daemon runs: add --no-daemon"
        }
        false if tail.since.is_some() && tail.no_daemon => {
            "--since needs the daemon, which remembers: leave --no-daemon out"
        }
        false if tail.since.is_some() => {
            "--since needs the daemon, which remembers, and none runs: start one with \
             `systemctl start portwatch`, or leave --since out"
        }
        _ => return Ok(()),
    };
    Err(Failure::new(Exit::Usage, sentence))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn code(args: &[&str], has_daemon: bool) -> u8 {
        let args = [&["portwatch", "tail"], args].concat();
        let args = args::Args::try_parse_from(args).expect("right");
        let args::Command::Tail(tail) = args.command else {
            panic!("tail")
        };
        check(&tail, has_daemon).map_or_else(|failure| failure.code(), |()| 0)
    }

    #[test]
    fn options_of_the_other_way_are_refused() {
        assert_eq!(code(&["--since", "1m"], true), 0);
        assert_eq!(code(&["--since", "1m"], false), 64);
        assert_eq!(code(&["--since", "1m", "--no-daemon"], false), 64);
        assert_eq!(code(&["--rung", "tp_btf"], true), 64);
        assert_eq!(code(&["--kernel-log", "off"], true), 64);
        assert_eq!(code(&["--rung", "tp_btf"], false), 0);
        assert_eq!(code(&["--states", "--count", "1"], true), 0);
    }
}
