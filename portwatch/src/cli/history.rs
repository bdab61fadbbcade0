//! `portwatch history`: events of the past, as the daemon kept them.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args;
use super::exit::Exit;
use super::failure::{Failure, note};
use super::human::Human;
use super::output::{Output, Written};
use super::sightings;
use super::signal::Interrupt;
use super::style::Terminal;
use crate::config::Paths;
use crate::filter::Filter;
use crate::history::{self, Past};
use crate::render::Format;

pub(super) fn run(args: &args::History, paths: &Paths) -> Result<Exit, Failure> {
    let last = args
        .last
        .map(|last| usize::try_from(last.get()).unwrap_or(usize::MAX));
    if args.listeners {
        let format = match args.output {
            args::Stream::Human => args::Output::Human,
            args::Stream::Json => args::Output::Json,
            _ => {
                return Err(Failure::new(
                    Exit::Usage,
                    "--listeners is no stream of events: -o human or json",
                ));
            }
        };
        return sightings::run(format, args.since, last, paths);
    }
    let filter = Filter::parse_args(&args.filter)?;
    let since = args.since.map(before_now).transpose()?;
    let interrupt = Interrupt::install().map_err(|error| {
        Failure::new(
            Exit::Io,
            format_args!("cannot prepare for signals: {error}"),
        )
    })?;
    let human = Human::new(Terminal::stdout(), TimeZone::system()).with_dates();
    let line = |past: &Past<'_>| match args.output.format() {
        None => human.line(&past.event).into_bytes(),
        // As it was written down.
        Some(Format::Json) => past.line.to_vec(),
        Some(format) => format.line(&past.event),
    };
    let stop = interrupt.stop();
    let mut output = Output::new(io::stdout(), interrupt.stop());
    let mut kept = VecDeque::new();
    let folder = history::folder(&paths.state_dir);
    let ended = history::read(&folder, since, |past| {
        if stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(Ok(interrupt.exit()));
        }
        if !filter.matches(&past.event) {
            return ControlFlow::Continue(());
        }
        let line = line(&past);
        let Some(last) = last else {
            return go_on(output.line(&line), &interrupt);
        };
        if kept.len() >= last {
            kept.pop_front();
        }
        kept.push_back(line);
        ControlFlow::Continue(())
    });
    let skipped = match ended.map_err(|error| cannot_read(&error, paths))? {
        ControlFlow::Continue(skipped) => skipped,
        ControlFlow::Break(end) => return end,
    };
    for line in kept {
        if let ControlFlow::Break(end) = go_on(output.line(&line), &interrupt) {
            return end;
        }
    }
    if let ControlFlow::Break(end) = go_on(output.flush(), &interrupt) {
        return end;
    }
    if skipped > 0 {
        note(format_args!(
            "{skipped} lines of the history are no events: cut off by a crash, or written by another version"
        ));
    }
    Ok(Exit::Ok)
}

/// The time that lies this long back.
pub(in crate::cli) fn before_now(span: std::time::Duration) -> Result<Timestamp, Failure> {
    Timestamp::now()
        .checked_sub(span)
        .map_err(|_| Failure::new(Exit::Usage, "--since lies before all time"))
}

fn go_on(
    written: io::Result<Written>,
    interrupt: &Interrupt,
) -> ControlFlow<Result<Exit, Failure>> {
    match written {
        Ok(Written::Done) => ControlFlow::Continue(()),
        Ok(Written::Closed) => ControlFlow::Break(Ok(Exit::Ok)),
        Ok(Written::Stopped) => ControlFlow::Break(Ok(interrupt.exit())),
        Err(error) => ControlFlow::Break(Err(super::cannot_write(error))),
    }
}

pub(super) fn cannot_read(error: &io::Error, paths: &Paths) -> Failure {
    let folder = history::folder(&paths.state_dir);
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Unavailable,
            format_args!(
                "there is no history in {folder}: the daemon keeps one while it runs, unless `max_age` in [history] is \"off\""
            ),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::NotPermitted,
            format_args!("the history in {folder} is for root alone"),
        ),
        _ => Failure::new(
            Exit::Io,
            format_args!("the history in {folder} cannot be read: {error}"),
        ),
    }
}
