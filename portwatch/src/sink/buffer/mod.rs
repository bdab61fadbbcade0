//! What waits on disk for a peer: records are appended, read, and forgotten once the peer has acknowledged them.
//!
//! Every record has an index, one more than that of the record before it, for as long as the buffer exists. So whatever
//! is lost (dropped for want of room, torn by a crash, damaged by a bad disk) shows as a hole between two indices,
//! also after a restart, and the reader tells of it at its place.

mod disk;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod mark;
mod read;
mod segment;
mod write;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use read::{Hole, Read, Reader};
pub use write::Writer;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files together, at least [`Bounds::LEAST`].
    pub bytes: u64,
    /// What goes when there is no more room: what has waited longest, or what comes.
    pub drop_oldest: bool,
}

impl Bounds {
    /// Some of the longest records.
    pub const LEAST: u64 = 1 << 20;
    /// Files that the bytes are spread over: one of them goes at a time.
    const FILES: u64 = 16;

    /// How large a file may get.
    fn file(self) -> u64 {
        self.bytes / Self::FILES
    }
}

/// What the two ends share.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    marks: mark::MarkFile,
    list: Mutex<List>,
    /// Index of the next record that is appended.
    next: AtomicU64,
    /// Index of the first record that is not acknowledged.
    acknowledged: AtomicU64,
    /// Index of the next record that is read.
    read: AtomicU64,
    /// Records that had to go since the start.
    dropped: AtomicU64,
}

/// The files: index of the first record, and bytes that are whole records, or were found at the start.
#[derive(Debug, Default)]
struct List {
    files: BTreeMap<u64, u64>,
    /// The file that is written to; all others are complete.
    current: Option<u64>,
}

/// How full a buffer is, at any time and without waiting for a disk; and the way into it.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<Shared>);

/// Opens the buffer in this folder; makes the folder, for its owner alone. There is one for a folder.
///
/// # Errors
/// When it cannot be made or read.
pub fn open(folder: &Path) -> io::Result<(Reader, Gauge)> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let (marks, mark) = mark::MarkFile::open(folder)?;
    let files: BTreeMap<u64, u64> = segment::all(folder)?.into_iter().collect();
    let behind = match files.last_key_value() {
        Some((first, _)) => read::end_of(&segment::path(folder, *first), *first)?,
        None => 0,
    };
    // A mark may be older than the oldest file, and newer than what a crash of the machine left of the last one.
    let oldest = files.keys().next().copied().unwrap_or(behind);
    let mark = match mark {
        Some(mark) => mark,
        None => {
            let mark = mark::Mark {
                index: oldest,
                ts_ns: 0,
            };
            // What goes from here on shows as a hole.
            marks.write(mark)?;
            mark
        }
    };
    let next = behind.max(mark.index);
    let shared = Arc::new(Shared {
        folder: folder.to_owned(),
        marks,
        list: Mutex::new(List {
            files,
            current: None,
        }),
        next: AtomicU64::new(next),
        acknowledged: AtomicU64::new(mark.index),
        read: AtomicU64::new(mark.index),
        dropped: AtomicU64::new(0),
    });
    let reader = Reader::new(Arc::clone(&shared), mark);
    Ok((reader, Gauge(shared)))
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, List> {
        // Nothing that runs under it can leave half a change behind.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, first: u64) -> PathBuf {
        segment::path(&self.folder, first)
    }

    /// Removes a file that is in the list no longer. It may be gone.
    fn unlink(&self, first: u64) -> io::Result<()> {
        match fs::remove_file(self.path(first)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl List {
    fn bytes(&self) -> u64 {
        self.files.values().sum()
    }

    /// Index of the first record of the file behind this one.
    fn behind(&self, first: u64) -> Option<u64> {
        self.files.range(first + 1..).next().map(|(next, _)| *next)
    }
}

impl Gauge {
    /// The end that records come in at. There is one at a time.
    #[must_use]
    pub fn writer(&self, bounds: Bounds) -> Writer {
        Writer::new(Arc::clone(&self.0), bounds)
    }

    /// Records that wait: not yet acknowledged and not dropped.
    #[must_use]
    pub fn queued(&self) -> u64 {
        let shared = &self.0;
        let oldest = shared.list().files.keys().next().copied();
        let next = shared.next.load(Ordering::Relaxed);
        let from = shared.acknowledged.load(Ordering::Relaxed);
        next.saturating_sub(from.max(oldest.unwrap_or(next)))
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.list().bytes()
    }

    /// Records that had to go since the start, for want of room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
