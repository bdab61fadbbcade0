//! What was learned of rates, kept in the state directory: written as a whole now and then and at the end, read at the start.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::storm::{Detector, Habit, Setting, TEXT_MAX, habits, habits_text};
use crate::time::{BootNs, WallClock};
use crate::whole_file;

const FILE: &str = "storm-habits";
/// How often it is written, ns: what a crash costs is learned again within the hour.
const BEAT: u64 = 600 * 1_000_000_000;

/// Where it is kept, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    /// None for a watch that writes nothing.
    folder: Option<PathBuf>,
    home: u32,
    boot: Option<String>,
    is_read: bool,
    is_failing: bool,
    written: BootNs,
}

impl Habits {
    /// In this state directory, if in any; for the host whose network namespace this is, in this boot.
    pub(super) const fn new(folder: Option<PathBuf>, home: u32, boot: Option<String>) -> Self {
        Self {
            folder,
            home,
            boot,
            is_read: false,
            is_failing: false,
            written: BootNs(0),
        }
    }

    /// Hands over what was learned before, the first time. What cannot be believed is told, and learned anew.
    pub(super) fn recall_once(&mut self, detector: &mut Detector, clock: WallClock) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        self.written = BootNs::now();
        let setting = self.setting(clock);
        let Some(folder) = &self.folder else {
            return;
        };
        match read(folder, &setting) {
            Ok(habits) => detector.recall(&habits),
            Err(why) => {
                let file = folder.join(FILE);
                let file = file.display();
                tracing::warn!(%file, "what was learned of rates cannot be read, and is learned anew: {why}");
            }
        }
    }

    /// Writes it down if that was not done lately.
    pub(super) fn keep_slowly(&mut self, detector: &Detector, now: BootNs, clock: WallClock) {
        if now.since(self.written) >= BEAT {
            self.keep(detector, clock);
        }
    }

    /// Writes it down. A disk that takes nothing is told once.
    pub(super) fn keep(&mut self, detector: &Detector, clock: WallClock) {
        self.written = BootNs::now();
        let Some(folder) = self.folder.as_deref().filter(|_| self.is_read) else {
            return;
        };
        let text = habits_text(detector.habits(), &self.setting(clock));
        match whole_file::replace(folder, FILE, text.as_bytes()) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "what was learned of rates cannot be written; it waits");
                }
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

fn read(folder: &Path, setting: &Setting) -> Result<Vec<Habit>, String> {
    let file = match File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    let read = file.take(TEXT_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > TEXT_MAX {
        return Err(format!("it has more than {TEXT_MAX} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    habits(text, setting)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::storm::{ListenerKey, Rate, Settings, Subject};

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

    fn kept(folder: &Path) -> Vec<Habit> {
        let mut habits = Habits::new(Some(folder.to_owned()), 7, None);
        let mut detector = Detector::new(Settings::default());
        habits.recall_once(&mut detector, WallClock::read());
        detector.habits().collect()
    }

    #[test]
    fn what_was_learned_outlives_the_daemon() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(kept(dir.path()), [], "nothing was learned yet");
        let mut habits = Habits::new(Some(dir.path().to_owned()), 7, None);
        let mut detector = Detector::new(Settings::default());
        habits.keep(&detector, WallClock::read());
        assert!(
            !dir.path().join(FILE).exists(),
            "what was not read is not overwritten"
        );
        habits.recall_once(&mut detector, WallClock::read());
        detector.recall(&[habit()]);
        habits.keep_slowly(&detector, BootNs::now(), WallClock::read());
        assert!(!dir.path().join(FILE).exists(), "it has just begun");
        habits.keep(&detector, WallClock::read());
        assert_eq!(kept(dir.path()), [habit()]);
        assert!(!dir.path().join("storm-habits.new").exists());
    }

    #[test]
    fn a_file_that_is_damaged_is_learned_anew_and_replaced() {
        let dir = tempfile::tempdir().expect("dir");
        for damaged in [&b"portwatch habits 1\nboot"[..], &[0xff; 20], b""] {
            fs::write(dir.path().join(FILE), damaged).expect("written");
            assert_eq!(kept(dir.path()), []);
        }
        let long = vec![b'\n'; 2 << 20];
        fs::write(dir.path().join(FILE), long).expect("written");
        assert!(
            read(
                dir.path(),
                &Habits::new(None, 7, None).setting(WallClock::read())
            )
            .is_err()
        );
        let mut habits = Habits::new(Some(dir.path().to_owned()), 7, None);
        let mut detector = Detector::new(Settings::default());
        habits.recall_once(&mut detector, WallClock::read());
        detector.recall(&[habit()]);
        habits.keep(&detector, WallClock::read());
        assert_eq!(kept(dir.path()), [habit()]);
    }

    #[test]
    fn a_watch_without_a_state_directory_writes_nothing() {
        let mut habits = Habits::new(None, 7, None);
        let mut detector = Detector::new(Settings::default());
        habits.recall_once(&mut detector, WallClock::read());
        habits.keep(&detector, WallClock::read());
        assert!(!habits.is_failing);
    }
}
