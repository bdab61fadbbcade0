//! As much of Sigma 2 as our rules use: selections, lists, modifiers, conditions, and counting correlations. What it does not
//! know, it refuses.

use serde_json::Value;
use yaml_rust2::Yaml;

/// Does the detection of a rule match this event?
pub(crate) fn matches(rule: &Yaml, event: &Value) -> bool {
    let detection = &rule["detection"];
    let condition = detection["condition"].as_str().expect("a condition");
    let mut words = words(condition).into_iter().peekable();
    let found = any(&mut words, detection, event);
    assert_eq!(words.next(), None, "behind the condition {condition:?}");
    found
}

/// Values of a field, by its dotted name; of a list each, and of what is in a list too.
pub(crate) fn values<'a>(event: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut found = vec![event];
    for key in name.split('.') {
        found = found
            .into_iter()
            .flat_map(|value| match value {
                Value::Array(items) => items.iter().collect(),
                one => vec![one],
            })
            .filter_map(|value| value.get(key))
            .collect();
    }
    found
        .into_iter()
        .flat_map(|value| match value {
            Value::Array(items) => items.iter().collect(),
            one => vec![one],
        })
        .collect()
}

type Words = std::iter::Peekable<std::vec::IntoIter<String>>;

fn words(condition: &str) -> Vec<String> {
    let spaced = condition.replace('(', " ( ").replace(')', " ) ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

fn any(words: &mut Words, detection: &Yaml, event: &Value) -> bool {
    let mut found = all(words, detection, event);
    while words.next_if(|word| word == "or").is_some() {
        found |= all(words, detection, event);
    }
    found
}

fn all(words: &mut Words, detection: &Yaml, event: &Value) -> bool {
    let mut found = one(words, detection, event);
    while words.next_if(|word| word == "and").is_some() {
        found &= one(words, detection, event);
    }
    found
}

fn one(words: &mut Words, detection: &Yaml, event: &Value) -> bool {
    match words.next().expect("a selection").as_str() {
        "not" => !one(words, detection, event),
        "(" => {
            let found = any(words, detection, event);
            assert_eq!(words.next().as_deref(), Some(")"));
            found
        }
        name => {
            assert!(!detection[name].is_badvalue(), "no selection {name}");
            selection(&detection[name], event)
        }
    }
}

/// Of a map everything, of a list anything.
fn selection(of: &Yaml, event: &Value) -> bool {
    match of {
        Yaml::Array(items) => items.iter().any(|item| selection(item, event)),
        Yaml::Hash(map) => map
            .iter()
            .all(|(key, expected)| field(key.as_str().expect("a field"), expected, event)),
        other => panic!("no selection: {other:?}"),
    }
}

fn field(key: &str, expected: &Yaml, event: &Value) -> bool {
    let (name, modifier) = key.split_once('|').unwrap_or((key, ""));
    let found = values(event, name);
    let fits = |expected: &Yaml| found.iter().any(|value| compare(value, modifier, expected));
    match expected {
        Yaml::Array(items) => items.iter().any(fits),
        single => fits(single),
    }
}

fn compare(value: &Value, modifier: &str, expected: &Yaml) -> bool {
    match (value, expected) {
        (Value::String(value), Yaml::String(expected)) => {
            // Sigma knows wildcards and is blind to case; our rules need no wildcards.
            assert!(!expected.contains(['*', '?', '\\']), "{expected}");
            let (value, expected) = (value.to_lowercase(), expected.to_lowercase());
            match modifier {
                "" => value == expected,
                "startswith" => value.starts_with(&expected),
                "endswith" => value.ends_with(&expected),
                "contains" => value.contains(&expected),
                other => panic!("no modifier {other}"),
            }
        }
        (Value::Number(value), Yaml::Integer(expected)) => value.as_i64() == Some(*expected),
        (Value::Bool(value), Yaml::Boolean(expected)) => value == expected,
        (_, Yaml::Integer(_) | Yaml::Boolean(_) | Yaml::String(_)) => false,
        (_, other) => panic!("no value: {other:?}"),
    }
}

/// An `event_count` correlation: the most events that its base rule matches in one group and one timespan.
pub(crate) fn most(rule: &Yaml, base: &Yaml, events: &[Value]) -> usize {
    let correlation = &rule["correlation"];
    assert_eq!(correlation["type"].as_str(), Some("event_count"));
    let span = correlation["timespan"].as_str().expect("a timespan");
    let minutes: i64 = span
        .strip_suffix('m')
        .and_then(|count| count.parse().ok())
        .expect("minutes");
    let group = |event: &Value| -> Vec<String> {
        let names = correlation["group-by"].as_vec().expect("groups");
        names
            .iter()
            .map(|name| format!("{:?}", values(event, name.as_str().expect("a field"))))
            .collect()
    };
    let at = |event: &Value| -> jiff::Timestamp {
        event["ts"]
            .as_str()
            .and_then(|ts| ts.parse().ok())
            .expect("a time")
    };
    let counted: Vec<&Value> = events.iter().filter(|event| matches(base, event)).collect();
    let from = |first: &&Value| {
        let within = counted.iter().filter(|event| {
            let later = at(event).as_second() - at(first).as_second();
            group(event) == group(first) && (0..minutes * 60).contains(&later)
        });
        within.count()
    };
    counted.iter().map(from).max().unwrap_or(0)
}
