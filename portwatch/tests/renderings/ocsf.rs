//! OCSF: every attribute exists in its class or object and has its type, required ones are there, numbers are of their
//! enumeration and go with their captions, constraints hold, and no attribute needs a profile that is not named.

use std::net::IpAddr;

use portwatch::event::Event;
use portwatch::render::Format;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{arbitrary, pinned, published};

#[test]
fn pinned_events_are_ocsf() {
    let Some(schema) = schema() else { return };
    for event in pinned() {
        let errors = check(&schema, &event);
        assert_eq!(errors, Vec::<String>::new(), "{}", event.message);
    }
}

#[test]
fn any_event_is_ocsf() {
    let Some(schema) = schema() else { return };
    let cases = ProptestConfig::with_cases(1_000);
    proptest!(cases, |(event in arbitrary::event())| {
        prop_assert_eq!(check(&schema, &event), Vec::<String>::new());
    });
}

#[test]
fn a_listener_is_network_activity_listen() {
    let event = pinned().swap_remove(0);
    let record: Value = serde_json::from_slice(&Format::Ocsf.line(&event)).expect("JSON");
    assert_eq!(record["class_uid"], 4001);
    assert_eq!(record["activity_id"], 7);
    assert_eq!(record["type_uid"], 400_107);
    assert_eq!(record["dst_endpoint"]["port"], 80);
    assert!(record.get("src_endpoint").is_none());
}

#[test]
fn the_judge_sees_mistakes() {
    let Some(schema) = schema() else { return };
    let right: Value = serde_json::from_slice(&Format::Ocsf.line(&pinned()[0])).expect("JSON");
    assert_eq!(judge(&schema, &right), Vec::<String>::new());
    let wrong: [(&str, Value); 12] = [
        ("/time", "now".into()),
        ("/type_uid", 400_102.into()),
        ("/activity_id", 8.into()),
        ("/activity_name", "Close".into()),
        ("/severity", "Fatal".into()),
        ("/class_uid", 4002.into()),
        ("/metadata/profiles", json!([])),
        ("/metadata/version", Value::Null),
        ("/metadata/product", json!({ "version": "1" })),
        ("/dst_endpoint/ip", "localhost".into()),
        ("/dst_endpoint/port", 65_536.into()),
        ("/actor/process/pid", 3_000_000_000_u64.into()),
    ];
    for (pointer, value) in wrong {
        let mut record = right.clone();
        *record.pointer_mut(pointer).expect(pointer) = value;
        assert!(!judge(&schema, &record).is_empty(), "{pointer}");
    }
    for gone in [
        "time",
        "metadata",
        "severity_id",
        "dst_endpoint",
        "class_uid",
    ] {
        let mut record = right.clone();
        record.as_object_mut().expect("object").remove(gone);
        assert!(!judge(&schema, &record).is_empty(), "without {gone}");
    }
    let mut record = right;
    record["actor"]["process"]["shoe_size"] = 43.into();
    assert!(!judge(&schema, &record).is_empty());
}

/// The definition, once parsed.
fn schema() -> Option<Value> {
    let schema: Value = serde_json::from_str(&published::read("ocsf-1.8.0.json")?).expect("JSON");
    assert_eq!(schema["version"], "1.8.0");
    Some(schema)
}

fn check(schema: &Value, event: &Event) -> Vec<String> {
    match serde_json::from_slice(&Format::Ocsf.line(event)) {
        Ok(record) => judge(schema, &record),
        Err(error) => vec![format!("no JSON: {error}")],
    }
}

fn judge(schema: &Value, record: &Value) -> Vec<String> {
    let mut judge = Judge {
        schema,
        profiles: strings(&record["metadata"]["profiles"]),
        errors: Vec::new(),
    };
    judge.record(record);
    judge.errors
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

struct Judge<'s> {
    schema: &'s Value,
    profiles: Vec<String>,
    errors: Vec<String>,
}

