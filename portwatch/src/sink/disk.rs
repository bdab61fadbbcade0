//! Reads of a disk that has bad sectors: what cannot be read is stepped over, and costs the records that it is in.

use std::fs::File;
use std::io;
use std::path::Path;

/// What cannot be read is stepped over in units of a page: the kernel reads no less at once.
const STEP: u64 = 4096;

/// What a read brought.
#[derive(Debug)]
pub(super) struct Filled {
    /// So many bytes; fewer than asked for at the end of the file, and where the disk cannot be read.
    pub(super) bytes: usize,
    /// Why what comes behind them cannot be read.
    pub(super) bad: Option<io::Error>,
}

/// Opens a file to read it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    #[cfg(test)]
    bad::look(path)?;
    File::open(path)
}

/// How many bytes are in it.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    #[cfg(test)]
    bad::look(path)?;
    std::fs::metadata(path).map(|metadata| metadata.len())
}

/// Fills the bytes from this place of the file on, as far as the file or the disk goes.
///
/// # Errors
/// When that failed for another reason than a bad disk.
pub(super) fn fill(file: &File, bytes: &mut [u8], at: u64) -> io::Result<Filled> {
    let mut filled = 0;
    let bad = loop {
        if filled == bytes.len() {
            break None;
        }
        match read_at(file, &mut bytes[filled..], at + filled as u64) {
            Ok(0) => break None,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_bad(&error) => break Some(error),
            Err(error) => return Err(error),
        }
    };
    Ok(Filled { bytes: filled, bad })
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

/// As [`std::os::unix::fs::FileExt::read_at`]; tests have it fail.
#[cfg(not(test))]
pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(test)]
pub(super) use bad::read_at;

/// A disk with bad sectors, for tests: those of this thread.
#[cfg(test)]
pub(in crate::sink) mod bad {
    use std::cell::RefCell;
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    use std::path::{Path, PathBuf};

    /// A page that cannot be read, so many times.
    struct Sector {
        inode: u64,
        page: u64,
        times: u32,
    }

    thread_local! {
        static SECTORS: RefCell<Vec<Sector>> = const { RefCell::new(Vec::new()) };
        /// What cannot even be opened.
        static FILES: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    /// This byte of the file cannot be read any more.
    pub(in crate::sink) fn sector(path: &Path, at: u64) {
        passing(path, at, u32::MAX);
    }

    /// This byte of the file cannot be read so many times.
    pub(in crate::sink) fn passing(path: &Path, at: u64, times: u32) {
        let inode = fs::metadata(path).expect("a file").ino();
        let page = at / super::STEP;
        SECTORS.with_borrow_mut(|sectors| sectors.push(Sector { inode, page, times }));
    }

    /// This file can neither be looked at nor opened.
    pub(in crate::sink) fn file(path: &Path) {
        FILES.with_borrow_mut(|files| files.push(path.to_owned()));
    }

    /// The disk is a good one again.
    pub(in crate::sink) fn none() {
        SECTORS.with_borrow_mut(Vec::clear);
        FILES.with_borrow_mut(Vec::clear);
    }

    pub(super) fn look(path: &Path) -> io::Result<()> {
        match FILES.with_borrow(|files| files.iter().any(|file| file == path)) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }

    /// As the kernel reads: up to the bad page, and not from there.
    pub(in crate::sink) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let inode = file.metadata()?.ino();
        let next = SECTORS.with_borrow_mut(|sectors| {
            let bad = sectors.iter_mut().filter(|one| one.inode == inode);
            let behind = bad.filter(|one| one.times > 0 && (one.page + 1) * super::STEP > at);
            let first = behind.min_by_key(|one| one.page)?;
            if first.page * super::STEP <= at {
                first.times -= u32::from(first.times < u32::MAX);
            }
            Some(first.page * super::STEP)
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
