//! From a ring record of any bytes to the lines that people and programs read.

use std::sync::{Arc, OnceLock};

use jiff::tz::TimeZone;

use super::draft::{Surroundings, sensor};
use super::{errno, status};
use crate::cli::human::Human;
use crate::cli::style::{Terminal, columns};
use crate::decode::decode;
use crate::decode::record::{ListenerSeen, Record};
use crate::event::example::examples;
use crate::event::message::{MAX_CHARS, sentence, severity};
use crate::event::{Event, EventType, Host};
use crate::fuzzing::assert_plain;
use crate::inventory::Interfaces;
use crate::render::Format;
use crate::sink::{MAX_LINE, encode_line};
use crate::time::WallClock;

/// The property of the target `line`.
pub fn line(bytes: &[u8]) {
    let Ok(record) = decode(bytes) else {
        return;
    };
    let Some(event) = event_of(&record) else {
        return;
    };
    assert_plain(&event.message);
    let line = encode_line(&event);
    assert!(line.len() <= MAX_LINE);
    let text = std::str::from_utf8(&line).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or_default();
    assert_plain(text);
    let json: Result<serde_json::Value, _> = serde_json::from_str(text);
    assert!(json.is_ok_and(|json| says_something(&json)), "{text}");
    // The longest record holds less than half of what fits into a line.
    assert_eq!(
        serde_json::from_str::<Event>(text).ok().as_ref(),
        Some(&event)
    );
    assert_shown_plain(&event);
    Format::ALL
        .iter()
        .for_each(|format| rendered(*format, &event));
}

/// The same in the words of other models.
fn rendered(format: Format, event: &Event) {
    let line = format.line(event);
    assert!(line.len() <= MAX_LINE);
    let text = std::str::from_utf8(&line).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or_default();
    if matches!(format, Format::Ecs | Format::Ocsf) {
        let json: Result<serde_json::Value, _> = serde_json::from_str(text);
        assert!(json.is_ok_and(|json| says_something(&json)), "{text}");
    }
    // What says that a syslog message is UTF-8 cannot be seen.
    assert_plain(&text.replace('\u{feff}', ""));
}

/// What people read of an event, whoever made it, is plain and fits.
pub(crate) fn assert_shown_plain(event: &Event) {
    let sentence = sentence(event);
    assert_plain(&sentence);
    assert!(sentence.chars().count() <= MAX_CHARS);
    for width in [None, Some(40)] {
        let terminal = Terminal {
            colour: false,
            width,
        };
        let line = Human::new(terminal, TimeZone::UTC).line(event);
        assert_plain(&line);
        assert!(columns(&line) <= width.unwrap_or(usize::MAX), "{line:?}");
    }
}

/// What is not known is absent: no null, and nothing empty but an argument and an abstract name, which
/// can really be empty.
fn says_something(json: &serde_json::Value) -> bool {
    use serde_json::Value;
    match json {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty() && items.iter().all(says_something),
        Value::Object(members) => {
            !members.is_empty()
                && members.iter().all(|(key, value)| {
                    matches!(key.as_str(), "args" | "abstract") || says_something(value)
                })
        }
    }
}

/// The event that the pipeline would make of a record, with what the record itself tells.
fn event_of(record: &Record) -> Option<Event> {
    static HOST: OnceLock<Option<Arc<Host>>> = OnceLock::new();
    let host = HOST.get_or_init(|| examples().first().map(|event| Arc::clone(&event.host)));
    let surroundings = Surroundings {
        host: host.clone()?,
        netns: 4_026_531_840,
        interfaces: Interfaces::default(),
        clock: WallClock::from_epoch_ns(1_795_290_121_000_000_000),
    };
    let mut event = match record {
        Record::Opened(seen) => surroundings.seen(EventType::ListenerOpened, seen),
        Record::Refused(seen) => {
            let mut event = surroundings.seen(EventType::BindFailed, seen);
            event.error = Some(errno::name(seen.errno));
            event
        }
        Record::Closed(seen) => {
            let mut event = surroundings.event(EventType::ListenerClosed, seen.at);
            event.socket = Some(surroundings.socket(&seen.sock, None));
            event
        }
        Record::State(seen) => {
            let mut event = surroundings.event(EventType::ConnectionState, seen.at);
            event.socket = Some(surroundings.socket(&seen.sock, None));
            event.process = seen
                .owner
                .as_ref()
                .map(|owner| crate::enrich::fuzz::process(owner, None, &surroundings.clock));
            event.old_state = status::state(seen.old);
            event.new_state = status::state(seen.new);
            event
        }
        Record::Held(seen) => {
            let mut event = surroundings.event(EventType::ListenerPresent, seen.at);
            event.socket = Some(surroundings.socket(&seen.sock, seen.unix.as_ref()));
            let holder = crate::enrich::fuzz::process(&seen.holder, None, &surroundings.clock);
            event.process = Some(holder);
            event.owners = vec![crate::inventory::fuzz::owner(seen)];
            event
        }
        Record::Exec(_) | Record::Fork(_) | Record::Exit(_) | Record::Crossed(_) => return None,
    };
    "0".clone_into(&mut event.id);
    event.severity = severity(&event);
    event.message = sentence(&event);
    Some(event)
}

impl Surroundings {
    fn seen(&self, kind: EventType, seen: &ListenerSeen) -> Event {
        let mut event = self.event(kind, seen.at);
        event.socket = Some(self.socket(&seen.sock, seen.unix.as_ref()));
        let image = seen.who.image.as_ref();
        let mut process = crate::enrich::fuzz::process(&seen.who.task, image, &self.clock);
        process.ancestors = crate::enrich::fuzz::ancestors(&seen.who);
        event.process = Some(process);
        event.sensor = Some(sensor(seen.mechanism));
        event
    }
}
