//! `portwatch storms`: what goes on, and what went on.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::{self, Output};
use super::exit::Exit;
use super::failure::Failure;
use super::ls;
use super::print;
use crate::config::Paths;
use crate::event::message::span;
use crate::event::{Event, EventType};
use crate::interface::client::Client;
use crate::render::Format;
use crate::text::guard;

pub(super) fn run(report: &args::Report, paths: &Paths) -> Result<Exit, Failure> {
    let events = Client::connect(&paths.runtime_dir)?.storms()?;
    match report.output {
        Output::Human => print(human(&events, Timestamp::now(), &TimeZone::system()).as_bytes()),
        Output::Json => print(&ls::lines(&events, Format::Json)),
    }
}

/// A paragraph for each: since when, what it is, and while it goes on what to do next.
fn human(events: &[Event], now: Timestamp, zone: &TimeZone) -> String {
    if events.is_empty() {
        return "no storm and no scan since the daemon started\n".to_owned();
    }
    let mut text = String::new();
    for event in events {
        let (state, advice) = match (event.kind, &event.storm, &event.scan) {
            (EventType::StormEnded, ..) => ("over", None),
            (_, Some(storm), _) => ("now", Some(&storm.advice)),
            (_, _, scan) => ("scan", scan.as_ref().map(|scan| &scan.advice)),
        };
        let at: Option<Timestamp> = event.ts.parse().ok();
        let told = at.map_or_else(String::new, |at| {
            let ago = now.duration_since(at).as_millis().max(0);
            let ago = span(u64::try_from(ago).unwrap_or(0));
            let clock = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
            format!("{clock}, {ago} ago")
        });
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{state:<5} {}", guard(&event.message));
        let _ = writeln!(text, "      {told}");
        let peers = event.storm.iter().flat_map(|storm| &storm.peers);
        for peer in peers.take(5) {
            let prefix = guard(&peer.prefix);
            let _ = writeln!(
                text,
                "      {prefix:<22} {:>3} %  {}",
                peer.share, peer.count
            );
        }
        if let Some(advice) = advice {
            let _ = writeln!(text, "      next: {}", guard(advice));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::human;
    use crate::event::example::examples;
    use crate::event::{Event, EventType};

    fn of(kind: EventType) -> Event {
        let mut all = examples().into_iter();
        all.find(|event| event.kind == kind).expect("an example")
    }

    #[test]
    fn what_goes_on_is_told_with_its_next_step() {
        let now: Timestamp = "2026-11-21T19:44:01Z".parse().expect("a time");
        let events = [
            of(EventType::StormUpdated),
            of(EventType::StormEnded),
            of(EventType::ScanDetected),
        ];
        let text = human(&events, now, &TimeZone::UTC);
        assert!(
            text.starts_with("now   SYN flood on 0.0.0.0:80/tcp"),
            "{text}"
        );
        assert!(
            text.contains("      2026-11-21 19:42:01, 1 m 59 s ago\n"),
            "{text}"
        );
        assert!(
            text.contains("      203.0.113.7/32          50 %"),
            "{text}"
        );
        assert!(text.contains("\nover  SYN flood"), "{text}");
        assert_eq!(text.matches("next: ").count(), 2, "{text}");
        assert!(human(&[], now, &TimeZone::UTC).contains("no storm"));
    }

    #[test]
    fn nothing_that_was_chosen_by_others_moves_the_cursor() {
        let mut event = of(EventType::StormStarted);
        event.message = "\x1b[2J\n".to_owned();
        let text = human(&[event], Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        assert!(!text.contains('\x1b'), "{text}");
    }
}
