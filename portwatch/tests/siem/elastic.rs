//! The index template of Elasticsearch: every field that our ECS events have, with the type that ECS gives it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portwatch::event::example::{examples, variants};
use portwatch::render::Format;
use serde_json::Value;

use crate::text;

/// Type of a field by its dotted name.
type Types = BTreeMap<String, String>;

fn template() -> Value {
    serde_json::from_str(&text("elastic/portwatch-ecs.template.json")).expect("JSON")
}

/// The fields of `properties`.
fn mapped(properties: &Value, path: &str, types: &mut Types) {
    for (name, field) in properties.as_object().expect("properties") {
        let path = format!("{path}{name}");
        match field["type"].as_str() {
            Some(kind) => drop(types.insert(path, kind.to_owned())),
            None => mapped(&field["properties"], &format!("{path}."), types),
        }
    }
}

fn types() -> Types {
    let mut types = Types::new();
    mapped(
        &template()["template"]["mappings"]["properties"],
        "",
        &mut types,
    );
    types
}

/// The leaves of a document.
fn leaves<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{key}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, path, found)),
        leaf => found.push((path.to_owned(), leaf)),
    }
}

#[test]
fn every_field_of_our_events_is_mapped_and_fits() {
    let types = types();
    for event in [examples(), variants()].concat() {
        let document: Value = serde_json::from_slice(&Format::Ecs.line(&event)).expect("JSON");
        let mut found = Vec::new();
        leaves(&document, "", &mut found);
        for (path, value) in found {
            let kind = match types.get(&path) {
                Some(kind) => kind.as_str(),
                // Ours are mapped by what they are: texts by the template of the mapping, whole numbers as long.
                None if path.starts_with("portwatch.") => match value {
                    Value::String(_) => "keyword",
                    Value::Number(_) => "long",
                    _ => "boolean",
                },
                None => panic!("{path} is not mapped"),
            };
            let fits = match kind {
                "keyword" | "wildcard" | "match_only_text" => value.is_string(),
                "long" => value.is_i64(),
                "unsigned_long" => value.is_u64(),
                "boolean" => value.is_boolean(),
                "date" => value
                    .as_str()
                    .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
                "ip" => value
                    .as_str()
                    .is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
                other => panic!("{path}: no type {other}"),
            };
            assert!(fits, "{path}: {value} as {kind}");
        }
    }
}

#[test]
fn types_are_those_of_ecs() {
    let named = std::env::var_os("PORTWATCH_SCHEMAS").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/schemas");
    let path = named
        .clone()
        .unwrap_or_else(beside)
        .join("ecs_flat-9.4.0.yml");
    let flat = match std::fs::read_to_string(&path) {
        Ok(flat) => flat,
        Err(error) => {
            // A folder that was named is meant to be there.
            assert!(named.is_none(), "{}: {error}", path.display());
            eprintln!("skipped: {} is not there", path.display());
            return;
        }
    };
    let ecs = published(&flat);
    assert_eq!(ecs.len(), 2605);
    let ours = types();
    assert!(ours.len() > 80);
    for (path, kind) in ours
        .iter()
        .filter(|(path, _)| !path.starts_with("portwatch."))
    {
        assert_eq!(ecs.get(path), Some(kind), "{path}");
    }
}

/// Types of the flat file: a field at the margin, its keys two deep.
fn published(flat: &str) -> Types {
    let mut types = Types::new();
    let mut field = String::new();
    for line in flat.lines() {
        let unquoted = |text: &str| text.trim().trim_matches(['\'', '"']).to_owned();
        if !line.starts_with([' ', '#', '-']) && line.ends_with(':') {
            field = unquoted(line.trim_end_matches(':'));
        } else if let Some(kind) = line.strip_prefix("  type: ") {
            types.insert(field.clone(), unquoted(kind));
        }
    }
    types
}

#[test]
fn it_is_for_a_data_stream_that_no_other_template_takes() {
    let template = template();
    assert_eq!(
        template["index_patterns"],
        serde_json::json!(["logs-portwatch-*", "logs-portwatch.event-*"])
    );
    assert!(template["data_stream"].is_object());
    // Elasticsearch has one of its own for logs-*-*, of priority 100.
    assert!(template["priority"].as_u64() > Some(100));
    let texts = &template["template"]["mappings"]["dynamic_templates"][0]["portwatch_texts"];
    assert_eq!(texts["path_match"], "portwatch.*");
    assert_eq!(texts["mapping"]["type"], "keyword");
}