impl Judge<'_> {
    fn error(&mut self, path: &str, what: impl std::fmt::Display) {
        self.errors.push(format!("{path}: {what}"));
    }

    fn record(&mut self, record: &Value) {
        let uid = &record["class_uid"];
        let classes = self.schema["classes"].as_object().expect("classes");
        let Some(class) = classes.values().find(|class| &class["uid"] == uid) else {
            return self.error("class_uid", "no such class");
        };
        for (key, definition) in [
            ("category_uid", "category_uid"),
            ("category_name", "category_name"),
            ("class_name", "caption"),
        ] {
            if record[key] != class[definition] {
                self.error(key, "is another class's");
            }
        }
        let number = |key: &str| record[key].as_u64().unwrap_or(0);
        if number("type_uid") != number("class_uid") * 100 + number("activity_id") {
            self.error("type_uid", "does not follow from class and activity");
        }
        let known = strings(&class["profiles"]);
        for profile in self.profiles.clone() {
            if !known.contains(&profile) {
                self.error(
                    "metadata.profiles",
                    format_args!("{profile} is not of this class"),
                );
            }
        }
        self.object(record, class, "");
    }

    /// A class or an object.
    fn object(&mut self, value: &Value, definition: &Value, path: &str) {
        let Some(map) = value.as_object() else {
            return self.error(path, "no object");
        };
        let attributes = definition["attributes"].as_object().expect("attributes");
        for (key, value) in map {
            let path = format!("{path}.{key}");
            match attributes.get(key) {
                Some(attribute) if !self.is_at_hand(attribute) => {
                    self.error(&path, "needs a profile that is not named");
                }
                Some(attribute) => {
                    self.attribute(value, attribute, &path);
                    self.caption(map, key, attribute, &path);
                }
                None => self.error(&path, "no such attribute"),
            }
        }
        for (key, attribute) in attributes {
            let is_required = attribute["requirement"] == "required";
            if is_required && self.is_at_hand(attribute) && !map.contains_key(key) {
                self.error(path, format_args!("{key} is required"));
            }
        }
        for (constraint, holds) in [("at_least_one", 1..usize::MAX), ("just_one", 1..2)] {
            let keys = strings(&definition["constraints"][constraint]);
            let count = keys.iter().filter(|key| map.contains_key(*key)).count();
            if !keys.is_empty() && !holds.contains(&count) {
                self.error(path, format_args!("{constraint} of {keys:?}"));
            }
        }
    }

    /// Is it of no profile, or of one that is named?
    fn is_at_hand(&self, attribute: &Value) -> bool {
        let profiles = strings(&attribute["profiles"]);
        profiles.is_empty()
            || profiles
                .iter()
                .any(|profile| self.profiles.contains(profile))
    }

    fn attribute(&mut self, value: &Value, attribute: &Value, path: &str) {
        if attribute.get("@deprecated").is_some() {
            self.error(path, "is deprecated");
        }
        if attribute["is_array"] == true {
            match value.as_array() {
                Some(items) if !items.is_empty() => {
                    for item in items {
                        self.single(item, attribute, path);
                    }
                }
                _ => self.error(path, "no list, or an empty one"),
            }
        } else {
            self.single(value, attribute, path);
        }
    }

    fn single(&mut self, value: &Value, attribute: &Value, path: &str) {
        let kind = attribute["type"].as_str().expect("a type");
        if kind == "object_t" {
            let name = attribute["object_type"].as_str().expect("an object");
            let definition = &self.schema["objects"][name];
            if name == "object" {
                // Anything, under names of our own, but what no event has.
                if !value.is_object() || has_null(value) {
                    self.error(path, "no object, or a null in it");
                }
            } else {
                self.object(value, definition, path);
            }
            return;
        }
        if !has_type(kind, value) {
            self.error(path, format_args!("{value} is no {kind}"));
        }
        if let Some(values) = attribute["enum"].as_object() {
            let word = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            if !values.contains_key(&word) {
                self.error(path, format_args!("{value} is not of the enumeration"));
            }
        }
    }

    /// A number of an enumeration and the caption beside it say the same; of `Other`, the caption is ours.
    fn caption(&mut self, map: &Map<String, Value>, key: &str, attribute: &Value, path: &str) {
        let Some(sibling) = attribute["sibling"].as_str() else {
            return;
        };
        let Some(caption) = map.get(sibling) else {
            return;
        };
        let number = map[key].to_string();
        let is_other = number == "99" || (key == "type_uid" && number.ends_with("99"));
        let known = &attribute["enum"][&number]["caption"];
        if !is_other && known != caption {
            self.error(
                path,
                format_args!("{caption} is not the caption of {number}"),
            );
        }
        if is_other && caption.as_str().is_none_or(str::is_empty) {
            self.error(path, "other than what?");
        }
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}

fn has_type(kind: &str, value: &Value) -> bool {
    let within = |low: i64, high: i64| {
        value
            .as_i64()
            .is_some_and(|number| (low..=high).contains(&number))
    };
    match kind {
        "boolean_t" => value.is_boolean(),
        // OCSF says only that a long has 8 bytes; the encodings that people use give an integer 4.
        "integer_t" => within(i32::MIN.into(), i32::MAX.into()),
        "long_t" | "timestamp_t" => value.is_i64(),
        "port_t" => within(0, 65_535),
        "string_t" | "file_name_t" | "file_path_t" | "hostname_t" | "process_name_t"
        | "username_t" | "file_hash_t" => value.is_string(),
        "ip_t" => value
            .as_str()
            .is_some_and(|text| text.len() <= 40 && text.parse::<IpAddr>().is_ok()),
        other => panic!("an attribute of type {other}, which this test does not know yet"),
    }
}
