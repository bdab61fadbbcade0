//! The way out of the guest: one serial port, whole lines only, whoever speaks.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// The second serial port. The Arm board's first one has a name of its own.
const PORT: &str = if cfg!(target_arch = "aarch64") {
    "/dev/ttyS0"
} else {
    "/dev/ttyS1"
};
/// Leads the lines that are for `cargo xtask vm` and not from the program.
const MARK: &str = "@vm";

/// The port.
pub(crate) struct Output {
    port: Mutex<File>,
}

impl Output {
    /// Opens the port.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn open() -> Result<Self> {
        let port = OpenOptions::new().write(true).open(PORT);
        let port = Mutex::new(port.with_context(|| format!("cannot open {PORT}"))?);
        Ok(Self { port })
    }

    /// Says something to the host.
    pub(crate) fn mark(&self, text: &str) {
        self.line(format!("{MARK} {text}").as_bytes());
    }

    /// Passes on what the program prints, until it and its children are gone.
    pub(crate) fn pass(&self, from: impl Read) {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            self.line(&line);
        }
    }

    /// Passes on what the program reports, until the line [`Output::END`].
    pub(crate) fn report(&self, from: impl Read) {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if line == Self::END {
                return;
            }
            self.mark(&format!("report {line}"));
        }
    }

    /// Ends a report.
    pub(crate) const END: &str = "end";

    /// Waits until everything has left.
    ///
    /// # Errors
    /// The port refuses.
    pub(crate) fn flush(&self) -> Result<()> {
        let port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::termios::tcdrain(&*port).context("cannot flush the serial port")
    }

    fn line(&self, line: &[u8]) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = [line, b"\n"].concat();
        // Nobody is left to be told of a port that does not take it.
        let _ = port.write_all(&whole);
    }
}
