//! The checked expression, and its normal form.

use std::fmt;

use jiff::Timestamp;

use super::address::Network;
use super::literal::written;
use crate::event::fields::Field;

/// A filter, or a part of one. `And` and `Or` have at least two parts and none of their own kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Test(&'static Field, Test),
}

/// What a field's value is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Compare(Comparison, Operand),
    In { negated: bool, items: Vec<Item> },
    Glob(String),
    Contains(String),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value with the type of the field that it is compared to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Text(String),
    Number(u64),
    Flag(bool),
    /// One of the field's words, and its rank among them.
    Word(&'static str, usize),
    Network(Network),
    Time(Timestamp),
}

/// One member of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    One(Operand),
    /// Both ends included.
    Range(Operand, Operand),
}

impl Expr {
    /// Joins parts by `and`, taking the parts of a nested `and` as their own.
    pub(super) fn and(parts: Vec<Self>) -> Self {
        Self::join(parts, Self::And, |part| match part {
            Self::And(parts) => Ok(parts),
            other => Err(other),
        })
    }

    /// Joins parts by `or`, likewise.
    pub(super) fn or(parts: Vec<Self>) -> Self {
        Self::join(parts, Self::Or, |part| match part {
            Self::Or(parts) => Ok(parts),
            other => Err(other),
        })
    }

    fn join(
        parts: Vec<Self>,
        kind: fn(Vec<Self>) -> Self,
        open: fn(Self) -> Result<Vec<Self>, Self>,
    ) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match open(part) {
                Ok(parts) => flat.extend(parts),
                Err(part) => flat.push(part),
            }
        }
        match flat.pop() {
            Some(only) if flat.is_empty() => only,
            Some(last) => {
                flat.push(last);
                kind(flat)
            }
            None => kind(flat),
        }
    }

    /// How tightly it binds: what binds less needs parentheses inside what binds more.
    fn binding(&self) -> u8 {
        match self {
            Self::Or(_) => 0,
            Self::And(_) => 1,
            Self::Not(_) | Self::Test(..) => 2,
        }
    }

    fn write_inside(&self, out: &mut fmt::Formatter<'_>, binding: u8) -> fmt::Result {
        if self.binding() < binding {
            write!(out, "({self})")
        } else {
            write!(out, "{self}")
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, joint) = match self {
            Self::And(parts) => (parts, " and "),
            Self::Or(parts) => (parts, " or "),
            Self::Not(inner) => {
                out.write_str("not ")?;
                return inner.write_inside(out, 2);
            }
            Self::Test(field, test) => return write!(out, "{} {test}", field.short_name()),
        };
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                out.write_str(joint)?;
            }
            part.write_inside(out, self.binding())?;
        }
        Ok(())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare(comparison, operand) => write!(out, "{} {operand}", comparison.sign()),
            Self::Glob(pattern) => write!(out, "=~ {}", written(pattern)),
            Self::Contains(text) => write!(out, "contains {}", written(text)),
            Self::In { negated, items } => {
                out.write_str(if *negated { "not in " } else { "in " })?;
                if let [item] = items.as_slice() {
                    return item.fmt(out);
                }
                for (index, item) in items.iter().enumerate() {
                    write!(out, "{}{item}", if index == 0 { "(" } else { ", " })?;
                }
                out.write_str(")")
            }
        }
    }
}

impl Comparison {
    const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => out.write_str(&written(text)),
            Self::Number(number) => number.fmt(out),
            Self::Flag(flag) => flag.fmt(out),
            Self::Word(word, _) => out.write_str(word),
            Self::Network(network) => network.fmt(out),
            Self::Time(time) => time.fmt(out),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(operand) => operand.fmt(out),
            Self::Range(from, to) => write!(out, "{from}..{to}"),
        }
    }
}
