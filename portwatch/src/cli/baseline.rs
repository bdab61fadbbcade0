//! `portwatch baseline`: the approved set of listeners, made, compared and forgotten.

use std::ops::ControlFlow;

use jiff::Timestamp;
use uuid::Uuid;

use super::args::{self, BaselineCommand};
use super::exit::Exit;
use super::failure::{Failure, note};
use super::{ls, print};
use crate::baseline::{Frame, Identity, Store, StoreError, What, differences};
use crate::config::Paths;
use crate::event::{Event, message};
use crate::filter::Filter;
use crate::history;
use crate::text::guard;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::with_code(error.exit_code(), error)
    }
}

pub(super) fn run(baseline: &args::Baseline, paths: &Paths) -> Result<Exit, Failure> {
    match &baseline.command {
        BaselineCommand::Generate => generate(paths),
        BaselineCommand::Check => check(paths),
        BaselineCommand::Accept(accept) => self::accept(accept, paths),
        BaselineCommand::List => list(paths),
        BaselineCommand::Clear(clear) => self::clear(*clear, paths),
    }
}

/// Approves what listens now, and nothing else.
fn generate(paths: &Paths) -> Result<Exit, Failure> {
    // First: without it there is nothing to look for.
    let mut store = Store::open(&paths.state_dir)?;
    let events = ls::all(paths)?;
    let frame = frame();
    let mut identities = Vec::with_capacity(events.len());
    for event in &events {
        match Identity::of(event, &frame) {
            Some(identity) => identities.push(identity),
            None => note(format_args!(
                "{} is not approved: what runs as {} cannot be known again",
                message::socket_of(event),
                message::who(event),
            )),
        }
    }
    let listeners = identities.len();
    identities.sort_unstable();
    identities.dedup();
    store.replace(&identities, Timestamp::now())?;
    let different = identities.len();
    print(format!("{listeners} listeners approved, {different} of them different\n").as_bytes())
}

/// Says every difference; ends with 1 when there is one.
fn check(paths: &Paths) -> Result<Exit, Failure> {
    let approved = existing(paths)?.approved(Timestamp::now())?;
    let events = ls::all(paths)?;
    let found = differences(&approved, &events, &frame());
    let mut text = String::new();
    for difference in &found {
        text.push_str(&guard(&difference.sentence()));
        text.push('\n');
    }
    print(text.as_bytes())?;
    Ok(if found.is_empty() {
        Exit::Ok
    } else {
        Exit::Different
    })
}

/// Accepts what one event or an expression says.
fn accept(accept: &args::Accept, paths: &Paths) -> Result<Exit, Failure> {
    let what = what(accept, paths)?;
    let now = Timestamp::now();
    let expires = accept.expires.map(|span| now.checked_add(span)).transpose();
    let expires =
        expires.map_err(|_| Failure::new(Exit::Usage, "--expires lies behind all time"))?;
    let mut store = Store::open(&paths.state_dir)?;
    let accepted = store.accept(&what, accept.reason.as_deref(), expires, now)?;
    print(format!("{}\n", guard(&accepted.to_string())).as_bytes())
}

fn what(accept: &args::Accept, paths: &Paths) -> Result<What, Failure> {
    if let [id] = accept.what.as_slice()
        && let Ok(id) = Uuid::parse_str(id)
    {
        let event = event(id, paths)?;
        return Identity::of(&event, &frame())
            .map(What::Listener)
            .ok_or_else(|| {
                let sentence = match &event.socket {
                    Some(_) => "its program ran from memory or ended before it could be known, so that it cannot be known again; an expression can accept it",
                    None => "that event is about no listener",
                };
                Failure::new(Exit::Usage, sentence)
            });
    }
    let filter = Filter::parse_args(&accept.what)?;
    if filter.matches_all() {
        let sentence = "an expression without a condition would accept everything";
        return Err(Failure::new(Exit::Usage, sentence));
    }
    Ok(What::Matching(filter))
}

/// The event of this id, out of the history.
fn event(id: Uuid, paths: &Paths) -> Result<Event, Failure> {
    let id = id.to_string();
    let folder = history::folder(&paths.state_dir);
    let found = history::read(&folder, None, |past| {
        if past.event.id == id {
            ControlFlow::Break(past.event)
        } else {
            ControlFlow::Continue(())
        }
    });
    let found = found.map_err(|error| super::history::cannot_read(&error, paths))?;
    found.break_value().ok_or_else(|| {
        Failure::new(
            Exit::Unavailable,
            format_args!(
                "there is no event {id} in the history; `portwatch history -o json` shows their ids"
            ),
        )
    })
}

/// Everything that counts, a line each.
fn list(paths: &Paths) -> Result<Exit, Failure> {
    let approved = existing(paths)?.approved(Timestamp::now())?;
    let mut text = String::new();
    for one in &approved.accepted {
        text.push_str(&guard(&one.to_string()));
        text.push('\n');
    }
    for one in &approved.identities {
        let line = match one.exe.as_str() {
            "" => format!("{one} by the kernel"),
            exe => format!("{one} by {exe}"),
        };
        text.push_str(&guard(&line));
        text.push('\n');
    }
    print(text.as_bytes())
}

fn clear(clear: args::Clear, paths: &Paths) -> Result<Exit, Failure> {
    let mut store = Store::open_existing(&paths.state_dir)?;
    let Some(number) = clear.number else {
        let count = match &mut store {
            Some(store) => store.clear(Timestamp::now())?,
            None => 0,
        };
        return print(format!("{count} listeners forgotten\n").as_bytes());
    };
    let was_accepted = match &mut store {
        Some(store) => store.take_back(i64::from(number))?,
        None => false,
    };
    if was_accepted {
        return print(format!("accepted {number} is taken back\n").as_bytes());
    }
    Err(Failure::new(
        Exit::Usage,
        format_args!(
            "nothing is accepted under the number {number}; `portwatch baseline list` shows what is"
        ),
    ))
}

fn existing(paths: &Paths) -> Result<Store, Failure> {
    Store::open_existing(&paths.state_dir)?.ok_or_else(|| {
        Failure::new(
            Exit::Config,
            format_args!(
                "nothing was ever approved in {}: `portwatch baseline generate` approves what listens now",
                paths.state_dir.display()
            ),
        )
    })
}

fn frame() -> Frame {
    Frame::of_host(crate::daemon::host_network_namespace())
}

#[cfg(test)]
mod tests {
    use crate::cli::failure::Failure;

    #[test]
    fn what_is_wrong_with_the_database_has_its_exit_code() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("file");
        std::fs::write(&file, "x").expect("file");
        let error = crate::baseline::Store::open(&file).expect_err("no directory");
        assert_eq!(Failure::from(error).code(), 74);
    }
}
