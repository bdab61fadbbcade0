//! The end of a file of lines: where its last whole line ends, and how far the chain has come in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::sink::MAX_LINE;
use crate::sink::chain::{Head, Link};

/// Bytes that are looked at: two of the longest lines.
const LOOK: u64 = 2 * MAX_LINE as u64;

/// Where the last whole line of a file of this size ends. A line is at most [`MAX_LINE`]; a file that has no end of a
/// line near its end is none of ours, and is left as it is.
pub(super) fn whole(file: &File, size: u64) -> io::Result<u64> {
    let (bytes, from) = end(file, size)?;
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    Ok(match last {
        Some(at) => from + at as u64 + 1,
        None if from == 0 => 0,
        None => size,
    })
}

/// The head of the newest record in the file or in one that was put away beside it: under the file's name with a time, as
/// we do, or with a number, as logrotate does. Another sink's file may begin with the same name. Packed ones are not
/// looked at: what they hold is older than what the daemon kept by itself.
pub(super) fn last_head(path: &Path) -> io::Result<Option<Head>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    let mut newest: Option<Head> = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name();
        let rest = other
            .as_encoded_bytes()
            .strip_prefix(name.as_encoded_bytes());
        if !rest.is_some_and(is_of_the_file) || !entry.metadata()?.is_file() {
            continue;
        }
        let file = File::open(entry.path())?;
        let head = head_of(&file)?;
        newest = newest
            .into_iter()
            .chain(head)
            .max_by_key(|head| head.number);
    }
    Ok(newest)
}

/// Is that the end of the name of the file itself, or of one that was put away?
fn is_of_the_file(rest: &[u8]) -> bool {
    let is_time = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'T' | b'.' | b'-');
    match rest {
        [] => true,
        [b'.' | b'-', time @ ..] => !time.is_empty() && time.iter().all(is_time),
        _ => false,
    }
}

fn head_of(file: &File) -> io::Result<Option<Head>> {
    let size = file.metadata()?.len();
    let (bytes, _) = end(file, size)?;
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line = bytes[..end].rsplit(|byte| *byte == b'\n').next();
    Ok(line.and_then(Link::read).map(|link| Head {
        number: link.number,
        hash: link.claimed,
    }))
}

/// The last bytes, and where they begin.
fn end(file: &File, size: u64) -> io::Result<(Vec<u8>, u64)> {
    let from = size.saturating_sub(LOOK);
    let mut bytes = vec![0; usize::try_from(size - from).unwrap_or_default()];
    match file.read_exact_at(&mut bytes, from) {
        Ok(()) => Ok((bytes, from)),
        // It was cut off meanwhile.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok((Vec::new(), 0)),
        Err(error) => Err(error),
    }
}
