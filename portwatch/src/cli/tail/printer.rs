//! The printing end of `tail`: one format, a count, and the reasons to stop.

use std::io::{self, Stdout};
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use jiff::tz::TimeZone;

use crate::cli::args::{self, Output as Format};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::human::Human;
use crate::cli::output::{Output, Written};
use crate::cli::signal::Interrupt;
use crate::cli::style::Terminal;
use crate::event::Event;
use crate::sink::{Line, Numbering};

/// An event in the form in which it came.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    /// From a pipeline of our own.
    Published(&'a Line),
    /// From the daemon: a line of JSON.
    Received(&'a str),
}

/// Prints events until it has printed enough.
pub(super) struct Printer<F> {
    output: Output<F>,
    interrupt: Interrupt,
    /// Absent for JSON.
    human: Option<Human>,
    /// Of lines from a pipeline of our own; the daemon numbers what it sends.
    numbering: Numbering,
    numbered: Vec<u8>,
    /// Events that may still be printed, with `--count`.
    left: Option<u64>,
}

impl Printer<Stdout> {
    /// Prints to standard output.
    pub(super) fn new(tail: &args::Tail, interrupt: Interrupt) -> Self {
        let human = match tail.output {
            Format::Human => Some(Human::new(Terminal::stdout(), TimeZone::system())),
            Format::Json => None,
        };
        Self {
            output: Output::new(io::stdout(), interrupt.stop()),
            interrupt,
            human,
            numbering: Numbering::default(),
            numbered: Vec::new(),
            left: tail.count.map(Into::into),
        }
    }
}

impl<F: AsFd> Printer<F> {
    /// Adds an event; breaks when it was the last one to be printed.
    pub(super) fn show(&mut self, item: Item<'_>) -> Result<ControlFlow<Exit>, Failure> {
        let written = self.write_line(item)?;
        if self.judge(written).is_break() {
            return Ok(self.judge(written));
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let flushed = self.flush()?;
                return Ok(if flushed.is_break() {
                    flushed
                } else {
                    ControlFlow::Break(Exit::Ok)
                });
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Writes what waits: at the end of each batch.
    pub(super) fn flush(&mut self) -> Result<ControlFlow<Exit>, Failure> {
        let written = self.output.flush().map_err(crate::cli::cannot_write)?;
        Ok(self.judge(written))
    }

    /// The one place where an event becomes a line of output.
    fn write_line(&mut self, item: Item<'_>) -> Result<Written, Failure> {
        let written = match (&self.human, item) {
            (None, Item::Published(line)) => {
                self.numbered.clear();
                self.numbering.append(line, &mut self.numbered);
                self.output.line(&self.numbered)
            }
            (None, Item::Received(json)) => self.output.line(json.as_bytes()),
            (Some(human), Item::Published(line)) => {
                self.output.line(human.line(line.event()).as_bytes())
            }
            (Some(human), Item::Received(json)) => {
                self.output.line(human.line(&parse(json)?).as_bytes())
            }
        };
        written.map_err(crate::cli::cannot_write)
    }

    fn judge(&self, written: Written) -> ControlFlow<Exit> {
        match written {
            Written::Done => ControlFlow::Continue(()),
            Written::Closed => ControlFlow::Break(Exit::Ok),
            Written::Stopped => ControlFlow::Break(self.interrupt.exit()),
        }
    }
}

fn parse(json: &str) -> Result<Event, Failure> {
    serde_json::from_str(json).map_err(|error| {
        Failure::new(
            Exit::Software,
            format_args!(
                "what came from the daemon is not an event ({error}): are client and daemon of one version?"
            ),
        )
    })
}
