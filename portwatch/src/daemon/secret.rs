//! Secrets: read from files that nobody else can read, never from configuration, and never shown.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Longest secret, in bytes.
const MAX: u64 = 4096;
/// Longest file of secrets: a chain of certificates in a key's file, an account's word for a user.
const MAX_TEXT: u64 = 64 * 1024;

/// Reads a secret: the first line of a file, or of a credential of the systemd unit where the path is a plain name.
///
/// # Errors
/// When it is not there, everybody could read it, or it is empty. Does not quote what it holds.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let text = read_text_of(path, MAX)?;
    match text.lines().next() {
        Some(secret) if !secret.is_empty() => Ok(secret.to_owned()),
        _ => Err(format!("{} is empty", place(path)?.display())),
    }
}

/// The same for a secret of several lines: a key, credentials.
///
/// # Errors
/// As [`read`].
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    read_text_of(path, MAX_TEXT)
}

fn read_text_of(path: &Path, max: u64) -> Result<String, String> {
    let path = place(path)?;
    let shown = path.display();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let metadata = file
        .metadata()
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is no file"));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(format!(
            "{shown} holds a secret, and everybody can read it: run chmod o= {shown}, then change the secret"
        ));
    }
    let mut text = String::new();
    file.take(max + 1)
        .read_to_string(&mut text)
        .map_err(|_| format!("{shown} is no text"))?;
    match text.len() as u64 > max {
        true => Err(format!("{shown} is longer than a secret of {max} bytes")),
        false => Ok(text),
    }
}

fn place(path: &Path) -> Result<PathBuf, String> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        format!(
            "there is no credential {0}: LoadCredential={0}:… in the unit passes it on",
            path.display()
        )
    })?;
    Ok(Path::new(&folder).join(path))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::read;

    #[test]
    fn only_what_nobody_else_can_read_is_a_secret() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("password");
        fs::write(&file, "hunter2\n").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("mode");
        let refused = read(&file).expect_err("open to all");
        assert!(
            refused.contains("chmod") && !refused.contains("hunter2"),
            "{refused}"
        );
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("mode");
        assert_eq!(read(&file).as_deref(), Ok("hunter2"));
        fs::write(&file, "").expect("written");
        assert!(read(&file).is_err());
        // Half a password would only be refused later, and nobody would know why.
        fs::write(&file, "a".repeat(4097)).expect("written");
        assert!(read(&file).is_err());
        let refused = read(dir.path()).expect_err("a folder");
        assert!(refused.ends_with("is no file"), "{refused}");
    }
}
