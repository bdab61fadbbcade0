//! Turns bytes that other processes chose into text that cannot move a cursor or forge a line.

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
    use super::escape;

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
