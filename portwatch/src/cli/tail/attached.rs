//! `tail` attached to the running daemon.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::printer::Printer;
use crate::cli::args;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, note};
use crate::cli::ls::text;
use crate::cli::signal::Interrupt;
use crate::interface::client::{Client, Piece, Tail};

/// Prints what the daemon sends until something ends it.
pub(super) fn run(
    client: Client,
    args: &args::Tail,
    mut printer: Printer<impl AsFd>,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let mut lines = client.tail(text(&args.filter), args.states, args.since)?;
    if let Some(from) = lines.replay_from() {
        note(format_args!(
            "the daemon remembers no event from before {from}"
        ));
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
