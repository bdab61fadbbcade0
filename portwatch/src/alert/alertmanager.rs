//! A message as Prometheus' Alertmanager takes it (`POST /api/v2/alerts`): an incident is one alert from its begin
//! to its end, because its labels stay the same. Pure.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::incident::Phase;
use super::message::{Entry, Message, details};
use crate::event::words::Word as _;
use crate::text::{clip, guard};

/// An alert that nobody sends again is resolved by Alertmanager after minutes, unless it says when it ends. The end
/// of an incident is told when it comes; until then it is here, for a host that never comes back too.
const ENDLESS: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Characters of an annotation, and of all details together.
const ANNOTATION: usize = 1_000;
const DETAILS: usize = 4_000;

/// The body of the request.
#[must_use]
pub fn json(message: &Message) -> Value {
    let entries = message.entries.iter();
    let mut alerts: Vec<Value> = entries.map(|entry| alert(entry, message)).collect();
    if !message.more.is_empty() {
        alerts.push(counted(message));
    }
    Value::Array(alerts)
}

fn alert(entry: &Entry, message: &Message) -> Value {
    let mut annotations = Map::new();
    let mut annotate = |name: &str, text: &str, most| {
        let text = clip(&guard(text), most, |_| 1).into_owned();
        annotations.insert(name.to_owned(), Value::String(text));
    };
    annotate("summary", &entry.sentence(), ANNOTATION);
    annotate("event", entry.event.kind.as_str(), ANNOTATION);
    annotate("event_id", &entry.event.id, ANNOTATION);
    annotate("message_id", &message.id.to_string(), ANNOTATION);
    let lines: Vec<String> = details(&entry.event)
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", guard(&value)))
        .collect();
    if !lines.is_empty() {
        // The lines are ours, what stands in them is not.
        let text = lines.join("\n");
        let text = clip(&text, DETAILS, |_| 1).into_owned();
        annotations.insert("description".to_owned(), Value::String(text));
    }
    let name = format!("Portwatch{}", capitalised(entry.key.topic()));
    let mut alert = json!({
        "labels": {
            "alertname": name,
            "severity": entry.severity.word(),
            "instance": guard(&message.host),
            "incident": entry.key.fingerprint(),
        },
        "annotations": annotations,
        "startsAt": entry.since,
    });
    if let Some(ends) = ends(entry) {
        alert["endsAt"] = Value::String(ends);
    }
    alert
}

/// When it ended, or will have ended at the latest. What has no end of its own has none here either: Alertmanager
/// then resolves it after its `resolve_timeout`.
fn ends(entry: &Entry) -> Option<String> {
    let since: Timestamp = entry.since.parse().ok()?;
    match (entry.phase, entry.ended_after_ms) {
        (Phase::Once, _) => None,
        (Phase::Began | Phase::Still, None) => Some(since.checked_add(ENDLESS).ok()?.to_string()),
        (Phase::Began | Phase::Still, Some(ms)) => {
            let span = SignedDuration::from_millis(i64::try_from(ms).ok()?);
            Some(since.checked_add(span).ok()?.to_string())
        }
        // Clocks can step back between the two; an end before its begin is refused.
        (Phase::Ended, _) => Some(match entry.event.ts.parse::<Timestamp>() {
            Ok(end) => end.max(since).to_string(),
            Err(_) => since.to_string(),
        }),
    }
}

/// Those that are only counted.
fn counted(message: &Message) -> Value {
    let lines: Vec<String> = message
        .more
        .iter()
        .map(|(what, count)| format!("{count} {}", guard(what)))
        .collect();
    json!({
        "labels": {
            "alertname": "PortwatchMore",
            "severity": message.severity.word(),
            "instance": guard(&message.host),
        },
        "annotations": {
            "summary": format!("{} incidents more than can be told one by one", message.uncounted()),
            "description": clip(&lines.join("\n"), DETAILS, |_| 1),
            "message_id": message.id.to_string(),
        },
        "startsAt": message.ts,
    })
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::alert::message::tests::{ended, message, notice};
    use crate::alert::{Entry, Phase};

    fn alerts(entries: Vec<Entry>) -> Vec<Value> {
        match super::json(&message(entries)) {
            Value::Array(alerts) => alerts,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_incident_is_the_same_alert_from_begin_to_end() {
        let began = Entry::from(notice(4444, "/usr/bin/nc"));
        let mut over = Entry::from(ended(4444, "/usr/bin/nc"));
        over.event.ts = "2026-11-21T20:00:00Z".to_owned();
        let alerts = alerts(vec![began, over]);
        let labels = json!({
            "alertname": "PortwatchListener",
            "severity": "warning",
            "instance": "web1",
            "incident": alerts[0]["labels"]["incident"],
        });
        assert_eq!(alerts[0]["labels"], labels);
        assert_eq!(alerts[1]["labels"], labels);
        assert_eq!(alerts[0]["startsAt"], alerts[1]["startsAt"]);
        assert_eq!(alerts[0]["endsAt"], "2027-11-21T19:00:00.001Z");
        assert_eq!(alerts[1]["endsAt"], "2026-11-21T20:00:00Z");
        assert_eq!(alerts[0].get("generatorURL"), None);
        let summary = alerts[0]["annotations"]["summary"].as_str();
        assert!(summary.is_some_and(|text| text.contains("listens on 0.0.0.0:4444/tcp")));
    }

    #[test]
    fn what_began_and_ended_at_once_is_resolved_and_what_has_no_end_is_left_to_it() {
        let mut short = Entry::from(notice(81, "/usr/bin/nc"));
        short.ended_after_ms = Some(1_500);
        let mut once = Entry::from(notice(82, "/usr/bin/nc"));
        once.phase = Phase::Once;
        let alerts = alerts(vec![short, once]);
        assert_eq!(alerts[0]["endsAt"], "2026-11-21T19:00:01.501Z");
        assert_eq!(alerts[1].get("endsAt"), None);
    }

    #[test]
    fn no_alert_ends_before_it_begins() {
        let mut over = Entry::from(ended(81, "/usr/bin/nc"));
        over.event.ts = "2001-01-01T00:00:00Z".to_owned();
        let alerts = alerts(vec![over]);
        assert_eq!(alerts[0]["endsAt"], "2026-11-21T19:00:00.001Z");
    }

    #[test]
    fn annotations_are_bounded_and_hold_no_foreign_line() {
        let mut entry = Entry::from(notice(81, "/tmp/a\nb"));
        entry.event.message = "x\n".repeat(5_000);
        if let Some(process) = &mut entry.event.process {
            process.args = Some(vec!["y\n".repeat(50_000)]);
        }
        let mut of = message(vec![entry]);
        of.more = vec![("by x\ny".to_owned(), 7); 2_000];
        let Value::Array(alerts) = super::json(&of) else {
            panic!("no list")
        };
        for alert in &alerts {
            for (name, value) in alert["annotations"].as_object().expect("annotations") {
                let text = value.as_str().expect("a text");
                assert!(text.chars().count() <= 4_000, "{name}");
                assert!(
                    name == "description" || !text.contains('\n'),
                    "{name}: {text}"
                );
                assert!(
                    !text.lines().any(|line| line == "b" || line == "y"),
                    "{text}"
                );
            }
        }
        assert_eq!(alerts[1]["labels"]["alertname"], "PortwatchMore");
    }
}
