//! ECS: every field exists, has its type, is a list where it should be, holds allowed values, and types of events go with
//! their categories.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use portwatch::event::Event;
use portwatch::render::Format;
use proptest::prelude::*;
use serde_json::Value;

use crate::{arbitrary, pinned, published};

/// One field of the definition.
#[derive(Debug, Default)]
struct Field {
    kind: String,
    is_list: bool,
    /// The values, each with the event types that may go with it.
    allowed: BTreeMap<String, Vec<String>>,
    expected: Vec<String>,
}

type Fields = BTreeMap<String, Field>;

#[test]
fn pinned_events_are_ecs() {
    let Some(fields) = fields() else { return };
    for event in pinned() {
        let errors = check(&fields, &event);
        assert_eq!(errors, Vec::<String>::new(), "{}", event.message);
    }
}

#[test]
fn any_event_is_ecs() {
    let Some(fields) = fields() else { return };
    let cases = ProptestConfig::with_cases(1_000);
    proptest!(cases, |(event in arbitrary::event())| {
        prop_assert_eq!(check(&fields, &event), Vec::<String>::new());
    });
}

#[test]
fn the_judge_sees_mistakes() {
    let Some(fields) = fields() else { return };
    let right = serde_json::from_slice::<Value>(&Format::Ecs.line(&pinned()[0])).expect("JSON");
    let wrong: [(&str, Value); 9] = [
        ("/process/pid", "812".into()),
        ("/process/args", "nginx".into()),
        ("/server/ip", "localhost".into()),
        ("/event/kind", "happening".into()),
        ("/event/category", serde_json::json!(["network", "file"])),
        ("/event/type", serde_json::json!(["change"])),
        ("/@timestamp", "yesterday".into()),
        ("/host/name", serde_json::json!(["a"])),
        ("/message", Value::Null),
    ];
    for (pointer, value) in wrong {
        let mut document = right.clone();
        *document.pointer_mut(pointer).expect(pointer) = value;
        assert!(!judge(&fields, &document).is_empty(), "{pointer}");
    }
    let mut document = right;
    document["process"]["shoe_size"] = 43.into();
    assert_eq!(
        judge(&fields, &document),
        ["process.shoe_size: no such field"]
    );
}

fn check(fields: &Fields, event: &Event) -> Vec<String> {
    let line = Format::Ecs.line(event);
    match serde_json::from_slice(&line) {
        Ok(document) => judge(fields, &document),
        Err(error) => vec![format!("no JSON: {error}")],
    }
}

fn judge(fields: &Fields, document: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    walk(fields, document, "", &mut errors);
    categories(fields, &document["event"], &mut errors);
    for required in ["@timestamp", "ecs"] {
        if document.get(required).is_none() {
            errors.push(format!("{required} is required"));
        }
    }
    errors
}

fn walk(fields: &Fields, value: &Value, path: &str, errors: &mut Vec<String>) {
    if path == "portwatch" {
        return ours(value, path, errors);
    }
    if let Some(field) = fields.get(path)
        && field.kind != "object"
    {
        return leaf(field, value, path, errors);
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(fields, value, &path, errors);
            }
        }
        _ => errors.push(format!("{path}: no such field")),
    }
}

