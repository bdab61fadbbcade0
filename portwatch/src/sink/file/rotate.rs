//! Files that were put away: named after their time, packed on a thread of their own, removed when there are too many.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::Turnover;

/// What packed files end with.
const PACKED: &str = "gz";
/// What they end with until they are whole.
const UNFINISHED: &str = "gz-new";
/// Bytes that are packed at once.
const CHUNK: usize = 256 * 1024;
/// After it could not be packed, a file is left alone for so long at first, and for so long at most: on a full disk each attempt takes
/// a processor, and the room that others wait for.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// Form of the time in a name: to the microsecond, in order when it is sorted as text.
const STAMP: &str = "%Y%m%dT%H%M%S.%6f";

/// The files before the one that is written to: `NAME.20261121T194201.123456` and the same with `.gz`.
#[derive(Debug)]
pub(super) struct Predecessors {
    path: PathBuf,
    turnover: Turnover,
    /// Tells at its end which could not be packed.
    packing: Option<JoinHandle<Vec<PathBuf>>>,
    /// There may be something to pack.
    is_untidy: bool,
    /// Those that could not be packed: when they are tried again, and how long the pause before that was.
    pauses: BTreeMap<PathBuf, (Instant, Duration)>,
}

impl Predecessors {
    pub(super) fn new(path: &Path, turnover: Turnover) -> Self {
        Self {
            path: path.to_owned(),
            turnover,
            packing: None,
            is_untidy: true,
            pauses: BTreeMap::new(),
        }
    }

