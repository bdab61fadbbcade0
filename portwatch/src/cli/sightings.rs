//! `portwatch history --listeners`: when each listener was first and last seen.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::args::Output as Format;
use super::exit::Exit;
use super::failure::Failure;
use super::history::before_now;
use super::print;
use crate::baseline::Identity;
use crate::config::Paths;
use crate::event::words::Word as _;
use crate::history::{Sighting, Sightings};
use crate::text::guard;

pub(super) fn run(
    format: Format,
    since: Option<Duration>,
    last: Option<usize>,
    paths: &Paths,
) -> Result<Exit, Failure> {
    let since = since.map(before_now).transpose()?;
    let mut all = read(paths)?;
    all.retain(|(_, seen)| is_within(seen, since));
    // What was seen last comes first, here as in the database.
    all.truncate(last.unwrap_or(usize::MAX));
    let text = match format {
        Format::Human => table(&all),
        Format::Json => lines(&all)?,
    };
    print(text.as_bytes())
}

/// What is known of these listeners, for a command that says more besides; nothing where it may not be read.
pub(super) fn known(paths: &Paths) -> Vec<(Identity, Sighting)> {
    read(paths).unwrap_or_default()
}

fn read(paths: &Paths) -> Result<Vec<(Identity, Sighting)>, Failure> {
    let folder = paths.state_dir.display();
    let cannot = |error: rusqlite::Error| {
        let is_refused = error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen);
        let exit = if is_refused {
            Exit::NotPermitted
        } else {
            Exit::Io
        };
        let why = format_args!("when listeners were seen cannot be read in {folder}: {error}")
            .to_string();
        Failure::new(exit, why)
    };
    match Sightings::open_existing(&paths.state_dir).map_err(cannot)? {
        Some(sightings) => sightings.all().map_err(cannot),
        None => Err(Failure::new(
            Exit::Unavailable,
            format_args!("nothing is known in {folder} yet: the daemon writes it once a minute"),
        )),
    }
}

fn is_within(seen: &Sighting, since: Option<Timestamp>) -> bool {
    let last = seen.last.parse::<Timestamp>();
    since.is_none_or(|since| last.is_ok_and(|last| last >= since))
}

fn table(all: &[(Identity, Sighting)]) -> String {
    let mut text = format!(
        "{:<20}  {:<20}  {:>6}  {:<32}  PROGRAM\n",
        "FIRST SEEN", "LAST SEEN", "OPENED", "LISTENER"
    );
    for (one, seen) in all {
        let (first, last) = (to_second(&seen.first), to_second(&seen.last));
        let place = one.to_string();
        let (place, exe) = (guard(&place), guard(&one.exe));
        text.push_str(&format!(
            "{first:<20}  {last:<20}  {:>6}  {place:<32}  {exe}\n",
            seen.opened
        ));
    }
    text
}

/// Nanoseconds help nobody here.
pub(super) fn to_second(time: &str) -> String {
    let parsed = time.parse::<Timestamp>();
    parsed.map_or_else(|_| guard(time).into_owned(), |time| format!("{time:.0}"))
}

/// One listener, for programs.
#[derive(Serialize)]
struct Line<'a> {
    netns: &'a str,
    protocol: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    port: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    exe: &'a str,
    first_seen: &'a str,
    last_seen: &'a str,
    opened: u64,
}

fn lines(all: &[(Identity, Sighting)]) -> Result<String, Failure> {
    let mut text = String::new();
    for (one, seen) in all {
        let line = Line {
            netns: one.netns_word(),
            protocol: one.protocol.word(),
            address: &one.address,
            port: &one.port,
            name: &one.name,
            exe: &one.exe,
            first_seen: &seen.first,
            last_seen: &seen.last,
            opened: seen.opened,
        };
        let json = serde_json::to_string(&line).map_err(|error| {
            Failure::new(
                Exit::Software,
                format_args!("a listener is no JSON: {error}"),
            )
        })?;
        text.push_str(&json);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{is_within, lines, table};
    use crate::baseline::Identity;
    use crate::event::Protocol;
    use crate::history::Sighting;

    fn one() -> (Identity, Sighting) {
        let identity = Identity {
            is_host: true,
            protocol: Protocol::Tcp,
            address: "0.0.0.0".to_owned(),
            port: "80".to_owned(),
            name: String::new(),
            exe: "/tmp/a\u{1b}[2J".to_owned(),
        };
        let seen = Sighting {
            first: "2026-11-01T10:00:00.123456789Z".to_owned(),
            last: "2026-11-22T10:00:00.000000000Z".to_owned(),
            opened: 14,
        };
        (identity, seen)
    }

    #[test]
    fn a_table_for_people_and_lines_for_programs() {
        let all = [one()];
        let text = table(&all);
        assert!(
            text.contains("2026-11-01T10:00:00Z") && text.contains("    14  0.0.0.0:80/tcp"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
        let json = lines(&all).expect("JSON");
        assert!(
            json.contains(r#""port":"80","exe":"/tmp/a\u001b[2J","first_seen""#),
            "{json}"
        );
    }

    #[test]
    fn what_was_not_seen_for_long_is_left_out() {
        let (_, seen) = one();
        let at = |text: &str| text.parse().ok();
        assert!(is_within(&seen, None));
        assert!(is_within(&seen, at("2026-11-22T09:00:00Z")));
        assert!(!is_within(&seen, at("2026-11-22T11:00:00Z")));
    }
}
