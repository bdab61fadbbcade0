//! The program's own diagnostics, on standard error; `PORTWATCH_LOG` says how much.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;

use super::failure::{guard_lines, note};

/// The variable that holds the level.
const VARIABLE: &str = "PORTWATCH_LOG";

/// Starts it; `usual` is the level when `PORTWATCH_LOG` (off, error, warn, info, debug, trace) is not set.
pub(super) fn start(usual: LevelFilter) {
    let level = level(std::env::var(VARIABLE).ok().as_deref(), usual).unwrap_or_else(|sentence| {
        note(sentence);
        usual
    });
    let builder = tracing_subscriber::fmt()
        .compact()
        .with_max_level(level)
        .with_writer(|| Guarded);
    // The journal has its own clock.
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().with_target(false).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    if let Err(error) = started {
        note(format_args!("no diagnostics will be written: {error}"));
    }
}

fn level(text: Option<&str>, usual: LevelFilter) -> Result<LevelFilter, String> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(usual),
        Some(text) => text.parse().map_err(|_| {
            format!("{VARIABLE} is `{text}`; it can be off, error, warn, info, debug or trace")
        }),
    }
}

/// Standard error, on which nothing that is quoted can move the cursor. The subscriber writes a whole
/// record at a time.
struct Guarded;

impl Write for Guarded {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let mut text = guard_lines(&String::from_utf8_lossy(record));
        text.push('\n');
        io::stderr().write_all(text.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_when_it_is_a_level() {
        let level = |text| level(text, LevelFilter::INFO);
        assert_eq!(level(None), Ok(LevelFilter::INFO));
        assert_eq!(level(Some("")), Ok(LevelFilter::INFO));
        assert_eq!(level(Some("debug")), Ok(LevelFilter::DEBUG));
        assert!(
            level(Some("loud"))
                .expect_err("no level")
                .contains("`loud`")
        );
    }
}
