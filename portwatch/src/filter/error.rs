//! What is wrong with a filter, where, and what was perhaps meant.

use std::fmt;
use std::ops::Range;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::text::{clip, guard};

/// A fault while its source text is still at hand: bytes of the source, and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn at(span: &Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span: span.clone(),
            message: message.into(),
        }
    }
}

/// Why a text is not a filter. Prints as one sentence with the column, the text, and carets below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    column: usize,
    message: String,
    excerpt: String,
    indent: usize,
    carets: usize,
}

impl FilterError {
    pub(super) fn new(source: &str, Fault { span, message }: Fault) -> Self {
        let before = source.get(..span.start).unwrap_or(source);
        let marked = guard(source.get(span.clone()).unwrap_or_default()).into_owned();
        let after = source.get(span.end..).unwrap_or_default();
        let lead = tail(&guard(before), 40);
        let marked = clip(&marked, 40, columns);
        Self {
            column: before.chars().count() + 1,
            message,
            indent: lead.width(),
            carets: marked.width().max(1),
            excerpt: format!("{lead}{marked}{}", clip(&guard(after), 30, columns)),
        }
    }

    /// Where it is wrong: characters from the start, from 1.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The sentence without the column.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            column,
            message,
            excerpt,
            indent,
            carets,
        } = self;
        writeln!(out, "filter, column {column}: {message}")?;
        writeln!(out, "  {excerpt}")?;
        write!(out, "  {:indent$}{:^<carets$}", "", "")
    }
}

impl std::error::Error for FilterError {}

/// `; did you mean …?` with the nearest candidate, or nothing when none is near.
pub(super) fn did_you_mean(word: &str, candidates: impl Iterator<Item = &'static str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// A piece of the source, fit for a sentence.
pub(super) fn shown(text: &str) -> String {
    format!("`{}`", clip(&guard(text), 40, columns))
}

fn nearest(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let word: Vec<char> = word.to_lowercase().chars().take(40).collect();
    let allowed = (word.len() / 3).max(1);
    candidates
        // Names that are longer or shorter by more cannot be near: most of the work is spared.
        .filter(|name| name.len().abs_diff(word.len()) <= allowed)
        .map(|name| (distance(&word, name), name))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Edit distance with transpositions of neighbours (optimal string alignment).
fn distance(word: &[char], name: &str) -> usize {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=name.len()).collect();
    for (i, &a) in word.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in name.iter().enumerate() {
            let mut best = (above[j] + usize::from(a != b))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && a == name[j - 1] && word[i - 1] == b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(word.len())
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The end of a text, at most `max` columns of it.
fn tail(text: &str, max: usize) -> String {
    let mut used = 0;
    let kept = text.char_indices().rev().find(|&(_, c)| {
        used += columns(c);
        used > max
    });
    match kept {
        Some((at, c)) => format!("…{}", text.get(at + c.len_utf8()..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names = || ["port", "proto", "process.exe", "exposure"].into_iter();
        assert_eq!(nearest("prot", names()), Some("port"));
        assert_eq!(nearest("Exposre", names()), Some("exposure"));
        assert_eq!(nearest("process.exa", names()), Some("process.exe"));
        assert_eq!(nearest("banana", names()), None);
    }

    #[test]
    fn carets_stand_below_the_fault_even_when_the_text_is_wide_or_hostile() {
        let text = "ü語\x1b prt";
        let start = text.find("prt").expect("there");
        let error = FilterError::new(text, Fault::at(&(start..start + 3), "no such field"));
        assert_eq!(
            error.to_string(),
            "filter, column 5: no such field\n  ü語\\x1b prt\n          ^^^"
        );
    }

    #[test]
    fn a_long_text_is_shown_around_the_fault() {
        let text = format!("{} bad {}", "a".repeat(500), "b".repeat(500));
        let error = FilterError::new(&text, Fault::at(&(501..504), "no"));
        let shown = error.to_string();
        assert!(
            shown.lines().all(|line| line.chars().count() < 120),
            "{shown}"
        );
        assert!(shown.contains("a bad b"), "{shown}");
    }
}
