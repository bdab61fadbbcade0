//! What goes wrong, as an exit code and a sentence on standard error.

use std::fmt::Display;
use std::io::Write as _;

use super::exit::Exit;
use super::man::ManError;
use crate::config::ConfigError;
use crate::daemon::StartError;
use crate::daemon::service::ServiceError;
use crate::filter::FilterError;
use crate::interface::client::ClientError;
use crate::text::guard;

/// Why a command did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    /// Whole lines, safe to print.
    text: String,
}

impl Failure {
    /// One sentence; whatever it quotes cannot break out of its line.
    #[must_use]
    pub fn new(exit: Exit, sentence: impl Display) -> Self {
        Self::with_code(exit.code(), sentence)
    }

    pub(super) fn with_code(code: u8, sentence: impl Display) -> Self {
        Self {
            code,
            text: guard(&sentence.to_string()).into_owned(),
        }
    }

    /// A text of several lines, whose parts are escaped already where they are not ours.
    fn lines(code: u8, text: impl Display) -> Self {
        Self {
            code,
            text: guard_lines(&text.to_string()),
        }
    }

    /// The exit code (sysexits).
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }

    /// The sentence with something more after it.
    #[must_use]
    pub fn and(mut self, more: impl Display) -> Self {
        self.text.push_str(&guard(&more.to_string()));
        self
    }

    /// Says it on standard error.
    pub fn report(&self) {
        say(&self.text);
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        Self::lines(Exit::Usage.code(), error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::lines(error.exit_code(), error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::with_code(error.exit_code(), error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::with_code(error.exit_code(), error)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::with_code(error.exit_code(), error)
    }
}

impl From<ManError> for Failure {
    fn from(error: ManError) -> Self {
        let exit = match error {
            ManError::Unknown { .. } => Exit::Usage,
            ManError::Io { .. } => Exit::Io,
        };
        Self::new(exit, error)
    }
}

/// A remark beside the result, on standard error.
pub(super) fn note(sentence: impl Display) {
    say(&format!("note: {}", guard(&sentence.to_string())));
}

/// Makes each line of a text safe to print.
pub(super) fn guard_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(guard).collect();
    lines.join("\n")
}

fn say(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "portwatch: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    #[test]
    fn a_sentence_stays_one_line_and_moves_no_cursor() {
        let failure = Failure::new(Exit::Io, "a\nportwatch: forged \x1b[2J").and("\x07");
        assert_eq!(failure.text, r"a\x0aportwatch: forged \x1b[2J\x07");
        assert_eq!(failure.code(), 74);
    }

    #[test]
    fn a_filter_keeps_its_carets_below_the_fault() {
        let failure = Failure::from(Filter::parse("port == \x1bx").expect_err("wrong"));
        assert_eq!(failure.code(), 64);
        assert!(failure.text.lines().count() >= 3, "{}", failure.text);
        assert!(failure.text.contains('^') && !failure.text.contains('\x1b'));
    }
}
