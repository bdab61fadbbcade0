//! One file of the history: named after the time at which it was begun.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{ffi::OsStr, fs};

use jiff::Timestamp;

/// Digits of a name: nanoseconds since 1970 up to the year 2286, in order when they are sorted as text.
const DIGITS: usize = 19;
/// What the names end with.
const ENDING: &str = "jsonl";

/// A file of the history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// When it was begun: nanoseconds since 1970. No event in it was published before.
    pub(super) begun: u64,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Segment {
    /// The file that begins now, behind the last one: clocks are set back at times.
    pub(super) fn new(folder: &Path, now: Timestamp, last: Option<u64>) -> Self {
        let now = u64::try_from(now.as_nanosecond()).unwrap_or(0);
        let begun = last.map_or(now, |last| now.max(last.saturating_add(1)));
        let path = folder.join(format!("{begun:0DIGITS$}.{ENDING}"));
        Self { begun, path }
    }

    /// The files of a folder, oldest first. What has another kind of name is not ours.
    pub(super) fn all(folder: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder)? {
            all.extend(Self::of(entry?.path()));
        }
        all.sort_unstable();
        Ok(all)
    }

    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_stem()?.to_str()?;
        let is_ours = path.extension() == Some(OsStr::new(ENDING))
            && name.len() == DIGITS
            && name.bytes().all(|byte| byte.is_ascii_digit());
        let begun = name.parse().ok().filter(|_| is_ours)?;
        Some(Self { begun, path })
    }

    /// Its size in bytes, and how long nothing was written to it; nothing when it is gone.
    pub(super) fn state(&self) -> Option<(u64, Duration)> {
        let metadata = fs::metadata(&self.path).ok()?;
        let written = metadata.modified().ok()?;
        // Written in the future: the clock was set back, and it is young.
        let age = SystemTime::now().duration_since(written);
        Some((metadata.len(), age.unwrap_or_default()))
    }
}
