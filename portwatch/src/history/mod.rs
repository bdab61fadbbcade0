//! What happened, kept on disk: the events of the last days, in files of JSON lines.
//!
//! Files and not a database, because nothing in them is ever changed: lines are appended, and the oldest file
//! goes when there is too much. `jq` reads them, and what a crash cuts off is a part of one line.

mod read;
mod segment;
mod sightings;
mod write;

pub use read::{Past, read};
pub use sightings::{News, Sighting, Sightings};
pub use write::Writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the folder in the state directory.
const FOLDER: &str = "history";

/// Where the history of a daemon with this state directory is.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join(FOLDER)
}

/// How much is kept: whatever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Age of the youngest event of a file.
    pub age: Duration,
}

#[cfg(test)]
mod tests;
