//! A small text file such as /etc/passwd: read again when it changed, looked at once a second at most.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::time::BootNs;

/// Longest file read, in bytes; what lies behind is ignored.
const MAX_BYTES: u64 = 8 << 20;
/// Nanoseconds between two looks at the file's times.
const LOOK_NS: u64 = 1_000_000_000;

/// A file and what was last seen of it.
#[derive(Debug)]
pub(super) struct TextFile {
    path: PathBuf,
    looked: Option<BootNs>,
    seen: Option<Stamp>,
}

/// A replaced file has another inode, a rewritten one another time or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl TextFile {
    /// A file that was not looked at yet.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            looked: None,
            seen: None,
        }
    }

    /// The content, if it is another one than last time. A file that is gone or cannot be read keeps
    /// the last content valid: better an old name than none.
    pub(super) fn changed(&mut self, now: BootNs) -> Option<Vec<u8>> {
        if self.looked.is_some_and(|last| now.since(last) < LOOK_NS) {
            return None;
        }
        self.looked = Some(now);
        let meta = std::fs::metadata(&self.path)
            .ok()
            .filter(std::fs::Metadata::is_file)?;
        let stamp = Stamp {
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        };
        if self.seen == Some(stamp) {
            return None;
        }
        let mut text = Vec::new();
        let file = std::fs::File::open(&self.path).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
        self.seen = Some(stamp);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOK_NS, TextFile};
    use crate::time::BootNs;

    #[test]
    fn a_change_is_read_once_and_no_sooner_than_a_second_later() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("file");
        let mut file = TextFile::new(path.clone());
        assert_eq!(file.changed(BootNs(0)), None);
        std::fs::write(&path, "one").expect("write");
        assert_eq!(file.changed(BootNs(LOOK_NS - 1)), None, "too soon to look");
        assert_eq!(file.changed(BootNs(LOOK_NS)), Some(b"one".to_vec()));
        assert_eq!(file.changed(BootNs(2 * LOOK_NS)), None, "the same");
        std::fs::write(&path, "two!").expect("write");
        assert_eq!(file.changed(BootNs(3 * LOOK_NS)), Some(b"two!".to_vec()));
        std::fs::remove_file(&path).expect("rm");
        assert_eq!(file.changed(BootNs(4 * LOOK_NS)), None);
    }
}
