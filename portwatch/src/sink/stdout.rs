//! The sink that writes to standard output of the daemon, for whoever started it to read.

use std::io::{self, Write as _};

use super::intake::Place;

/// Standard output. A reader that does not read holds nobody up but this.
#[derive(Debug)]
pub struct Stdout;

impl Place for Stdout {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        // Its own buffer ends at the last newline, and so do the lines.
        let mut out = io::stdout().lock();
        out.write_all(lines)?;
        out.flush()
    }

    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }
}
