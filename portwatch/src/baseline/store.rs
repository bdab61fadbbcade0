//! The approved set on disk: SQLite, so that an administrator can look at it with `sqlite3`, and so that each
//! change is there whole or not at all, whatever ends the program in the middle.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::accepted::{Accepted, What};
use super::error::{StoreError, explain};
use super::identity::Identity;
use crate::event::Protocol;
use crate::event::words::Word as _;
use crate::filter::Filter;

/// Name of the database in the state directory.
pub const FILE: &str = "portwatch.db";
/// What this program writes; a database of a higher number is one of a newer program.
const VERSION: i64 = 2;
/// How long another writer is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Most entries that are taken over at once: more than any host has listeners.
const MAX_ENTRIES: usize = 1 << 20;

const SCHEMA: &str = "
CREATE TABLE baseline (
    netns TEXT NOT NULL CHECK (netns IN ('host', 'other')),
    protocol TEXT NOT NULL,
    address TEXT NOT NULL,
    port TEXT NOT NULL,
    name TEXT NOT NULL,
    exe TEXT NOT NULL,
    approved TEXT NOT NULL,
    PRIMARY KEY (netns, protocol, address, port, name, exe)
) WITHOUT ROWID;
CREATE TABLE baseline_fact (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// What version 2 adds: either `filter` or the identity is there.
const SCHEMA_2: &str = "
CREATE TABLE accepted (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    filter TEXT,
    netns TEXT CHECK (netns IN ('host', 'other')),
    protocol TEXT,
    address TEXT,
    port TEXT,
    name TEXT,
    exe TEXT,
    reason TEXT,
    accepted TEXT NOT NULL,
    expires TEXT,
    CHECK ((filter IS NULL) <> (netns IS NULL))
);
PRAGMA user_version = 2;
";

/// When the daemon ended learning on its own; without, it never began.
const LEARNED: &str = "learned";

/// Most that is accepted: somebody has reviewed each.
const MAX_ACCEPTED: usize = 10_000;

/// What the database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approved {
    /// The approved set.
    pub identities: Vec<Identity>,
    /// What was accepted one by one, by number.
    pub accepted: Vec<Accepted>,
}

