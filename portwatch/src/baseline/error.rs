//! Why the database of what is approved cannot be used, as what an administrator can do about it.

use std::path::Path;

use rusqlite::ErrorCode;
use thiserror::Error;

/// Why the database cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error("cannot make the state directory {dir}: {source}; --state-dir names another one")]
    Directory {
        /// The directory.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
    /// Written by a later version.
    #[error(
        "{path} was written by a newer portwatch (format {version}); use that one, or move the file away"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        version: i64,
    },
    /// No room.
    #[error("{path} cannot grow, because the disk is full; nothing was changed")]
    Full {
        /// The file.
        path: String,
    },
    /// May not be opened or written.
    #[error(
        "{path} may not be opened or written: {source}; its owner is root, or who runs the daemon"
    )]
    NotPermitted {
        /// The file.
        path: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// No database.
    #[error(
        "{path} is no database any more: {source}; move it away, and approve anew with `portwatch baseline generate`"
    )]
    Broken {
        /// The file.
        path: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Anything else.
    #[error("{path} cannot be used: {source}")]
    Other {
        /// The file.
        path: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// The exit code (sysexits).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotPermitted { .. } => 77,
            Self::Directory { .. }
            | Self::Newer { .. }
            | Self::Full { .. }
            | Self::Broken { .. }
            | Self::Other { .. } => 74,
        }
    }
}

/// What SQLite says, as what an administrator can do about it.
pub(super) fn explain(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.display().to_string();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            StoreError::NotPermitted { path, source }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Broken { path, source }
        }
        _ => StoreError::Other { path, source },
    }
}
