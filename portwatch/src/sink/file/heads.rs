//! How far a chain has come, on disk: the file that it is in may be put away at any time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::sink::chain::Head;

/// Name of the file.
const NAME: &str = "head";
/// Digits of the number, so that every head takes the same room.
const DIGITS: usize = 20;
/// Longest text that is read.
const LONGEST: u64 = 128;

/// The file with the last head.
#[derive(Debug)]
pub(super) struct HeadFile(File);

impl HeadFile {
    /// Opens the file in this folder, and reads it; what cannot be read is none. Makes the folder, for its owner alone.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Option<Head>)> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made?;
        let path = folder.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let size = file.metadata()?.len().min(LONGEST);
        let mut text = vec![0; usize::try_from(size).unwrap_or_default()];
        file.read_exact_at(&mut text, 0)?;
        let head = str::from_utf8(&text)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Ok((Self(file), head))
    }

    pub(super) fn write(&self, head: Head) -> io::Result<()> {
        let text = format!("{:0DIGITS$}:{}\n", head.number, head.hash);
        self.0.write_all_at(text.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::chain::Hash;

    #[test]
    fn the_last_head_is_read_again() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("a/b");
        let (file, none) = HeadFile::open(&folder).expect("open");
        assert_eq!(none, None);
        for number in [1, u64::MAX, 70] {
            let hash = Hash([number as u8; 32]);
            let head = Head { number, hash };
            file.write(head).expect("written");
            assert_eq!(HeadFile::open(&folder).expect("open").1, Some(head));
        }
    }
}
