//! The file sink: lines at the end of a file, which is rotated by itself or by others.
//!
//! It opens for appending, so that a file that somebody cuts off (`copytruncate`) goes on at its new end, and looks about
//! every second whether its path still leads to it, so that one that was put away (`create`) is followed by a new one
//! even when nobody sends SIGHUP.

mod heads;
mod open;
mod rotate;
mod tail;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::chain::{Chain, Head};
use super::intake::Place;
use heads::HeadFile;
pub use open::append;
use open::{Open, identity};
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
    /// Lines that were written and are gone, of which nobody was told yet.
    lost: u64,
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
            lost: 0,
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
        if let Some(mut open) = self.open.take() {
            // The second attempt writes again what the first one could not. There is no third one: another file waits.
            self.lost += open.settle().or_else(|_| open.settle())?;
        }
        Ok(())
    }

    /// Puts the file away under a name with its time, and begins another one.
    fn rotate(&mut self) -> io::Result<()> {
        // As long as it is not synced, it can wait.
        self.settle()?;
        self.open = None;
        self.predecessors.put_away()?;
        self.open()?;
        Ok(())
    }

    fn is_full(&self) -> bool {
        let Turnover { bytes, age, .. } = self.turnover;
        self.open.as_ref().is_some_and(|open| {
            let is_old = |age| open.begun().elapsed().is_ok_and(|elapsed| elapsed >= age);
            open.size() > 0 && (bytes > 0 && open.size() >= bytes || age.is_some_and(is_old))
        })
    }
}

impl Place for FileSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let open = self.open()?;
        open.write(lines)?;
        // What could not be synced is tried again by the beat, and not by each write.
        if !open.is_in_doubt() && self.is_full() {
            // What was written is written; that there is no new file is told by the next beat.
            if let Err(error) = self.rotate() {
                tracing::error!(file = %self.path.display(), %error, "not rotated");
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            self.lost += open.settle()?;
        }
        Ok(())
    }

    fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
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
            open.look()?;
            let is_there = match fs::metadata(&self.path) {
                Ok(metadata) => identity(&metadata) == open.identity(),
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
        // One that is still in its place goes on: with it a failed sync would be forgotten, which another descriptor is not told of.
        let is_there = |open: &Open| {
            fs::metadata(&self.path).is_ok_and(|now| identity(&now) == open.identity())
        };
        if self.open.as_ref().is_some_and(is_there) {
            return;
        }
        if let Err(error) = self.put_down() {
            tracing::error!(file = %self.path.display(), %error, "the end of a file that was put away is not synced");
        }
    }
}

#[cfg(test)]
mod tests;
