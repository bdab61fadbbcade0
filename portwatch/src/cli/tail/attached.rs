//! `tail` attached to the running daemon.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::printer::Printer;
use crate::cli::args;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, note};
use crate::cli::history::before_now;
use crate::cli::ls::text;
use crate::cli::signal::Interrupt;
use crate::config::Paths;
use crate::history;
use crate::interface::client::{Client, Piece, Tail};
use crate::interface::protocol::MAX_SINCE_MS;

/// What the daemon takes; the history reaches further.
const MAX_SINCE: Duration = Duration::from_millis(MAX_SINCE_MS);

/// Prints what the daemon sends until something ends it.
pub(super) fn run(
    client: Client,
    args: &args::Tail,
    paths: &Paths,
    mut printer: Printer<impl AsFd>,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let since = args.since.map(|since| since.min(MAX_SINCE));
    let mut lines = client.tail(text(&args.filter), args.states, since)?;
    if let Some(since) = args.since {
        match (past(since, args, paths, &mut printer)?, lines.replay_from()) {
            (Ok(ControlFlow::Continue(())), _) | (Err(_), None) => {}
            (Ok(ControlFlow::Break(exit)), _) => return Ok(exit),
            (Err(error), Some(from)) => note(format_args!(
                "the daemon remembers no event from before {from}, and its history cannot be read: {error}"
            )),
        }
    }
    let mut block = String::new();
    loop {
        let shown = match lines.next_piece(&mut block) {
            Ok(Some(Piece::Lines)) => printer.received(&block)?,
            Ok(Some(Piece::States(states))) => printer.received_states(&states)?,
            Ok(Some(Piece::End)) => {
                let end = "the daemon has stopped; no more events will come";
                return ended(&mut printer, Failure::new(Exit::Unavailable, end));
            }
            Ok(None) => {
                let flushed = printer.flush()?;
                if flushed.is_continue() {
                    if !wait(&lines, interrupt)? {
                        return Ok(interrupt.exit());
                    }
                    if let Err(error) = lines.fill() {
                        return Err(error.into());
                    }
                }
                flushed
            }
            Err(error) => return ended(&mut printer, error.into()),
        };
        if let ControlFlow::Break(exit) = shown {
            return Ok(exit);
        }
    }
}

/// Prints what the daemon has forgotten and its history has kept.
fn past(
    since: Duration,
    args: &args::Tail,
    paths: &Paths,
    printer: &mut Printer<impl AsFd>,
) -> Result<io::Result<ControlFlow<Exit>>, Failure> {
    let since = before_now(since)?;
    let filter = args.filter()?;
    let read = history::read(&history::folder(&paths.state_dir), Some(since), |past| {
        if !filter.matches(&past.event) {
            return ControlFlow::Continue(());
        }
        match printer.past(&past) {
            Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
            ended => ControlFlow::Break(ended),
        }
    });
    Ok(match read {
        Ok(ControlFlow::Continue(_)) => Ok(ControlFlow::Continue(())),
        Ok(ControlFlow::Break(ended)) => Ok(ended?),
        Err(error) => Err(error),
    })
}

/// What came before the end is printed first.
fn ended(printer: &mut Printer<impl AsFd>, end: Failure) -> Result<Exit, Failure> {
    match printer.flush()? {
        ControlFlow::Continue(()) => Err(end),
        ControlFlow::Break(exit) => Ok(exit),
    }
}

/// Waits for the daemon; false when an end was asked for first.
fn wait(lines: &Tail, interrupt: &Interrupt) -> Result<bool, Failure> {
    loop {
        let mut fds = [
            PollFd::new(interrupt, PollFlags::IN),
            PollFd::new(lines, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => return Ok(fds[0].revents().is_empty()),
            Err(Errno::INTR) => {}
            Err(error) => {
                let sentence = format_args!("cannot wait for the daemon: {error}");
                return Err(Failure::new(Exit::Io, sentence));
            }
        }
    }
}
