//! What a channel delivers: one message about one or more incidents, complete in itself. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::incident::{Key, Notice, Phase};
use crate::event::message::span;
use crate::event::words::Word as _;
use crate::event::{Event, Severity};
use crate::text::guard;

/// A message. It is written to the queue before it is delivered, and read again after a crash: it says all that a
/// channel needs, with the times at which things happened and not at which they could be delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The same in every attempt, so that a receiver can tell a repetition.
    pub id: Uuid,
    /// When it was made (RFC 3339).
    pub ts: String,
    /// The host.
    pub host: String,
    /// How much the worst of it matters.
    pub severity: Severity,
    /// Incidents, in the order in which they were told.
    pub entries: Vec<Entry>,
    /// Incidents beyond those, counted by what they have in common.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub more: Vec<(String, u64)>,
    /// No message before this time (RFC 3339): the limit is reached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub silent_until: Option<String>,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which matter: the same at its begin and at its end.
    pub key: Key,
    /// Begin or end.
    pub phase: Phase,
    /// When it began (RFC 3339).
    pub since: String,
    /// How much it mattered when it began.
    pub severity: Severity,
    /// The event.
    pub event: Event,
    /// It began and ended within this message: how long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_after_ms: Option<u64>,
    /// It began again so many times more.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub again: u64,
}

impl From<Notice> for Entry {
    fn from(notice: Notice) -> Self {
        Self {
            key: notice.key,
            phase: notice.phase,
            since: notice.since,
            severity: notice.severity,
            event: Event::clone(&notice.event),
            ended_after_ms: None,
            again: 0,
        }
    }
}

impl Message {
    /// One line that says what matters most: the subject of a mail. Holds no control character.
    #[must_use]
    pub fn subject(&self) -> String {
        let worst = self.entries.iter().max_by_key(|entry| {
            // Of equals the first: `max_by_key` would take the last.
            (entry.event.severity, std::cmp::Reverse(self.place(entry)))
        });
        let first = worst.map_or_else(|| "alerts".to_owned(), Entry::sentence);
        let others = self.entries.len().saturating_sub(1) as u64 + self.uncounted();
        let text = match others {
            0 => first,
            others => format!("{first} (and {others} more)"),
        };
        guard(&text).into_owned()
    }

    fn place(&self, entry: &Entry) -> usize {
        let is_it = |one: &Entry| std::ptr::eq(one, entry);
        self.entries.iter().position(is_it).unwrap_or(usize::MAX)
    }

    /// Incidents in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.entries.len() as u64 + self.uncounted()
    }

    /// Incidents that are only counted.
    #[must_use]
    pub fn uncounted(&self) -> u64 {
        self.more.iter().map(|(_, count)| count).sum()
    }

    /// The message as lines of text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for entry in &self.entries {
            let (ts, severity) = (&entry.event.ts, entry.event.severity.word());
            let _ = writeln!(text, "{}\n  {severity}, {ts}", guard(&entry.sentence()));
            for (name, value) in details(&entry.event) {
                let _ = writeln!(text, "  {name:<12}{}", guard(&value));
            }
            text.push('\n');
        }
        if !self.more.is_empty() {
            let _ = writeln!(text, "And {} more:", self.uncounted());
            for (what, count) in &self.more {
                let _ = writeln!(text, "  {count:>8}  {}", guard(what));
            }
            text.push('\n');
        }
        if let Some(until) = &self.silent_until {
            let _ = writeln!(
                text,
                "That is as many messages as are allowed: further alerts are silenced until {until}, and counted until then.\n"
            );
        }
        let _ = writeln!(
            text,
            "-- \nportwatch on {}, message {}",
            guard(&self.host),
            self.id
        );
        text
    }
}

impl Message {
    /// The same for mail programs that show HTML: nothing is loaded from anywhere.
    #[must_use]
    pub fn html(&self) -> String {
        let mut text = "<!doctype html><html><body style=\"font-family:sans-serif\">".to_owned();
        // Writing to a String cannot fail.
        for entry in &self.entries {
            let colour = colour(entry.event.severity);
            let (ts, severity) = (&entry.event.ts, entry.event.severity.word());
            let _ = write!(
                text,
                "<h3 style=\"color:{colour};margin-bottom:0\">{}</h3><p style=\"margin-top:0\">{severity}, {}</p><table>",
                escape(&entry.sentence()),
                escape(ts)
            );
            for (name, value) in details(&entry.event) {
                let _ = write!(
                    text,
                    "<tr><td style=\"color:#666;padding-right:1em;vertical-align:top\">{name}</td><td style=\"font-family:monospace\">{}</td></tr>",
                    escape(&value)
                );
            }
            text.push_str("</table>");
        }
        if !self.more.is_empty() {
            let _ = write!(text, "<h3>And {} more</h3><table>", self.uncounted());
            for (what, count) in &self.more {
                let _ = write!(
                    text,
                    "<tr><td style=\"text-align:right;padding-right:1em\">{count}</td><td>{}</td></tr>",
                    escape(what)
                );
            }
            text.push_str("</table>");
        }
        if let Some(until) = &self.silent_until {
            let _ = write!(
                text,
                "<p><b>Further alerts are silenced until {}, and counted until then.</b></p>",
                escape(until)
            );
        }
        let _ = write!(
            text,
            "<hr><p style=\"color:#666\">portwatch on {}, message {}</p></body></html>",
            escape(&self.host),
            self.id
        );
        text
    }
}

const fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "#b00020",
        Severity::Warning => "#9a5b00",
        _ => "#1b5e20",
    }
}

