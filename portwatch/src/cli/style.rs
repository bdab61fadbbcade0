//! Styled, aligned, clipped text for a terminal, and plain text for everything else.

use std::ffi::OsStr;
use std::io::IsTerminal as _;

use unicode_width::UnicodeWidthChar as _;

use crate::text::{clip, guard};

/// How a piece of text looks where colours are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Steps back.
    Dim,
    /// Stands out.
    Bold,
    /// Danger.
    Red,
    /// Care.
    Yellow,
    /// Safe.
    Green,
    /// A note.
    Cyan,
}

impl Style {
    /// The parameters of the SGR sequence (ECMA-48); none for plain text.
    const fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Dim => Some("2"),
            Self::Bold => Some("1"),
            Self::Red => Some("1;31"),
            Self::Yellow => Some("33"),
            Self::Green => Some("32"),
            Self::Cyan => Some("36"),
        }
    }
}

/// What the output can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Styles may be used.
    pub colour: bool,
    /// Columns of a line; `None` when lines may be as long as they like.
    pub width: Option<usize>,
}

impl Terminal {
    /// Standard output as it is now.
    #[must_use]
    pub fn stdout() -> Self {
        let stdout = std::io::stdout();
        let columns = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| size.ws_col);
        Self::decide(
            stdout.is_terminal(),
            columns,
            std::env::var_os("NO_COLOR").as_deref(),
            std::env::var_os("TERM").as_deref(),
        )
    }

    /// Colour on a terminal, unless `NO_COLOR` is set to anything or the terminal is dumb.
    fn decide(
        is_terminal: bool,
        columns: Option<u16>,
        no_color: Option<&OsStr>,
        term: Option<&OsStr>,
    ) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        let is_dumb = term.is_some_and(|name| name == "dumb");
        let columns = columns.filter(|&columns| is_terminal && columns > 0);
        Self {
            colour: is_terminal && !refused && !is_dumb,
            width: columns.map(usize::from),
        }
    }
}

/// A line that is put together from cells.
#[derive(Debug, Default)]
pub struct Line {
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Cell {
    style: Style,
    text: String,
    pad_to: usize,
}

impl Line {
    /// Appends a cell that takes at least `columns`; text that could move a cursor is defused.
    #[must_use]
    pub fn cell(mut self, style: Style, text: &str, columns: usize) -> Self {
        self.cells.push(Cell {
            style,
            text: guard(text).into_owned(),
            pad_to: columns,
        });
        self
    }

    /// The line with two spaces between cells and none at its end, cut to the terminal's width:
    /// never inside an escape, and always back in the plain style.
    #[must_use]
    pub fn finish(self, terminal: Terminal) -> String {
        let last = self.cells.iter().rposition(|cell| !cell.text.is_empty());
        let cells = self.cells.into_iter().take(last.map_or(0, |last| last + 1));
        let mut out = String::new();
        let mut left = terminal.width.unwrap_or(usize::MAX);
        let mut owed = 0;
        for (index, cell) in cells.enumerate() {
            let taken = columns(&cell.text);
            let more = Some(index) != last;
            if left <= owed {
                break;
            }
            left -= owed;
            out.extend(std::iter::repeat_n(' ', owed));
            if taken > left || (taken == left && more) {
                // The space makes a text that fits exactly, but has a successor, end with the mark.
                paint(
                    &mut out,
                    terminal,
                    cell.style,
                    &clip(&(cell.text + " "), left, char_columns),
                );
                break;
            }
            paint(&mut out, terminal, cell.style, &cell.text);
            left -= taken;
            owed = cell.pad_to.saturating_sub(taken) + 2;
        }
        out
    }
}

/// Columns that a text takes on a terminal.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

fn paint(out: &mut String, terminal: Terminal, style: Style, text: &str) {
    match style.sgr().filter(|_| terminal.colour && !text.is_empty()) {
        Some(sgr) => out.extend(["\x1b[", sgr, "m", text, "\x1b[0m"]),
        None => out.push_str(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::default()
            .cell(Style::Red, "ab", 4)
            .cell(Style::Plain, r"c\x1bd", 0)
            .cell(Style::Dim, "", 9)
    }

    fn narrow(width: usize) -> String {
        line().finish(Terminal {
            colour: false,
            width: Some(width),
        })
    }

    #[test]
    fn cells_are_aligned_and_nothing_trails() {
        assert_eq!(line().finish(Terminal::default()), r"ab    c\x1bd");
        let coloured = line().finish(Terminal {
            colour: true,
            width: None,
        });
        assert_eq!(coloured, "\x1b[1;31mab\x1b[0m    c\\x1bd");
    }

    #[test]
    fn a_line_fits_its_terminal_and_escapes_stay_whole() {
        assert_eq!(narrow(12), r"ab    c\x1bd");
        assert_eq!(narrow(11), "ab    c…");
        assert_eq!(narrow(7), "ab    …");
        assert_eq!(narrow(2), "a…");
        assert_eq!(narrow(0), "");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let text = Line::default()
            .cell(Style::Plain, "語語", 6)
            .cell(Style::Plain, "x", 0);
        assert_eq!(text.finish(Terminal::default()), "語語    x");
        let text = Line::default().cell(Style::Plain, "語語語", 0);
        let cut = text.finish(Terminal {
            colour: false,
            width: Some(4),
        });
        assert_eq!(cut, "語…");
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let on = |tty, no_color: Option<&str>, term: &str| {
            let no_color = no_color.map(OsStr::new);
            Terminal::decide(tty, Some(80), no_color, Some(OsStr::new(term))).colour
        };
        assert!(on(true, None, "xterm") && on(true, Some(""), "xterm"));
        assert!(
            !on(true, Some("1"), "xterm") && !on(true, None, "dumb") && !on(false, None, "xterm")
        );
        assert_eq!(Terminal::decide(false, Some(80), None, None).width, None);
        assert_eq!(Terminal::decide(true, Some(0), None, None).width, None);
    }
}
