//! How far the peer has acknowledged, on disk.
//!
//! It is written in place, and synced only before records go for which it stands. Until then a mark that is old, torn or
//! gone means that records are delivered once more, and receivers know those by their ids; later, it would mean that they
//! are missed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::frame::{self, Found};
use crate::sink::disk;
use crate::sink::settle::Settled;

/// Name of the file.
const NAME: &str = "acknowledged";

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Index of the first record that is not acknowledged.
    pub(super) index: u64,
    /// When the last one that is was seen, ns since 1970; 0 before the first.
    pub(super) ts_ns: i64,
}

/// The file.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settled: Settled,
    /// What the disk had no room for.
    owed: Option<Mark>,
}

impl MarkFile {
    /// Opens the file of this folder, and reads it; what cannot be read is no mark.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(NAME))?;
        let mut bytes = [0; frame::HEADER + Mark::DIGITS];
        let mark = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Mark::read(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) if disk::is_bad(&error) => None,
            Err(error) => return Err(error),
        };
        let state = Mutex::new(State {
            settled: Settled::new(0),
            owed: None,
        });
        Ok((Self { file, state }, mark))
    }

    pub(super) fn write(&self, mark: Mark) -> io::Result<()> {
        self.write_to(&mut self.state(), mark)
    }

    fn write_to(&self, state: &mut State, mark: Mark) -> io::Result<()> {
        state.settled.changed(0);
        state.owed = Some(mark);
        self.file.write_all_at(&mark.bytes(), 0)?;
        state.owed = None;
        Ok(())
    }

    /// What was written survives the end of the machine from here on.
    pub(super) fn settle(&self) -> io::Result<()> {
        let mut state = self.state();
        // What goes must not be missed without one.
        if let Some(mark) = state.owed {
            self.write_to(&mut state, mark)?;
        }
        let size = (frame::HEADER + Mark::DIGITS) as u64;
        state.settled.settle(&self.file, size).map(drop)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    /// Digits of a time: it is text, like every payload.
    const DIGITS: usize = 20;

    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ts = format!("{:0width$}", self.ts_ns, width = Self::DIGITS);
        frame::append(self.index, ts.as_bytes(), &mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let Found::Record { index, payload, .. } = frame::first(bytes, true) else {
            return None;
        };
        let ts_ns = str::from_utf8(payload).ok()?.parse().ok()?;
        Some(Self { index, ts_ns })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_marked_is_read_and_what_is_torn_is_no_mark() {
        let dir = tempfile::tempdir().expect("dir");
        let (file, none) = MarkFile::open(dir.path()).expect("open");
        assert_eq!(none, None);
        for ts_ns in [-5, i64::MAX, 0] {
            let mark = Mark { index: 77, ts_ns };
            file.write(mark).expect("written");
            let (_, read) = MarkFile::open(dir.path()).expect("open");
            assert_eq!(read, Some(mark));
        }
        let path = dir.path().join(NAME);
        let mut bytes = fs::read(&path).expect("read");
        bytes[10] ^= 1;
        fs::write(&path, bytes).expect("written");
        assert_eq!(MarkFile::open(dir.path()).expect("open").1, None);
    }
}