/// Under our own key anything goes but what no event has.
fn ours(value: &Value, path: &str, errors: &mut Vec<String>) {
    match value {
        Value::Null => errors.push(format!("{path}: null")),
        Value::Object(map) => {
            for (key, value) in map {
                ours(value, &format!("{path}.{key}"), errors);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| ours(item, path, errors)),
        _ => {}
    }
}

fn leaf(field: &Field, value: &Value, path: &str, errors: &mut Vec<String>) {
    let items = match (value, field.is_list) {
        (Value::Array(items), true) if !items.is_empty() => items.as_slice(),
        (Value::Array(_), _) => return errors.push(format!("{path}: no list, or an empty one")),
        (_, true) => return errors.push(format!("{path}: a list")),
        (single, false) => std::slice::from_ref(single),
    };
    for item in items {
        if !has_type(&field.kind, item) {
            errors.push(format!("{path}: {item} is no {}", field.kind));
        }
        let word = item.as_str().unwrap_or_default();
        if !field.allowed.is_empty() && !field.allowed.contains_key(word) {
            errors.push(format!("{path}: {item} is not allowed"));
        }
        if !field.expected.is_empty() && !field.expected.iter().any(|known| known == word) {
            errors.push(format!("{path}: {item} is not expected"));
        }
    }
}

fn has_type(kind: &str, value: &Value) -> bool {
    match kind {
        "keyword" | "constant_keyword" | "wildcard" | "text" | "match_only_text" => {
            value.is_string()
        }
        "long" => value.is_i64(),
        "boolean" => value.is_boolean(),
        "date" => value
            .as_str()
            .is_some_and(|text| text.parse::<Timestamp>().is_ok()),
        "ip" => value
            .as_str()
            .is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        other => panic!("a field of type {other}, which this test does not know yet"),
    }
}

/// Every event type goes with a category, and every category has one that it expects.
fn categories(fields: &Fields, event: &Value, errors: &mut Vec<String>) {
    let words = |value: &Value| -> Vec<String> {
        let items = value.as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    let (categories, types) = (words(&event["category"]), words(&event["type"]));
    if categories.is_empty() || types.is_empty() {
        return errors.push("event.category and event.type are missing".to_owned());
    }
    let none = Vec::new();
    let expected = |category: &String| {
        fields["event.category"]
            .allowed
            .get(category)
            .unwrap_or(&none)
    };
    for category in &categories {
        if !types.iter().any(|word| expected(category).contains(word)) {
            errors.push(format!("{category} does not go with {types:?}"));
        }
    }
    for word in &types {
        if !categories
            .iter()
            .any(|category| expected(category).contains(word))
        {
            errors.push(format!("{word} does not go with {categories:?}"));
        }
    }
}

/// The definition, as far as it is needed.
fn fields() -> Option<Fields> {
    let fields = parse(&published::read("ecs_flat-9.4.0.yml")?);
    // What a reader that went astray would not find.
    assert_eq!(fields.len(), 2605);
    assert_eq!(fields["process.args"].kind, "keyword");
    assert!(fields["process.args"].is_list && !fields["process.pid"].is_list);
    let category = &fields["event.category"];
    assert!(category.is_list);
    assert_eq!(category.allowed.len(), 20);
    assert_eq!(category.allowed["library"], ["start"]);
    assert_eq!(fields["event.type"].allowed.len(), 18);
    assert_eq!(fields["network.direction"].expected.len(), 7);
    Some(fields)
}

/// Reads the flat file, which has one form throughout: a field at the margin, its keys two deep, lists below them;
/// of an allowed value, its event types come before its name. Folded texts lie deeper, or under other keys.
fn parse(text: &str) -> Fields {
    let mut fields = Fields::new();
    let mut field = (String::new(), Field::default());
    let (mut key, mut inner, mut types) = ("", "", Vec::new());
    for line in text.lines() {
        let content = line.trim_start();
        let (word, rest) = content.split_once(':').unwrap_or((content, ""));
        let item = content.strip_prefix("- ").map(unquoted);
        let of = &mut field.1;
        match (line.len() - content.len(), item) {
            (0, None) if !content.is_empty() => {
                let next = (unquoted(word).to_owned(), Field::default());
                let (name, done) = std::mem::replace(&mut field, next);
                fields.insert(name, done);
            }
            (2, None) => {
                key = word;
                if key == "type" {
                    unquoted(rest).clone_into(&mut of.kind);
                }
            }
            (2, Some(item)) => match key {
                "normalize" => of.is_list |= item == "array",
                "expected_values" => of.expected.push(item.to_owned()),
                _ => types.clear(),
            },
            (4, None) if key == "allowed_values" => {
                inner = word;
                if inner == "name" {
                    let name = unquoted(rest).to_owned();
                    of.allowed.insert(name, std::mem::take(&mut types));
                }
            }
            (4, Some(item)) if inner == "expected_event_types" => types.push(item.to_owned()),
            _ => {}
        }
    }
    fields.insert(field.0, field.1);
    fields.remove("");
    fields
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['\'', '"'])
}
