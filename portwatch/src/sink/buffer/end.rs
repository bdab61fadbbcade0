//! Where the records of a file end: what comes next has to be known before anything is appended.

use std::io;
use std::path::Path;

use super::frame::{self, Found};
use super::read::CHUNK;
use crate::sink::disk::{self, Filled, fill};

/// Which index comes behind everything in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) next: u64,
    /// Else there is something that cannot be read behind the last record, and how many are in it is an estimate.
    pub(super) is_known: bool,
}

/// Looks through a file. What is torn at its end counts as one record; what cannot be read there, as so many as are in as
/// many bytes before.
pub(super) fn of(path: &Path, first: u64) -> io::Result<End> {
    let file = disk::open(path)?;
    let size = file.metadata()?.len();
    let (mut next, mut at, mut is_torn) = (first, 0, false);
    // Of what was read; and what could not be since the last record.
    let (mut records, mut bytes, mut unread) = (0, 0, 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        let Filled { bytes: read, bad } = fill(&file, &mut chunk, at)?;
        let is_end = bad.is_none() && read < CHUNK;
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
        if bad.is_some() {
            let good = disk::behind(at + (read - taken) as u64).min(size);
            unread += good - at;
            (is_torn, at) = (true, good);
        }
        if is_end || at >= size {
            let lost = (unread * records).checked_div(bytes).unwrap_or(0);
            return Ok(End {
                next: next + lost.max(u64::from(is_torn)),
                is_known: unread == 0,
            });
        }
    }
}
