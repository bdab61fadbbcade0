//! Gives values the type of their field, and refuses comparisons that make no sense.

use std::ops::Range;

use super::address::Network;
use super::ast::{Comparison, Expr, Item, Operand, Test};
use super::error::{Fault, did_you_mean, shown};
use super::lexer::Sign;
use super::literal::Literal;
use crate::event::fields::{self, Field, FieldType};
use crate::event::words::Word as _;
use crate::event::{EventType, Exposure, Family, Protocol, State};

/// The field of that name.
pub(super) fn field(name: &str, span: &Range<usize>) -> Result<&'static Field, Fault> {
    fields::find(name).ok_or_else(|| {
        let hint = did_you_mean(name, fields::names());
        Fault::at(span, format!("{} is not a field{hint}", shown(name)))
    })
}

/// `field sign value`.
pub(super) fn compare(field: &'static Field, sign: Sign, value: &Literal) -> Result<Expr, Fault> {
    let comparison = match sign {
        Sign::Glob => return glob(field, value),
        Sign::Equal => Comparison::Equal,
        Sign::NotEqual => Comparison::NotEqual,
        Sign::Less => Comparison::Less,
        Sign::LessOrEqual => Comparison::LessOrEqual,
        Sign::Greater => Comparison::Greater,
        Sign::GreaterOrEqual => Comparison::GreaterOrEqual,
    };
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if !is_equality && !is_ordered(field.kind) {
        let message = format!(
            "{} has no order; it can be compared with ==, != and in",
            described(field)
        );
        return Err(Fault::at(&value.span, message));
    }
    let operand = operand(field, value)?;
    if let Operand::Network(network) = operand
        && !network.is_single()
    {
        let message = format!("{} is a network; write `in` before it", value.shown());
        return Err(Fault::at(&value.span, message));
    }
    Ok(Expr::Test(field, Test::Compare(comparison, operand)))
}

/// `field in items`, `field not in items`.
pub(super) fn member(
    field: &'static Field,
    negated: bool,
    items: &[Literal],
) -> Result<Expr, Fault> {
    let items = items
        .iter()
        .map(|value| item(field, value))
        .collect::<Result<_, _>>()?;
    Ok(Expr::Test(field, Test::In { negated, items }))
}

/// `field:item,item`: globs are globs, all else is membership, and a single value is equality.
pub(super) fn short(field: &'static Field, items: &[Literal]) -> Result<Expr, Fault> {
    let (globs, plain): (Vec<_>, Vec<_>) = items
        .iter()
        .partition(|value| value.text.contains('*') && has_text(field.kind));
    let mut parts: Vec<_> = globs
        .into_iter()
        .map(|value| glob(field, value))
        .collect::<Result<_, _>>()?;
    let mut items: Vec<_> = plain
        .into_iter()
        .map(|value| item(field, value))
        .collect::<Result<_, _>>()?;
    let single = |item: &Item| match item {
        Item::One(Operand::Network(network)) => network.is_single(),
        Item::One(_) => true,
        Item::Range(..) => false,
    };
    match items.pop() {
        Some(Item::One(operand)) if items.is_empty() && single(&Item::One(operand.clone())) => {
            parts.push(Expr::Test(field, Test::Compare(Comparison::Equal, operand)));
        }
        Some(last) => {
            items.push(last);
            parts.push(Expr::Test(
                field,
                Test::In {
                    negated: false,
                    items,
                },
            ));
        }
        None => {}
    }
    Ok(Expr::or(parts))
}

/// `field contains value`.
pub(super) fn contains(field: &'static Field, value: &Literal) -> Result<Expr, Fault> {
    need_text(field, value)?;
    Ok(Expr::Test(field, Test::Contains(value.text.clone())))
}

/// A word alone: a protocol, family, event type, state or exposure.
pub(super) fn bare(word: &Literal) -> Result<Expr, Fault> {
    let places = [
        ("socket.protocol", Protocol::WORDS),
        ("socket.family", Family::WORDS),
        ("type", EventType::WORDS),
        ("new_state", State::WORDS),
        ("socket.exposure", Exposure::WORDS),
    ];
    for (name, words) in places {
        if ranked(words, &word.text).is_some() {
            return compare(field(name, &word.span)?, Sign::Equal, word);
        }
    }
    let what = word.shown();
    if fields::find(&word.text).is_some() {
        let name = &word.text;
        let message = format!("{what} is a field; write `{name}:…` or `{name} == …`");
        return Err(Fault::at(&word.span, message));
    }
    if let Some(name) = likely_field(&word.text) {
        let message = format!(
            "{what} needs a field before it, for example `{name}:{}`",
            word.text
        );
        return Err(Fault::at(&word.span, message));
    }
    let known = places.iter().flat_map(|(_, words)| words.iter().copied());
    let hint = did_you_mean(&word.text, known.chain(fields::names()));
    let message = format!("{what} is not a protocol, family, event type, state or exposure{hint}");
    Err(Fault::at(&word.span, message))
}

