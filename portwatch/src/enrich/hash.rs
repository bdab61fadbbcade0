//! SHA-256 of the very file that a process runs, never of another one that has its name now.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use sha2::{Digest as _, Sha256};

use super::bounded::Bounded;
use super::mounts::{self, Superblock};
use super::proc_fs::{FileStamp, ProcFs, ProcessDir, stamp};
use crate::decode::record::ProcessKey;

/// Largest file that is hashed, in bytes.
pub(super) const HASH_MAX: u64 = 256 << 20;
/// Most hashes remembered.
const HASHES_MAX: usize = 4_096;
/// Most of mountinfo that is read, in bytes.
const MOUNTINFO_MAX: usize = 4 << 20;
const CHUNK: usize = 64 << 10;

/// Which executable is meant, as the kernel's record had it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ExeId {
    /// Absolute path, as the process saw it.
    pub(super) path: Arc<[u8]>,
    /// Superblock's device, kernel encoding.
    pub(super) dev: u32,
    /// Inode number; 0 when not known.
    pub(super) inode: u64,
}

/// An executable opened for reading, certain to be the one that was meant.
#[derive(Debug)]
pub(super) struct OpenExe {
    file: OwnedFd,
    pub(super) stamp: FileStamp,
}

/// Opens the executable through the living process, which also works when the file is deleted, a
/// memfd, or in another mount namespace; else by its path below `root`, if the file there has the
/// device and inode of the record. Files that a user-space file system serves are not opened: it may
/// never answer.
pub(super) fn open_exe(
    proc: &ProcFs,
    root: &Path,
    key: ProcessKey,
    exe: &ExeId,
) -> Option<OpenExe> {
    if let Some(process) = proc.open_same(key)
        && let Some(found) = open_checked(process.dir().as_fd(), Path::new("exe"), |fd| {
            let place = place(&process, fd)?;
            let same = exe.inode == 0 || place.inode == exe.inode;
            (same && !place.is_fuse()).then_some(())
        })
    {
        return Some(found);
    }
    let path = below(root, &exe.path);
    open_checked(CWD, &path, |fd| {
        let ours = proc.open(
            rustix::process::getpid()
                .as_raw_nonzero()
                .get()
                .unsigned_abs(),
        );
        let place = ours.map_or_else(|| Place::of(fd, None), |ours| place(&ours, fd))?;
        let dev = place.superblock.as_ref().map_or(place.dev, |sb| sb.dev);
        let same = exe.inode != 0 && place.inode == exe.inode && dev == exe.dev;
        (same && !place.is_fuse()).then_some(())
    })
}

/// `path` as seen below another root directory.
pub(super) fn below(root: &Path, path: &[u8]) -> PathBuf {
    let relative = path.iter().position(|&b| b != b'/').unwrap_or(path.len());
    root.join(OsStr::from_bytes(path.get(relative..).unwrap_or_default()))
}

/// Hashes, remembered by stamp: an unchanged file is read once.
#[derive(Debug)]
pub(super) struct Hasher {
    known: Mutex<Bounded<FileStamp, Arc<str>>>,
}

impl Hasher {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::new(Bounded::new(HASHES_MAX)),
        }
    }

    /// Lower-case hexadecimal; absent for a file that is too large, changes meanwhile or cannot be read.
    pub(super) fn hash(&self, exe: OpenExe) -> Option<Arc<str>> {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&exe.stamp) {
            return Some(Arc::clone(known));
        }
        let text: Arc<str> = digest(exe.file, &exe.stamp)?.into();
        lock().insert(exe.stamp, Arc::clone(&text));
        Some(text)
    }
}

