//! The printing end of `tail`: one format, a count, and the reasons to stop.

use std::collections::VecDeque;
use std::io::{self, Stdout};
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::cli::args;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::human::Human;
use crate::cli::output::{Output, Written};
use crate::cli::signal::Interrupt;
use crate::cli::style::Terminal;
use crate::event::Event;
use crate::history::Past;
use crate::render::Format;
use crate::sink::{Limits, Line, Numbering, States};

/// How an event is shown.
enum Style {
    /// Our own JSON, which is mostly at hand.
    Json,
    /// A sentence.
    Human(Human),
    /// In another model's words.
    Rendered(Format),
}

impl Style {
    /// Adds an event that is not at hand as JSON.
    fn show<F: AsFd>(&self, event: &Event, output: &mut Output<F>) -> io::Result<Written> {
        match self {
            Self::Json => output.append(|out| Format::Json.append(event, out)),
            Self::Human(human) => output.line(human.line(event).as_bytes()),
            Self::Rendered(format) => output.append(|out| format.append(event, out)),
        }
    }
}

/// Prints events until it has printed enough.
pub(super) struct Printer<F> {
    output: Output<F>,
    interrupt: Interrupt,
    style: Style,
    /// Of events from a pipeline of our own; the daemon numbers its own, unless the past came before it.
    numbering: Numbering,
    /// Events that came out of the history, which the daemon may send again; none when nothing came out of it.
    past: Option<VecDeque<Uuid>>,
    /// Events that may still be printed, with `--count`.
    left: Option<u64>,
}

impl Printer<Stdout> {
    /// Prints to standard output.
    pub(super) fn new(tail: &args::Tail, interrupt: Interrupt) -> Self {
        let style = match tail.output.format() {
            None => Style::Human(Human::new(Terminal::stdout(), TimeZone::system())),
            Some(Format::Json) => Style::Json,
            Some(format) => Style::Rendered(format),
        };
        Self {
            output: Output::new(io::stdout(), interrupt.stop()),
            interrupt,
            style,
            numbering: Numbering::default(),
            past: None,
            left: tail.count.map(Into::into),
        }
    }
}

impl<F: AsFd> Printer<F> {
    /// Adds an event of a pipeline of our own; breaks when it was the last one to be printed.
    pub(super) fn published(&mut self, line: &Line) -> Result<ControlFlow<Exit>, Failure> {
        let Self {
            output,
            style,
            numbering,
            ..
        } = self;
        let written = match style {
            Style::Json => output.append(|out| numbering.append(line, out)),
            _ => style.show(&numbering.event(line), output),
        };
        self.shown(written)
    }

    /// The same for a state change of a batch.
    pub(super) fn state(
        &mut self,
        states: &States,
        index: usize,
    ) -> Result<ControlFlow<Exit>, Failure> {
        let Self {
            output,
            style,
            numbering,
            ..
        } = self;
        let written = match style {
            Style::Json => output.append(|out| numbering.append_state(states, index, out)),
            _ => match numbering.state_event(states, index) {
                Some(event) => style.show(&event, output),
                None => return Ok(ControlFlow::Continue(())),
            },
        };
        self.shown(written)
    }

    /// The same for an event of the history. What the daemon still remembers of it is not shown again.
    pub(super) fn past(&mut self, past: &Past<'_>) -> Result<ControlFlow<Exit>, Failure> {
        let shown = self.past.get_or_insert_default();
        // The daemon remembers the last ones.
        if shown.len() >= Limits::REPLAY.lines {
            shown.pop_front();
        }
        shown.extend(past.event.id.parse::<Uuid>());
        self.numbered(past.line)
    }

    /// Did this line come out of the history? Both tell in the same order, so that behind the first that did not,
    /// none did.
    fn was_shown(&mut self, line: &str) -> bool {
        let Some(past) = self.past.as_mut().filter(|past| !past.is_empty()) else {
            return false;
        };
        let id = id_of(line);
        match past.iter().position(|shown| Some(*shown) == id) {
            Some(at) => {
                past.drain(..=at);
                true
            }
            None => {
                past.clear();
                false
            }
        }
    }

    /// A line of JSON that has a number of another output.
    fn numbered(&mut self, line: &[u8]) -> Result<ControlFlow<Exit>, Failure> {
        let Self {
            output,
            style,
            numbering,
            ..
        } = self;
        let written = match style {
            Style::Json => output.append(|out| numbering.append_json(line, out)),
            _ => style.show(&numbering.numbered(parse(line)?), output),
        };
        self.shown(written)
    }

    /// The same for whole lines of JSON from the daemon, each with its newline.
    pub(super) fn received(&mut self, lines: &str) -> Result<ControlFlow<Exit>, Failure> {
        if self.past.is_some() {
            for line in lines.split_inclusive('\n') {
                if self.was_shown(line) {
                    continue;
                }
                let shown = self.numbered(line.as_bytes())?;
                if shown.is_break() {
                    return Ok(shown);
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        if matches!(self.style, Style::Json) && self.left.is_none() {
            let written = self
                .output
                .append(|out| out.extend_from_slice(lines.as_bytes()));
            return self.shown(written);
        }
        for line in lines.split_inclusive('\n') {
            let written = match &self.style {
                Style::Json => self.output.line(line.as_bytes()),
                style => style.show(&parse(line.as_bytes())?, &mut self.output),
            };
            let shown = self.shown(written)?;
            if shown.is_break() {
                return Ok(shown);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The same for state changes from the daemon, which has numbered them.
    pub(super) fn received_states(
        &mut self,
        states: &States,
    ) -> Result<ControlFlow<Exit>, Failure> {
        if self.past.is_none() {
            self.numbering.go_on_with(states.first_seq());
        }
        for index in 0..states.count() {
            let shown = self.state(states, index)?;
            if shown.is_break() {
                return Ok(shown);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Writes what waits: at the end of each batch.
    pub(super) fn flush(&mut self) -> Result<ControlFlow<Exit>, Failure> {
        let written = self.output.flush().map_err(crate::cli::cannot_write)?;
        Ok(self.judge(written))
    }

    /// Counts what was printed.
    fn shown(&mut self, written: io::Result<Written>) -> Result<ControlFlow<Exit>, Failure> {
        let written = written.map_err(crate::cli::cannot_write)?;
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

    fn judge(&self, written: Written) -> ControlFlow<Exit> {
        match written {
            Written::Done => ControlFlow::Continue(()),
            Written::Closed => ControlFlow::Break(Exit::Ok),
            Written::Stopped => ControlFlow::Break(self.interrupt.exit()),
        }
    }
}

/// The id of an event's line.
fn id_of(line: &str) -> Option<Uuid> {
    let (_, rest) = line.split_once("\"id\":\"")?;
    rest.get(..36)?.parse().ok()
}

fn parse(json: &[u8]) -> Result<Event, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        Failure::new(
            Exit::Software,
            format_args!(
                "what came from the daemon is not an event ({error}): are client and daemon of one version?"
            ),
        )
    })
}
