//! `docs/events.md`: every event type with an example, every field with its type and meaning.
//!
//! Meanings are the doc comments of the types, by way of the JSON Schema; short names come from the
//! filter's catalogue; examples are real values of the types.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use portwatch::event::example::{examples, variants};
use portwatch::event::fields::{DERIVED, FIELDS, Field, FieldType, Value as Held, find};
use serde_json::{Map, Value};

use super::notes;

const HEAD: &str = "\
# Events

<!-- Written by `cargo xtask gen` from the types in portwatch/src/event; do not edit. -->

`portwatch tail -o json` writes one event a line: JSON in UTF-8, at most 64 KiB. The JSON Schema is
[portwatch.event-1.json](schema/portwatch.event-1.json); `portwatch schema` prints the one of the
program at hand. The schema changes only additively: new keys, new types and new words may come, so a
reader ignores what it does not know. A change that must break a reader bumps the number in `schema`.

A key that is not known is absent, never null or empty. All text that other processes chose (names,
paths, arguments, socket names) is escaped: a byte that is not plain printable text, and the backslash
itself, is written `\\xNN`.

The same events in the words of other models, and how each field is called there, are in [siem.md](siem.md).
";

/// The whole document.
pub(super) fn reference(schema: &Value) -> Result<String> {
    let mut out = HEAD.to_owned();
    types(&mut out, schema)?;
    out.push_str(
        "\n## Fields\n\n\
         *Short* is the name that filters also take. *Absent* tells when the key is not there while its object \
         is. Examples are from the events that are pinned in [schema/golden](schema/golden).\n",
    );
    object(&mut out, schema, schema, "")?;
    derived(&mut out);
    words(&mut out, schema)?;
    Ok(out)
}

/// One section for each event type.
fn types(out: &mut String, schema: &Value) -> Result<()> {
    out.push_str(
        "\n## Types\n\n| `type` | meaning | severity | keys of its own |\n|---|---|---|---|\n",
    );
    let choices = choices(definition(schema, "EventType")?)?;
    let events = examples();
    for (event, (word, meaning)) in events.iter().zip(&choices) {
        anyhow::ensure!(
            event.kind.as_str() == *word,
            "the example of {word} is out of order"
        );
        let json = serde_json::to_value(event)?;
        let keys = own_keys(schema, &json)?;
        let severity = event.severity.as_str();
        writeln!(
            out,
            "| [`{word}`](#{}) | {meaning} | {severity} | {keys} |",
            word.replace('.', "")
        )?;
    }
    out.push_str(
        "\nThe severity is that of the example; a listener that only this host can reach is `info`.\n",
    );
    for (event, (word, meaning)) in events.iter().zip(&choices) {
        let json = serde_json::to_string_pretty(event)?;
        write!(
            out,
            "\n### {word}\n\n{meaning} On one line in the stream:\n\n```json\n{json}\n```\n"
        )?;
    }
    Ok(())
}

/// Keys of the event that not every event has.
fn own_keys(schema: &Value, event: &Value) -> Result<String> {
    let required = required(schema);
    let keys = event.as_object().context("an event is an object")?.keys();
    let own: Vec<_> = keys
        .filter(|key| !required.contains(&key.as_str()))
        .map(|key| format!("`{key}`"))
        .collect();
    Ok(own.join(", "))
}

/// A table of the object's keys, then the tables of the objects inside it.
fn object(out: &mut String, root: &Value, schema: &Value, path: &str) -> Result<()> {
    let title = if path.is_empty() { "the event" } else { path };
    let about = text(schema, "description");
    write!(
        out,
        "\n### {title}\n\n{about}\n\n| key | short | type, unit | absent | example | meaning |\n|---|---|---|---|---|---|\n"
    )?;
    let required = required(schema);
    let mut inner = Vec::new();
    for (key, property) in properties(schema)? {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let target = resolved(root, property)?;
        let note = notes::of(&path)?;
        let is_required = required.contains(&key.as_str());
        anyhow::ensure!(
            is_required == (note.absent == "never"),
            "{path} is required or not, and its note says otherwise"
        );
        let mut kind = kind(root, property, &path)?;
        if !note.unit.is_empty() {
            kind = format!("{kind}; {}", note.unit);
        }
        let named = find(&path).filter(|field| field.name == path);
        let short = named.map_or_else(String::new, shorts);
        let example = named.map_or_else(|| Ok(String::new()), example)?;
        let absent = note.absent;
        let meaning = text(property, "description");
        let meaning = meaning.replace('|', "\\|").replace('\n', " ");
        writeln!(
            out,
            "| `{key}` | {short} | {kind} | {absent} | {example} | {meaning} |"
        )?;
        if target["properties"].is_object() {
            inner.push((path, target));
        }
    }
    for (path, target) in inner {
        object(out, root, target, &path)?;
    }
    Ok(())
}

