//! Properties that hold for every filter and every event.

use proptest::prelude::*;

use super::Filter;
use crate::event::Event;
use crate::event::example::examples;
use crate::event::fields::{FIELDS, Field, FieldType, find};

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

/// A value that fits the field, as one would write it.
fn value(field: &'static Field) -> BoxedStrategy<String> {
    match field.kind {
        FieldType::Text => prop_oneof![
            "[a-z./-]{1,8}".prop_map(|text| format!("'{text}'")),
            any::<String>().prop_map(|text| quoted(&text)),
            Just("nginx".to_owned()),
            Just("root".to_owned()),
        ]
        .boxed(),
        FieldType::Number { max } => (0..=max.min(2_000)).prop_map(|n| n.to_string()).boxed(),
        FieldType::Flag => any::<bool>().prop_map(|flag| flag.to_string()).boxed(),
        FieldType::Word(words) | FieldType::Ranked(words) => proptest::sample::select(words)
            .prop_map(str::to_owned)
            .boxed(),
        FieldType::Address => prop_oneof![
            any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
            Just("10.0.0.2".to_owned()),
        ]
        .boxed(),
        FieldType::Time => (0..4_000_000_000_i64)
            .prop_map(|s| {
                jiff::Timestamp::from_second(s)
                    .expect("in range")
                    .to_string()
            })
            .boxed(),
    }
}

fn term() -> impl Strategy<Value = String> {
    proptest::sample::select(FIELDS.iter().collect::<Vec<_>>()).prop_flat_map(|field| {
        let name = proptest::sample::select(vec![field.name, field.short_name()]);
        let ordered = !matches!(
            field.kind,
            FieldType::Text | FieldType::Flag | FieldType::Word(_) | FieldType::Address
        );
        let textual = !matches!(field.kind, FieldType::Number { .. } | FieldType::Flag);
        let mut signs = vec!["==", "!=", "in", "not in"];
        signs.extend(["<", "<=", ">", ">="].iter().filter(|_| ordered));
        signs.extend(["=~", "contains"].iter().filter(|_| textual));
        (
            name,
            proptest::sample::select(signs),
            proptest::collection::vec(value(field), 1..4),
        )
            .prop_map(|(name, sign, values)| match sign {
                "in" | "not in" => format!("{name} {sign} ({})", values.join(", ")),
                _ => format!("{name} {sign} {}", values[0]),
            })
    })
}

fn filter() -> impl Strategy<Value = String> {
    term().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|p| format!("({})", p.join(" and "))),
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|p| format!("({})", p.join(" || "))),
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|p| format!("({})", p.join(" "))),
            inner.prop_map(|part| format!("not {part}")),
        ]
    })
}

/// Text that looks like a filter often enough to reach every corner of the parser.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "tcp",
            "port",
            "port:",
            "in",
            "not",
            "and",
            "or",
            "contains",
            "(",
            ")",
            "{",
            "}",
            ",",
            "==",
            "!=",
            "=~",
            "<",
            ">=",
            "!",
            "&&",
            "||",
            "=",
            "\"",
            "'",
            "\\",
            "\\x",
            "..",
            "1..2",
            "*",
            ":",
            "name",
            "address",
            "::1/64",
            "10.0.0.0/8",
            "ts",
            "severity",
            "\\xé",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    (proptest::collection::vec(piece, 0..24), "[ ]?").prop_map(|(pieces, gap)| pieces.join(&gap))
}

fn event() -> impl Strategy<Value = Event> {
    proptest::sample::select(examples())
}

fn parsed(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in soup()) {
        match Filter::parse(&text) {
            Ok(filter) => {
                for event in examples() {
                    let _ = filter.matches(&event);
                }
                prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
            }
            Err(error) => {
                let shown = error.to_string();
                prop_assert!(!shown.replace('\n', "").chars().any(char::is_control), "{:?}", shown);
                prop_assert_eq!(shown.lines().count(), 3);
            }
        }
    }

    #[test]
    fn the_normal_form_parses_back_to_the_same(text in filter()) {
        let filter = parsed(&text);
        let normal = filter.to_string();
        let again = parsed(&normal);
        prop_assert_eq!(again.to_string(), normal);
        prop_assert_eq!(again, filter);
    }

    #[test]
    fn de_morgan_holds(a in filter(), b in filter(), event in event()) {
        let truth = |text: String| parsed(&text).matches(&event);
        prop_assert_eq!(truth(format!("not ({a} and {b})")), truth(format!("not {a} or not {b}")));
        prop_assert_eq!(truth(format!("not ({a} or {b})")), truth(format!("not {a} and not {b}")));
        prop_assert_eq!(truth(format!("not not {a}")), truth(a));
    }

    #[test]
    fn a_term_and_its_negation_match_exactly_when_the_field_is_there(text in term(), event in event()) {
        let name = text.split(' ').next().expect("a field");
        let field = find(name).expect("a field");
        let present = (field.get)(&event).is_some();
        let yes = parsed(&text).matches(&event);
        let no = parsed(&format!("not {text}")).matches(&event);
        prop_assert_eq!(yes ^ no, present);
        prop_assert!(!(yes && no));
    }
}
