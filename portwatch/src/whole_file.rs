//! Files of the daemon's own that are replaced as a whole: whoever reads one finds the old bytes or the new ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces the file of this name in the folder, for its owner alone. When this returns, it survives the end of the machine.
///
/// # Errors
/// When it cannot be written; then it is as before.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!("{name}.new"));
    let mut written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    fs::rename(unfinished, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_the_new_one_or_the_old_one() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("kept");
        for bytes in [b"a longer one".as_slice(), b"short"] {
            replace(dir.path(), "kept", bytes).expect("replaced");
            assert_eq!(fs::read(&file).expect("there"), bytes);
        }
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Where the new one cannot be made, the old one stays.
        fs::create_dir(dir.path().join("kept.new")).expect("made");
        assert!(replace(dir.path(), "kept", b"never").is_err());
        assert_eq!(fs::read(&file).expect("there"), b"short");
    }
}
