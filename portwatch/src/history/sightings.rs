//! When each listener was first and last seen, for as long as the database lives: the events themselves go after some
//! weeks, this stays.
//!
//! A database of its own, beside the approved set: this one is written every minute, and nobody's judgement hangs on
//! it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, Row, params};

use crate::baseline::{Frame, Identity};
use crate::event::words::Word as _;
use crate::event::{Event, EventType};

/// Name of the database in the state directory.
const FILE: &str = "seen.db";
/// Most listeners of which times are kept; those that were not seen for the longest go first.
const MAX_ROWS: i64 = 50_000;
/// Most listeners of which news wait to be written.
const MAX_NEWS: usize = 10_000;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS seen (
    netns TEXT NOT NULL,
    protocol TEXT NOT NULL,
    address TEXT NOT NULL,
    port TEXT NOT NULL,
    name TEXT NOT NULL,
    exe TEXT NOT NULL,
    first TEXT NOT NULL,
    last TEXT NOT NULL,
    opened INTEGER NOT NULL,
    PRIMARY KEY (netns, protocol, address, port, name, exe)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_last ON seen (last);
";

/// The times of one listener (RFC 3339, UTC, so that their order is that of the texts).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When it was seen for the first time.
    pub first: String,
    /// When it was seen the last time: it opened, closed, or was there.
    pub last: String,
    /// How often it was seen opening.
    pub opened: u64,
}

/// What was seen since it was written the last time. Pure.
#[derive(Debug, Default)]
pub struct News(HashMap<Identity, Sighting>);

impl News {
    /// Takes note of an event.
    pub fn observe(&mut self, event: &Event, frame: &Frame) {
        let opened = match event.kind {
            EventType::ListenerOpened => 1,
            EventType::ListenerPresent | EventType::ListenerChanged | EventType::ListenerClosed => {
                0
            }
            _ => return,
        };
        let Some(identity) = Identity::of(event, frame) else {
            return;
        };
        let is_known = self.0.contains_key(&identity);
        if !is_known && self.0.len() >= MAX_NEWS {
            return;
        }
        let seen = self.0.entry(identity).or_insert_with(|| Sighting {
            first: event.ts.clone(),
            last: event.ts.clone(),
            opened: 0,
        });
        seen.opened += opened;
        if seen.last < event.ts {
            seen.last.clone_from(&event.ts);
        }
    }

    /// Is there nothing to write?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The database.
#[derive(Debug)]
pub struct Sightings(Connection);

impl Sightings {
    /// Opens the database of a state directory, and makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(state_dir: &Path) -> rusqlite::Result<Self> {
        let path = state_dir.join(FILE);
        // SQLite would make it readable for all. What is wrong with the path it says itself.
        let _ = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let db = Connection::open(&path)?;
        db.execute_batch(SCHEMA)?;
        Ok(Self(db))
    }

