//! Metrics in a file, for the textfile collector of node_exporter: whole or not at all, and readable by all.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Checks a configured path: absolute, and with the ending that the collector looks for.
///
/// # Errors
/// What is expected instead.
pub fn parse(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let is_prom = path.extension().is_some_and(|ending| ending == "prom");
    (path.is_absolute() && is_prom && !text.contains('\0'))
        .then(|| path.to_owned())
        .ok_or_else(|| {
            "expected an absolute path that ends in .prom, such as \"/var/lib/prometheus/node-exporter/portwatch.prom\", or \"off\""
                .to_owned()
        })
}

/// Replaces the file by this page. It is not synced: after a crash of the machine it would be old anyway.
///
/// # Errors
/// Why it could not be written; then the old one is still there.
pub fn write(path: &Path, page: &str) -> io::Result<()> {
    let unfinished = unfinished(path);
    // What a killed daemon left; or what somebody put there to have us write elsewhere.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&unfinished)
        .and_then(|mut file| {
            // The umask takes bits away.
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(page.as_bytes())
        })
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Beside it, with an ending that no collector reads.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("prom.new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collector_must_find_it() {
        let path = "/var/lib/node_exporter/portwatch.prom";
        assert_eq!(parse(path), Ok(path.into()));
        for wrong in [
            "portwatch.prom",
            "/var/lib/portwatch.txt",
            "/x/.prom",
            "/x\0.prom",
            "",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn it_is_replaced_whole_and_readable() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("portwatch.prom");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, unfinished(&path)).expect("a trap");
        for page in ["a 1\n", "a 2\n"] {
            write(&path, page).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), page);
        }
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read(&victim).expect("there"), b"precious");
        let names = fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(names, 2, "nothing is left over");
        let error = write(&dir.path().join("gone/x.prom"), "").expect_err("no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
