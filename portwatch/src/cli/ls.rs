//! `portwatch ls`: every listener of this moment.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args;
use super::exit::Exit;
use super::failure::{Failure, note};
use super::style::Terminal;
use super::{print, table};
use crate::config::{self, Paths};
use crate::daemon;
use crate::event::Event;
use crate::filter::{Filter, join_args};
use crate::interface::client::{Client, ClientError};
use crate::policy::Policy;
use crate::render::Format;

pub(super) fn run(ls: &args::Ls, paths: &Paths) -> Result<Exit, Failure> {
    let filter = ls.filter()?;
    let events = if ls.no_daemon {
        look(&filter, paths)?
    } else {
        ask(&filter, text(&ls.filter), paths)?
    };
    match ls.output.format() {
        Some(format) => print(&lines(&events, format)),
        None => {
            let zone = TimeZone::system();
            let table = table::table(&events, Terminal::stdout(), Timestamp::now(), &zone);
            print(table.as_bytes())
        }
    }
}

/// The listeners for a program: one a line.
pub(super) fn lines(events: &[Event], format: Format) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in events {
        format.append(event, &mut lines);
    }
    lines
}

/// Every listener, of the daemon or of one's own look.
pub(super) fn all(paths: &Paths) -> Result<Vec<Event>, Failure> {
    ask(&Filter::default(), None, paths)
}

fn ask(filter: &Filter, text: Option<String>, paths: &Paths) -> Result<Vec<Event>, Failure> {
    match Client::connect(&paths.runtime_dir) {
        Ok(client) => Ok(client.list(text)?),
        Err(ClientError::NoDaemon(_)) => look(filter, paths),
        Err(error @ ClientError::NotPermitted(_)) => {
            note(format_args!(
                "{error}; this is what can be seen without the daemon"
            ));
            look(filter, paths)
        }
        Err(error) => Err(error.into()),
    }
}

/// The filter as the daemon is told it, unless it is none.
pub(super) fn text(words: &[String]) -> Option<String> {
    Some(join_args(words)).filter(|text| !text.is_empty())
}

/// Looks without the daemon, and says what could not be seen.
fn look(filter: &Filter, paths: &Paths) -> Result<Vec<Event>, Failure> {
    let rules = config::load(paths).map(|loaded| loaded.config.rules);
    let rules = rules.unwrap_or_else(|error| {
        let first = error.diagnostics.first();
        let why = first.map(|one| format!("{}: {}", one.file.display(), one.message));
        note(format!(
            "no rule was applied: {}; `portwatch check` tells every mistake",
            why.unwrap_or_default()
        ));
        Vec::new()
    });
    let (mut events, unseen) =
        daemon::look(&Policy::new(rules), &paths.state_dir).map_err(|error| {
            let advice = "`portwatch doctor` says what this kernel permits";
            Failure::new(
                Exit::Io,
                format_args!("the listeners cannot be listed: {error}; {advice}"),
            )
        })?;
    if !unseen.is_empty() {
        note(unseen.join("; "));
    }
    events.retain(|event| filter.matches(event));
    Ok(events)
}
