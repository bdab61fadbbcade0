//! What was told and is not over, and what waits to be told, kept from one run of the daemon to the next: a restart
//! tells nothing twice, and forgets nothing.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::batch::Waiting;
use super::incident::Open;
use super::maintenance::Resting;
use crate::whole_file;

const FILE: &str = "memory.json";

/// Everything that one run leaves to the next, as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Matters that are not over.
    pub open: Vec<Open>,
    /// What waits for the next message of a channel.
    pub waiting: BTreeMap<String, Waiting>,
    /// What waits for the end of a maintenance.
    pub held: Vec<Resting>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// In this folder; makes it, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// What a run before has left; none when there was none. What cannot be understood is as if nothing were open:
    /// it may be told again, and never remains untold.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> io::Result<Option<Remembered>> {
        match fs::read(self.folder.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces it as a whole.
    ///
    /// # Errors
    /// When it cannot be written; then it is as before.
    pub fn write(&self, remembered: &Remembered) -> io::Result<()> {
        whole_file::replace(&self.folder, FILE, &serde_json::to_vec(remembered)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, Remembered};

    #[test]
    fn nothing_is_something_else_than_never() {
        let dir = tempfile::tempdir().expect("dir");
        let memory = Memory::open(dir.path()).expect("open");
        assert_eq!(memory.read().expect("read"), None);
        let nothing = Remembered::default();
        memory.write(&nothing).expect("written");
        assert_eq!(memory.read().expect("read"), Some(nothing.clone()));
        std::fs::write(dir.path().join(super::FILE), "half").expect("written");
        assert_eq!(memory.read().expect("read"), Some(nothing));
    }
}
