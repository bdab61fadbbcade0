//! Bounded reads of /proc/PID, for what a kernel record did not carry.
//!
//! Every read of one process goes through one open `/proc/PID` directory. The kernel ties that
//! directory to the process, not to the number: when the process ends, reads fail, and a new process
//! with the same pid is never read by mistake.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use portwatch_common::task::MAX_ANCESTORS;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::proc_parse::{self, Slot, Stat};
use crate::decode::record::{AncestorInfo, ImageInfo, ProcessKey, TaskInfo, Who};

/// Longest command line read, in bytes.
pub const CMDLINE_MAX: usize = 64 << 10;
/// Longest /proc/PID/cgroup read, in bytes: a path for each of a dozen hierarchies.
const CGROUP_MAX: usize = 64 << 10;
/// Longest other file of /proc/PID read, in bytes.
const SMALL_MAX: usize = 8 << 10;
/// What the kernel puts behind the path of a file that has lost its name.
const DELETED: &[u8] = b" (deleted)";

/// A mounted procfs.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
}

/// What identifies the content of a file: as long as none of it changes, neither did the bytes.
/// The change time cannot be set back by the file's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// Device as stat(2) shows it, `major << 20 | minor`; on btrfs and overlayfs not the superblock's.
    pub dev: u32,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Change time.
    pub changed: (i64, u32),
}

impl ProcFs {
    /// The procfs mounted at `root`, `/proc` but for tests.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Everything /proc says of a process now, parents included. May wait for a lock that the process
    /// holds (reading arguments takes its memory map's), so not for the pipeline.
    #[must_use]
    pub fn who_from_proc(&self, pid: u32) -> Option<Who> {
        let process = self.open(pid)?;
        let stat = process.stat()?;
        let (uid, gid) = proc_parse::ids(&process.read("status", SMALL_MAX).ok()?)?;
        let loginuid = process.read("loginuid", 32).ok();
        let image = (!stat.is_kthread).then(|| {
            let mut image = process.image().unwrap_or_default();
            if let Some((args, truncated)) = process.args() {
                image.args = Some(args);
                image.args_truncated = truncated;
            }
            image
        });
        Some(Who {
            task: TaskInfo {
                key: ProcessKey {
                    pid,
                    start: stat.start,
                },
                tid: pid,
                ppid: stat.ppid,
                uid,
                gid,
                loginuid: loginuid.and_then(|text| proc_parse::loginuid(&text)),
                cgroup_id: 0,
                comm: stat.comm,
                is_kthread: stat.is_kthread,
            },
            image,
            ancestors: self.ancestors(stat.ppid),
        })
    }

    /// Whether the process with this pid is still the one that the key names.
    #[must_use]
    pub fn same_process(&self, key: ProcessKey) -> bool {
        self.open_same(key).is_some()
    }

    /// The chain of parents, from this pid on, nearest first.
    #[must_use]
    pub fn ancestors(&self, from: u32) -> Vec<AncestorInfo> {
        let mut chain = Vec::new();
        let mut pid = from;
        while pid != 0 && chain.len() < MAX_ANCESTORS {
            let Some(stat) = self.open(pid).and_then(|process| process.stat()) else {
                break;
            };
            chain.push(AncestorInfo {
                key: ProcessKey {
                    pid,
                    start: stat.start,
                },
                comm: stat.comm,
            });
            pid = stat.ppid;
        }
        chain
    }

    /// Every process (no threads); empty when /proc cannot be read.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    /// A process directory, whoever has the pid now.
    pub(super) fn open(&self, pid: u32) -> Option<ProcessDir> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = self.root.join(pid.to_string());
        rustix::fs::open(path, flags, Mode::empty())
            .ok()
            .map(|dir| ProcessDir { dir })
    }

    /// The directory of exactly this process, while it lives.
    pub(super) fn open_same(&self, key: ProcessKey) -> Option<ProcessDir> {
        let process = self.open(key.pid)?;
        let start = process.stat()?.start;
        let seen = ProcessKey {
            pid: key.pid,
            start,
        };
        (Slot::from(seen) == Slot::from(key)).then_some(process)
    }

    /// The stamp of the executable that this process runs, while it lives; `inode` is the one the
    /// kernel recorded (0 when it did not), which also tells a successor with the same pid. No lock,
    /// and no wait for a remote or user-space file system.
    pub(super) fn exe_stamp(&self, key: ProcessKey, inode: u64) -> Option<FileStamp> {
        let exe = Path::new("exe");
        let (found, _) = if inode == 0 {
            stamp(self.open_same(key)?.dir.as_fd(), exe)
        } else {
            let dir = self.root.join(key.pid.to_string());
            stamp(rustix::fs::CWD, &dir.join(exe))
        }
        .ok()?;
        (inode == 0 || found.inode == inode).then_some(found)
    }
}

