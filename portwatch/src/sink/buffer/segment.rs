//! The files of a buffer: each is named after the index of its first record, so that their order is that of the records.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sink::disk;

/// Digits of a name: every index, in order when they are sorted as text.
const DIGITS: usize = 20;
/// What the names end with.
const ENDING: &str = "records";

/// Where the file is whose first record has this index.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:0DIGITS$}.{ENDING}"))
}

/// Every file with its size in bytes, where the disk tells it, oldest first. Others are none of ours.
pub(super) fn all(folder: &Path) -> io::Result<Vec<(u64, Option<u64>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(first) = first(&path) else {
            continue;
        };
        let size = match disk::size(&path) {
            Ok(size) => Some(size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // It is there, and may be read later.
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a file of a buffer cannot be looked at");
                None
            }
        };
        found.push((first, size));
    }
    found.sort_unstable();
    Ok(found)
}

fn first(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let is_ours = path.extension() == Some(OsStr::new(ENDING))
        && stem.len() == DIGITS
        && stem.bytes().all(|byte| byte.is_ascii_digit());
    is_ours.then(|| stem.parse().ok())?
}
