//! A sync that fails: what the kernel could not write is written again before another sync is believed.
//!
//! When fsync(2) fails, Linux takes the pages that it could not write for written ones, and says so once: the next fsync
//! succeeds, whatever is on the disk. The pages are mostly still in memory, so that they can be read and written once more.

use std::fs::File;
use std::io;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::disk::{behind, is_bad, read_at};

/// Bytes that are written again at once.
const PIECE: usize = 256 * 1024;

/// What the kernel does with a file.
pub(super) trait Disk {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// How far a file is known to survive the end of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// Everything before this place.
    upto: u64,
    /// Since then a sync has failed.
    has_failed: bool,
}

impl Settled {
    pub(super) const fn new(upto: u64) -> Self {
        Self {
            upto,
            has_failed: false,
        }
    }

    /// Something was written over, from there on.
    pub(super) fn changed(&mut self, at: u64) {
        self.upto = self.upto.min(at);
    }

    /// Has a sync failed since the last one that succeeded?
    pub(super) const fn is_in_doubt(&self) -> bool {
        self.has_failed
    }

    /// Everything before this place.
    pub(super) const fn upto(&self) -> u64 {
        self.upto
    }

    /// Syncs a file of this size. After a failure, what may be missing is written again: the CRC-32 of that is handed back,
    /// for it may be something else by now, and what can no longer be read is not in it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn settle(&mut self, disk: &impl Disk, size: u64) -> io::Result<Option<u32>> {
        let again = match self.has_failed {
            true => Some(write_again(disk, self.upto, size)?),
            false => None,
        };
        // Until the disk says otherwise.
        self.has_failed = true;
        disk.sync()?;
        *self = Self::new(size);
        Ok(again)
    }
}

fn write_again(disk: &impl Disk, from: u64, to: u64) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(usize::MAX);
        let read = match disk.read(&mut piece[..left.min(PIECE)], at) {
            // Somebody has cut it off.
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // It is no longer in memory, and not on the disk: nothing brings it back, and waiting for it would lose all that
            // comes behind it too. Without it the CRC is another one.
            Err(error) if is_bad(&error) => {
                at = behind(at);
                continue;
            }
            Err(error) => return Err(error),
        };
        disk.write(&piece[..read], at)?;
        hasher.update(&piece[..read]);
        at += read as u64;
    }
    Ok(hasher.finalize())
}

impl Disk for File {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        read_at(self, bytes, at)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        // What appends does so wherever it is told to write.
        let flags = fcntl_getfl(self)?;
        fcntl_setfl(self, flags - OFlags::APPEND)?;
        let written = std::os::unix::fs::FileExt::write_all_at(self, bytes, at);
        fcntl_setfl(self, flags)?;
        written
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        fail::now()?;
        self.sync_data()
    }
}

/// Syncs that fail, for tests: those of this thread.
#[cfg(test)]
pub(super) mod fail {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static TIMES: Cell<u32> = const { Cell::new(0) };
    }

    /// The next ones fail.
    pub(in crate::sink) fn next(times: u32) {
        TIMES.set(times);
    }

    pub(super) fn now() -> io::Result<()> {
        let left = TIMES.get();
        TIMES.set(left.saturating_sub(1));
        match left {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::Write as _;
    use std::ops::Range;

    use super::*;

    /// Memory of the kernel, and what of it has been written.
    #[derive(Default)]
    struct Kernel {
        memory: RefCell<Vec<u8>>,
        dirty: RefCell<Vec<Range<usize>>>,
        disk: RefCell<Vec<u8>>,
        failures: Cell<u32>,
    }

    impl Disk for Kernel {
        fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
            let memory = self.memory.borrow();
            let there = memory.get(at as usize..).unwrap_or_default();
            let count = there.len().min(bytes.len());
            bytes[..count].copy_from_slice(&there[..count]);
            Ok(count)
        }

        fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
            let range = at as usize..at as usize + bytes.len();
            let mut memory = self.memory.borrow_mut();
            let size = memory.len().max(range.end);
            memory.resize(size, 0);
            memory[range.clone()].copy_from_slice(bytes);
            self.dirty.borrow_mut().push(range);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            let dirty = self.dirty.take();
            if self.failures.get() > 0 {
                // As Linux does: they are taken for clean.
                self.failures.set(self.failures.get() - 1);
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let memory = self.memory.borrow();
            let mut disk = self.disk.borrow_mut();
            disk.resize(memory.len(), 0);
            for range in dirty {
                disk[range.clone()].copy_from_slice(&memory[range]);
            }
            Ok(())
        }
    }

    #[test]
    fn what_a_failed_sync_left_out_is_on_the_disk_after_one_that_succeeds() {
        let kernel = Kernel::default();
        let mut settled = Settled::new(0);
        kernel.write(b"one ", 0).expect("written");
        assert_eq!(settled.settle(&kernel, 4).expect("synced"), None);
        kernel.write(b"two ", 4).expect("written");
        kernel.failures.set(2);
        settled.settle(&kernel, 8).expect_err("failed");
        kernel.write(b"three", 8).expect("written");
        settled.settle(&kernel, 13).expect_err("failed again");
        assert_eq!(settled.upto(), 4);
        let again = settled.settle(&kernel, 13).expect("synced");
        assert_eq!(again, Some(crc32fast::hash(b"two three")));
        assert_eq!(*kernel.disk.borrow(), b"one two three");
        // What is written over is no longer there as it was.
        settled.changed(4);
        kernel.failures.set(1);
        kernel.write(b"2   ", 4).expect("written");
        settled.settle(&kernel, 13).expect_err("failed");
        settled.settle(&kernel, 13).expect("synced");
        assert_eq!(*kernel.disk.borrow(), b"one 2   three");
    }

    #[test]
    fn a_file_that_is_appended_to_keeps_its_lines_in_their_order() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("lines");
        let mut file = crate::sink::file::append(&path).expect("open");
        file.write_all(b"one\ntwo\n").expect("written");
        let mut settled = Settled::new(4);
        fail::next(1);
        settled.settle(&file, 8).expect_err("failed");
        settled.settle(&file, 8).expect("synced");
        file.write_all(b"three\n").expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"one\ntwo\nthree\n");
    }
}