/// One process, for as long as it lives.
#[derive(Debug)]
pub(super) struct ProcessDir {
    dir: OwnedFd,
}

impl ProcessDir {
    pub(super) fn stat(&self) -> Option<Stat> {
        proc_parse::stat(&self.read("stat", SMALL_MAX).ok()?)
    }

    /// Executable and working directory, without the arguments: this takes no lock that the process
    /// could hold. The error is that of the executable's link.
    pub(super) fn image(&self) -> Result<ImageInfo, Errno> {
        let mut image = ImageInfo {
            cwd: self.working_directory(),
            ..ImageInfo::default()
        };
        let mut path = self.link("exe")?;
        let file = stamp(self.dir.as_fd(), Path::new("exe")).ok();
        if let Some((stamp, _)) = file {
            image.exe_inode = stamp.inode;
            image.exe_dev = stamp.dev;
        }
        if path.ends_with(DELETED) && self.is_deleted(&path, file) {
            path.truncate(path.len() - DELETED.len());
            // No directory can hold a memfd, so it never had a link.
            image.exe_memfd =
                path.starts_with(b"/memfd:") && file.is_none_or(|(_, links)| links == 0);
            image.exe_deleted = !image.exe_memfd;
        }
        image.exe = Some(path);
        Ok(image)
    }

    /// The path of the working directory; of one that was removed, the path that it had.
    pub(super) fn working_directory(&self) -> Option<Vec<u8>> {
        let mut path = self.link("cwd").ok()?;
        if path.ends_with(DELETED) {
            let file = stamp(self.dir.as_fd(), Path::new("cwd")).ok();
            if self.is_deleted(&path, file) {
                path.truncate(path.len() - DELETED.len());
            }
        }
        Some(path)
    }

    /// The arguments, at most [`CMDLINE_MAX`] bytes, and whether there were more. May wait for the
    /// process's memory map.
    pub(super) fn args(&self) -> Option<(Vec<Vec<u8>>, bool)> {
        let mut text = self.read("cmdline", CMDLINE_MAX + 1).ok()?;
        let truncated = text.len() > CMDLINE_MAX;
        text.truncate(CMDLINE_MAX);
        Some((proc_parse::args(&text), truncated))
    }

    /// The path in /proc/PID/cgroup that says most, and whether it is cgroup2's.
    pub(super) fn cgroup(&self) -> Option<(Vec<u8>, bool)> {
        let text = self.read("cgroup", CGROUP_MAX).ok()?;
        proc_parse::cgroup(&text).map(|(path, unified)| (path.to_vec(), unified))
    }

    /// At most `limit` bytes of a file of the process.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty())?;
        let mut text = Vec::with_capacity(limit.min(1024));
        let mut chunk = [0; 4096];
        while text.len() < limit {
            match rustix::io::read(&file, &mut chunk) {
                Ok(0) => break,
                Ok(n) => text.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        text.truncate(limit);
        Ok(text)
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    fn link(&self, name: &str) -> Result<Vec<u8>, Errno> {
        rustix::fs::readlinkat(&self.dir, name, Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// The kernel marks a lost name with a suffix that a file's own name may have too. Without links
    /// it is lost. With links, it is kept only if that very name still leads to the file; asked of
    /// the name cache alone, because a file system in user space may never answer.
    fn is_deleted(&self, path: &[u8], file: Option<(FileStamp, u32)>) -> bool {
        let Some((stamp, links)) = file else {
            return true;
        };
        let named = Path::new(OsStr::from_bytes(path));
        let found = |root: &OwnedFd| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::CACHED | ResolveFlags::IN_ROOT;
            let file = rustix::fs::openat2(root, named, flags, Mode::empty(), resolve).ok()?;
            self::stamp(file.as_fd(), Path::new("")).ok()
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.dir, "root", flags, Mode::empty());
        links == 0
            || root
                .ok()
                .and_then(|root| found(&root))
                .is_none_or(|(there, _)| there.inode != stamp.inode)
    }
}

/// Stamp and link count of a file, from what the kernel has cached (`AT_STATX_DONT_SYNC`). An empty
/// path means the descriptor itself.
pub(super) fn stamp(dir: impl AsFd, path: &Path) -> Result<(FileStamp, u32), Errno> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(dir, path, flags, StatxFlags::BASIC_STATS)?;
    let stamp = FileStamp {
        dev: kernel_dev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        size: stat.stx_size,
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    };
    Ok((stamp, stat.stx_nlink))
}

/// A device number as `struct super_block` holds it.
pub(super) const fn kernel_dev(major: u32, minor: u32) -> u32 {
    major << 20 | minor & 0xf_ffff
}

#[cfg(test)]
mod tests;