/// The database, open.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens the database of a state directory; makes what is not there yet, for its owner alone.
    ///
    /// # Errors
    /// When that is impossible, or it is not one of ours.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir);
        made.map_err(|source| StoreError::Directory {
            dir: state_dir.display().to_string(),
            source,
        })?;
        let path = state_dir.join(FILE);
        // SQLite would make it readable for all. What it makes beside it has the mode of this one.
        let _ = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        Self::open_file(path)
    }

    fn open_file(path: PathBuf) -> Result<Self, StoreError> {
        let opened = Connection::open(&path).and_then(|db| {
            db.busy_timeout(BUSY)?;
            // Changes are few, and a rollback journal needs no room for a reader when the disk is full.
            db.pragma_update(None, "journal_mode", "DELETE")?;
            // Each change is on the disk before it is said to be done, the end of its journal too.
            db.pragma_update(None, "synchronous", "EXTRA")?;
            Ok(db)
        });
        let mut store = match opened {
            Ok(db) => Self { db, path },
            Err(error) => return Err(explain(&path, error)),
        };
        store.prepare()?;
        Ok(store)
    }

    /// As [`Self::open`], of a database that is there; makes nothing.
    ///
    /// # Errors
    /// When it cannot be opened, or is not one of ours.
    pub fn open_existing(state_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = state_dir.join(FILE);
        match path.try_exists() {
            Ok(false) => Ok(None),
            // What keeps us from knowing keeps us from opening too, and then has a name.
            Ok(true) | Err(_) => Self::open_file(path).map(Some),
        }
    }

    /// Everything that counts at this time: what was accepted for a time that is over does not.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn approved(&self, now: Timestamp) -> Result<Approved, StoreError> {
        let read = self.identities().and_then(|identities| {
            let mut accepted = self.accepted()?;
            accepted.retain(|one| !one.is_over(now));
            Ok(Approved {
                identities,
                accepted,
            })
        });
        read.map_err(|error| explain(&self.path, error))
    }

    /// Accepts one more, and tells its number.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub fn accept(
        &mut self,
        what: &What,
        reason: Option<&str>,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Accepted, StoreError> {
        let (filter, identity) = match what {
            What::Matching(filter) => (Some(filter.to_string()), None),
            What::Listener(identity) => (None, Some(identity)),
        };
        let id = self.change(|change| {
            change.execute(
                "INSERT INTO accepted
                 (filter, netns, protocol, address, port, name, exe, reason, accepted, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    filter,
                    identity.map(Identity::netns_word),
                    identity.map(|one| one.protocol.word()),
                    identity.map(|one| &one.address),
                    identity.map(|one| &one.port),
                    identity.map(|one| &one.name),
                    identity.map(|one| &one.exe),
                    reason,
                    now.to_string(),
                    expires.map(|end| end.to_string()),
                ],
            )?;
            Ok(change.last_insert_rowid())
        })?;
        Ok(Accepted {
            id,
            what: what.clone(),
            reason: reason.map(str::to_owned),
            expires,
        })
    }

    /// Takes back what was accepted under this number; false when nothing was.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub fn take_back(&mut self, id: i64) -> Result<bool, StoreError> {
        self.change(|change| {
            let count = change.execute("DELETE FROM accepted WHERE id = ?1", [id])?;
            Ok(count > 0)
        })
    }

    /// Approves these in addition to what is approved; tells how many were new.
    ///
    /// # Errors
    /// When it cannot be written; then nothing was.
    pub fn approve(&mut self, these: &[Identity], now: Timestamp) -> Result<usize, StoreError> {
        self.change(|change| insert(change, these, now))
    }

    /// Approves these, and nothing else any more.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub fn replace(&mut self, these: &[Identity], now: Timestamp) -> Result<(), StoreError> {
        self.change(|change| {
            change.execute("DELETE FROM baseline", [])?;
            insert(change, these, now)?;
            remember(change, now)
        })
    }

    /// Forgets all of it, and tells how many there were. What is told to be learned at the first start is not
    /// learned again.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub fn clear(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        self.change(|change| {
            let count = change.execute("DELETE FROM baseline", [])?;
            let accepted = change.execute("DELETE FROM accepted", [])?;
            remember(change, now)?;
            Ok(count + accepted)
        })
    }

    /// Since when nothing is learned any more; none when it never was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn learned(&self) -> Result<Option<Timestamp>, StoreError> {
        let value: Option<String> = self
            .db
            .query_row(
                "SELECT value FROM baseline_fact WHERE key = ?1",
                [LEARNED],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| explain(&self.path, error))?;
        Ok(value.and_then(|text| text.parse().ok()))
    }

    /// Ends learning.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub fn end_learning(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.change(|change| remember(change, now))
    }

    /// Another number after each change that another connection made.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn generation(&self) -> Result<i64, StoreError> {
        self.db
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .map_err(|error| explain(&self.path, error))
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let explain = |error| explain(&path, error);
        let version = |db: &Connection| db.query_row("PRAGMA user_version", [], |row| row.get(0));
        if version(&self.db).map_err(explain)? < VERSION {
            self.change(|change| {
                // Another process may have been first.
                for (before, schema) in (0..).zip([SCHEMA, SCHEMA_2]) {
                    if version(change)? == before {
                        change.execute_batch(schema)?;
                    }
                }
                Ok(())
            })?;
        }
        match version(&self.db).map_err(explain)? {
            VERSION => Ok(()),
            version => Err(StoreError::Newer {
                path: self.path.display().to_string(),
                version,
            }),
        }
    }

    fn change<T>(
        &mut self,
        make: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let changed = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|change| {
                let made = make(&change)?;
                change.commit()?;
                Ok(made)
            });
        changed.map_err(|error| explain(&path, error))
    }

    fn identities(&self) -> rusqlite::Result<Vec<Identity>> {
        let mut statement = self.db.prepare(
            "SELECT netns, protocol, address, port, name, exe FROM baseline ORDER BY 1, 2, 3, 4, 5, 6",
        )?;
        let rows = statement.query_map([], |row| Identity::of_row(row, 0))?;
        // A protocol of a later version is none that could be met here.
        let known = rows.take(MAX_ENTRIES).filter_map(Result::transpose);
        known.collect()
    }

    fn accepted(&self) -> rusqlite::Result<Vec<Accepted>> {
        let mut statement = self.db.prepare(
            "SELECT id, filter, reason, expires, netns, protocol, address, port, name, exe
             FROM accepted ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            let filter: Option<String> = row.get(1)?;
            let what = match filter {
                Some(filter) => Filter::parse(&filter).ok().map(What::Matching),
                None => Identity::of_row(row, 4)?.map(What::Listener),
            };
            let expires: Option<String> = row.get(3)?;
            // What cannot be read accepts nothing.
            let expires = match expires.map(|text| text.parse()).transpose() {
                Ok(expires) => expires,
                Err(_) => return Ok(None),
            };
            let (id, reason) = (row.get(0)?, row.get(2)?);
            Ok(what.map(|what| Accepted {
                id,
                what,
                reason,
                expires,
            }))
        })?;
        let known = rows.take(MAX_ACCEPTED).filter_map(Result::transpose);
        known.collect()
    }
}

