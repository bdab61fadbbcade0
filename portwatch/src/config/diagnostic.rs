//! What is wrong with a configuration, and where: file, line, column, the offending text.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::kernel::preflight::EXIT_NOT_PERMITTED;
use crate::text::escape;

/// Exit code of a wrong configuration (sysexits `EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;
/// Longest piece of the offending line that is shown, in characters.
const SHOWN: usize = 120;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Where in it; absent when the file as a whole is the matter.
    pub place: Option<Place>,
    /// One sentence: what, and what to do.
    pub message: String,
    /// The caller may not read the file: nothing is known to be wrong with it.
    pub is_denied: bool,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line itself, escaped.
    pub text: String,
    /// Characters of `text` before the place.
    pub caret: usize,
}

/// Every mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order of files, lines and columns; never empty.
    pub diagnostics: Vec<Diagnostic>,
}

impl Diagnostic {
    /// A mistake at a byte offset.
    pub(super) fn at(file: &Path, input: &str, offset: usize, message: String) -> Self {
        Self {
            file: file.to_owned(),
            place: Some(Place::of(input, offset)),
            message,
            is_denied: false,
        }
    }

    /// A mistake of the whole file.
    pub(crate) fn whole(file: &Path, message: String) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            message,
            is_denied: false,
        }
    }

    /// A file that cannot be read.
    pub(super) fn unread(file: &Path, error: &io::Error) -> Self {
        Self {
            is_denied: error.kind() == io::ErrorKind::PermissionDenied,
            ..Self::whole(file, format!("not read: {error}"))
        }
    }
}

impl Place {
    fn of(input: &str, offset: usize) -> Self {
        let offset = input.floor_char_boundary(offset);
        let before = &input[..offset];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = input[offset..]
            .find('\n')
            .map_or(input.len(), |length| offset + length);
        let line: String = input[start..end].trim_end().chars().take(SHOWN).collect();
        let text = escape(line.as_bytes());
        let before_it: String = before[start..].chars().take(SHOWN).collect();
        let caret = escape(before_it.as_bytes()).chars().count();
        Self {
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            caret: caret.min(text.chars().count()),
            text,
        }
    }
}

/// `FILE:LINE:COLUMN: MESSAGE`, then the line, and a caret below the place.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::ffi::OsStrExt as _;
        write!(f, "{}:", escape(self.file.as_os_str().as_bytes()))?;
        if let Some(place) = &self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " {}", self.message)?;
        if let Some(place) = self.place.as_ref().filter(|place| !place.text.is_empty()) {
            write!(
                f,
                "\n    {}\n    {:caret$}^",
                place.text,
                "",
                caret = place.caret
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// The exit code (sysexits).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.diagnostics.iter().all(|one| one.is_denied) {
            true => EXIT_NOT_PERMITTED,
            false => EXIT_CONFIG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_read_is_not_wrong() {
        let of = |kinds: &[io::ErrorKind]| {
            let unread =
                |kind: &io::ErrorKind| Diagnostic::unread(Path::new("/a"), &(*kind).into());
            let diagnostics = kinds.iter().map(unread).collect();
            ConfigError { diagnostics }.exit_code()
        };
        assert_eq!(of(&[io::ErrorKind::PermissionDenied]), 77);
        assert_eq!(of(&[io::ErrorKind::NotFound]), 78);
        let both = [io::ErrorKind::PermissionDenied, io::ErrorKind::NotFound];
        assert_eq!(of(&both), 78);
    }

    #[test]
    fn places_count_from_one_and_in_characters() {
        let input = "a = 1\ngröße = \"x\x1b\"\n";
        let at = input.find("x\x1b").expect("there");
        let place = Place::of(input, at);
        assert_eq!((place.line, place.column), (2, 10));
        assert_eq!(place.text, r#"größe = "x\x1b""#);
        assert_eq!(place.caret, 9);
        let end = Place::of(input, 10_000);
        assert_eq!((end.line, end.column, end.text.as_str()), (3, 1, ""));
    }
}