/// For HTML, on one line.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in guard(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            c => safe.push(c),
        }
    }
    safe
}

impl Entry {
    /// What happened.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = match self.phase {
            Phase::Still => format!("still: {}", self.event.message),
            Phase::Began | Phase::Ended | Phase::Once => self.event.message.clone(),
        };
        // Writing to a String cannot fail.
        if let Some(ms) = self.ended_after_ms {
            let _ = write!(text, "; over after {}", span(ms));
        }
        if self.again > 0 {
            let times = if self.again == 1 { "time" } else { "times" };
            let _ = write!(text, "; again {} {times}", self.again);
        }
        text
    }
}

/// What an administrator looks for next.
pub(super) fn details(event: &Event) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut add = |name, value: Option<String>| all.extend(value.map(|value| (name, value)));
    if let Some(process) = &event.process {
        let exe = process.exe.clone().map(|exe| match &process.package {
            Some(package) => format!("{exe} ({package})"),
            None => exe,
        });
        add("executable", exe);
        add(
            "arguments",
            process.args.as_ref().map(|args| args.join(" ")),
        );
        add("sha256", process.sha256.clone());
        add("unit", process.unit.clone());
        add(
            "container",
            process
                .container
                .as_ref()
                .map(|container| container.id.clone()),
        );
        let parents: Vec<String> = process
            .ancestors
            .iter()
            .map(|parent| format!("{} ({})", parent.name, parent.pid))
            .collect();
        add("parents", (!parents.is_empty()).then(|| parents.join(", ")));
    }
    if let Some(policy) = &event.policy {
        add(
            "policy",
            Some(format!("{}, {}", policy.state.word(), policy.rule)),
        );
    }
    let accept = policy_is_new(event).then(|| format!("portwatch baseline accept {}", event.id));
    add("to accept", accept);
    all
}

fn policy_is_new(event: &Event) -> bool {
    let policy = event.policy.as_ref();
    policy.is_some_and(|policy| policy.state == crate::event::PolicyState::New)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::{Entry, Message};
    use crate::alert::incident::{Incidents, Notice, Phase};
    use crate::baseline::Frame;
    use crate::event::{EventType, Policy, PolicyState, Severity, message};
    use crate::sink::testing;

    /// The begin of a listener that nobody approved.
    pub(in crate::alert) fn notice(port: u16, exe: &str) -> Notice {
        let mut event = testing::listener(EventType::ListenerOpened, port, 812, exe);
        event.policy = Some(Policy {
            state: PolicyState::New,
            rule: "default".to_owned(),
        });
        event.severity = message::severity(&event);
        event.message = message::sentence(&event);
        let frame = Frame {
            netns: 1,
            ephemeral: 32768..=60999,
        };
        let mut incidents = Incidents::new(frame, Some(Vec::new()));
        incidents.observe(&Arc::new(event)).expect("an incident")
    }

    /// Its end.
    pub(in crate::alert) fn ended(port: u16, exe: &str) -> Notice {
        let began = notice(port, exe);
        let event = testing::listener(EventType::ListenerClosed, port, 812, exe);
        Notice {
            phase: Phase::Ended,
            event: Arc::new(event),
            ..began
        }
    }

    pub(in crate::alert) fn message(entries: Vec<Entry>) -> Message {
        Message {
            id: Uuid::nil(),
            ts: "2026-11-22T10:00:00Z".to_owned(),
            host: "web1".to_owned(),
            severity: Severity::Warning,
            entries,
            more: Vec::new(),
            silent_until: None,
        }
    }

    #[test]
    fn the_subject_says_the_worst_and_how_much_more() {
        let plain = Entry::from(notice(81, "/usr/bin/nc"));
        let known = Entry::from(notice(4444, "/usr/bin/nc"));
        let one = message(vec![plain.clone()]);
        assert_eq!(
            one.subject(),
            "nc (pid 812, root) listens on 0.0.0.0:81/tcp"
        );
        let mut all = message(vec![plain.clone(), known, plain]);
        all.more.push(("by /usr/bin/nc".to_owned(), 40));
        let subject = all.subject();
        assert!(
            subject.contains("0.0.0.0:4444/tcp") && subject.ends_with("(and 42 more)"),
            "{subject}"
        );
    }

    #[test]
    fn nothing_of_another_process_breaks_out_of_its_line() {
        let mut entry = Entry::from(notice(81, "/tmp/a\nSubject: b"));
        entry.event.message = "x\r\nBcc: everybody".to_owned();
        let text = message(vec![entry]);
        assert!(!text.subject().contains(char::is_control));
        assert!(!text.text().contains("\nSubject:") && !text.text().contains("\nBcc:"));
    }

    #[test]
    fn what_is_only_counted_and_the_silence_are_told() {
        let mut all = message(vec![Entry::from(notice(81, "/usr/bin/nc"))]);
        all.more.push(("by /usr/bin/nc".to_owned(), 9_899));
        all.silent_until = Some("2026-11-22T11:00:00Z".to_owned());
        let text = all.text();
        assert!(
            text.contains("And 9899 more:\n      9899  by /usr/bin/nc\n"),
            "{text}"
        );
        assert!(
            text.contains("silenced until 2026-11-22T11:00:00Z"),
            "{text}"
        );
    }

    #[test]
    fn it_is_the_same_after_the_queue() {
        let mut all = message(vec![Entry::from(notice(81, "/usr/bin/nc"))]);
        all.more.push(("by x".to_owned(), 1));
        let json = serde_json::to_vec(&all).expect("JSON");
        assert_eq!(serde_json::from_slice::<Message>(&json).expect("read"), all);
    }
}
