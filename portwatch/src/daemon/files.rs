//! The files that the settings of a sink name: read, and known again when something else is in them.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::secret;

/// What was in the files of a sink; nothing of it can be got back from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print([u8; 32]);

/// Reads files, and notes what was in them.
#[derive(Debug, Default)]
pub(super) struct Files(Sha256);

impl Files {
    /// See [`secret::read`].
    pub(super) fn secret(&mut self, path: &Path) -> Result<String, String> {
        let secret = secret::read(path)?;
        self.note(secret.as_bytes());
        Ok(secret)
    }

    /// See [`secret::read_text`].
    pub(super) fn secret_text(&mut self, path: &Path) -> Result<String, String> {
        let text = secret::read_text(path)?;
        self.note(text.as_bytes());
        Ok(text)
    }

    /// Reads a file that is no secret.
    pub(super) fn open_to_all(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let bytes = std::fs::read(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        self.note(&bytes);
        Ok(bytes)
    }

    /// What was in all that was read.
    pub(super) fn print(self) -> Print {
        Print(self.0.finalize().into())
    }

    /// With its length, so that what moves from one file to the next is seen.
    fn note(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_in_the_files_is_known_again_and_what_is_not_is_not() {
        let dir = tempfile::tempdir().expect("dir");
        let paths = [dir.path().join("a"), dir.path().join("b")];
        let print = |contents: [&str; 2]| {
            let mut files = Files::default();
            for (path, content) in paths.iter().zip(contents) {
                fs::write(path, content).expect("written");
                files.open_to_all(path).expect("read");
            }
            files.print()
        };
        let before = print(["one", "two"]);
        assert_eq!(print(["one", "two"]), before);
        assert_ne!(print(["one", "2"]), before);
        assert_ne!(print(["onet", "wo"]), before);
    }
}
