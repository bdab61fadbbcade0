//! `portwatch baseline`: the approved set of listeners, made, compared and forgotten.

use jiff::Timestamp;

use super::args::{self, BaselineCommand};
use super::exit::Exit;
use super::failure::{Failure, note};
use super::{ls, print};
use crate::baseline::{Frame, Identity, Store, StoreError, differences};
use crate::config::Paths;
use crate::event::message;
use crate::text::guard;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::with_code(error.exit_code(), error)
    }
}

pub(super) fn run(baseline: &args::Baseline, paths: &Paths) -> Result<Exit, Failure> {
    match baseline.command {
        BaselineCommand::Generate => generate(paths),
        BaselineCommand::Check => check(paths),
        BaselineCommand::Clear => clear(paths),
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
    let Some(store) = Store::open_existing(&paths.state_dir)? else {
        return Err(Failure::new(
            Exit::Config,
            format_args!(
                "nothing was ever approved in {}: `portwatch baseline generate` approves what listens now",
                paths.state_dir.display()
            ),
        ));
    };
    let events = ls::all(paths)?;
    let found = differences(&store.approved()?, &events, &frame());
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

fn clear(paths: &Paths) -> Result<Exit, Failure> {
    let count = match Store::open_existing(&paths.state_dir)? {
        Some(mut store) => store.clear(Timestamp::now())?,
        None => 0,
    };
    print(format!("{count} listeners forgotten\n").as_bytes())
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
