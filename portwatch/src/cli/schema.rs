//! `portwatch schema`: the JSON Schema of an event, from the types that write it.

use std::io::{self, Write};

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value, json};

use crate::event::{Event, SCHEMA};

/// The schema, with keys in the order in which events write them.
#[must_use]
pub fn event_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(NeverNull)
        .into_generator()
        .into_root_schema_for::<Event>();
    schema.insert("$id".to_owned(), json!("urn:portwatch:event:1"));
    schema.insert("title".to_owned(), json!(SCHEMA));
    if let Some(name) = schema.pointer_mut("/properties/schema") {
        name["const"] = json!(SCHEMA);
    }
    titled_first(schema)
}

/// The same schema with what names it at its head.
fn titled_first(mut schema: Schema) -> Value {
    let head = ["$schema", "$id", "title", "description"];
    let mut ordered = Map::new();
    for key in head {
        ordered.extend(schema.remove(key).map(|value| (key.to_owned(), value)));
    }
    if let Value::Object(rest) = Value::from(schema) {
        ordered.extend(rest);
    }
    Value::Object(ordered)
}

/// The schema as text: two spaces a level, a line feed at the end.
#[must_use]
pub fn event_schema_text() -> String {
    format!("{:#}\n", event_schema())
}

/// Prints the schema.
///
/// # Errors
/// When the output cannot be written.
pub fn print(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(event_schema_text().as_bytes())
}

/// An event never writes null: what is not known is absent. Takes null out of every type.
#[derive(Clone)]
struct NeverNull;

impl Transform for NeverNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                schema.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
            choices.retain(|choice| choice != &json!({"type": "null"}));
            if let [Value::Object(only)] = choices.as_slice() {
                let only = only.clone();
                schema.remove("anyOf");
                for (key, value) in only {
                    schema.insert(key, value);
                }
            }
        }
        schema.remove("default");
        transform_subschemas(self, schema);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::event::fields::{DERIVED, FIELDS};

    /// The paths of all leaves, through references and lists.
    fn leaves(root: &Value, schema: &Value, path: &str, into: &mut BTreeSet<String>) {
        if let Some(pointer) = schema["$ref"].as_str() {
            let target = root
                .pointer(pointer.trim_start_matches('#'))
                .expect("a definition");
            return leaves(root, target, path, into);
        }
        if schema["items"].is_object() {
            return leaves(root, &schema["items"], path, into);
        }
        match schema["properties"].as_object() {
            Some(properties) => {
                for (key, property) in properties {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    leaves(root, property, &path, into);
                }
            }
            None => {
                into.insert(path.to_owned());
            }
        }
    }

    #[test]
    fn nothing_may_be_null() {
        let text = event_schema_text();
        assert!(!text.contains("null\""), "{text}");
        assert!(text.contains(r#""const": "portwatch.event/1""#));
    }

    #[test]
    fn the_filter_knows_every_leaf_and_no_other() {
        let schema = event_schema();
        let mut published = BTreeSet::new();
        leaves(&schema, &schema, "", &mut published);
        let known: BTreeSet<_> = FIELDS
            .iter()
            .map(|field| field.name)
            .filter(|name| !DERIVED.contains(name))
            .map(str::to_owned)
            .collect();
        assert_eq!(known, published);
    }

    #[test]
    fn the_order_is_that_of_the_events() {
        let schema = event_schema();
        let keys: Vec<_> = schema["properties"]
            .as_object()
            .expect("keys")
            .keys()
            .collect();
        assert_eq!(&keys[..5], ["schema", "id", "seq", "ts", "type"]);
    }
}
