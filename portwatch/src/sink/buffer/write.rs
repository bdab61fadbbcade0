//! The end of a buffer that records come in at.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::frame::{self, HEADER};
use super::{Bounds, Shared};
use crate::sink::intake::Place;
use crate::sink::settle::Settled;

/// Appends records. What it does may wait for the disk.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    bounds: Bounds,
    current: Option<Current>,
    /// Bytes of one write.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    file: File,
    first: u64,
    size: u64,
    settled: Settled,
    /// Where the last record is, when it only says which index comes next.
    skips_at: Option<u64>,
}

impl Current {
    /// What the kernel no longer has as it was is found by its CRC, and is a hole.
    fn settle(&mut self) -> io::Result<()> {
        self.settled.settle(&self.file, self.size).map(drop)
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, bounds: Bounds) -> Self {
        Self {
            shared,
            bounds,
            current: None,
            scratch: Vec::new(),
        }
    }

    /// Appends records: lines, each with its newline, of which the record is what comes before it. When there is no
    /// room, the oldest go, or these do, as the bounds have it; their number is added to that of the dropped ones.
    ///
    /// # Errors
    /// When they cannot be written, a full disk for example; then none of them is there.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut index = self.shared.next.load(Ordering::Relaxed);
        self.scratch.clear();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let record = line.strip_suffix(b"\n").unwrap_or(line);
            frame::append(index, record, &mut self.scratch);
            index += 1;
        }
        if !self.make_room()? {
            return self.skip_to(index);
        }
        self.write(index)
    }

    /// What was appended survives the end of the machine from here on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn settle(&mut self) -> io::Result<()> {
        match &mut self.current {
            Some(current) => current.settle(),
            None => Ok(()),
        }
    }

    /// Writes what is in the scratch; `next` comes after it.
    fn write(&mut self, next: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let scratch = std::mem::take(&mut self.scratch);
        let written = self.current().and_then(|current| {
            let written = current.file.write_all_at(&scratch, current.size);
            if written.is_err() {
                // Half a record is found by its CRC, but takes room. What cannot be cut off is written over.
                let _ = current.file.set_len(current.size);
            }
            written.map(|()| {
                current.size += scratch.len() as u64;
                current.skips_at = None;
                (current.first, current.size)
            })
        });
        self.scratch = scratch;
        let (first, size) = written?;
        let mut list = shared.list();
        list.files.insert(first, Some(size));
        shared.next.store(next, Ordering::Relaxed);
        Ok(())
    }

    /// The records before `next` are dropped: the reader is to see that, whatever comes.
    fn skip_to(&mut self, next: u64) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let before = shared.next.load(Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(HEADER);
        frame::append(next, &[], &mut bytes);
        let current = self.current()?;
        // One such record for all that are dropped in a row.
        let at = current.skips_at.unwrap_or(current.size);
        current.settled.changed(at);
        current.file.write_all_at(&bytes, at)?;
        current.skips_at = Some(at);
        current.size = at + HEADER as u64;
        let mut list = shared.list();
        list.files.insert(current.first, Some(current.size));
        shared.next.store(next, Ordering::Relaxed);
        drop(list);
        shared
            .dropped
            .fetch_add(next.saturating_sub(before), Ordering::Relaxed);
        Ok(())
    }

    /// The file to write to, large enough ones left behind.
    fn current(&mut self) -> io::Result<&mut Current> {
        if let Some(current) = &mut self.current
            && current.size >= self.bounds.file()
        {
            current.settle()?;
            self.current = None;
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => begin(&self.shared)?,
        };
        Ok(self.current.insert(current))
    }

    /// Tells whether what is in the scratch may be written.
    fn make_room(&mut self) -> io::Result<bool> {
        loop {
            let list = self.shared.list();
            if list.bytes() + self.scratch.len() as u64 <= self.bounds.bytes {
                return Ok(true);
            }
            if !self.bounds.drop_oldest {
                return Ok(false);
            }
            let first = match list.files.iter().next() {
                Some((&first, size)) if *size != Some(0) => first,
                // More than all the room there is, and nothing else: it may pass.
                _ => return Ok(true),
            };
            drop(list);
            // A part of the file may be acknowledged, and must not be missed after a power failure.
            self.shared.marks.settle()?;
            let mut list = self.shared.list();
            if !list.files.contains_key(&first) {
                // It was acknowledged meanwhile.
                continue;
            }
            let next = self.shared.next.load(Ordering::Relaxed);
            let behind = list.behind(first).unwrap_or(next);
            // What has been read is on its way.
            let from = first.max(self.shared.read.load(Ordering::Relaxed));
            let dropped = list.count(from, behind);
            list.files.remove(&first);
            if list.current == Some(first) {
                list.current = None;
                self.current = None;
            }
            drop(list);
            self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
            self.shared.unlink(first)?;
        }
    }
}

/// Begins a file behind all others.
fn begin(shared: &Shared) -> io::Result<Current> {
    let first = shared.next.load(Ordering::Relaxed);
    // One of this name can only be empty, or hold nothing whole.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(shared.path(first))?;
    // That the file is there must survive, too.
    File::open(&shared.folder)?.sync_all()?;
    let mut list = shared.list();
    list.files.insert(first, Some(0));
    list.current = Some(first);
    Ok(Current {
        file,
        first,
        size: 0,
        settled: Settled::new(0),
        skips_at: None,
    })
}

impl Place for Writer {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.append(lines)
    }

    fn settle(&mut self) -> io::Result<()> {
        Self::settle(self)
    }
}
