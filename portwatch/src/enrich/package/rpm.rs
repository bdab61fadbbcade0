//! The rpm database in SQLite: `Basenames` finds candidates, the package's header confirms them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::rpm_header::Header;

/// Most packages with a file of one name that are looked at.
const CANDIDATES_MAX: usize = 1_024;

/// The package that owns a file known under any of `names`.
///
/// The database is opened as immutable: no locks, no journal files, nothing written. What rpm has not
/// yet moved from its write-ahead log is not seen, and a read that a transaction disturbs gives no answer.
pub(super) fn owner(database: &Path, names: &[Vec<u8>]) -> Option<Vec<u8>> {
    if !database.exists() {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(uri(database), flags).ok()?;
    names
        .iter()
        .find_map(|name| owner_of(&db, name).ok().flatten())
}

fn owner_of(db: &Connection, name: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    let base = name.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let dir = name.get(..name.len() - base.len()).unwrap_or_default();
    // Keys are text; a comparison with a blob is never true.
    let mut candidates =
        db.prepare("SELECT hnum, idx FROM Basenames WHERE key IN (?1, CAST(?1 AS TEXT)) LIMIT ?2")?;
    let rows: Vec<(i64, i64)> = candidates
        .query_map(
            (base, i64::try_from(CANDIDATES_MAX).unwrap_or(i64::MAX)),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<rusqlite::Result<_>>()?;
    let mut package = db.prepare("SELECT blob FROM Packages WHERE hnum = ?1")?;
    for (hnum, idx) in rows {
        let blob: Option<Vec<u8>> = package.query_row([hnum], |row| row.get(0)).optional()?;
        let owner = blob
            .as_deref()
            .and_then(Header::parse)
            .zip(usize::try_from(idx).ok())
            .filter(|(header, idx)| header.file(*idx) == Some((dir, base)))
            .and_then(|(header, _)| header.name().map(<[u8]>::to_vec));
        if owner.is_some() {
            return Ok(owner);
        }
    }
    Ok(None)
}

/// `file:` with every byte escaped that a URI gives a meaning to.
fn uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri + "?immutable=1"
}
