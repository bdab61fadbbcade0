//! An event as a syslog message of RFC 5424, all of it in structured data.
//!
//! Each field is a parameter under its full name, as filters know it; a list is its parameter again and again.

use std::fmt::Write as _;

use super::facts;
use super::{PRODUCT, VERSION};
use crate::event::Event;
use crate::event::fields::{DERIVED, FIELDS, Value};
use crate::text::guard;

/// Facility of daemons without one of their own.
const DAEMON: u8 = 3;
/// Names of our own need a number that IANA gave to somebody; this one it keeps for documents (RFC 5612), and nobody
/// else may have it.
const ID: &str = "portwatch@32473";
/// Fields that the header says already.
const IN_HEADER: [&str; 2] = ["message", "host.name"];
/// Longest parts of the header, by the RFC.
const HOSTNAME: usize = 255;
const MSGID: usize = 32;
/// The largest number of `meta sequenceId`; after it comes 1 again.
const MAX_SEQUENCE: u64 = 2_147_483_647;

/// Appends the message, without a newline or any other framing.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) {
    let mut line = String::with_capacity(2048);
    header(event, &mut line);
    let sequence = event.seq.saturating_sub(1) % MAX_SEQUENCE + 1;
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        r#"[meta sequenceId="{sequence}"][origin software="{PRODUCT}" swVersion="{VERSION}"][{ID}"#
    );
    for field in FIELDS {
        if IN_HEADER.contains(&field.name) || DERIVED.contains(&field.name) {
            continue;
        }
        if let Some(value) = (field.get)(event) {
            param(&mut line, field.name, &value);
        }
    }
    line.push_str("] ");
    let message = guard(&event.message);
    if !message.is_ascii() {
        // This says that the text is UTF-8.
        line.push('\u{feff}');
    }
    line.push_str(&message);
    out.extend_from_slice(line.as_bytes());
}

/// `<28>1 2026-11-21T19:42:01.123456Z web1 portwatch - listener.opened `.
fn header(event: &Event, line: &mut String) {
    let priority = DAEMON * 8 + event.severity.syslog();
    let _ = write!(line, "<{priority}>1 ");
    match facts::moment(&event.ts) {
        // The RFC permits six digits.
        Some(at) => {
            let _ = write!(line, "{at:.6}");
        }
        None => line.push('-'),
    }
    line.push(' ');
    name(line, &event.host.name, HOSTNAME);
    let _ = write!(line, " {PRODUCT} - ");
    name(line, event.kind.as_str(), MSGID);
    line.push(' ');
}

/// Printable ASCII without spaces; `-` for nothing.
fn name(line: &mut String, text: &str, most: usize) {
    if text.is_empty() {
        line.push('-');
    }
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    line.extend(text.chars().take(most).map(plain));
}

fn param(line: &mut String, name: &str, value: &Value<'_>) {
    match value {
        Value::Many(values) => values.iter().for_each(|value| param(line, name, value)),
        Value::Text(text) => {
            let _ = write!(line, " {name}=\"");
            for c in guard(text).chars() {
                if matches!(c, '"' | '\\' | ']') {
                    line.push('\\');
                }
                line.push(c);
            }
            line.push('"');
        }
        Value::Number(number) => {
            let _ = write!(line, " {name}=\"{number}\"");
        }
        Value::Flag(flag) => {
            let _ = write!(line, " {name}=\"{flag}\"");
        }
    }
}
