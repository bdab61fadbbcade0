//! The queue of a channel on disk: a file for each message, there whole or not at all.
//!
//! A message is written and synced before it is tried, and removed after the other side took it. Killed in
//! between, it is delivered again: at least once, and by its id a receiver can tell.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::message::Message;

/// What a file is called until it is whole.
const UNFINISHED: &str = "new";
/// What it is called then.
const WHOLE: &str = "json";

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages.
    pub messages: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            messages: 1_000,
            bytes: 64 << 20,
        }
    }
}

/// The queue of one channel.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    bounds: Bounds,
}

/// What is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Spool {
    /// Opens a folder; makes it, for its owner alone, and takes away what was never finished.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            bounds,
        })
    }

    /// Writes a message, and returns when it would survive the end of the machine. When there is no more room the
    /// oldest go, and their number comes back: whoever was not reached until now is told more by the newest.
    ///
    /// # Errors
    /// When it cannot be written; then it is not there.
    pub fn put(&self, message: &Message) -> io::Result<u64> {
        let bytes = serde_json::to_vec(message)?;
        let dropped = self.make_room(bytes.len() as u64)?;
        // Of one process, ids rise with time, so that names are in order.
        let unfinished = self.path(message.id, UNFINISHED);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&unfinished, self.path(message.id, WHOLE)));
        if let Err(error) = written {
            // What is left is taken away at the next start too.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        if let Err(error) = synced {
            // It is there, and will be delivered, unless the machine ends first.
            tracing::warn!(%error, "an alert may not survive the end of this machine");
        }
        Ok(dropped)
    }

    /// The oldest message of those that are wanted.
    ///
    /// # Errors
    /// When the folder cannot be read, or nothing but what cannot be read is left. A file that is no message is set
    /// aside, and the next one comes.
    pub fn first(&self, is_wanted: impl Fn(Uuid) -> bool) -> io::Result<Option<Message>> {
        let mut unread = None;
        for path in self.files()? {
            if id(&path).is_some_and(|id| !is_wanted(id)) {
                continue;
            }
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    unread = Some(error);
                    continue;
                }
            };
            // Its name is what it is removed by.
            let message = serde_json::from_slice(&bytes).ok();
            let message = message.filter(|message: &Message| Some(message.id) == id(&path));
            if let Some(message) = message {
                return Ok(Some(message));
            }
            tracing::error!(file = %path.display(), "this is no alert, and is set aside");
            fs::rename(&path, path.with_extension("broken"))?;
        }
        unread.map_or(Ok(None), Err)
    }

    /// The other side has taken it.
    ///
    /// # Errors
    /// When it cannot be removed; it will be delivered again.
    pub fn done(&self, id: Uuid) -> io::Result<()> {
        match fs::remove_file(self.path(id, WHOLE)) {
            // Room was made meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// What waits.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn depth(&self) -> io::Result<Depth> {
        let mut depth = Depth::default();
        for path in self.files()? {
            if let Ok(metadata) = fs::metadata(path) {
                depth.messages += 1;
                depth.bytes += metadata.len();
            }
        }
        Ok(depth)
    }

    fn make_room(&self, bytes: u64) -> io::Result<u64> {
        let mut depth = self.depth()?;
        let mut dropped = 0;
        for path in self.files()? {
            let has_room = depth.messages < self.bounds.messages as u64
                && depth.bytes + bytes <= self.bounds.bytes;
            if has_room {
                break;
            }
            let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            fs::remove_file(&path)?;
            depth.messages -= 1;
            depth.bytes = depth.bytes.saturating_sub(size);
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Every whole message, oldest first.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == WHOLE) {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn path(&self, id: Uuid, ending: &str) -> PathBuf {
        self.folder.join(format!("{id}.{ending}"))
    }
}

/// The id of the message that a file holds.
fn id(path: &Path) -> Option<Uuid> {
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use uuid::Uuid;

    use super::{Bounds, Depth, Spool};
    use crate::alert::message::tests::notice;
    use crate::alert::message::{Entry, Message};
    use crate::event::Severity;

    fn message(port: u16) -> Message {
        Message {
            id: Uuid::now_v7(),
            ts: "2026-11-22T10:00:00Z".to_owned(),
            host: "web1".to_owned(),
            severity: Severity::Notice,
            entries: vec![Entry::from(notice(port, "/usr/bin/nc"))],
            more: Vec::new(),
            silent_until: None,
        }
    }

    #[test]
    fn what_was_put_is_there_until_it_is_done_in_its_order() {
        let dir = tempfile::tempdir().expect("dir");
        let all: Vec<Message> = (1..=3).map(message).collect();
        let spool = Spool::open(dir.path(), Bounds::default()).expect("open");
        for one in &all {
            assert_eq!(spool.put(one).expect("written"), 0);
        }
        drop(spool);
        let spool = Spool::open(dir.path(), Bounds::default()).expect("open");
        for one in &all {
            assert_eq!(spool.first(|_| true).expect("read").as_ref(), Some(one));
            spool.done(one.id).expect("removed");
        }
        assert_eq!(spool.first(|_| true).expect("read"), None);
        assert_eq!(spool.depth().expect("read"), Depth::default());
    }

    #[test]
    fn what_was_not_finished_is_none_and_what_is_broken_blocks_nobody() {
        let dir = tempfile::tempdir().expect("dir");
        let unfinished = dir.path().join(format!("{}.new", Uuid::now_v7()));
        fs::write(&unfinished, "{\"id\":").expect("written");
        fs::write(dir.path().join("0.json"), "{\"id\":").expect("written");
        let spool = Spool::open(dir.path(), Bounds::default()).expect("open");
        let good = message(1);
        spool.put(&good).expect("written");
        assert_eq!(spool.first(|_| true).expect("read"), Some(good));
        assert!(!unfinished.exists() && dir.path().join("0.broken").exists());
    }

    #[test]
    fn the_oldest_go_when_there_is_no_more_room() {
        let dir = tempfile::tempdir().expect("dir");
        let bounds = Bounds {
            messages: 2,
            bytes: 1 << 20,
        };
        let spool = Spool::open(dir.path(), bounds).expect("open");
        let all: Vec<Message> = (1..=4).map(message).collect();
        let dropped: Vec<u64> = all
            .iter()
            .map(|one| spool.put(one).expect("written"))
            .collect();
        assert_eq!(dropped, [0, 0, 1, 1]);
        assert_eq!(spool.first(|_| true).expect("read").as_ref(), Some(&all[2]));
        assert_eq!(spool.depth().expect("read").messages, 2);
    }

    #[test]
    fn what_waits_by_itself_lets_others_go_first_and_what_cannot_be_read_too() {
        let dir = tempfile::tempdir().expect("dir");
        let spool = Spool::open(dir.path(), Bounds::default()).expect("open");
        // A file that cannot be read: it is none.
        let odd = dir.path().join(format!("{}.json", Uuid::now_v7()));
        fs::create_dir(&odd).expect("made");
        assert!(spool.first(|_| true).is_err());
        let all: Vec<Message> = (1..=2).map(message).collect();
        for one in &all {
            spool.put(one).expect("written");
        }
        let first = spool.first(|_| true).expect("read");
        assert_eq!(first.as_ref(), Some(&all[0]));
        let second = spool.first(|id| id != all[0].id).expect("read");
        assert_eq!(second.as_ref(), Some(&all[1]));
    }
}
