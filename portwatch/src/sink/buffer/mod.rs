//! What waits on disk for a peer: records are appended, read, and forgotten once the peer has acknowledged them.
//!
//! Every record has an index, one more than that of the record before it, for as long as the buffer exists. So whatever
//! is lost (dropped for want of room, torn by a crash, damaged by a bad disk) shows as a hole between two indices,
//! also after a restart, and the reader tells of it at its place.

mod end;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod list;
mod mark;
mod patience;
mod read;
mod segment;
mod write;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use end::End;
use list::List;
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
    let mut list = List::new(segment::all(folder)?);
    let end = ends(folder, &mut list);
    // A mark may be older than the oldest file, and newer than what a crash of the machine left of the last one.
    let oldest = list.files.keys().next().copied().unwrap_or(end.next);
    let mark = match mark {
        Some(mark) => mark,
        None => {
            let mark = mark::Mark {
                index: oldest,
                ts_ns: 0,
            };
            // What goes from here on shows as a hole. A disk that is full for now is no reason not to watch: the mark is written
            // when something goes, at the latest.
            match marks.write(mark) {
                Err(error) if !is_full(&error) => return Err(error),
                _ => {}
            }
            mark
        }
    };
    if list::is_behind_unknown(oldest) && mark.index < oldest {
        // What was before it had to go, and how much that was nobody knows any more.
        list.leap(mark.index + 1, oldest);
    }
    let mut next = end.next.max(mark.index);
    if !end.is_known {
        let behind = list::behind_unknown(next);
        list.leap(next, behind);
        next = behind;
    }
    let shared = Arc::new(Shared {
        folder: folder.to_owned(),
        marks,
        list: Mutex::new(list),
        next: AtomicU64::new(next),
        acknowledged: AtomicU64::new(mark.index),
        read: AtomicU64::new(mark.index),
        dropped: AtomicU64::new(0),
    });
    let reader = Reader::new(Arc::clone(&shared), mark);
    Ok((reader, Gauge(shared)))
}

/// Is there no room, for now?
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Looks where the last file ends, and every other one behind which indices were left out.
fn ends(folder: &Path, list: &mut List) -> End {
    let mut end = End {
        next: 0,
        is_known: true,
    };
    let firsts: Vec<u64> = list.files.keys().copied().collect();
    for (at, &first) in firsts.iter().enumerate() {
        let next = firsts.get(at + 1).copied();
        if next.is_some_and(|next| !list::is_behind_unknown(next)) {
            continue;
        }
        let path = segment::path(folder, first);
        end = end::of(&path, first).unwrap_or_else(|error| {
            tracing::error!(file = %path.display(), %error, "a file of a buffer cannot be read");
            let before = at.checked_sub(1).map(|before| firsts[before]);
            End {
                next: first + list::estimate(first, before),
                is_known: false,
            }
        });
        if let Some(next) = next {
            list.leap(end.next, next);
        }
    }
    end
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
        let list = shared.list();
        let oldest = list.files.keys().next().copied();
        let next = shared.next.load(Ordering::Relaxed);
        let from = shared.acknowledged.load(Ordering::Relaxed);
        list.count(from.max(oldest.unwrap_or(next)), next)
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
mod disk_tests;
#[cfg(test)]
mod tests;
