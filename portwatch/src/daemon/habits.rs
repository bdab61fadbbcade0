//! What was learned of rates, kept in the state directory: read once, written as a whole now and then and at the end. The file
//! is somebody else's errand each time, never part of a look: a disk that hangs must not keep anybody from seeing.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tokio::task::JoinError;

use super::errand::Errand;
use crate::storm::{Habit, Setting, TEXT_MAX, habits};
use crate::time::{BootNs, WallClock};
use crate::whole_file;

const FILE: &str = "storm-habits";
/// How often it is written, ns: what a crash costs is learned again within the hour.
const BEAT: u64 = 600 * 1_000_000_000;

/// Where it is kept, whose it is, and what is done about it just now.
#[derive(Debug)]
pub(super) struct Habits {
    /// None for a watch that writes nothing.
    folder: Option<PathBuf>,
    home: u32,
    boot: Option<String>,
    errand: Errand<Done>,
    /// What is not read yet is not overwritten.
    is_read: bool,
    /// It is to be read when the errand that is under way has ended.
    wants_read: bool,
    /// What was read, until the next look takes it along.
    recalled: Vec<Habit>,
    is_failing: bool,
    written: BootNs,
}

/// What an errand brings back.
#[derive(Debug)]
pub(super) enum Done {
    Read(Result<Vec<Habit>, Unread>),
    Written(io::Result<()>),
}

/// Why there are none.
#[derive(Debug)]
pub(super) enum Unread {
    /// The disk does not give it; it may later.
    Io(io::Error),
    /// It is not to be believed.
    Damaged(String),
}

impl Habits {
    /// In this state directory, if in any; for the host whose network namespace this is, in this boot.
    pub(super) fn new(folder: Option<PathBuf>, home: u32, boot: Option<String>) -> Self {
        Self {
            folder,
            home,
            boot,
            errand: Errand::default(),
            is_read: false,
            wants_read: false,
            recalled: Vec::new(),
            is_failing: false,
            written: BootNs(0),
        }
    }

    /// Has it read, for somebody who knows nothing yet.
    pub(super) fn read(&mut self, clock: WallClock) {
        self.is_read = false;
        self.wants_read = self.errand.is_under_way();
        if self.wants_read {
            return;
        }
        let setting = self.setting(clock);
        if let Some(folder) = self.folder.clone() {
            self.errand
                .begin(move || Done::Read(read(&folder, &setting)));
        }
    }

    /// What was read, once.
    pub(super) fn recalled(&mut self) -> Vec<Habit> {
        std::mem::take(&mut self.recalled)
    }

    /// Is it time to write? Then it is to be told as of here. What could not be read is tried again instead.
    pub(super) fn wanted(&mut self, now: BootNs, clock: WallClock) -> Option<Setting> {
        let may = self.folder.is_some() && !self.errand.is_under_way();
        if !may || now.since(self.written) < BEAT {
            return None;
        }
        if self.is_read {
            return Some(self.setting(clock));
        }
        self.written = now;
        self.read(clock);
        None
    }

    /// The same at the end, whenever it was written last.
    pub(super) fn wanted_at_last(&self, clock: WallClock) -> Option<Setting> {
        (self.folder.is_some() && self.is_read).then(|| self.setting(clock))
    }

    /// Has it written.
    pub(super) fn write(&mut self, text: String, now: BootNs) {
        self.written = now;
        if let Some(folder) = self.folder.clone() {
            let write = move || whole_file::replace(&folder, FILE, text.as_bytes());
            self.errand.begin(move || Done::Written(write()));
        }
    }

    /// Completes when an errand has ended. Cancel-safe.
    pub(super) async fn done(&mut self) -> Result<Done, JoinError> {
        self.errand.ended().await
    }

    /// Is an errand under way?
    pub(super) const fn is_busy(&self) -> bool {
        self.errand.is_under_way()
    }

    /// Takes what it brought. What cannot be believed is told, and learned anew; a disk that takes nothing is told once.
    pub(super) fn take(&mut self, done: Result<Done, JoinError>, now: BootNs, clock: WallClock) {
        match done {
            Ok(Done::Read(habits)) => self.took(habits, now),
            Ok(Done::Written(Ok(()))) => self.is_failing = false,
            Ok(Done::Written(Err(error))) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "what was learned of rates cannot be written; it waits");
                }
            }
            Err(error) => tracing::error!(%error, "the file of what was learned of rates"),
        }
        if self.wants_read {
            self.read(clock);
        }
    }

    fn took(&mut self, habits: Result<Vec<Habit>, Unread>, now: BootNs) {
        self.written = now;
        let file = self.folder.as_ref().map(|folder| folder.join(FILE));
        self.is_read = !matches!(habits, Err(Unread::Io(_)));
        match habits {
            Ok(habits) => self.recalled = habits,
            Err(Unread::Io(error)) => {
                tracing::error!(?file, %error, "what was learned of rates cannot be read; it is tried again");
            }
            Err(Unread::Damaged(why)) => {
                tracing::warn!(
                    ?file,
                    "what was learned of rates cannot be believed, and is learned anew: {why}"
                );
            }
        }
    }

    fn setting(&self, clock: WallClock) -> Setting {
        let now = i128::from(clock.epoch_ns()) + i128::from(BootNs::now().0);
        Setting {
            home: self.home,
            boot: self.boot.clone(),
            at: u64::try_from(now / 1_000_000_000).unwrap_or(0),
        }
    }
}

