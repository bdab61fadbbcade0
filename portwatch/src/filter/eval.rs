//! Evaluation in three values: yes, no, and unknown (`None`) for what an event does not have.

use std::cmp::Ordering;
use std::net::IpAddr;

use jiff::Timestamp;

use super::ast::{Comparison, Expr, Item, Operand, Test};
use super::glob;
use crate::event::Event;
use crate::event::fields::{FieldType, Value};

/// Kleene's strong logic: `no and unknown` is no, `yes or unknown` is yes, all else with unknown is unknown.
pub(super) fn expr(node: &Expr, event: &Event) -> Option<bool> {
    match node {
        Expr::And(parts) => fold(parts.iter().map(|part| expr(part, event)), false),
        Expr::Or(parts) => fold(parts.iter().map(|part| expr(part, event)), true),
        Expr::Not(inner) => expr(inner, event).map(|truth| !truth),
        Expr::Test(field, test) => {
            let value = (field.get)(event)?;
            let truth = any(test, field.kind, &value);
            if is_negative(test) {
                truth.map(|truth| !truth)
            } else {
                truth
            }
        }
    }
}

/// `decisive` as soon as one part is that; else unknown if one part is; else the opposite.
fn fold(parts: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut result = Some(!decisive);
    for part in parts {
        match part {
            Some(truth) if truth == decisive => return Some(decisive),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

/// `!=` and `not in` are the negations of `==` and `in`: for a list, none of its values is equal.
fn is_negative(test: &Test) -> bool {
    matches!(
        test,
        Test::Compare(Comparison::NotEqual, _) | Test::In { negated: true, .. }
    )
}

/// Does one of the values satisfy the test, read as positive?
fn any(test: &Test, kind: FieldType, value: &Value<'_>) -> Option<bool> {
    match value {
        Value::Many(values) => fold(values.iter().map(|value| any(test, kind, value)), true),
        value => single(test, kind, value),
    }
}

fn single(test: &Test, kind: FieldType, value: &Value<'_>) -> Option<bool> {
    match test {
        Test::Compare(Comparison::Equal | Comparison::NotEqual, operand) => equal(operand, value),
        Test::Compare(comparison, operand) => {
            let order = order(value, operand, kind)?;
            Some(match comparison {
                Comparison::Less => order.is_lt(),
                Comparison::LessOrEqual => order.is_le(),
                Comparison::Greater => order.is_gt(),
                Comparison::GreaterOrEqual => order.is_ge(),
                Comparison::Equal | Comparison::NotEqual => order.is_eq(),
            })
        }
        Test::In { items, .. } => fold(items.iter().map(|item| inside(item, value, kind)), true),
        Test::Glob(pattern) => Some(glob::matches(pattern, text(value)?)),
        Test::Contains(part) => Some(text(value)?.contains(part.as_str())),
    }
}

fn inside(item: &Item, value: &Value<'_>, kind: FieldType) -> Option<bool> {
    match item {
        Item::One(operand) => equal(operand, value),
        Item::Range(from, to) => {
            Some(order(value, from, kind)?.is_ge() && order(value, to, kind)?.is_le())
        }
    }
}

fn equal(operand: &Operand, value: &Value<'_>) -> Option<bool> {
    match (operand, value) {
        (Operand::Text(wanted), value) => Some(wanted == text(value)?),
        (Operand::Word(wanted, _), value) => Some(*wanted == text(value)?),
        (Operand::Number(wanted), Value::Number(number)) => Some(wanted == number),
        (Operand::Flag(wanted), Value::Flag(flag)) => Some(wanted == flag),
        (Operand::Network(network), value) => {
            Some(network.contains(text(value)?.parse::<IpAddr>().ok()?))
        }
        (Operand::Time(wanted), value) => Some(*wanted == text(value)?.parse::<Timestamp>().ok()?),
        _ => None,
    }
}

fn order(value: &Value<'_>, operand: &Operand, kind: FieldType) -> Option<Ordering> {
    match (operand, kind) {
        (Operand::Number(wanted), _) => match value {
            Value::Number(number) => Some(number.cmp(wanted)),
            _ => None,
        },
        (Operand::Word(_, wanted), FieldType::Ranked(words)) => {
            let word = text(value)?;
            let rank = words.iter().position(|known| *known == word)?;
            Some(rank.cmp(wanted))
        }
        (Operand::Time(wanted), _) => Some(text(value)?.parse::<Timestamp>().ok()?.cmp(wanted)),
        _ => None,
    }
}

fn text<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}
