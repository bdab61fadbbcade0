//! Texts that a condition names: exactly, or by a glob.

use crate::filter::glob;

/// One text, or what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    is_glob: bool,
    /// The first bytes that a text must have, and which of them count: among a thousand rules nearly all are
    /// refused by this one comparison.
    head: u64,
    mask: u64,
}

/// Bytes of a text that are compared first.
const HEAD: usize = 8;

/// Several; one of them is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

impl Pattern {
    /// With a `*` it is a glob, in which that stands for any run of characters, `/` included; without, the
    /// text itself.
    #[must_use]
    pub fn new(text: String) -> Self {
        let star = text.find('*');
        let fixed = text.get(..star.unwrap_or(text.len())).unwrap_or_default();
        // All of an exact text counts: a longer one has other bytes where this one has none.
        let counted = if star.is_some() {
            fixed.len().min(HEAD)
        } else {
            HEAD
        };
        Self {
            head: head(fixed),
            mask: head_of([0xff; HEAD].get(..counted).unwrap_or_default()),
            is_glob: star.is_some(),
            text,
        }
    }

    /// Does it stand for this text?
    #[must_use]
    #[inline]
    pub fn matches(&self, text: &str) -> bool {
        (head(text) ^ self.head) & self.mask == 0 && self.fits(text)
    }

    fn fits(&self, text: &str) -> bool {
        if self.is_glob {
            glob::matches(&self.text, text)
        } else {
            self.text == text
        }
    }
}

impl Patterns {
    /// These.
    #[must_use]
    pub const fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// First bytes that all of them want, and which bits of them they agree on.
    pub(super) fn common_head(&self) -> (u64, u64) {
        let mut patterns = self.0.iter();
        let Some(first) = patterns.next() else {
            return (0, 0);
        };
        let agreed = |mask, other: &Pattern| mask & other.mask & !(other.head ^ first.head);
        (first.head, patterns.fold(first.mask, agreed))
    }

    /// Does one of them stand for this text?
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(text))
    }
}

/// The first bytes of a text, those that it does not have as zero.
#[inline]
pub(super) fn head(text: &str) -> u64 {
    match text.as_bytes().first_chunk() {
        Some(first) => u64::from_le_bytes(*first),
        None => head_of(text.as_bytes()),
    }
}

fn head_of(bytes: &[u8]) -> u64 {
    let places = bytes.iter().take(HEAD).zip(0_u32..);
    places.fold(0, |head, (byte, place)| {
        head | u64::from(*byte) << (8 * place)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pattern;
    use crate::filter::glob;

    proptest! {
        /// Few letters, so that beginnings are shared.
        #[test]
        fn the_first_bytes_refuse_nothing_that_fits(
            pattern in "[ab*/]{0,12}|[a\u{0}é*]{0,10}",
            text in "[ab/]{0,12}|[a\u{0}é]{0,10}",
        ) {
            prop_assert_eq!(Pattern::new(pattern.clone()).matches(&text), glob::matches(&pattern, &text));
        }
    }
}
