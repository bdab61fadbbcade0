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
use crate::interface::client::{Client, Tail};

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
        if !lines.has_buffered_line() {
            if let ControlFlow::Break(exit) = printer.flush()? {
                return Ok(exit);
            }
            if !wait(&lines, interrupt)? {
                return Ok(interrupt.exit());
            }
        }
        let end: Failure = match lines.next_block(&mut block) {
            Ok(true) => match printer.received(&block)? {
                ControlFlow::Continue(()) => continue,
                ControlFlow::Break(exit) => return Ok(exit),
            },
            Ok(false) => Failure::new(
                Exit::Unavailable,
                "the daemon has stopped; no more events will come",
            ),
            Err(error) => error.into(),
        };
        return match printer.flush()? {
            ControlFlow::Continue(()) => Err(end),
            ControlFlow::Break(exit) => Ok(exit),
        };
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
