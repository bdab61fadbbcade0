//! Writes an initramfs: the kernel's `newc` cpio format (Documentation/driver-api/early-userspace).

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Result, bail};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;
const SYMLINK: u32 = 0o120_000;

/// An archive being written. Every path is absolute in the guest; parents are made as needed.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    known: BTreeSet<String>,
}

impl Archive {
    /// Adds a regular file, owned by root. A second file of the same path is dropped.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.add(path, REGULAR | mode, (0, 0), content)
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        self.add(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.add(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.add(path, CHARACTER | 0o600, (major, minor), &[])
    }

    /// Whether something has this path.
    pub(crate) fn holds(&self, path: &str) -> bool {
        path.strip_prefix('/')
            .is_some_and(|path| self.known.contains(path))
    }

    /// The archive with its end mark.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.record("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let plain = Path::new(path)
            .components()
            .skip(1)
            .all(|c| matches!(c, Component::Normal(_)));
        let Some(name) = path
            .strip_prefix('/')
            .filter(|name| plain && !name.is_empty())
        else {
            bail!("{path}: not an absolute, plain path; it cannot go into an initramfs");
        };
        // The kernel does not make parents.
        for (end, _) in name.match_indices('/') {
            if !self.known.contains(&name[..end]) {
                self.known.insert(name[..end].to_owned());
                self.record(&name[..end], DIRECTORY | 0o755, (0, 0), &[])?;
            }
        }
        if self.known.insert(name.to_owned()) {
            self.record(name, mode, device, content)?;
        }
        Ok(())
    }

    fn record(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let Ok(size) = u32::try_from(content.len()) else {
            bail!("{name}: larger than the 4 GiB that cpio can hold");
        };
        let name_size = u32::try_from(name.len() + 1)?;
        let inode = u32::try_from(self.known.len())?;
        self.bytes.extend(b"070701");
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        for field in [
            inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ] {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    /// Headers and contents start at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.file("/usr/bin/init", 0o755, b"abcde").unwrap();
        archive
            .file("/usr/bin/init", 0o755, b"a second one")
            .unwrap();
        archive.symlink("/init", "usr/bin/init").unwrap();
        archive.directory("/proc").unwrap();
        archive
    }

    #[test]
    fn a_record_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.file("/a", 0o644, b"abcde").unwrap();
        // 110 bytes of header and "a\0" make 112; then 5 bytes of content, padded to 8.
        let expected = "070701\
             00000001000081a4000000000000000000000001\
             0000000000000005\
             00000000000000000000000000000000\
             0000000200000000\
             a\0abcde\0\0\0";
        assert_eq!(String::from_utf8(archive.bytes).unwrap(), expected);
    }

    #[test]
    fn every_parent_comes_first_and_once() {
        let bytes = sample().finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(
            text.matches("070701").count(),
            6,
            "usr usr/bin init link proc trailer"
        );
        assert!(text.find("usr\0").unwrap() < text.find("usr/bin\0").unwrap());
        assert!(text.find("usr/bin\0").unwrap() < text.find("usr/bin/init\0").unwrap());
        assert!(!text.contains("second"));
    }

    #[test]
    fn a_path_that_leaves_the_archive_is_refused() {
        for path in ["relative", "/", "/../etc/passwd", ""] {
            assert!(Archive::default().file(path, 0o644, b"").is_err(), "{path}");
        }
    }
}
