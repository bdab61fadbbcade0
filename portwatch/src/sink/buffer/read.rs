//! The end of a buffer that records go out at, in order, with every hole at its place.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use super::disk::{self, Filled, fill};
use super::frame::{self, Found, MAX_FRAME};
use super::mark::Mark;

/// Bytes that are read at once; more than the longest record.
const CHUNK: usize = 1 << 20;
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
    file: File,
    first: u64,
    at: u64,
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
    /// When a file cannot be read.
    pub fn read(&mut self, most: usize, bytes: usize) -> io::Result<Vec<Read>> {
        let (mut found, mut size) = (Vec::new(), 0);
        while found.len() < most && size < bytes {
            let step = match self.limit() {
                Ok(None) => break,
                Ok(Some(limit)) => self.read_chunk(limit, most, bytes - size, &mut found),
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
    fn limit(&mut self) -> io::Result<Option<u64>> {
        loop {
            let list = self.shared.list();
            if let Some(place) = &self.place {
                let size = list.files.get(&place.first).copied();
                let is_current = list.current == Some(place.first);
                if let Some(size) = size
                    && place.at < size
                {
                    return Ok(Some(size));
                }
                if is_current {
                    return Ok(None);
                }
            }
            let behind = match &self.place {
                Some(place) => list.behind(place.first),
                // The last one that begins before, or at, what comes next.
                None => {
                    let before = list.files.range(..=self.next).next_back();
                    let any = before.or_else(|| list.files.iter().next());
                    any.map(|(first, _)| *first)
                }
            };
            drop(list);
            let Some(first) = behind else {
                return Ok(None);
            };
            match File::open(self.shared.path(first)) {
                Ok(file) => {
                    if self.place.is_some() && first < self.next {
                        // At the start, the file before could not be read to its end, and now it could.
                        self.next = first;
                    }
                    self.place = Some(Place { file, first, at: 0 });
                }
                // It had to go meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.shared.list().files.remove(&first);
                }
                // What was in it is a hole before the next file.
                Err(error) if disk::is_bad(&error) => {
                    self.is_damaged = true;
                    self.shared.list().files.remove(&first);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a part of the file; tells how many bytes of records there were.
    fn read_chunk(
        &mut self,
        size: u64,
        most: usize,
        bytes: usize,
        found: &mut Vec<Read>,
    ) -> io::Result<usize> {
        let Some(place) = &mut self.place else {
            return Ok(0);
        };
        let left = usize::try_from(size - place.at).unwrap_or(usize::MAX);
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(left.min(CHUNK), 0);
        let filled = fill(&place.file, &mut chunk, place.at);
        let Filled {
            bytes: read,
            is_bad,
        } = filled?;
        // What is written is whole records.
        let is_end = !is_bad && (read == left || read < chunk.len());
        let (mut at, mut taken, mut is_part) = (0, 0, false);
        while at < read && found.len() < most && taken < bytes {
            let size = match frame::first(&chunk[at..read], is_end) {
                Found::Record {
                    index,
                    payload,
                    size,
                } => {
                    // What is acknowledged lies before the rest in the same file.
                    if index >= self.next {
                        hole(index, self.next, self.is_damaged, found);
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
                Found::Part => {
                    is_part = true;
                    break;
                }
            };
            at += size;
        }
        if is_bad && (at == read || is_part) {
            // The disk does not give what comes here; the next record is found behind it.
            self.is_damaged = true;
            place.at = disk::behind(place.at + read as u64).min(size);
        } else if read == 0 {
            // It is shorter than it was: nothing more comes.
            place.at = size;
        } else {
            place.at += at as u64;
        }
        self.chunk = chunk;
        self.shared.read.store(self.next, Ordering::Relaxed);
        Ok(taken)
    }
}

fn hole(index: u64, next: u64, is_damage: bool, found: &mut Vec<Read>) {
    if index > next {
        found.push(Read::Hole(Hole {
            lost: index - next,
            next: index,
            is_damage,
        }));
    }
}

/// Which index comes behind everything in this file. What is torn at its end counts as one record; what cannot be read
/// there, as so many as are in as many bytes before.
pub(super) fn end_of(path: &Path, first: u64) -> io::Result<u64> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let (mut next, mut at, mut is_torn) = (first, 0, false);
    // Of what was read; and what could not be since the last record.
    let (mut records, mut bytes, mut unread) = (0, 0, 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let Filled {
            bytes: read,
            is_bad,
        } = fill(&file, &mut chunk, at)?;
        let is_end = !is_bad && read < CHUNK;
        let mut taken = 0;
        while taken < read {
            match frame::first(&chunk[taken..read], is_end) {
                Found::Record {
                    index,
                    payload,
                    size,
                } => {
                    next = next.max(index + u64::from(!payload.is_empty()));
                    (is_torn, unread) = (false, 0);
                    records += 1;
                    bytes += size as u64;
                    taken += size;
                }
                Found::Damage(size) => {
                    is_torn = true;
                    taken += size;
                }
                Found::Part => break,
            }
        }
        at += taken as u64;
        if is_bad {
            let good = disk::behind(at + (read - taken) as u64).min(size);
            unread += good - at;
            (is_torn, at) = (true, good);
        }
        if is_end || at >= size {
            let lost = (unread * records).checked_div(bytes).unwrap_or(0);
            return Ok(next + lost.max(u64::from(is_torn)));
        }
    }
}
