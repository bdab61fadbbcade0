//! The end of a buffer that records go out at, in order, with every hole at its place.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Shared;
use super::frame::{self, Found, MAX_FRAME};
use super::mark::Mark;
use super::patience::Patience;
use crate::sink::disk::{self, Filled, fill};

/// Bytes that are read at once; more than the longest record.
pub(super) const CHUNK: usize = 1 << 20;
const _: () = assert!(CHUNK > MAX_FRAME);

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A record.
    Record {
        /// Its index.
        index: u64,
        /// What was appended.
        payload: Vec<u8>,
    },
    /// Here records are missing.
    Hole(Hole),
}

/// Records that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// How many.
    pub lost: u64,
    /// Index of what comes next.
    pub next: u64,
    /// They were damaged or torn; else they were dropped.
    pub is_damage: bool,
}

/// Reads records and remembers how far the peer has acknowledged. What it does may wait for the disk.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    acknowledged: Mark,
    /// Index of what comes next.
    next: u64,
    /// The file, and how far it is read.
    place: Option<Place>,
    /// Bytes that were no record, or could not be read, since the last one.
    is_damaged: bool,
    /// The bytes that were read last.
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Place {
    first: u64,
    at: u64,
    /// Nothing before it is opened.
    file: Option<File>,
    /// It could not be opened for so long that it is passed by.
    is_passed: bool,
    patience: Patience,
}

impl Place {
    /// The begin of a file.
    fn of(first: u64) -> Self {
        Self {
            first,
            at: 0,
            file: None,
            is_passed: false,
            patience: Patience::default(),
        }
    }

    /// Is there something to be read in a file of this size, as far as that is known?
    fn has_more(&self, size: Option<u64>) -> bool {
        size.map_or(!self.is_passed, |size| self.at < size)
    }
}

impl Reader {
    pub(super) const fn new(shared: Arc<Shared>, acknowledged: Mark) -> Self {
        Self {
            shared,
            acknowledged,
            next: acknowledged.index,
            place: None,
            is_damaged: false,
            chunk: Vec::new(),
        }
    }

    /// When the last record was seen that is acknowledged, ns since 1970; 0 before the first.
    #[must_use]
    pub const fn acknowledged_ts(&self) -> i64 {
        self.acknowledged.ts_ns
    }

    /// Hands on the next records and holes, about so many bytes of them and at most `most`; nothing when there are none.
    ///
    /// # Errors
    /// When a file cannot be read now. It is to be tried again: what the disk does not give for some seconds is stepped
    /// over, and is a hole.
    pub fn read(&mut self, most: usize, bytes: usize, now: Instant) -> io::Result<Vec<Read>> {
        let (mut found, mut size) = (Vec::new(), 0);
        while found.len() < most && size < bytes {
            let step = match self.limit(now) {
                Ok(None) => break,
                Ok(Some(limit)) => self.read_chunk(limit, most, bytes - size, &mut found, now),
                Err(error) => Err(error),
            };
            match step {
                Ok(more) => size += more,
                Err(error) if found.is_empty() => return Err(error),
                // What is read already must not get lost by it; the error comes again.
                Err(_) => break,
            }
        }
        Ok(found)
    }

    /// The peer has everything before `next`; the last of it was seen then.
    ///
    /// # Errors
    /// When that cannot be noted: after a restart it is delivered again.
    pub fn acknowledge(&mut self, next: u64, ts_ns: i64) -> io::Result<()> {
        self.acknowledged = Mark { index: next, ts_ns };
        self.shared.acknowledged.store(next, Ordering::Relaxed);
        self.shared.marks.write(self.acknowledged)?;
        self.forget(next)
    }

    /// Removes files that hold only what is acknowledged. The last one stays: its name tells which index comes next.
    fn forget(&self, next: u64) -> io::Result<()> {
        let mut is_settled = false;
        loop {
            let mut list = self.shared.list();
            let Some(first) = list.files.keys().next().copied() else {
                return Ok(());
            };
            if list.behind(first).is_none_or(|behind| behind > next) {
                return Ok(());
            }
            if !is_settled {
                drop(list);
                // With an older mark, what goes now would be missed after a power failure.
                self.shared.marks.settle()?;
                is_settled = true;
                continue;
            }
            list.files.remove(&first);
            drop(list);
            self.shared.unlink(first)?;
        }
    }

