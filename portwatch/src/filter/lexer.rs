//! Text to tokens. A word is whatever stands between spaces, quotes, brackets, commas and operators,
//! so that addresses, paths and globs need no quotes.

use std::ops::Range;

use super::error::{Fault, shown};

/// A comparison sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Glob,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare word, keywords included: the parser knows where a word is a keyword.
    Word,
    /// A quoted string; the span includes the quotes.
    Quoted,
    Sign(Sign),
    And,
    Or,
    Not,
    Open,
    Close,
    Comma,
}

/// A token and where it stands, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

/// Splits a text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let (kind, len) = token(text.get(at..).unwrap_or_default(), c, at)?;
        tokens.push(Token {
            kind,
            span: at..at + len,
        });
        at += len;
    }
    Ok(tokens)
}

/// The token at the start of `rest`, which starts with `first`, and its length.
fn token(rest: &str, first: char, at: usize) -> Result<(Kind, usize), Fault> {
    let signs = [
        ("==", Kind::Sign(Sign::Equal)),
        ("=~", Kind::Sign(Sign::Glob)),
        ("!=", Kind::Sign(Sign::NotEqual)),
        ("<=", Kind::Sign(Sign::LessOrEqual)),
        (">=", Kind::Sign(Sign::GreaterOrEqual)),
        ("&&", Kind::And),
        ("||", Kind::Or),
        ("<", Kind::Sign(Sign::Less)),
        (">", Kind::Sign(Sign::Greater)),
        ("!", Kind::Not),
        ("(", Kind::Open),
        ("{", Kind::Open),
        (")", Kind::Close),
        ("}", Kind::Close),
        (",", Kind::Comma),
    ];
    if let Some(&(sign, kind)) = signs.iter().find(|(sign, _)| rest.starts_with(sign)) {
        return Ok((kind, sign.len()));
    }
    let here = at..at + first.len_utf8();
    match first {
        '"' | '\'' => quoted(rest, first, at).map(|len| (Kind::Quoted, len)),
        '=' => Err(Fault::at(
            &here,
            "`=` is not an operator; write `==` to compare",
        )),
        '&' => Err(Fault::at(
            &here,
            "`&` is not an operator; write `and` or `&&`",
        )),
        '|' => Err(Fault::at(
            &here,
            "`|` is not an operator; write `or` or `||`",
        )),
        _ => Ok((Kind::Word, rest.find(ends_word).unwrap_or(rest.len()))),
    }
}

/// Length of the string at the start of `rest`, quotes included.
fn quoted(rest: &str, quote: char, at: usize) -> Result<usize, Fault> {
    let mut escaped = false;
    for (offset, c) in rest.char_indices().skip(1) {
        if !escaped && c == quote {
            return Ok(offset + 1);
        }
        escaped = !escaped && c == '\\';
    }
    let message = format!("the string {} has no closing quote", shown(rest));
    Err(Fault::at(&(at..at + rest.len()), message))
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || "(){},\"'=<>!&|".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let tokens = tokens(text).expect("tokens");
        tokens
            .into_iter()
            .map(|token| (token.kind, &text[token.span]))
            .collect()
    }

    #[test]
    fn words_hold_addresses_paths_and_globs() {
        assert_eq!(
            kinds("tcp address:::1 exe=~/tmp/*,!x"),
            [
                (Kind::Word, "tcp"),
                (Kind::Word, "address:::1"),
                (Kind::Word, "exe"),
                (Kind::Sign(Sign::Glob), "=~"),
                (Kind::Word, "/tmp/*"),
                (Kind::Comma, ","),
                (Kind::Not, "!"),
                (Kind::Word, "x"),
            ]
        );
    }

    #[test]
    fn a_string_ends_at_its_own_unescaped_quote() {
        assert_eq!(kinds(r#""a\"'b\\""#), [(Kind::Quoted, r#""a\"'b\\""#)]);
        assert!(tokens(r#""abc\""#).is_err());
    }

    #[test]
    fn half_operators_say_what_to_write() {
        for (text, hint) in [("a = b", "=="), ("a & b", "&&"), ("a | b", "||")] {
            let fault = tokens(text).expect_err("half an operator");
            assert!(
                fault.message.contains(hint) && fault.span == (2..3),
                "{fault:?}"
            );
        }
    }
}