    /// Gives the file another name, and removes what is too much.
    pub(super) fn put_away(&mut self) -> io::Result<()> {
        let mut now = Timestamp::now();
        let mut name = self.name(now);
        // A clock that was set back must not write over what is there.
        while fs::exists(&name)? || fs::exists(with_ending(&name, PACKED))? {
            now += Duration::from_micros(1);
            name = self.name(now);
        }
        match fs::rename(&self.path, name) {
            // Somebody else has put it away.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.is_untidy = true;
        self.tidy();
        Ok(())
    }

    /// Packs, elsewhere, what is not packed, and removes what is too much or too old.
    pub(super) fn tidy(&mut self) {
        let is_old = self.turnover.keep_age.is_some();
        let is_busy = self.packing.as_ref().is_some_and(|one| !one.is_finished());
        if is_busy || !(self.is_untidy || is_old) {
            return;
        }
        if let Some(packing) = self.packing.take() {
            self.failed(packing.join().unwrap_or_default());
        }
        let all = match self.all().and_then(|all| self.prune(all)) {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "old files are not removed");
                return;
            }
        };
        let waiting: Vec<PathBuf> = all
            .into_iter()
            .filter(|_| self.turnover.compress)
            .map(|(_, path)| path)
            .filter(|path| path.extension().is_none_or(|ending| ending != PACKED))
            .collect();
        self.is_untidy = !waiting.is_empty();
        self.pauses.retain(|path, _| waiting.contains(path));
        let now = Instant::now();
        let is_due = |path: &PathBuf| self.pauses.get(path).is_none_or(|(until, _)| *until <= now);
        let waiting: Vec<PathBuf> = waiting.into_iter().filter(is_due).collect();
        if waiting.is_empty() {
            return;
        }
        let spawned = thread::Builder::new()
            .name("pack".to_owned())
            .spawn(move || {
                let fails = |path: &PathBuf| {
                    let done = pack(path);
                    if let Err(error) = &done {
                        tracing::error!(file = %path.display(), %error, "not packed");
                    }
                    done.is_err()
                };
                waiting.into_iter().filter(fails).collect()
            });
        match spawned {
            Ok(packing) => self.packing = Some(packing),
            Err(error) => tracing::error!(%error, "old files are not packed"),
        }
    }

    /// These could not be packed.
    fn failed(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            let before = self.pauses.get(&path).map(|(_, pause)| *pause);
            let pause = before.map_or(PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
            self.pauses.insert(path, (Instant::now() + pause, pause));
        }
    }

    /// Removes what is too much; the rest comes back, oldest first.
    fn prune(&self, mut all: Vec<(String, PathBuf)>) -> io::Result<Vec<(String, PathBuf)>> {
        let many = all.len().saturating_sub(self.turnover.keep);
        let oldest = self
            .turnover
            .keep_age
            .and_then(|age| Timestamp::try_from(SystemTime::now() - age).ok())
            .map(stamp);
        let old = all.partition_point(|(stamp, _)| oldest.as_ref().is_some_and(|old| stamp < old));
        for (_, path) in all.drain(..many.max(old)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(all)
    }

    /// Every predecessor with the time in its name, oldest first; what was never finished is removed.
    fn all(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(Vec::new());
        };
        let mut begin = name.to_owned();
        begin.push(".");
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let rest = name
                .as_encoded_bytes()
                .strip_prefix(begin.as_encoded_bytes());
            let Some(rest) = rest.and_then(|rest| str::from_utf8(rest).ok()) else {
                continue;
            };
            let (time, ending) = match rest.rsplit_once('.') {
                Some((time, ending)) if [PACKED, UNFINISHED].contains(&ending) => (time, ending),
                _ => (rest, ""),
            };
            // Whoever may write to the folder must not lead us elsewhere.
            if !is_stamp(time) || !entry.file_type()?.is_file() {
                continue;
            }
            if ending == UNFINISHED {
                fs::remove_file(entry.path())?;
            } else {
                found.push((time.to_owned(), entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn name(&self, at: Timestamp) -> PathBuf {
        with_ending(&self.path, &stamp(at))
    }
}

impl Drop for Predecessors {
    /// What is not packed is packed after the next start.
    fn drop(&mut self) {
        if let Some(packing) = self.packing.take().filter(JoinHandle::is_finished) {
            let _ = packing.join();
        }
    }
}

fn stamp(at: Timestamp) -> String {
    at.strftime(STAMP).to_string()
}

/// Digits as [`STAMP`] has them.
fn is_stamp(text: &str) -> bool {
    let form = "00000000T000000.000000";
    text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Packs a file, whole or not at all. The file may go meanwhile.
fn pack(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let unfinished = with_ending(path, UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let packed = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|into| {
            let mut encoder = GzEncoder::new(into, Compression::fast());
            io::copy(&mut BufReader::with_capacity(CHUNK, file), &mut encoder)?;
            let mut into = encoder.finish()?;
            into.flush()?;
            into.sync_all()
        })
        .and_then(|()| fs::rename(&unfinished, with_ending(path, PACKED)));
    if let Err(error) = packed {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_packed_is_not_tried_again_at_each_beat() {
        let dir = tempfile::tempdir().expect("dir");
        let turnover = Turnover {
            bytes: 0,
            age: None,
            keep: 9,
            keep_age: None,
            compress: true,
        };
        let mut files = Predecessors::new(&dir.path().join("x.jsonl"), turnover);
        // One where a folder is in the way, beside one that can be packed.
        let bad = dir.path().join("x.jsonl.20260101T000000.000000");
        fs::write(&bad, "one\n").expect("written");
        fs::create_dir(with_ending(&bad, UNFINISHED)).expect("made");
        let good = dir.path().join("x.jsonl.20260102T000000.000000");
        fs::write(&good, "one\n").expect("written");
        for pause in [PAUSE, PAUSE * 2, PAUSE * 4] {
            files.tidy();
            let packing = files.packing.as_ref().expect("begun");
            while !packing.is_finished() {
                thread::yield_now();
            }
            files.tidy();
            assert!(files.packing.is_none(), "it is left alone");
            let (until, told) = files.pauses[&bad];
            assert_eq!((files.pauses.len(), told), (1, pause));
            files.pauses.insert(bad.clone(), (until - pause, pause));
        }
        assert!(!fs::exists(good).expect("looked at"), "the other is packed");
    }
}
