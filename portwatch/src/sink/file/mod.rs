//! The file sink: lines at the end of a file, which is rotated by itself or by others.
//!
//! It opens for appending, so that a file that somebody cuts off (`copytruncate`) goes on at its new end, and looks about
//! every second whether its path still leads to it, so that one that was put away (`create`) is followed by a new one
//! even when nobody sends SIGHUP.

mod heads;
mod rotate;
mod tail;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::chain::{Chain, Head};
use super::intake::Place;
use heads::HeadFile;
use rotate::Predecessors;

/// When a file makes room for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turnover {
    /// When it has so many bytes; 0 for never.
    pub bytes: u64,
    /// When it is so old.
    pub age: Option<Duration>,
    /// So many predecessors are kept.
    pub keep: usize,
    /// Those that are older are not.
    pub keep_age: Option<Duration>,
    /// Predecessors are packed with gzip.
    pub compress: bool,
}

/// The file of one sink.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    turnover: Turnover,
    open: Option<Open>,
    predecessors: Predecessors,
    heads: Option<HeadFile>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    size: u64,
    begun: SystemTime,
}

/// How a file begins to be written to.
#[derive(Debug)]
pub struct Begin {
    /// The file.
    pub sink: FileSink,
    /// The chain, where there is one, behind what was written before.
    pub chain: Option<Chain>,
    /// The last line was torn, and is cut off.
    pub is_torn: bool,
}

impl FileSink {
    /// Opens the file; makes it, for its owner alone, where there is none. With a chain, how far it has come is kept in
    /// `heads_in`, so that it goes on although the file was put away.
    ///
    /// # Errors
    /// When it cannot be opened or read, or is no regular file.
    pub fn begin(path: &Path, turnover: Turnover, heads_in: Option<&Path>) -> io::Result<Begin> {
        let (open, is_torn) = Open::begin(path)?;
        let (heads, chain) = match heads_in {
            None => (None, None),
            Some(folder) => {
                let (file, kept) = HeadFile::open(folder)?;
                let written = tail::last_head(path)?;
                let head = kept
                    .into_iter()
                    .chain(written)
                    .max_by_key(|head| head.number);
                (Some(file), Some(Chain::after(head.unwrap_or_default())))
            }
        };
        let sink = Self {
            path: path.to_owned(),
            turnover,
            open: Some(open),
            predecessors: Predecessors::new(path, turnover),
            heads,
        };
        Ok(Begin {
            sink,
            chain,
            is_torn,
        })
    }

    /// The open file. One that was torn meanwhile is cut off at its last whole line.
    fn open(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::begin(&self.path)?.0,
        };
        Ok(self.open.insert(open))
    }

    /// Closes the file. What was written to it is on the disk from here on, wherever its name leads by now.
    fn put_down(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some(open) => open.file.sync_data(),
            None => Ok(()),
        }
    }

    /// Puts the file away under a name with its time, and begins another one.
    fn rotate(&mut self) -> io::Result<()> {
        self.put_down()?;
        self.predecessors.put_away()?;
        self.open()?;
        Ok(())
    }

    fn is_full(&self) -> bool {
        let Turnover { bytes, age, .. } = self.turnover;
        self.open.as_ref().is_some_and(|open| {
            let is_old = |age| open.begun.elapsed().is_ok_and(|elapsed| elapsed >= age);
            open.size > 0 && (bytes > 0 && open.size >= bytes || age.is_some_and(is_old))
        })
    }
}

impl Place for FileSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let open = self.open()?;
        let (written, error) = write_all(&mut open.file, lines);
        if let Some(error) = error {
            // Half a line would spoil the one after it. Nobody else appends.
            if let Ok(metadata) = open.file.metadata() {
                let whole = metadata.len().saturating_sub(written as u64);
                open.file.set_len(whole)?;
            }
            return Err(error);
        }
        open.size += lines.len() as u64;
        if self.is_full() {
            // What was written is written; that there is no new file is told by the next beat.
            if let Err(error) = self.rotate() {
                tracing::error!(file = %self.path.display(), %error, "not rotated");
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        match &self.open {
            Some(open) => open.file.sync_data(),
            None => Ok(()),
        }
    }

    fn sealed(&mut self, head: Head) {
        if let Some(heads) = &self.heads
            && let Err(error) = heads.write(head)
        {
            tracing::warn!(file = %self.path.display(), %error, "how far the chain has come is not kept");
        }
    }

    fn beat(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            // Cut off by somebody, perhaps.
            open.size = open.file.metadata()?.len();
            let is_there = match fs::metadata(&self.path) {
                Ok(metadata) => identity(&metadata) == open.identity,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if !is_there {
                self.put_down()?;
            }
        }
        self.open()?;
        if self.is_full() {
            self.rotate()?;
        }
        self.predecessors.tidy();
        Ok(())
    }

    fn reopen(&mut self) {
        if let Err(error) = self.put_down() {
            tracing::error!(file = %self.path.display(), %error, "the end of a file that was put away is not synced");
        }
    }
}

impl Open {
    /// Opens the file, and tells whether its last line was torn and had to be cut off.
    fn begin(path: &Path) -> io::Result<(Self, bool)> {
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
            file,
        };
        Ok((open, is_torn))
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

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
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
mod tests;
