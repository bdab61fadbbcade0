//! A message as single notices, for logs: one for each incident, one for those that are only counted. Pure.

use super::message::{Entry, Message};
use crate::event::Severity;
use crate::text::{clip, guard};

/// Characters of a notice.
const LENGTH: usize = 1_000;

/// A line of a log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line<'a> {
    /// How much it matters.
    pub(super) severity: Severity,
    /// What happened; no control character, of bounded length.
    pub(super) text: String,
    /// The incident, where it is one.
    pub(super) entry: Option<&'a Entry>,
}

/// The notices of a message, in its order.
pub(super) fn lines(message: &Message) -> Vec<Line<'_>> {
    let counted = message.more.iter().map(|(what, count)| Line {
        severity: message.severity,
        text: plain(&format!("{count} more: {what}")),
        entry: None,
    });
    let silence = message.silent_until.iter().map(|until| Line {
        severity: message.severity,
        text: plain(&format!(
            "further alerts are silenced until {until}, and counted until then"
        )),
        entry: None,
    });
    let entries = message.entries.iter().map(|entry| Line {
        severity: entry.event.severity,
        text: plain(&entry.sentence()),
        entry: Some(entry),
    });
    entries.chain(counted).chain(silence).collect()
}

fn plain(text: &str) -> String {
    clip(&guard(text), LENGTH, |_| 1).into_owned()
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::alert::Entry;
    use crate::alert::message::tests::{message, notice};

    #[test]
    fn every_incident_is_a_line_and_what_is_counted_and_the_silence_too() {
        let mut hostile = Entry::from(notice(82, "/usr/bin/nc"));
        hostile.event.message = format!("a\nb{}", "c".repeat(5_000));
        let mut of = message(vec![Entry::from(notice(81, "/usr/bin/nc")), hostile]);
        of.more.push(("by x".to_owned(), 7));
        of.silent_until = Some("2026-11-22T11:00:00Z".to_owned());
        let lines = lines(&of);
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts.len(), 4);
        assert_eq!(texts[0], "nc (pid 812, root) listens on 0.0.0.0:81/tcp");
        assert!(texts[1].starts_with(r"a\x0ab") && texts[1].chars().count() == 1_000);
        assert_eq!(texts[2], "7 more: by x");
        assert!(texts[3].starts_with("further alerts are silenced until 2026-11-22T11:00:00Z"));
    }
}
