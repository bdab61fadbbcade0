//! `ls -o table`: the listeners of this moment, the widest exposure first.

use std::cmp::Reverse;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::human::{endpoint_cell, exposure_cell, home_cell, process_cell, user_cell};
use super::style::{Line, Style, Terminal, columns};
use crate::event::message::endpoint;
use crate::event::words::Word as _;
use crate::event::{Event, EventType, PolicyState};
use crate::text::guard;

const HEADINGS: [&str; 8] = [
    "PROTO",
    "LOCAL",
    "EXPOSURE",
    "PROCESS",
    "USER",
    "UNIT/CONTAINER",
    "POLICY",
    "SINCE",
];

/// Widest that a column grows for the sake of one long cell.
const MAX_COLUMN: usize = 44;

/// The table, one line a listener and a heading, each ended with a line feed.
///
/// `SINCE` is the moment of a `listener.opened`. A `listener.present` was there before anybody looked:
/// its moment is shown after a `<`. Moments of another day than `now`'s show the day instead.
#[must_use]
pub fn table(rows: &[Event], terminal: Terminal, now: Timestamp, zone: &TimeZone) -> String {
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_cached_key(|event| order(event));
    let cells: Vec<_> = rows.iter().map(|event| cells(event, now, zone)).collect();
    let mut widths = HEADINGS.map(columns);
    for row in &cells {
        for (width, (_, text)) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(&guard(text)).min(MAX_COLUMN));
        }
    }
    let mut out = String::new();
    for row in std::iter::once(HEADINGS.map(|text| (Style::Bold, text.to_owned()))).chain(cells) {
        let line = row
            .iter()
            .zip(widths)
            .fold(Line::default(), |line, ((style, text), width)| {
                line.cell(*style, text, width)
            });
        out.push_str(&line.finish(terminal));
        out.push('\n');
    }
    out
}

/// Widest exposure first, then by protocol, port and name.
fn order(event: &Event) -> impl Ord + use<> {
    let socket = event.socket.as_ref();
    (
        Reverse(socket.and_then(|socket| socket.exposure)),
        socket.map(|socket| socket.protocol),
        socket.and_then(|socket| socket.port),
        socket.map(endpoint),
        event.process.as_ref().map(|process| process.pid),
    )
}

fn cells(event: &Event, now: Timestamp, zone: &TimeZone) -> [(Style, String); 8] {
    let process = event.process.as_ref();
    let socket = event.socket.as_ref();
    let (danger, exposure) = exposure_cell(socket.and_then(|socket| socket.exposure));
    let others = match event.owners.len() {
        0 | 1 => String::new(),
        owners => format!(" +{}", owners - 1),
    };
    [
        (
            Style::Plain,
            socket
                .map_or("-", |socket| socket.protocol.word())
                .to_owned(),
        ),
        (
            Style::Bold,
            socket.map_or_else(|| "-".to_owned(), endpoint_cell),
        ),
        (danger, exposure.to_owned()),
        (Style::Plain, process_cell(process) + &others),
        (Style::Plain, user_cell(process)),
        (
            Style::Plain,
            home_cell(process).unwrap_or_else(|| "-".to_owned()),
        ),
        policy_cell(event),
        (Style::Dim, since(event, now, zone)),
    ]
}

/// How it is judged.
fn policy_cell(event: &Event) -> (Style, String) {
    let Some(policy) = &event.policy else {
        return (Style::Dim, "-".to_owned());
    };
    let style = match policy.state {
        PolicyState::Denied => Style::Red,
        PolicyState::New => Style::Yellow,
        PolicyState::Baseline | PolicyState::Allowed | PolicyState::Expected => Style::Dim,
    };
    (style, policy.state.word().to_owned())
}

fn since(event: &Event, now: Timestamp, zone: &TimeZone) -> String {
    let Ok(at) = event.ts.parse::<Timestamp>() else {
        return "-".to_owned();
    };
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if at.date() == now.date() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d"
    };
    let before = if event.kind == EventType::ListenerPresent {
        "<"
    } else {
        ""
    };
    format!("{before}{}", at.strftime(format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Exposure;
    use crate::event::example::examples;

    fn now() -> Timestamp {
        "2026-11-21T20:00:00Z".parse().expect("a time")
    }

    fn rows() -> Vec<Event> {
        let mut rows: Vec<_> = examples().into_iter().take(3).rev().collect();
        rows[1].kind = EventType::ListenerPresent;
        rows[1].ts = "2026-11-20T08:00:00Z".to_owned();
        rows
    }

    #[test]
    fn the_widest_exposure_comes_first_and_columns_fit() {
        let table = table(&rows(), Terminal::default(), now(), &TimeZone::UTC);
        assert_eq!(
            table,
            "\
PROTO  LOCAL                   EXPOSURE    PROCESS             USER  UNIT/CONTAINER       POLICY   SINCE
tcp    0.0.0.0:80 (http)       all-ifaces  nginx[812]          root  nginx.service        new      19:42:01
tcp    127.0.0.1:6379 (redis)  loopback    redis-server[2204]  999   docker:3f2a9c41d07b  allowed  <2026-11-20
unix   /run/docker.sock        loopback    systemd[1] +1       root  init.scope           -        <19:42:01
"
        );
    }

    #[test]
    fn every_line_fits_the_terminal() {
        let narrow = Terminal {
            colour: false,
            width: Some(60),
        };
        let table = table(&rows(), narrow, now(), &TimeZone::UTC);
        assert!(table.lines().all(|line| columns(line) <= 60), "{table}");
        assert_eq!(table.lines().count(), 4);
    }

    #[test]
    fn hostile_names_stay_in_their_cell() {
        let mut rows = rows();
        let process = rows[0].process.as_mut().expect("a process");
        process.name = "a\nb\x1b[1m".to_owned();
        let table = table(&rows, Terminal::default(), now(), &TimeZone::UTC);
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains(r"a\x0ab\x1b[1m[1]"), "{table}");
    }

    #[test]
    fn an_unknown_exposure_comes_last() {
        let mut rows = rows();
        rows[2].socket.as_mut().expect("a socket").exposure = None;
        rows[0].socket.as_mut().expect("a socket").exposure = Some(Exposure::PublicInterface);
        let table = table(&rows, Terminal::default(), now(), &TimeZone::UTC);
        let first: Vec<_> = table
            .lines()
            .filter_map(|line| line.split("  ").nth(1))
            .collect();
        assert!(
            table.lines().nth(1).expect("a row").starts_with("unix"),
            "{first:?}"
        );
        assert!(
            table.lines().nth(3).expect("a row").contains("0.0.0.0:80"),
            "{table}"
        );
    }
}
