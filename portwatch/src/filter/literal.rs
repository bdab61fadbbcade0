//! Values as they are written in a filter, before a field gives them a type.

use std::ops::Range;

use super::error::{Fault, shown};
use super::lexer::Kind;
use crate::text::escape;

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// Escapes resolved and then written as events write them, so that plain comparison is right:
    /// `"\n"`, `"\x0a"` and a real line feed are all the four characters `\x0a`.
    pub(super) text: String,
    /// Where it stands.
    pub(super) span: Range<usize>,
}

impl Literal {
    /// Reads a word or a quoted string.
    pub(super) fn read(source: &str, kind: Kind, span: Range<usize>) -> Result<Self, Fault> {
        let inner = if kind == Kind::Quoted {
            span.start + 1..span.end - 1
        } else {
            span.clone()
        };
        let raw = source.get(inner.clone()).unwrap_or_default();
        let text = escape(&unescape(raw, inner.start)?);
        Ok(Self { text, span })
    }

    /// The value for a message.
    pub(super) fn shown(&self) -> String {
        shown(&self.text)
    }
}

/// Writes a value so that it reads back: bare when nothing in it could be taken for syntax.
pub(super) fn written(text: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_owned();
    }
    // A backslash in such a text only ever starts an escape of the form \xNN, which reads back.
    format!("\"{}\"", text.replace('"', "\\\""))
}

fn unescape(raw: &str, start: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.char_indices();
    while let Some((at, c)) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let byte = match rest.next() {
            Some((_, c @ ('\\' | '"' | '\''))) => c as u8,
            Some((_, 'n')) => b'\n',
            Some((_, 'r')) => b'\r',
            Some((_, 't')) => b'\t',
            Some((digits, 'x')) => {
                let byte = raw.get(digits + 1..digits + 3).and_then(hex);
                let span = start + at..start + (digits + 1).min(raw.len());
                let byte = byte.ok_or_else(|| {
                    Fault::at(&span, "`\\x` needs two hexadecimal digits after it")
                })?;
                rest.next();
                rest.next();
                byte
            }
            other => {
                let end = other.map_or(raw.len(), |(at, c)| at + c.len_utf8());
                let message = format!(
                    "{} is not an escape; there are \\\\ \\\" \\' \\n \\r \\t and \\xNN",
                    shown(raw.get(at..end).unwrap_or_default()),
                );
                return Err(Fault::at(&(start + at..start + end), message));
            }
        };
        bytes.push(byte);
    }
    Ok(bytes)
}

fn hex(digits: &str) -> Option<u8> {
    let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(quoted: &str) -> Result<String, Fault> {
        Literal::read(quoted, Kind::Quoted, 0..quoted.len()).map(|literal| literal.text)
    }

    #[test]
    fn every_spelling_of_a_byte_is_the_one_of_events() {
        for spelling in [r#""a\n""#, r#""a\x0a""#, r#""a\x0A""#, "\"a\n\""] {
            assert_eq!(read(spelling).expect(spelling), r"a\x0a");
        }
        assert_eq!(
            read(r#""\\ \" \' \xc3\xbc""#).expect("escapes"),
            r#"\x5c " ' ü"#
        );
    }

    #[test]
    fn a_written_value_reads_back() {
        for text in [r"a\x0a", r#"say "hi""#, r"\x5c", "ü", "", "two words"] {
            assert_eq!(read(&written(text)).expect(text), text);
        }
        assert_eq!(written("www-data"), "www-data");
    }

    #[test]
    fn a_bad_escape_is_pointed_at() {
        assert_eq!(read(r#""ab\q""#).expect_err("no escape").span, 3..5);
        assert_eq!(read(r#""ab\x1""#).expect_err("one digit").span, 3..5);
        assert_eq!(read(r#""\x+1""#).expect_err("a sign").span, 1..3);
    }
}