/// The field that somebody probably means who writes only its value.
pub(super) fn likely_field(value: &str) -> Option<&'static str> {
    if number(value).is_some() {
        Some("port")
    } else if Network::parse(value).is_some() {
        Some("address")
    } else if value.starts_with('/') {
        Some("exe")
    } else {
        None
    }
}

fn glob(field: &'static Field, value: &Literal) -> Result<Expr, Fault> {
    need_text(field, value)?;
    Ok(Expr::Test(field, Test::Glob(value.text.clone())))
}

fn item(field: &'static Field, value: &Literal) -> Result<Item, Fault> {
    let ends = value
        .text
        .split_once("..")
        .filter(|_| is_ordered(field.kind));
    let Some((from, to)) = ends else {
        return operand(field, value).map(Item::One);
    };
    let end = |text: &str| {
        let text = text.to_owned();
        operand(
            field,
            &Literal {
                text,
                span: value.span.clone(),
            },
        )
    };
    let (from, to) = (end(from)?, end(to)?);
    let rises = match (&from, &to) {
        (Operand::Number(from), Operand::Number(to)) => from <= to,
        (Operand::Time(from), Operand::Time(to)) => from <= to,
        (Operand::Word(_, from), Operand::Word(_, to)) => from <= to,
        _ => false,
    };
    if rises {
        return Ok(Item::Range(from, to));
    }
    let message = format!("the range runs backwards; write {to}..{from}");
    Err(Fault::at(&value.span, message))
}

fn operand(field: &'static Field, value: &Literal) -> Result<Operand, Fault> {
    let text = value.text.as_str();
    let read = match field.kind {
        FieldType::Text => Some(Operand::Text(text.to_owned())),
        FieldType::Number { max } => number(text).filter(|&n| n <= max).map(Operand::Number),
        FieldType::Flag => match text {
            "true" => Some(Operand::Flag(true)),
            "false" => Some(Operand::Flag(false)),
            _ => None,
        },
        FieldType::Word(words) | FieldType::Ranked(words) => {
            ranked(words, text).map(|(word, rank)| Operand::Word(word, rank))
        }
        FieldType::Address => Network::parse(text).map(Operand::Network),
        FieldType::Time => text.parse().ok().map(Operand::Time),
    };
    read.ok_or_else(|| {
        let hint = match field.kind {
            FieldType::Word(words) | FieldType::Ranked(words) => {
                did_you_mean(text, words.iter().copied())
            }
            _ => String::new(),
        };
        let message = format!("{}, not {}{hint}", described(field), value.shown());
        Fault::at(&value.span, message)
    })
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u64> {
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

fn ranked(words: &'static [&'static str], text: &str) -> Option<(&'static str, usize)> {
    let rank = words
        .iter()
        .position(|word| word.eq_ignore_ascii_case(text))?;
    words.get(rank).map(|&word| (word, rank))
}

fn is_ordered(kind: FieldType) -> bool {
    matches!(
        kind,
        FieldType::Number { .. } | FieldType::Ranked(_) | FieldType::Time
    )
}

fn has_text(kind: FieldType) -> bool {
    !matches!(kind, FieldType::Number { .. } | FieldType::Flag)
}

fn need_text(field: &'static Field, value: &Literal) -> Result<(), Fault> {
    if has_text(field.kind) {
        return Ok(());
    }
    let message = format!("{}; globs and `contains` are for text", described(field));
    Err(Fault::at(&value.span, message))
}

/// "`port` is a whole number from 0 to 65535".
fn described(field: &Field) -> String {
    let name = field.short_name();
    match field.kind {
        FieldType::Text => format!("`{name}` is text"),
        FieldType::Number { max } => format!("`{name}` is a whole number from 0 to {max}"),
        FieldType::Flag => format!("`{name}` is true or false"),
        FieldType::Word(words) | FieldType::Ranked(words) => {
            format!("`{name}` is one of {}", words.join(", "))
        }
        FieldType::Address => format!("`{name}` is an IPv4 or IPv6 address or network"),
        FieldType::Time => format!("`{name}` is a time such as 2026-11-21T19:42:01Z"),
    }
}
