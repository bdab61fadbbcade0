//! Reads of a disk that has bad sectors: what cannot be read is stepped over, and costs the records that it is in.

use std::fs::File;
use std::io;

/// What cannot be read is stepped over in units of a page: the kernel reads no less at once.
const STEP: u64 = 4096;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// So many bytes; fewer than asked for at the end of the file, and where the disk cannot be read.
    pub(super) bytes: usize,
    /// What comes behind them cannot be read.
    pub(super) is_bad: bool,
}

/// Fills the bytes from this place of the file on, as far as the file or the disk goes.
///
/// # Errors
/// When that failed for another reason than a bad disk.
pub(super) fn fill(file: &File, bytes: &mut [u8], at: u64) -> io::Result<Filled> {
    let mut filled = 0;
    let is_bad = loop {
        if filled == bytes.len() {
            break false;
        }
        match read_at(file, &mut bytes[filled..], at + filled as u64) {
            Ok(0) => break false,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_bad(&error) => break true,
            Err(error) => return Err(error),
        }
    };
    Ok(Filled {
        bytes: filled,
        is_bad,
    })
}

/// Where it may be readable again behind a place that is not.
pub(super) const fn behind(at: u64) -> u64 {
    (at / STEP + 1) * STEP
}

/// Is the disk at fault? Its own error, and those by which file systems tell a wrong checksum.
pub(super) fn is_bad(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EBADMSG | libc::EUCLEAN)
    )
}

#[cfg(not(test))]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(test)]
use bad::read_at;

/// A disk with bad sectors, for tests: those of this thread.
#[cfg(test)]
pub(super) mod bad {
    use std::cell::RefCell;
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    use std::path::Path;

    thread_local! {
        /// Inode and number of the page.
        static SECTORS: RefCell<Vec<(u64, u64)>> = const { RefCell::new(Vec::new()) };
    }

    /// This byte of the file cannot be read any more.
    pub(in super::super) fn sector(path: &Path, at: u64) {
        let inode = fs::metadata(path).expect("a file").ino();
        SECTORS.with_borrow_mut(|sectors| sectors.push((inode, at / super::STEP)));
    }

    /// The disk is a good one again.
    pub(in super::super) fn none() {
        SECTORS.with_borrow_mut(Vec::clear);
    }

    /// As the kernel reads: up to the bad page, and not from there.
    pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let inode = file.metadata()?.ino();
        let next = SECTORS.with_borrow(|sectors| {
            let begins = sectors.iter().filter(|(of, _)| *of == inode);
            let begins = begins.map(|(_, page)| page * super::STEP);
            begins.filter(|begin| begin + super::STEP > at).min()
        });
        match next {
            Some(begin) if begin <= at => Err(io::Error::from_raw_os_error(libc::EIO)),
            Some(begin) => {
                let good = usize::try_from(begin - at).unwrap_or(usize::MAX);
                let good = good.min(bytes.len());
                file.read_at(&mut bytes[..good], at)
            }
            None => file.read_at(bytes, at),
        }
    }
}
