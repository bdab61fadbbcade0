//! Turns bytes that other processes chose into text that cannot move a cursor or forge a line.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes everything that is not plain printable text as `\xNN`, byte by byte: control characters
/// (C0, DEL, C1), invalid UTF-8, line and paragraph separators, bidirectional and zero-width marks,
/// and the backslash itself, so that the result reads back unambiguously.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) {
                out.push(c);
            } else {
                let mut buffer = [0; 4];
                push_hex(&mut out, c.encode_utf8(&mut buffer).as_bytes());
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

/// The second line of defence, for text that should already be escaped: whatever could still move a
/// cursor becomes `\xNN`; escapes that are there already stay as they are.
#[must_use]
pub fn guard(text: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c == '\\' || is_plain(c);
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_safe(c) {
            out.push(c);
        } else {
            let mut buffer = [0; 4];
            push_hex(&mut out, c.encode_utf8(&mut buffer).as_bytes());
        }
    }
    Cow::Owned(out)
}

/// Cuts text to `max` units as `measure` counts a character's; a cut text ends with `…`, which counts
/// one, and never in the middle of a `\xNN` escape.
#[must_use]
pub fn clip(text: &str, max: usize, measure: impl Fn(char) -> usize) -> Cow<'_, str> {
    let mut used = 0;
    let mut kept = 0;
    for (at, c) in text.char_indices() {
        used += measure(c);
        if used > max {
            let kept = whole_escapes(text.get(..kept).unwrap_or_default());
            return Cow::Owned(format!("{kept}{}", if max == 0 { "" } else { "…" }));
        }
        if used < max {
            kept = at + c.len_utf8();
        }
    }
    Cow::Borrowed(text)
}

/// The text without an escape that was cut short at its end.
fn whole_escapes(text: &str) -> &str {
    let bytes = text.as_bytes();
    let tail = bytes.len().saturating_sub(3);
    match bytes[tail..].iter().position(|&b| b == b'\\') {
        Some(back) => text.get(..tail + back).unwrap_or(text),
        None => text,
    }
}

/// Is this character safe to print as it is?
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\\' | '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::{clip, escape, guard};

    #[test]
    fn a_guard_leaves_escapes_and_stops_controls() {
        assert_eq!(guard(r"a\x1b ö"), r"a\x1b ö");
        assert_eq!(guard("a\x1b[1m\\x07"), r"a\x1b[1m\x07");
    }

    #[test]
    fn a_clip_keeps_escapes_whole() {
        let clip = |text, max| clip(text, max, |_| 1).into_owned();
        assert_eq!(clip("abcdef", 6), "abcdef");
        assert_eq!(clip("abcdefg", 6), "abcde…");
        assert_eq!(clip(r"ab\x1bcd", 8), r"ab\x1bcd");
        assert_eq!(clip(r"ab\x1bcd", 7), r"ab\x1b…");
        assert_eq!(clip(r"ab\x1bcd", 6), "ab…");
        assert_eq!(clip(r"ab\x1bcd", 4), "ab…");
        assert_eq!(clip("abc", 1), "…");
        assert_eq!(clip("abc", 0), "");
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(
            escape("nginx: größe /usr/sbin".as_bytes()),
            "nginx: größe /usr/sbin"
        );
    }

    #[test]
    fn hostile_bytes_are_named() {
        assert_eq!(escape(b"a\x1b[2Jb\n\\c\xff"), r"a\x1b[2Jb\x0a\x5cc\xff");
        assert_eq!(
            escape("x\u{202e}y\u{9b}".as_bytes()),
            r"x\xe2\x80\xaey\xc2\x9b"
        );
    }
}
