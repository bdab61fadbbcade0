//! The lines, word for word, and what no event may do to a terminal.

use proptest::prelude::*;

use super::*;
use crate::cli::style::columns;
use crate::event::example::examples;

const PLAIN: Terminal = Terminal {
    colour: false,
    width: None,
};

fn lines(terminal: Terminal) -> Vec<String> {
    let human = Human::new(terminal, TimeZone::UTC);
    examples().iter().map(|event| human.line(event)).collect()
}

#[test]
fn one_line_for_each_type() {
    assert_eq!(
        lines(PLAIN).join("\n"),
        include_str!("expected.txt").trim_end()
    );
}

#[test]
fn columns_are_aligned() {
    let at = |line: &str, word: &str| line.find(word).unwrap_or_else(|| panic!("{line}"));
    let lines = lines(PLAIN);
    assert_eq!(at(&lines[0], "0.0.0.0:80"), at(&lines[1], "127.0.0.1:6379"));
    assert_eq!(
        at(&lines[0], "nginx[812]"),
        at(&lines[1], "redis-server[2204]")
    );
}

#[test]
fn danger_is_red_and_loopback_green() {
    let lines = lines(Terminal {
        colour: true,
        width: None,
    });
    assert!(
        lines[0].contains("\x1b[1;31mall-ifaces\x1b[0m"),
        "{:?}",
        lines[0]
    );
    assert!(
        lines[1].contains("\x1b[32mloopback\x1b[0m"),
        "{:?}",
        lines[1]
    );
}

#[test]
fn times_are_those_of_the_zone() {
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let line = Human::new(PLAIN, zone).line(&examples()[0]);
    assert!(line.starts_with("21:42:01.123  + open"), "{line}");
}

/// Every text of the JSON becomes this one, except where a word or a type would no longer parse.
fn poisoned(value: &mut serde_json::Value, poison: &str, path: &str) {
    use serde_json::Value;
    let words = [
        "type",
        "severity",
        "family",
        "protocol",
        "exposure",
        "ring",
        "kind",
        "shape",
        "action",
        "cause",
        "mechanism",
        "state",
    ];
    match value {
        Value::String(text) if !words.contains(&path) && !path.ends_with("_state") => {
            *text = poison.to_owned();
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| poisoned(item, poison, path)),
        Value::Object(map) => map
            .iter_mut()
            .for_each(|(key, item)| poisoned(item, poison, key)),
        _ => {}
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let nasty = proptest::sample::select(vec![
        "\x1b[2J",
        "\r",
        "\n",
        "\u{9b}31m",
        "\u{202e}",
        "\u{2028}",
        "\\x1b",
        "語",
        "\u{7}",
        "\0",
        "é",
        " ",
    ]);
    let piece = prop_oneof![nasty.prop_map(str::to_owned), any::<String>()];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_event_moves_the_cursor_or_leaves_its_line(
        event in proptest::sample::select(examples()),
        poison in hostile(),
        width in proptest::option::of(0_usize..160),
    ) {
        let mut json = serde_json::to_value(&event).expect("JSON");
        poisoned(&mut json, &poison, "");
        let event: Event = serde_json::from_value(json).expect("still an event");
        let line = Human::new(Terminal { colour: false, width }, TimeZone::UTC).line(&event);
        prop_assert!(!line.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{:?}", line);
        prop_assert!(columns(&line) <= width.unwrap_or(usize::MAX), "{:?}", line);
        let said = sentence(&event);
        prop_assert!(!said.chars().any(char::is_control) && said.chars().count() <= 1_000);
    }

    #[test]
    fn colour_changes_nothing_but_colour(
        event in proptest::sample::select(examples()),
        width in proptest::option::of(0_usize..160),
    ) {
        let plain = Human::new(Terminal { colour: false, width }, TimeZone::UTC).line(&event);
        let coloured = Human::new(Terminal { colour: true, width }, TimeZone::UTC).line(&event);
        let mut stripped = String::new();
        for (index, part) in coloured.split("\x1b[").enumerate() {
            let (sgr, text) = if index == 0 { ("", part) } else { part.split_once('m').expect("SGR") };
            prop_assert!(sgr.chars().all(|c| c.is_ascii_digit() || c == ';'));
            stripped.push_str(text);
        }
        prop_assert_eq!(stripped, plain);
    }
}