/// What the field holds in the first pinned event that has it.
fn example(field: &Field) -> Result<String> {
    let pinned = [examples(), variants()].concat();
    let held = pinned.iter().find_map(|event| (field.get)(event));
    let held = held.with_context(|| format!("no example has {}", field.name))?;
    let held = match held {
        Held::Many(values) => values.into_iter().next().context("never empty")?,
        single => single,
    };
    Ok(match held {
        Held::Text(text) => format!("`{}`", text.replace('|', "\\|")),
        Held::Number(number) => format!("`{number}`"),
        Held::Flag(flag) => format!("`{flag}`"),
        Held::Many(_) => String::new(),
    })
}

fn shorts(field: &Field) -> String {
    let names: Vec<_> = field
        .aliases
        .iter()
        .map(|alias| format!("`{alias}`"))
        .collect();
    names.join(", ")
}

/// The type in words, with its range.
fn kind(root: &Value, property: &Value, path: &str) -> Result<String> {
    if property["type"] == "array" {
        return Ok(format!("list of {}", kind(root, &property["items"], path)?));
    }
    let target = resolved(root, property)?;
    if target["properties"].is_object() {
        return Ok("object".to_owned());
    }
    if let Some(name) = property["$ref"]
        .as_str()
        .and_then(|pointer| pointer.rsplit('/').next())
    {
        return Ok(format!("[word](#{})", name.to_lowercase()));
    }
    let field = find(path).with_context(|| format!("filters do not know {path}"))?;
    Ok(match field.kind {
        FieldType::Number { max: u64::MAX } => "integer, 64 bit".to_owned(),
        FieldType::Number { max } => format!("integer, 0–{max}"),
        FieldType::Flag => "boolean".to_owned(),
        FieldType::Address => "IP address".to_owned(),
        FieldType::Time => "time".to_owned(),
        FieldType::Text | FieldType::Word(_) | FieldType::Ranked(_) => "text".to_owned(),
    })
}

/// What filters know although JSON does not hold it as a key.
fn derived(out: &mut String) {
    out.push_str("\n### Only in filters\n\n| field | meaning |\n|---|---|\n");
    let meanings = [
        "Name of the nearest ancestor: `process.ancestors`, its first `name`.",
        "The arguments as one text, joined by spaces.",
    ];
    for (name, meaning) in DERIVED.iter().zip(meanings) {
        let names = FIELDS
            .iter()
            .filter(|field| field.name == *name)
            .flat_map(|field| {
                [field.name]
                    .into_iter()
                    .chain(field.aliases.iter().copied())
            });
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        out.push_str(&format!("| {} | {meaning} |\n", names.join(", ")));
    }
}

/// A table for each enumeration.
fn words(out: &mut String, schema: &Value) -> Result<()> {
    out.push_str("\n## Words\n");
    for (name, definition) in schema["$defs"].as_object().context("definitions")? {
        if definition["properties"].is_object() {
            continue;
        }
        let about = text(definition, "description");
        write!(
            out,
            "\n### {name}\n\n{about}\n\n| word | meaning |\n|---|---|\n"
        )?;
        for (word, meaning) in choices(definition)? {
            writeln!(out, "| `{word}` | {meaning} |")?;
        }
    }
    Ok(())
}

/// The words of an enumeration with their meanings.
fn choices(definition: &Value) -> Result<Vec<(&str, &str)>> {
    let choices = definition["oneOf"]
        .as_array()
        .context("an enumeration whose words are documented")?;
    choices
        .iter()
        .map(|choice| {
            Ok((
                choice["const"].as_str().context("a word")?,
                text(choice, "description"),
            ))
        })
        .collect()
}

fn definition<'s>(schema: &'s Value, name: &str) -> Result<&'s Value> {
    schema["$defs"]
        .get(name)
        .with_context(|| format!("the schema does not define {name}"))
}

/// The schema of a property, or of its items, behind its reference.
fn resolved<'s>(root: &'s Value, property: &'s Value) -> Result<&'s Value> {
    if property["items"].is_object() {
        return resolved(root, &property["items"]);
    }
    match property["$ref"].as_str() {
        Some(pointer) => root
            .pointer(pointer.trim_start_matches('#'))
            .with_context(|| format!("{pointer} leads nowhere")),
        None => Ok(property),
    }
}

fn properties(schema: &Value) -> Result<&Map<String, Value>> {
    schema["properties"]
        .as_object()
        .context("an object's properties")
}

fn required(schema: &Value) -> Vec<&str> {
    schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn text<'s>(schema: &'s Value, key: &str) -> &'s str {
    schema[key].as_str().unwrap_or_default()
}
