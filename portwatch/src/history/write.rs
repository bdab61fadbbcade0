//! Appending to the history, within its bounds.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Bounds;
use super::segment::Segment;

/// Files that the bytes are spread over: one of them goes at a time.
const FILES: u64 = 8;
/// Most files, however small: each start of the daemon begins one.
const MAX_FILES: usize = 512;

/// The writing end. There is one for a folder.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    bounds: Bounds,
    current: Option<Current>,
    last: Option<u64>,
}

#[derive(Debug)]
struct Current {
    file: File,
    size: u64,
}

impl Writer {
    /// Goes on with the history in this folder; makes the folder, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made?;
        let last = Segment::all(folder)?.last().map(|segment| segment.begun);
        let writer = Self {
            folder: folder.to_owned(),
            bounds,
            current: None,
            last,
        };
        writer.prune()?;
        Ok(writer)
    }

    /// Appends whole lines, each with its newline: all of them or, after an error, none.
    ///
    /// # Errors
    /// When they cannot be written, a full disk for example.
    pub fn append(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.size >= self.bounds.bytes / FILES)
        {
            self.end()?;
        }
        let current = match &mut self.current {
            Some(current) => current,
            None => self.begin(now)?,
        };
        if let Err(error) = current.file.write_all(lines) {
            // Half a line would be read as none, and would spoil the one after it.
            let cut = current.file.set_len(current.size);
            if cut.is_err() {
                self.current = None;
            }
            return Err(error);
        }
        current.size += lines.len() as u64;
        Ok(())
    }

    /// What was appended survives the end of the machine from here on; old files go.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn settle(&self) -> io::Result<()> {
        if let Some(current) = &self.current {
            current.file.sync_data()?;
        }
        self.prune()
    }

    fn begin(&mut self, now: Timestamp) -> io::Result<&mut Current> {
        self.prune()?;
        let segment = Segment::new(&self.folder, now, self.last);
        // Appending: after an error the place is that of the end.
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&segment.path)?;
        self.last = Some(segment.begun);
        Ok(self.current.insert(Current { file, size: 0 }))
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(current) = self.current.take() {
            current.file.sync_data()?;
        }
        Ok(())
    }

    /// Removes the oldest files until what is left is within bounds. The one that is written to stays.
    fn prune(&self) -> io::Result<()> {
        let mut all = Segment::all(&self.folder)?;
        if self.current.is_some() {
            all.pop();
        }
        // Room for the one that is written to.
        let room = self.bounds.bytes - self.bounds.bytes / FILES;
        let mut total = 0;
        for (place, segment) in all.iter().rev().enumerate() {
            let Some((size, age)) = segment.state() else {
                continue;
            };
            total += size;
            if total > room || age > self.bounds.age || place >= MAX_FILES {
                fs::remove_file(&segment.path)?;
            }
        }
        Ok(())
    }
}
