//! Whatever an event holds: one line, within bounds, of the form that its readers parse, and no control character.

use portwatch::event::{Event, EventType, Owner};
use portwatch::render::Format;
use portwatch::sink::MAX_LINE;
use proptest::prelude::*;

use crate::{arbitrary, pinned};

fn one_line(format: Format, event: &Event) -> String {
    let line = format.line(event);
    assert!(line.len() <= MAX_LINE, "{} bytes", line.len());
    let text = String::from_utf8(line).expect("UTF-8");
    let text = text.strip_suffix('\n').expect("a newline").to_owned();
    let is_control = |c: char| c.is_control();
    assert!(!text.contains(is_control), "{text:?}");
    text
}

/// Undoes one level of escapes, and tells where `end` stands without one.
fn until(text: &str, end: char, out: &mut String) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !is_escaped => is_escaped = true,
            c if c == end && !is_escaped => return Some(at),
            c => {
                out.push(c);
                is_escaped = false;
            }
        }
    }
    None
}

/// Reads a CEF line: the header fields and the pairs.
fn parse_cef(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let mut header = Vec::new();
    let mut rest = line.strip_prefix("CEF:").expect("CEF");
    for _ in 0..7 {
        let mut field = String::new();
        let end = until(rest, '|', &mut field).expect("a field");
        header.push(field);
        rest = &rest[end + 1..];
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    // A key is the word before an `=` that is not escaped.
    while !rest.is_empty() {
        let mut key = String::new();
        let end = until(rest, '=', &mut key).expect("a key");
        rest = &rest[end + 1..];
        let mut value = String::new();
        let next = until(rest, '=', &mut value);
        let taken = match next {
            Some(at) => rest[..at].rfind(' ').expect("a space before a key"),
            None => rest.len(),
        };
        value.clear();
        let _ = until(&rest[..taken], '\0', &mut value);
        pairs.push((key.trim().to_owned(), value));
        rest = &rest[taken..];
    }
    (header, pairs)
}

#[test]
fn cef_reads_back() {
    for event in pinned() {
        let line = one_line(Format::Cef, &event);
        let (header, pairs) = parse_cef(&line);
        assert_eq!(header[..3], ["0", "portwatch", "portwatch"]);
        assert_eq!(header[4], event.kind.as_str());
        let value = |key: &str| {
            let found = pairs.iter().find(|pair| pair.0 == key);
            found.map(|pair| pair.1.clone())
        };
        assert_eq!(value("externalId"), Some(event.id.clone()));
        assert_eq!(value("msg"), Some(event.message.clone()));
        let command = event.process.and_then(|process| process.args);
        assert_eq!(value("cs3"), command.map(|args| args.join(" ")));
    }
}

/// Reads an RFC 5424 message: header, elements with their parameters, text.
#[expect(clippy::type_complexity, reason = "what the message consists of")]
fn parse_syslog(line: &str) -> (Vec<String>, Vec<(String, Vec<(String, String)>)>, String) {
    let mut parts = line.splitn(7, ' ');
    let header: Vec<String> = parts.by_ref().take(6).map(str::to_owned).collect();
    let mut rest = parts.next().expect("structured data");
    let mut elements = Vec::new();
    while let Some(inside) = rest.strip_prefix('[') {
        let end = inside.find([' ', ']']).expect("an id");
        let (id, mut inside) = inside.split_at(end);
        let mut params = Vec::new();
        while let Some(param) = inside.strip_prefix(' ') {
            let (name, value) = param.split_once("=\"").expect("a parameter");
            assert!(name.len() <= 32 && name.chars().all(|c| c.is_ascii_graphic()));
            let mut text = String::new();
            let end = until(value, '"', &mut text).expect("a quote");
            params.push((name.to_owned(), text));
            inside = &value[end + 1..];
        }
        rest = inside.strip_prefix(']').expect("the end of an element");
        elements.push((id.to_owned(), params));
    }
    let text = rest.strip_prefix(' ').expect("a text");
    (
        header,
        elements,
        text.trim_start_matches('\u{feff}').to_owned(),
    )
}

fn check_syslog(event: &Event) {
    let line = one_line(Format::Rfc5424, event);
    let (header, elements, text) = parse_syslog(&line);
    let (priority, version) = header[0].split_once('>').expect("priority");
    let priority: u8 = priority.trim_start_matches('<').parse().expect("a number");
    assert!((24..32).contains(&priority), "facility daemon");
    assert_eq!(version, "1");
    let fraction = header[1].split_once('.').map_or("", |(_, rest)| rest);
    assert!(fraction.len() <= "123456Z".len(), "{}", header[1]);
    assert!(header[2].len() <= 255 && header[2].chars().all(|c| c.is_ascii_graphic()));
    assert_eq!(header[3..], ["portwatch", "-", event.kind.as_str()]);
    let ids: Vec<_> = elements.iter().map(|element| element.0.as_str()).collect();
    assert_eq!(ids, ["meta", "origin", "portwatch@32473"]);
    let own = &elements[2].1;
    assert!(own.contains(&("id".to_owned(), event.id.clone())));
    assert!(own.contains(&("seq".to_owned(), event.seq.to_string())));
    assert!(!text.is_empty() || event.message.is_empty());
}

#[test]
fn syslog_reads_back() {
    for event in pinned() {
        check_syslog(&event);
        let line = one_line(Format::Rfc5424, &event);
        let own = parse_syslog(&line).1.swap_remove(2).1;
        let args = own.iter().filter(|param| param.0 == "process.args");
        let args: Vec<_> = args.map(|param| param.1.clone()).collect();
        let given = event.process.and_then(|process| process.args);
        assert_eq!(args, given.unwrap_or_default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_event_is_one_line(event in arbitrary::event()) {
        for format in Format::ALL {
            one_line(format, &event);
        }
        check_syslog(&event);
        let (header, pairs) = parse_cef(&one_line(Format::Cef, &event));
        prop_assert_eq!(header.len(), 7);
        for (key, _) in pairs {
            prop_assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "{}", key);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_event_fits(event in arbitrary::event(), times in 1_usize..1_000) {
        let mut event = event;
        event.message = event.message.repeat(times);
        event.owners = (0..8_000).map(|pid| Owner { pid, name: "x".repeat(16), fd: Some(1) }).collect();
        if let Some(process) = &mut event.process {
            process.args = Some(vec!["\u{1b}\"=|]\\ä".repeat(times); 20]);
            process.exe = Some("/é".repeat(times));
        }
        for format in Format::ALL {
            one_line(format, &event);
        }
    }
}

#[test]
fn times_that_are_none_are_no_panic() {
    for kind in EventType::ALL {
        let mut event = pinned().swap_remove(0);
        event.kind = kind;
        event.ts = "yesterday".to_owned();
        event.duration_ms = Some(u64::MAX);
        for format in Format::ALL {
            one_line(format, &event);
        }
    }
}
