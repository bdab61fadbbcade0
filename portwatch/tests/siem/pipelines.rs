//! Configurations of other programs name fields that our events have, and only those. Vector and Alloy are in no Debian, so
//! this is all that is tested of them: that they can be read, and what they name.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::sigma::values;
use crate::{events, text};

#[test]
fn vector_reads_itself_and_names_what_is_there() {
    let configuration: toml::Table = text("vector/portwatch.toml").parse().expect("TOML");
    let tables = ["sources", "transforms", "sinks"];
    let part = |name: &str| configuration[name].as_table().expect("a table");
    let mut known: BTreeSet<String> = tables
        .iter()
        .flat_map(|name| part(name).keys().cloned())
        .collect();
    // `reroute_dropped` makes this one.
    known.insert("portwatch_events.dropped".to_owned());
    for name in ["transforms", "sinks"] {
        for (component, keys) in part(name) {
            for input in keys["inputs"].as_array().expect("inputs") {
                let input = input.as_str().expect("a name");
                assert!(known.contains(input), "{component}: no input {input}");
            }
        }
    }
    let condition = configuration["transforms"]["portwatch_urgent"]["condition"].as_str();
    for word in ["warning", "critical"] {
        assert!(condition.is_some_and(|text| text.contains(&format!("\"{word}\""))));
    }
    let longest = configuration["sources"]["portwatch_lines"]["max_line_bytes"].as_integer();
    assert!(longest > Some(64 * 1024), "an event has up to 64 KiB");
}

#[test]
fn alloy_takes_labels_that_every_event_has() {
    let configuration = text("loki/portwatch.alloy");
    for (open, close) in [('{', '}'), ('[', ']'), ('(', ')')] {
        let count = |c| configuration.matches(c).count();
        assert_eq!(count(open), count(close), "{open}{close}");
    }
    let (_, rest) = configuration
        .split_once("expressions = {")
        .expect("expressions");
    let (block, _) = rest.split_once('}').expect("their end");
    let expressions: Vec<(&str, &str)> = block
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, path)| (name.trim().trim_matches('"'), path.trim().trim_matches('"')))
        .collect();
    assert_eq!(expressions.len(), 5);
    for event in events() {
        for (name, path) in &expressions {
            let found = values(&event, path);
            let is_text = matches!(found[..], [Value::String(_)]);
            assert!(is_text, "{name} of {event}");
        }
    }
    // Each label comes out of an expression; a label of many values would be the end of Loki.
    let (_, labels) = configuration.split_once("stage.labels {").expect("labels");
    let (labels, _) = labels.split_once("}\n  }").expect("their end");
    let labels: BTreeSet<&str> = labels.split('"').skip(1).step_by(2).collect();
    assert_eq!(labels, BTreeSet::from(["host", "severity", "type"]));
    assert!(
        labels
            .iter()
            .all(|label| expressions.iter().any(|(name, _)| name == label))
    );
}
