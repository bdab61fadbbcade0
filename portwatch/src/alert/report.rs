//! A message as JSON, for programs: what webhooks get as their body and programs on standard input. Pure.

use serde::Serialize;
use serde_json::Error;

use super::incident::Phase;
use super::message::{Entry, Message};
use crate::event::{Event, Severity};
use crate::text::{clip, guard};

/// What stands in `schema`. Changes are additions, or another number.
pub const SCHEMA: &str = "portwatch.alert/1";
/// Bytes that the events of one message may have together: receivers refuse bodies that are too large. Entries
/// beyond are there without their event.
const EVENTS: usize = 512 * 1024;
/// Characters of a sentence.
const SENTENCE: usize = 2_000;

/// A message.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    /// The same in every attempt.
    id: String,
    /// When the first of it happened (RFC 3339).
    ts: &'a str,
    host: &'a str,
    severity: Severity,
    /// The most important of it, in a line.
    subject: String,
    /// Incidents in all: the entries, and those that are only counted.
    count: u64,
    entries: Vec<Told<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<More<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_until: Option<&'a str>,
}

/// An incident.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// The same at its begin and at its end.
    incident: String,
    /// What kind of matter it is.
    topic: &'a str,
    phase: Phase,
    /// How much it mattered when it began.
    severity: Severity,
    /// When it began (RFC 3339).
    since: &'a str,
    sentence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a Event>,
}

/// Incidents that are only counted.
#[derive(Debug, Serialize)]
struct More<'a> {
    what: &'a str,
    count: u64,
}

/// The message as one JSON object.
///
/// # Errors
/// None that is known: what a message holds can be written.
pub fn json(message: &Message) -> Result<Vec<u8>, Error> {
    let mut room = EVENTS;
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in &message.entries {
        let size = serde_json::to_vec(&entry.event)?.len();
        let fits = size <= room;
        if fits {
            room -= size;
        }
        entries.push(told(entry, fits));
    }
    serde_json::to_vec(&Report {
        schema: SCHEMA,
        id: message.id.to_string(),
        ts: &message.ts,
        host: &message.host,
        severity: message.severity,
        subject: plain(&message.subject()),
        count: message.count(),
        entries,
        more: message
            .more
            .iter()
            .map(|(what, count)| More {
                what,
                count: *count,
            })
            .collect(),
        silent_until: message.silent_until.as_deref(),
    })
}

fn plain(text: &str) -> String {
    clip(&guard(text), SENTENCE, |_| 1).into_owned()
}

fn told(entry: &Entry, with_event: bool) -> Told<'_> {
    Told {
        incident: entry.key.fingerprint(),
        topic: entry.key.topic(),
        phase: entry.phase,
        severity: entry.severity,
        since: &entry.since,
        sentence: plain(&entry.sentence()),
        ended_after_ms: entry.ended_after_ms,
        again: Some(entry.again).filter(|again| *again > 0),
        event: with_event.then_some(&entry.event),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::alert::Entry;
    use crate::alert::message::tests::{ended, message, notice};

    fn told(of: &crate::alert::Message) -> Value {
        serde_json::from_slice(&super::json(of).expect("JSON")).expect("JSON")
    }

    #[test]
    fn a_message_is_complete_in_its_json() {
        let mut of = message(vec![Entry::from(notice(4444, "/usr/bin/nc"))]);
        of.more.push(("by /usr/bin/nc".to_owned(), 40));
        of.silent_until = Some("2026-11-22T11:00:00Z".to_owned());
        let told = told(&of);
        for (pointer, expected) in [
            ("/schema", json!("portwatch.alert/1")),
            ("/id", json!("00000000-0000-0000-0000-000000000000")),
            ("/host", json!("web1")),
            ("/count", json!(41)),
            ("/entries/0/topic", json!("listener")),
            ("/entries/0/phase", json!("began")),
            ("/entries/0/severity", json!("warning")),
            ("/entries/0/event/socket/port", json!(4444)),
            ("/more/0", json!({"what": "by /usr/bin/nc", "count": 40})),
            ("/silent_until", json!("2026-11-22T11:00:00Z")),
        ] {
            assert_eq!(told.pointer(pointer), Some(&expected), "{pointer}");
        }
        assert_eq!(told.pointer("/entries/0/again"), None);
    }

    #[test]
    fn begin_and_end_have_the_same_incident() {
        let all = vec![
            Entry::from(notice(4444, "/usr/bin/nc")),
            Entry::from(ended(4444, "/usr/bin/nc")),
            Entry::from(notice(4445, "/usr/bin/nc")),
        ];
        let told = told(&message(all));
        let incident = |at: usize| told["entries"][at]["incident"].as_str().map(str::to_owned);
        assert_eq!(incident(0).map(|text| text.len()), Some(16));
        assert_eq!(incident(0), incident(1));
        assert_ne!(incident(0), incident(2));
        assert_eq!(told["entries"][1]["since"], told["entries"][0]["since"]);
    }

    #[test]
    fn a_body_is_bounded_and_still_tells_every_sentence() {
        let mut entry = Entry::from(notice(81, "/usr/bin/nc"));
        if let Some(process) = &mut entry.event.process {
            process.args = Some(vec!["x".repeat(60_000)]);
        }
        entry.event.message = "y".repeat(60_000);
        let of = message(vec![entry; 100]);
        let body = super::json(&of).expect("JSON");
        assert!(body.len() < 800_000, "{} bytes", body.len());
        let told = told(&of);
        let entries = told["entries"].as_array().expect("a list");
        assert_eq!(entries.len(), 100);
        assert!(entries.iter().all(|one| one["sentence"].is_string()));
        assert_eq!(
            entries
                .iter()
                .filter(|one| one["event"].is_object())
                .count(),
            4
        );
    }
}
