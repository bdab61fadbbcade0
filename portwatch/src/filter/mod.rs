//! The filter language: parse, check, evaluate. Pure.
//!
//! One language, two forms that mix: `proto == tcp and port in 1..1023 and not exe == "/usr/sbin/sshd"`,
//! and for short `tcp port:8080 user:www-data`.
//!
//! ```text
//! filter     := or                                   (nothing at all matches every event)
//! or         := and { ("or" | "||") and }
//! and        := unary { [ "and" | "&&" ] unary }      (terms side by side are joined by `and`)
//! unary      := ("not" | "!") unary | "(" or ")" | term
//! term       := field ("==" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "contains") value
//!             | field [ "not" ] "in" ( item | "(" item { "," item } ")" )
//!             | field ":" item { "," item }           (equal; with `*`, as a glob)
//!             | word                                  (protocol, family, event type, state, exposure)
//! item       := value | value ".." value | address "/" bits
//! value      := word | "quoted \" \\ \n \x1b" | 'quoted'
//! ```
//!
//! A field that an event does not have satisfies no comparison, nor the negation of one: the logic
//! has three values (Kleene's), and only a certain yes matches. Where an event holds several values
//! (`args`, `owner`), a comparison holds when one of them satisfies it, and `!=` when none is equal.

mod address;
mod ast;
mod check;
mod error;
mod eval;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod glob;
mod lexer;
mod literal;
mod parser;

use std::fmt;

pub use address::Network;
pub use error::FilterError;

use crate::event::Event;
use ast::Expr;

/// Longest filter, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;

/// Deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 64;

/// A filter that is ready to be asked. The default one matches every event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    root: Option<Expr>,
}

impl Filter {
    /// Parses and checks a filter; a text without any term matches every event.
    ///
    /// # Errors
    /// When the text is not a filter: says where, what, and the nearest thing that would be right.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parser::parse(text)
            .map(|root| Self { root })
            .map_err(|fault| FilterError::new(text, fault))
    }

    /// Parses the words of a command line as one filter; see [`join_args`].
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse_args(args: &[String]) -> Result<Self, FilterError> {
        Self::parse(&join_args(args))
    }

    /// Does the event certainly satisfy the filter?
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.root
            .as_ref()
            .is_none_or(|root| eval::expr(root, event) == Some(true))
    }

    /// Does it match every event, whatever it holds?
    #[must_use]
    pub const fn matches_all(&self) -> bool {
        self.root.is_none()
    }
}

/// The normal form: parses back to the same filter. It can be longer than what it was parsed from,
/// so pass on the original text where [`MAX_BYTES`] might matter.
impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Some(root) => root.fmt(out),
            None => Ok(()),
        }
    }
}

/// The text of a filter that a shell has split into words. A shell takes quotes away, so a word
/// with spaces (or without anything) that follows a comparison operator is quoted anew.
#[must_use]
pub fn join_args(args: &[String]) -> String {
    let mut text = String::new();
    let mut after_operator = false;
    for arg in args {
        if !text.is_empty() {
            text.push(' ');
        }
        let bare = !arg.contains(['"', '\'']);
        let spaced = arg.is_empty() || arg.contains(char::is_whitespace);
        if after_operator && bare && spaced {
            text.push('"');
            text.push_str(arg);
            text.push('"');
        } else {
            text.push_str(arg);
        }
        after_operator = matches!(arg.as_str(), "==" | "!=" | "=~" | "contains");
    }
    text
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
