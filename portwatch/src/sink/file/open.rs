//! A file that lines are appended to, and what of it is not synced yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use super::tail;
use crate::sink::settle::Settled;

/// The open file.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    size: u64,
    begun: SystemTime,
    settled: Settled,
    unsettled: Unsettled,
    /// It has to be cut off here before anything else is written to it.
    cut: Option<u64>,
}

/// What was written since the last sync that succeeded.
#[derive(Debug, Default)]
struct Unsettled {
    crc: crc32fast::Hasher,
    lines: u64,
}

impl Open {
    /// Opens the file, and tells whether its last line was torn and had to be cut off.
    pub(super) fn begin(path: &Path) -> io::Result<(Self, bool)> {
        let is_new = !fs::exists(path)?;
        let file = append(path)?;
        let metadata = file.metadata()?;
        if is_new && let Some(folder) = path.parent() {
            // That the file is there must survive, too.
            File::open(folder)?.sync_all()?;
        }
        let whole = tail::whole(&file, metadata.len())?;
        let is_torn = whole < metadata.len();
        if is_torn {
            file.set_len(whole)?;
        }
        let open = Self {
            identity: identity(&metadata),
            size: whole,
            begun: metadata.created().unwrap_or_else(|_| SystemTime::now()),
            settled: Settled::new(whole),
            unsettled: Unsettled::default(),
            cut: None,
            file,
        };
        Ok((open, is_torn))
    }

    pub(super) const fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn begun(&self) -> SystemTime {
        self.begun
    }

    /// Appends whole lines: all of them or none.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.cut_off()?;
        let (written, error) = write_all(&mut self.file, lines);
        if let Some(error) = error {
            // Half a line would spoil the one after it. Nobody else appends.
            if let Ok(metadata) = self.file.metadata() {
                self.cut = Some(metadata.len().saturating_sub(written as u64));
                self.cut_off()?;
            }
            return Err(error);
        }
        self.size += lines.len() as u64;
        self.unsettled.crc.update(lines);
        self.unsettled.lines += count_lines(lines);
        Ok(())
    }

    /// Syncs what was written. Tells how many lines of it are gone: after a sync that failed, some file systems have
    /// something else in their place.
    pub(super) fn settle(&mut self) -> io::Result<u64> {
        let from = self.settled.upto();
        let again = self.settled.settle(&self.file, self.size)?;
        let Unsettled { crc, lines } = std::mem::take(&mut self.unsettled);
        if again.is_none_or(|again| again == crc.finalize()) {
            return Ok(0);
        }
        let before = self.size;
        self.look()?;
        if self.size < before {
            return Ok(0);
        }
        // What is there instead would spoil the next line, too. They are lost also if that has to wait.
        (self.size, self.settled, self.cut) = (from, Settled::new(from), Some(from));
        if let Err(error) = self.cut_off() {
            tracing::error!(%error, "what a failed sync has left in a file is not cut off yet");
        }
        Ok(lines)
    }

    /// Cuts it off where it has to be.
    fn cut_off(&mut self) -> io::Result<()> {
        if let Some(whole) = self.cut {
            if self.file.metadata()?.len() > whole {
                self.file.set_len(whole)?;
            }
            self.cut = None;
        }
        Ok(())
    }

    /// Has a sync of it failed since the last one that succeeded?
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.settled.is_in_doubt()
    }

    /// Looks how large it is. Perhaps somebody has cut it off: then that was wanted.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let size = self.cut.map_or(size, |cut| size.min(cut));
        if size < self.size {
            (self.settled, self.unsettled) = (Settled::new(size), Unsettled::default());
        }
        self.size = size;
        Ok(())
    }
}

/// Opens a regular file for appending; makes it, for its owner alone, where there is none.
///
/// Whoever may write to the folder must not lead us elsewhere: neither by a symbolic link, nor by another name of a file
/// that is not ours.
///
/// # Errors
/// When it cannot be opened, or is something else.
pub fn append(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        // A FIFO must not make it wait.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other("it is a symbolic link: name the file itself"),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.nlink() > 1 {
        return Err(io::Error::other("it has other names (hard links)"));
    }
    Ok(file)
}

pub(super) fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Newlines. So many at once that a byte holds their number: the processor then compares a register full of bytes at a
/// time.
fn count_lines(bytes: &[u8]) -> u64 {
    let newlines = |part: &[u8]| part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes
        .chunks(usize::from(u8::MAX))
        .map(|part| u64::from(newlines(part)))
        .sum()
}

/// As `write_all`, and tells how much was written before an error.
fn write_all(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::count_lines;

    #[test]
    fn lines_are_counted_also_where_a_register_would_overflow() {
        for (bytes, lines) in [(0, 0), (254, 254), (255, 255), (256, 256), (1_000, 1_000)] {
            assert_eq!(count_lines(&vec![b'\n'; bytes]), lines);
        }
        assert_eq!(count_lines(b"one\ntwo\nthree"), 2);
    }
}
