//! Notices to systemd's journal with fields of their own (`journalctl PORTWATCH_EVENT=listener.opened`), by its
//! native protocol: a datagram an entry, a line a field.

use std::path::PathBuf;

use super::carrier::Refusal;
use super::lines::{Line, lines};
use super::message::Message;
use super::syslog::deliver;
use crate::event::Event;
use crate::event::words::Word as _;
use crate::text::{clip, guard};

/// Where the journal is.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// What all of our entries have in common, for ever: `journalctl MESSAGE_ID=…`.
pub const MESSAGE_ID: &str = "43fa6e8aad7944e8a11de34b2974387b";
/// Characters of a field. All of an entry fits into one datagram.
const FIELD: usize = 1_024;

/// A journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journald {
    /// Its socket.
    pub socket: PathBuf,
}

impl Journald {
    /// Writes an entry for each incident.
    ///
    /// # Errors
    /// When one of them was not taken; those before it were.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        let all = lines(message);
        deliver(&self.socket, all.iter().map(|line| datagram(line, message)))
    }
}

/// One entry. No value holds a line feed, so every field is one line.
fn datagram(line: &Line<'_>, message: &Message) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in fields(line, message) {
        let value = clip(&guard(&value), FIELD, |_| 1).into_owned();
        text.extend([name, "=", &value, "\n"]);
    }
    text.into_bytes()
}

fn fields(line: &Line<'_>, message: &Message) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("MESSAGE", line.text.clone()),
        ("PRIORITY", line.severity.syslog().to_string()),
        ("SYSLOG_IDENTIFIER", "portwatch".to_owned()),
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        ("PORTWATCH_ID", message.id.to_string()),
        ("PORTWATCH_HOST", message.host.clone()),
        ("PORTWATCH_SEVERITY", line.severity.word().to_owned()),
    ];
    let Some(entry) = line.entry else {
        return all;
    };
    let event = &entry.event;
    let mut add = |name, value: Option<String>| all.extend(value.map(|value| (name, value)));
    add("PORTWATCH_EVENT", Some(event.kind.as_str().to_owned()));
    add("PORTWATCH_EVENT_ID", Some(event.id.clone()));
    add("PORTWATCH_TIME", Some(event.ts.clone()));
    add("PORTWATCH_PHASE", Some(entry.phase.as_str().to_owned()));
    add("PORTWATCH_INCIDENT", Some(entry.key.fingerprint()));
    add("PORTWATCH_SINCE", Some(entry.since.clone()));
    event_fields(event, &mut add);
    all
}

/// What entries of the journal tell of an event, besides its sentence.
pub(crate) fn event_fields(event: &Event, add: &mut dyn FnMut(&'static str, Option<String>)) {
    if let Some(socket) = &event.socket {
        add(
            "PORTWATCH_PROTOCOL",
            Some(socket.protocol.word().to_owned()),
        );
        add("PORTWATCH_ADDRESS", socket.address.clone());
        add("PORTWATCH_PORT", socket.port.map(|port| port.to_string()));
        add("PORTWATCH_PATH", socket.path.clone());
        add("PORTWATCH_SERVICE", socket.service.clone());
    }
    if let Some(process) = &event.process {
        add("PORTWATCH_PID", Some(process.pid.to_string()));
        add("PORTWATCH_NAME", Some(process.name.clone()));
        add("PORTWATCH_EXE", process.exe.clone());
        add("PORTWATCH_USER", process.user.clone());
        add("PORTWATCH_UNIT", process.unit.clone());
    }
    if let Some(policy) = &event.policy {
        add("PORTWATCH_POLICY", Some(policy.state.word().to_owned()));
        add("PORTWATCH_RULE", Some(policy.rule.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::{datagram, lines};
    use crate::alert::Entry;
    use crate::alert::message::tests::{message, notice};

    fn text(entry: Entry) -> String {
        let of = message(vec![entry]);
        let line = lines(&of).remove(0);
        String::from_utf8(datagram(&line, &of)).expect("text")
    }

    #[test]
    fn an_entry_has_its_fields() {
        let text = text(Entry::from(notice(4444, "/usr/bin/nc")));
        for field in [
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=portwatch",
            "MESSAGE_ID=43fa6e8aad7944e8a11de34b2974387b",
            "PORTWATCH_EVENT=listener.opened",
            "PORTWATCH_PHASE=began",
            "PORTWATCH_PROTOCOL=tcp",
            "PORTWATCH_PORT=4444",
            "PORTWATCH_EXE=/usr/bin/nc",
            "PORTWATCH_POLICY=new",
        ] {
            assert!(text.lines().any(|line| line == field), "{field} in\n{text}");
        }
        assert!(text.starts_with("MESSAGE=nc (pid 812, root) listens on 0.0.0.0:4444/tcp"));
    }

    #[test]
    fn no_name_becomes_a_field_and_an_entry_is_bounded() {
        let mut entry = Entry::from(notice(81, "/tmp/a\n_UID=0"));
        entry.event.message = "x\nMESSAGE=forged".to_owned();
        if let Some(process) = &mut entry.event.process {
            process.unit = Some("u".repeat(100_000));
        }
        let text = text(entry);
        let names = text.lines().filter_map(|line| line.split_once('='));
        let names: Vec<&str> = names.map(|(name, _)| name).collect();
        assert_eq!(names.len(), text.lines().count());
        assert_eq!(names.iter().filter(|name| **name == "MESSAGE").count(), 1);
        assert!(!names.contains(&"_UID"));
        assert!(text.len() < 32 * 1024, "{} bytes", text.len());
    }
}