fn digest(file: OwnedFd, before: &FileStamp) -> Option<String> {
    if before.size > HASH_MAX {
        return None;
    }
    let mut file = std::fs::File::from(file);
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                total += u64::try_from(n).ok()?;
                if total > HASH_MAX {
                    return None;
                }
                hasher.update(chunk.get(..n)?);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    let (after, _) = stamp(file.as_fd(), Path::new("")).ok()?;
    if after != *before {
        return None;
    }
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

/// Opens a name without touching the file, checks what it is, then opens it for reading and makes
/// sure that it is still the same.
fn open_checked(
    dir: BorrowedFd<'_>,
    path: &Path,
    check: impl FnOnce(BorrowedFd<'_>) -> Option<()>,
) -> Option<OpenExe> {
    let look = rustix::fs::openat(dir, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    check(look.as_fd())?;
    let (expected, _) = stamp(look.as_fd(), Path::new("")).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(dir, path, flags, Mode::empty()).ok()?;
    let (stamp, _) = stamp(file.as_fd(), Path::new("")).ok()?;
    (stamp == expected).then_some(OpenExe { file, stamp })
}

/// What statx and mountinfo say of a file.
struct Place {
    dev: u32,
    inode: u64,
    superblock: Option<Superblock>,
}

impl Place {
    /// A regular file only: anything else could block, or never end.
    fn of(fd: BorrowedFd<'_>, mountinfo: Option<&[u8]>) -> Option<Self> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(fd, "", flags, mask).ok()?;
        let regular = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
        let knows_mount = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        regular.then(|| Self {
            dev: super::proc_fs::kernel_dev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            superblock: mountinfo
                .filter(|_| knows_mount)
                .and_then(|text| mounts::superblock(text, stat.stx_mnt_id)),
        })
    }

    fn is_fuse(&self) -> bool {
        self.superblock.as_ref().is_some_and(|sb| sb.is_fuse)
    }
}

fn place(process: &ProcessDir, fd: BorrowedFd<'_>) -> Option<Place> {
    let mountinfo = process.read("mountinfo", MOUNTINFO_MAX).ok();
    Place::of(fd, mountinfo.as_deref())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;

    use super::{ExeId, HASH_MAX, Hasher, OpenExe, open_exe};
    use crate::decode::record::ProcessKey;
    use crate::enrich::proc_fs::{ProcFs, kernel_dev};
    use crate::time::BootNs;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const NOBODY: ProcessKey = ProcessKey {
        pid: 4_194_304,
        start: BootNs(0),
    };

    fn proc() -> ProcFs {
        ProcFs::new("/proc".into())
    }

    /// The id as the kernel would record it: the superblock's device from our own mountinfo.
    fn id(path: &Path) -> ExeId {
        let meta = std::fs::metadata(path).expect("file");
        let look = std::fs::File::open(path).expect("file");
        let info = std::fs::read("/proc/self/mountinfo").expect("mountinfo");
        let place =
            super::Place::of(std::os::fd::AsFd::as_fd(&look), Some(&info)).expect("regular");
        let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
        ExeId {
            path: path.as_os_str().as_encoded_bytes().into(),
            dev: place
                .superblock
                .map_or(kernel_dev(major, minor), |sb| sb.dev),
            inode: meta.ino(),
        }
    }

    fn by_path(exe: &ExeId) -> Option<OpenExe> {
        open_exe(&proc(), Path::new("/"), NOBODY, exe)
    }

    #[test]
    fn known_files_have_known_hashes() {
        let dir = tempfile::tempdir().expect("dir");
        let hasher = Hasher::new();
        for (content, expected) in [("", EMPTY), ("abc", ABC)] {
            let path = dir.path().join(format!("f{}", content.len()));
            std::fs::write(&path, content).expect("write");
            let exe = by_path(&id(&path)).expect("matches");
            assert_eq!(hasher.hash(exe).as_deref(), Some(expected));
        }
    }

    #[test]
    fn another_file_under_the_same_name_is_not_hashed() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x");
        std::fs::write(&path, "abc").expect("write");
        let old = id(&path);
        std::fs::rename(&path, dir.path().join("kept")).expect("mv");
        std::fs::write(&path, "evil").expect("write");
        assert!(by_path(&old).is_none(), "inode differs");
        let true_id = id(&path);
        assert!(by_path(&true_id).is_some());
        let other_dev = ExeId {
            dev: true_id.dev + 1,
            ..true_id.clone()
        };
        assert!(by_path(&other_dev).is_none(), "device differs");
        let unknown = ExeId {
            inode: 0,
            ..true_id
        };
        assert!(by_path(&unknown).is_none(), "a path alone proves nothing");
    }

    #[test]
    fn a_rewritten_file_is_hashed_again() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x");
        let hasher = Hasher::new();
        std::fs::write(&path, "").expect("write");
        let empty = by_path(&id(&path)).and_then(|exe| hasher.hash(exe));
        std::fs::write(&path, "abc").expect("write");
        let abc = by_path(&id(&path)).and_then(|exe| hasher.hash(exe));
        assert_eq!((empty.as_deref(), abc.as_deref()), (Some(EMPTY), Some(ABC)));
        // Opened before a change: neither content's hash may stand for the other.
        let open = by_path(&id(&path)).expect("open");
        std::fs::write(&path, "changed").expect("write");
        assert_eq!(Hasher::new().hash(open), None);
    }

    #[test]
    fn a_running_file_is_hashed_though_it_is_deleted() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let who = proc().who_from_proc(child.id()).expect("alive");
        let image = who.image.expect("image");
        let exe = ExeId {
            path: Arc::from(&b"/nowhere"[..]),
            dev: 0,
            inode: image.exe_inode,
        };
        let open = open_exe(&proc(), Path::new("/"), who.task.key, &exe);
        let other = ExeId {
            inode: exe.inode + 1,
            ..exe.clone()
        };
        let mismatch = open_exe(&proc(), Path::new("/"), who.task.key, &other);
        let successor = ProcessKey {
            start: BootNs(0),
            ..who.task.key
        };
        let reused = open_exe(&proc(), Path::new("/"), successor, &exe);
        child.kill().expect("kill");
        child.wait().expect("wait");
        let hash = Hasher::new().hash(open.expect("open")).expect("hash");
        assert_eq!(
            (hash.len(), mismatch.is_none(), reused.is_none()),
            (64, true, true)
        );
        let direct = by_path(&id(Path::new("/usr/bin/sleep"))).expect("open");
        assert_eq!(Hasher::new().hash(direct), Some(hash));
    }

    #[test]
    fn too_large_is_not_read() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("sparse");
        let file = std::fs::File::create(&path).expect("create");
        file.set_len(HASH_MAX + 1).expect("sparse");
        assert_eq!(
            by_path(&id(&path)).and_then(|exe| Hasher::new().hash(exe)),
            None
        );
    }

    #[test]
    fn a_fifo_is_not_opened() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("fifo");
        let done = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(done.success());
        let meta = std::fs::metadata(&path).expect("fifo");
        let exe = ExeId {
            path: path.as_os_str().as_encoded_bytes().into(),
            dev: kernel_dev(rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev())),
            inode: meta.ino(),
        };
        assert!(by_path(&exe).is_none());
    }
}