fn read(folder: &Path, setting: &Setting) -> Result<Vec<Habit>, Unread> {
    let file = match File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Unread::Io(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(TEXT_MAX + 1).read_to_end(&mut bytes);
    read.map_err(Unread::Io)?;
    if bytes.len() as u64 > TEXT_MAX {
        let why = format!("it has more than {TEXT_MAX} bytes");
        return Err(Unread::Damaged(why));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string());
    let habits = text.and_then(|text| habits(text, setting));
    habits.map_err(Unread::Damaged)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::storm::{ListenerKey, Rate, Subject, habits_text};

    use super::*;

    fn habit() -> Habit {
        Habit {
            rate: Rate::Accept,
            subject: Subject::Listener(ListenerKey {
                netns: 7,
                is_v6: false,
                port: 80,
            }),
            rates: [20_000.0; 24],
            hour: 3,
        }
    }

    fn in_folder(folder: &Path) -> Habits {
        Habits::new(Some(folder.to_owned()), 7, None)
    }

    async fn end(habits: &mut Habits) {
        let done = habits.done().await;
        habits.take(done, BootNs(BEAT), WallClock::read());
    }

    async fn read_all(habits: &mut Habits) -> Vec<Habit> {
        habits.read(WallClock::read());
        end(habits).await;
        habits.recalled()
    }

    async fn write_one(habits: &mut Habits) {
        let setting = habits.wanted_at_last(WallClock::read()).expect("read");
        let text = habits_text(std::iter::once(habit()), &setting);
        habits.write(text, BootNs(3 * BEAT));
        end(habits).await;
    }

    #[tokio::test]
    async fn what_was_learned_outlives_the_daemon() {
        let dir = tempfile::tempdir().expect("dir");
        let clock = WallClock::read();
        let mut habits = in_folder(dir.path());
        assert_eq!(
            habits.wanted_at_last(clock),
            None,
            "what was not read stays"
        );
        assert_eq!(read_all(&mut habits).await, [], "nothing was learned yet");
        assert_eq!(habits.wanted(BootNs(2 * BEAT - 1), clock), None, "too soon");
        assert!(habits.wanted(BootNs(2 * BEAT), clock).is_some());
        write_one(&mut habits).await;
        assert_eq!(habits.wanted(BootNs(4 * BEAT - 1), clock), None, "written");
        assert_eq!(read_all(&mut in_folder(dir.path())).await, [habit()]);
        assert!(!dir.path().join("storm-habits.new").exists());
    }

    #[tokio::test]
    async fn a_file_that_is_damaged_is_learned_anew_and_replaced() {
        let dir = tempfile::tempdir().expect("dir");
        for damaged in [&b"portwatch habits 1\nboot"[..], &[0xff; 20], b""] {
            fs::write(dir.path().join(FILE), damaged).expect("written");
            assert_eq!(read_all(&mut in_folder(dir.path())).await, []);
        }
        let long = vec![b'\n'; 2 << 20];
        fs::write(dir.path().join(FILE), long).expect("written");
        let mut habits = in_folder(dir.path());
        assert!(read(dir.path(), &habits.setting(WallClock::read())).is_err());
        assert_eq!(read_all(&mut habits).await, []);
        write_one(&mut habits).await;
        assert_eq!(read_all(&mut in_folder(dir.path())).await, [habit()]);
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_told_once_and_tried_again() {
        let dir = tempfile::tempdir().expect("dir");
        let mut habits = in_folder(dir.path());
        read_all(&mut habits).await;
        fs::create_dir(dir.path().join(FILE)).expect("in its place");
        write_one(&mut habits).await;
        assert!(habits.is_failing);
        // Nor does it give anything: that is no reason to write over it.
        let mut blind = in_folder(dir.path());
        assert_eq!(read_all(&mut blind).await, []);
        assert_eq!(blind.wanted_at_last(WallClock::read()), None);
        fs::remove_dir(dir.path().join(FILE)).expect("gone");
        write_one(&mut habits).await;
        assert!(!habits.is_failing);
    }

    #[test]
    fn a_watch_without_a_state_directory_writes_nothing() {
        let mut habits = Habits::new(None, 7, None);
        habits.read(WallClock::read());
        assert!(!habits.is_busy());
        assert_eq!(habits.wanted_at_last(WallClock::read()), None);
    }
}