    /// Opens a database that is there, to read it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_existing(state_dir: &Path) -> rusqlite::Result<Option<Self>> {
        let path = state_dir.join(FILE);
        match path.try_exists() {
            Ok(false) => Ok(None),
            Ok(true) | Err(_) => {
                let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
                Connection::open_with_flags(&path, flags).map(|db| Some(Self(db)))
            }
        }
    }

    /// Writes news, all of them or none.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn add(&mut self, news: &News) -> rusqlite::Result<()> {
        let change = self.0.transaction()?;
        {
            let mut statement = change.prepare_cached(
                "INSERT INTO seen VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT DO UPDATE SET
                 first = min(first, excluded.first), last = max(last, excluded.last),
                 opened = opened + excluded.opened",
            )?;
            for (one, seen) in &news.0 {
                statement.execute(params![
                    one.netns_word(),
                    one.protocol.word(),
                    one.address,
                    one.port,
                    one.name,
                    one.exe,
                    seen.first,
                    seen.last,
                    i64::try_from(seen.opened).unwrap_or(i64::MAX),
                ])?;
            }
        }
        let rows: i64 = change.query_row("SELECT count(*) FROM seen", [], |row| row.get(0))?;
        if rows > MAX_ROWS {
            change.execute(
                "DELETE FROM seen WHERE (netns, protocol, address, port, name, exe) IN
                 (SELECT netns, protocol, address, port, name, exe FROM seen ORDER BY last LIMIT ?1)",
                [rows - MAX_ROWS],
            )?;
        }
        change.commit()
    }

    /// Everything, what was seen last first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn all(&self) -> rusqlite::Result<Vec<(Identity, Sighting)>> {
        let mut statement = self.0.prepare(
            "SELECT netns, protocol, address, port, name, exe, first, last, opened
             FROM seen ORDER BY last DESC, first",
        )?;
        let rows = statement.query_map([], row)?;
        // A protocol of a later version is none that could be shown here.
        rows.filter_map(Result::transpose).collect()
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<Option<(Identity, Sighting)>> {
    let Some(identity) = Identity::of_row(row, 0)? else {
        return Ok(None);
    };
    let opened: i64 = row.get(8)?;
    let seen = Sighting {
        first: row.get(6)?,
        last: row.get(7)?,
        opened: opened.unsigned_abs(),
    };
    Ok(Some((identity, seen)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{FILE, MAX_ROWS, News, Sightings};
    use crate::baseline::Frame;
    use crate::event::EventType;
    use crate::sink::testing;

    fn frame() -> Frame {
        Frame {
            netns: 1,
            ephemeral: 32768..=60999,
        }
    }

    fn see(news: &mut News, kind: EventType, port: u16, second: u32) {
        let mut event = testing::listener(kind, port, 7, "/usr/bin/nc");
        event.ts = format!("2026-11-22T10:00:{second:02}.000000000Z");
        news.observe(&event, &frame());
    }

    #[test]
    fn the_first_time_stays_and_the_last_one_moves() {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = Sightings::open(dir.path()).expect("open");
        let mut news = News::default();
        assert!(news.is_empty());
        see(&mut news, EventType::ListenerOpened, 80, 1);
        see(&mut news, EventType::ListenerClosed, 80, 5);
        see(&mut news, EventType::BindFailed, 81, 5);
        store.add(&news).expect("written");
        let mut later = News::default();
        see(&mut later, EventType::ListenerOpened, 80, 9);
        see(&mut later, EventType::ListenerPresent, 22, 7);
        store.add(&later).expect("written");
        drop(store);

        let store = Sightings::open_existing(dir.path()).expect("open");
        let all = store.expect("it is there").all().expect("read");
        let told: Vec<_> = all
            .iter()
            .map(|(one, seen)| {
                (
                    one.to_string(),
                    &seen.first[17..19],
                    &seen.last[17..19],
                    seen.opened,
                )
            })
            .collect();
        let expected = [
            ("0.0.0.0:80/tcp".to_owned(), "01", "09", 2),
            ("0.0.0.0:22/tcp".to_owned(), "07", "07", 0),
        ];
        assert_eq!(told, expected);
        let file = std::fs::metadata(dir.path().join(FILE)).expect("a file");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = Sightings::open(dir.path()).expect("open");
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= {MAX_ROWS})
             INSERT INTO seen SELECT 'host', 'tcp', '', i, '', '', printf('%08d', i), printf('%08d', i), 1 FROM n"
        );
        store.0.execute_batch(&fill).expect("filled");
        let mut news = News::default();
        see(&mut news, EventType::ListenerOpened, 80, 1);
        store.add(&news).expect("written");
        let all = store.all().expect("read");
        assert_eq!(all.len() as i64, MAX_ROWS);
        assert_eq!(all[0].0.port, "80");
        assert_eq!(all.last().map(|(one, _)| one.port.as_str()), Some("3"));
    }
}
