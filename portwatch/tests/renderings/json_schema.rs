//! Our own schema: as much of JSON Schema 2020-12 as it uses, and not a word more, so that nothing passes unseen.

use portwatch::cli::schema::event_schema;
use portwatch::render::Format;
use proptest::prelude::*;
use serde_json::Value;

use crate::{arbitrary, pinned};

#[test]
fn pinned_events_are_of_the_schema() {
    let schema = event_schema();
    for event in pinned() {
        let event = serde_json::to_value(&event).expect("JSON");
        assert_eq!(judge(&schema, &event), Vec::<String>::new());
    }
}

#[test]
fn any_event_is_of_the_schema() {
    let schema = event_schema();
    let cases = ProptestConfig::with_cases(500);
    proptest!(cases, |(event in arbitrary::event())| {
        let line = Format::Json.line(&event);
        let event = serde_json::from_slice(&line).expect("JSON");
        prop_assert_eq!(judge(&schema, &event), Vec::<String>::new());
    });
}

#[test]
fn the_judge_sees_mistakes() {
    let schema = event_schema();
    let right = serde_json::to_value(&pinned()[0]).expect("JSON");
    let wrong: [(&str, Value); 7] = [
        ("/schema", "portwatch.event/2".into()),
        ("/seq", (-1).into()),
        ("/seq", "1".into()),
        ("/type", "listener.eaten".into()),
        ("/socket/port", 65_536.into()),
        ("/process/args", "nginx".into()),
        ("/process/exe", Value::Null),
    ];
    for (pointer, value) in wrong {
        let mut event = right.clone();
        *event.pointer_mut(pointer).expect(pointer) = value;
        assert!(!judge(&schema, &event).is_empty(), "{pointer}");
    }
    let mut event = right;
    event.as_object_mut().expect("object").remove("host");
    assert!(!judge(&schema, &event).is_empty());
}

/// What is wrong with the event; nothing of what it has beyond the schema, which readers ignore.
pub(crate) fn judge(schema: &Value, event: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    visit(schema, schema, event, "", &mut errors);
    errors
}

fn visit(root: &Value, schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    for (keyword, given) in schema.as_object().expect("a schema") {
        match keyword.as_str() {
            "$ref" => {
                let pointer = given.as_str().expect("a pointer").trim_start_matches('#');
                let target = root.pointer(pointer).expect("a definition");
                visit(root, target, value, path, errors);
            }
            "type" if !has_type(given, value) => errors.push(format!("{path}: no {given}")),
            "const" if given != value => errors.push(format!("{path}: not {given}")),
            "oneOf" => {
                let fits = |choice: &&Value| {
                    let mut errors = Vec::new();
                    visit(root, choice, value, path, &mut errors);
                    errors.is_empty()
                };
                let choices = given.as_array().expect("choices");
                if choices.iter().filter(fits).count() != 1 {
                    errors.push(format!(
                        "{path}: {value} is none of the choices, or several"
                    ));
                }
            }
            "minimum" if value.as_f64() < given.as_f64() => errors.push(format!("{path}: small")),
            "maximum" if value.as_f64() > given.as_f64() => errors.push(format!("{path}: large")),
            "required" => {
                for key in given.as_array().expect("keys") {
                    let key = key.as_str().expect("a key");
                    if value.get(key).is_none() {
                        errors.push(format!("{path}: {key} is required"));
                    }
                }
            }
            "properties" => {
                for (key, schema) in given.as_object().expect("properties") {
                    if let Some(value) = value.get(key) {
                        visit(root, schema, value, &format!("{path}.{key}"), errors);
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    visit(root, given, item, path, errors);
                }
            }
            "type" | "const" | "minimum" | "maximum" => {}
            // They say nothing about a value; a format of ours is the width of a number.
            "$schema" | "$id" | "$defs" | "title" | "description" | "format" => {}
            other => panic!("the schema says {other}, which this test does not know yet"),
        }
    }
}

fn has_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("one type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("a value of type {other}, which this test does not know yet"),
    }
}
