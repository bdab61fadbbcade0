//! Events that earlier versions wrote are events still: read, valid, and written again as they were.
//!
//! `docs/schema/golden/earlier` has the pinned events of each version that was given out. Its files are never changed; a
//! version adds its `events.jsonl` under its own name.

use std::path::{Path, PathBuf};

use portwatch::cli::schema::event_schema;
use portwatch::event::words::Word as _;
use portwatch::event::{Event, EventType};
use serde_json::Value;

use crate::json_schema::judge;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/golden")
}

/// The files of earlier versions, and their lines.
fn earlier() -> Vec<(String, Vec<String>)> {
    let folder = std::fs::read_dir(golden().join("earlier")).expect("earlier versions");
    let mut files: Vec<_> = folder
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("text");
            let lines = text.lines().map(str::to_owned).collect();
            (path.display().to_string(), lines)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn earlier_events_are_read_and_valid() {
    let schema = event_schema();
    let files = earlier();
    assert!(!files.is_empty());
    for (file, lines) in files {
        assert!(lines.len() >= 12, "{file} is cut off");
        for line in lines {
            let value: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(
                judge(&schema, &value),
                Vec::<String>::new(),
                "{file}: {line}"
            );
            let event: Event = serde_json::from_str(&line).expect("an event");
            // Nothing is lost on the way, and nothing has another name.
            assert_eq!(serde_json::to_value(&event).expect("JSON"), value, "{file}");
        }
    }
}

#[test]
fn what_comes_later_does_not_break_a_reader() {
    for (_, lines) in earlier() {
        let mut value: Value = serde_json::from_str(&lines[0]).expect("JSON");
        value["weather"] = "rain".into();
        value["socket"]["colour"] = "red".into();
        value["process"]["ancestors"][0]["age"] = 7.into();
        let event: Event = serde_json::from_value(value).expect("an event");
        assert_eq!(event.kind, EventType::ListenerOpened);
    }
}

#[test]
fn every_type_is_pinned() {
    let text = std::fs::read_to_string(golden().join("events.jsonl")).expect("pinned events");
    let kinds: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Event>(line).expect("an event").kind)
        .collect();
    for kind in EventType::ALL {
        assert!(kinds.contains(&kind), "{}", kind.word());
    }
}
