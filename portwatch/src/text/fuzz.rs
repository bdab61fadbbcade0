//! Any bytes become plain text that can be read back.

use super::{clip, escape, guard};
use crate::fuzzing::assert_plain;

/// The property of the target `text`.
pub fn text(bytes: &[u8]) {
    let escaped = escape(bytes);
    assert_plain(&escaped);
    assert_eq!(unescape(&escaped), bytes, "{escaped:?} does not read back");

    let lossy = String::from_utf8_lossy(bytes);
    let guarded = guard(&lossy);
    assert_plain(&guarded);

    for max in [0, 1, 2, 5, 20] {
        let clipped = clip(&escaped, max, |_| 1);
        assert!(
            clipped.chars().count() <= max,
            "{clipped:?} is longer than {max}"
        );
        let kept = clipped.strip_suffix('…').unwrap_or(&clipped);
        let is_whole = clipped == escaped;
        assert!(is_whole || escaped.starts_with(kept));
        // Part of an escape would not read back to a beginning of the bytes.
        assert!(is_whole || bytes.starts_with(&unescape(kept)));
        assert!(clip(&guarded, max, |_| 1).chars().count() <= max);
    }
}

/// What [`escape`] wrote: every backslash begins an escape of four characters.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let digits = escape.strip_prefix('x').and_then(|rest| rest.get(..2));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        assert!(byte.is_some(), "half an escape in {text:?}");
        bytes.extend(byte);
        rest = escape.get(3..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Texts of every class of characters.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("plain", "nginx: größe /usr/sbin".into()),
        ("controls", b"a\x1b[2Jb\n\r\t\0\\c\x7f".to_vec()),
        ("invalid", b"\xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80 \xe2\x82".to_vec()),
        (
            "marks",
            "x\u{202e}y\u{9b}\u{200b}\u{2028}\u{feff}\u{ad}\u{61c}\u{180e}\u{2066}\u{fff9}\u{e0041}".into(),
        ),
        ("escapes", br"a\x1b\\x5c\x0".to_vec()),
        ("wide", "語語語語e\u{301}…🦀".into()),
    ]
}