impl Identity {
    /// The identity in these six columns; none when its protocol is not known here.
    pub(crate) fn of_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Self>> {
        let netns: String = row.get(first)?;
        let protocol: String = row.get(first + 1)?;
        let known = Protocol::ALL.iter().find(|known| known.word() == protocol);
        let Some(&protocol) = known else {
            return Ok(None);
        };
        Ok(Some(Self {
            is_host: netns == "host",
            protocol,
            address: row.get(first + 2)?,
            port: row.get(first + 3)?,
            name: row.get(first + 4)?,
            exe: row.get(first + 5)?,
        }))
    }

    /// The class of its network namespace, as a database has it.
    pub(crate) const fn netns_word(&self) -> &'static str {
        if self.is_host { "host" } else { "other" }
    }
}

fn insert(change: &Transaction<'_>, these: &[Identity], now: Timestamp) -> rusqlite::Result<usize> {
    let mut statement = change.prepare(
        "INSERT OR IGNORE INTO baseline (netns, protocol, address, port, name, exe, approved)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut new = 0;
    for one in these {
        new += statement.execute(params![
            one.netns_word(),
            one.protocol.word(),
            one.address,
            one.port,
            one.name,
            one.exe,
            now.to_string(),
        ])?;
    }
    Ok(new)
}

fn remember(change: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<()> {
    change.execute(
        "INSERT OR REPLACE INTO baseline_fact (key, value) VALUES (?1, ?2)",
        params![LEARNED, now.to_string()],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::Timestamp;

    use super::{Approved, FILE, Store};
    use crate::baseline::error::StoreError;
    use crate::baseline::identity::Identity;
    use crate::baseline::{Accepted, What};
    use crate::event::Protocol;
    use crate::filter::Filter;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn listener(port: u16) -> Identity {
        Identity {
            is_host: true,
            protocol: Protocol::Tcp,
            address: "0.0.0.0".to_owned(),
            port: port.to_string(),
            name: String::new(),
            exe: "/usr/sbin/nginx".to_owned(),
        }
    }

    #[test]
    fn what_is_approved_is_there_after_opening_again() {
        let dir = tempfile::tempdir().expect("dir");
        let state = dir.path().join("state");
        let mut store = Store::open(&state).expect("store");
        assert_eq!(store.learned().expect("read"), None);
        assert_eq!(
            store
                .approve(&[listener(80), listener(80)], at(0))
                .expect("write"),
            1
        );
        assert_eq!(
            store
                .approve(&[listener(443), listener(80)], at(1))
                .expect("write"),
            1
        );
        drop(store);
        let mut store = Store::open(&state).expect("store");
        assert_eq!(
            store.approved(at(5)).expect("read").identities,
            [listener(443), listener(80)]
        );
        store.replace(&[listener(22)], at(2)).expect("write");
        assert_eq!(
            store.approved(at(5)).expect("read").identities,
            [listener(22)]
        );
        assert_eq!(store.learned().expect("read"), Some(at(2)));
        assert_eq!(store.clear(at(3)).expect("write"), 1);
        assert_eq!(store.approved(at(5)).expect("read"), Approved::default());
        assert_eq!(store.learned().expect("read"), Some(at(3)));
        let mode = |path| std::fs::metadata(path).expect("file").permissions().mode() & 0o777;
        assert_eq!(
            (mode(state.clone()), mode(state.join(FILE))),
            (0o700, 0o600)
        );
    }

    #[test]
    fn a_change_of_another_is_noticed() {
        let dir = tempfile::tempdir().expect("dir");
        let daemon = Store::open(dir.path()).expect("store");
        let mut command = Store::open(dir.path()).expect("store");
        let before = daemon.generation().expect("read");
        assert_eq!(daemon.generation().expect("read"), before);
        command.approve(&[listener(80)], at(0)).expect("write");
        assert_ne!(daemon.generation().expect("read"), before);
        assert_eq!(daemon.approved(at(5)).expect("read").identities.len(), 1);
    }

    #[test]
    fn what_is_accepted_is_there_until_it_is_taken_back() {
        let dir = tempfile::tempdir().expect("dir");
        let mut store = Store::open(dir.path()).expect("store");
        let filter = Filter::parse("tcp port:4000..5000 exe:/opt/*").expect("a filter");
        let whats = [What::Listener(listener(80)), What::Matching(filter)];
        let accepted: Vec<Accepted> = whats
            .iter()
            .zip([(Some("asked for"), None), (None, Some(at(9)))])
            .map(|(what, (reason, end))| store.accept(what, reason, end, at(0)).expect("write"))
            .collect();
        assert_eq!((accepted[0].id, accepted[1].id), (1, 2));
        drop(store);
        let mut store = Store::open(dir.path()).expect("store");
        assert_eq!(store.approved(at(5)).expect("read").accepted, accepted);
        let later = store.approved(at(9)).expect("read").accepted;
        assert_eq!(later, accepted[..1], "its time is over");
        assert!(store.take_back(1).expect("write"));
        assert!(!store.take_back(1).expect("write"));
        assert_eq!(store.approved(at(5)).expect("read").accepted, accepted[1..]);
        // A number is never given to another.
        let third = store.accept(&whats[0], None, None, at(1)).expect("write");
        assert_eq!(third.id, 3);
        assert_eq!(store.clear(at(2)).expect("write"), 2);
    }

    /// As the first version made it.
    #[test]
    fn an_older_database_is_taken_over() {
        let dir = tempfile::tempdir().expect("dir");
        let db = rusqlite::Connection::open(dir.path().join(FILE)).expect("open");
        db.execute_batch(super::SCHEMA).expect("made");
        drop(db);
        let mut store = Store::open(dir.path()).expect("store");
        let what = What::Listener(listener(80));
        assert_eq!(store.accept(&what, None, None, at(1)).expect("write").id, 1);
    }

    #[test]
    fn what_is_no_database_of_ours_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join(FILE), "nothing of the kind, and longer than a header of SQLite is, so that it is read as one, which it is not").expect("file");
        assert!(matches!(
            Store::open(dir.path()),
            Err(StoreError::Broken { .. })
        ));
        std::fs::remove_file(dir.path().join(FILE)).expect("remove");
        drop(Store::open(dir.path()).expect("store"));
        let db = rusqlite::Connection::open(dir.path().join(FILE)).expect("open");
        db.pragma_update(None, "user_version", 7).expect("write");
        drop(db);
        let newer = Store::open(dir.path()).expect_err("newer");
        assert!(
            newer.to_string().contains("newer portwatch (format 7)"),
            "{newer}"
        );
        let below = dir.path().join(FILE).join("state");
        assert!(matches!(
            Store::open(&below),
            Err(StoreError::Directory { .. })
        ));
    }
}
