//! Reading the history, oldest event first.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;

use super::segment::Segment;
use crate::event::Event;
use crate::sink::MAX_LINE;

/// An event of the past.
#[derive(Debug)]
pub struct Past<'a> {
    /// The event.
    pub event: Event,
    /// Its line as it was written, with its newline.
    pub line: &'a [u8],
}

/// Hands over every event since then, in the order in which they were told. Lines that are none (what a crash
/// cut off, what a later version wrote) are left out; their number comes back.
///
/// # Errors
/// When the folder or a file of it cannot be read. A file that goes meanwhile is no error: it was too old.
pub fn read<B>(
    folder: &Path,
    since: Option<Timestamp>,
    mut each: impl FnMut(Past<'_>) -> ControlFlow<B>,
) -> io::Result<ControlFlow<B, u64>> {
    let all = Segment::all(folder)?;
    let cutoff = since.map_or(0, |since| u64::try_from(since.as_nanosecond()).unwrap_or(0));
    // The last file that was begun before may go on after.
    let first = all.partition_point(|segment| segment.begun <= cutoff);
    let mut skipped = 0;
    for segment in &all[first.saturating_sub(1)..] {
        let file = match File::open(&segment.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let ended = lines(file, |line| {
            let Ok(event) = serde_json::from_slice::<Event>(line) else {
                skipped += 1;
                return ControlFlow::Continue(());
            };
            let is_old = since.is_some_and(|since| {
                let at: Result<Timestamp, _> = event.ts.parse();
                at.is_ok_and(|at| at < since)
            });
            if is_old {
                return ControlFlow::Continue(());
            }
            each(Past { event, line })
        })?;
        if let ControlFlow::Break(ended) = ended {
            return Ok(ControlFlow::Break(ended));
        }
    }
    Ok(ControlFlow::Continue(skipped))
}

/// Every line, each with its newline; the last one may have none. Of one that is too long, pieces come.
fn lines<B>(
    file: File,
    mut each: impl FnMut(&[u8]) -> ControlFlow<B>,
) -> io::Result<ControlFlow<B>> {
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = MAX_LINE as u64;
        if file.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let ended = each(&line);
        if ended.is_break() {
            return Ok(ended);
        }
    }
}