    /// Goes to the file that the next record is in. Tells how far it is written.
    fn limit(&mut self, now: Instant) -> io::Result<Option<u64>> {
        loop {
            let mut list = self.shared.list();
            let Some(place) = &self.place else {
                // The last one that begins before, or at, what comes next.
                let before = list.files.range(..=self.next).next_back();
                let Some((first, _)) = before.or_else(|| list.files.iter().next()) else {
                    return Ok(None);
                };
                self.place = Some(Place::of(*first));
                continue;
            };
            let size = list.files.get(&place.first).copied();
            match size {
                Some(size) if place.has_more(size) => {
                    if place.file.is_some() && size.is_some() {
                        return Ok(size);
                    }
                    drop(list);
                    self.open(now)?;
                    continue;
                }
                _ if list.current == Some(place.first) => return Ok(None),
                _ => {}
            }
            let Some(behind) = list.behind(place.first) else {
                return Ok(None);
            };
            if size.is_some() && !self.is_damaged {
                // It was read to its end.
                list.ends(self.next, behind);
            }
            self.place = Some(Place::of(behind));
        }
    }

    /// Opens the file that is to be read.
    fn open(&mut self, now: Instant) -> io::Result<()> {
        let Some(place) = &mut self.place else {
            return Ok(());
        };
        let first = place.first;
        let opened = disk::open(&self.shared.path(first))
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((size, file)) => {
                place.file = Some(file);
                if let Some(unknown @ None) = self.shared.list().files.get_mut(&first) {
                    *unknown = Some(size);
                }
            }
            // It had to go meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.shared.list().files.remove(&first);
            }
            // What is in it is a hole before the next file. It stays until that is acknowledged.
            Err(error) if disk::is_bad(&error) && place.patience.is_over(now) => {
                tracing::error!(file = %self.shared.path(first).display(), %error, "what is in a file of a buffer is lost");
                self.is_damaged = true;
                place.is_passed = true;
                let size = self.shared.list().files.get(&first).copied();
                place.at = size.flatten().unwrap_or(0);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads a part of the file; tells how many bytes of records there were.
    fn read_chunk(
        &mut self,
        size: u64,
        most: usize,
        bytes: usize,
        found: &mut Vec<Read>,
        now: Instant,
    ) -> io::Result<usize> {
        let Some(place) = &mut self.place else {
            return Ok(0);
        };
        let Some(file) = &place.file else {
            return Ok(0);
        };
        let left = usize::try_from(size - place.at).unwrap_or(usize::MAX);
        self.chunk.resize(left.min(CHUNK), 0);
        let Filled { bytes: read, bad } = fill(file, &mut self.chunk, place.at)?;
        // What is written is whole records.
        let is_end = bad.is_none() && (read == left || read < self.chunk.len());
        let (mut at, mut taken) = (0, 0);
        while at < read && found.len() < most && taken < bytes {
            let size = match frame::first(&self.chunk[at..read], is_end) {
                Found::Record {
                    index,
                    payload,
                    size,
                } => {
                    // What is acknowledged lies before the rest in the same file.
                    if index >= self.next {
                        let lost = self.shared.missing(self.next, index, self.is_damaged);
                        found.extend(lost.map(Read::Hole));
                        self.is_damaged = false;
                        self.next = index;
                        if !payload.is_empty() {
                            self.next += 1;
                            taken += size;
                            let payload = payload.to_vec();
                            found.push(Read::Record { index, payload });
                        }
                    }
                    size
                }
                Found::Damage(size) => {
                    self.is_damaged = true;
                    size
                }
                Found::Part => break,
            };
            at += size;
        }
        match bad {
            // The disk does not give what comes here; the next record is found behind it.
            Some(error) if at == 0 => {
                if !place.patience.is_over(now) {
                    return Err(error);
                }
                self.is_damaged = true;
                place.at = disk::behind(place.at + read as u64).min(size);
            }
            // It is shorter than it was: nothing more comes.
            None if read == 0 => place.at = size,
            _ => {
                place.patience.succeeded(now);
                place.at += at as u64;
            }
        }
        self.shared.read.store(self.next, Ordering::Relaxed);
        Ok(taken)
    }
}

impl Shared {
    /// What is missing between two indices.
    fn missing(&self, from: u64, to: u64, is_damage: bool) -> Option<Hole> {
        if from >= to {
            return None;
        }
        // Where damage was seen, there was something.
        let lost = self.list().count(from, to).max(u64::from(is_damage));
        (lost > 0).then_some(Hole {
            lost,
            next: to,
            is_damage,
        })
    }
}
