//! Finds where a kernel file system is mounted, without trusting that it is where it usually is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::read;

/// `CGROUP2_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
pub(super) const CGROUP2_MAGIC: u32 = 0x6367_7270;
/// `TRACEFS_MAGIC` of `include/uapi/linux/magic.h`.
pub(super) const TRACEFS_MAGIC: u32 = 0x7472_6163;

/// The first mount of the whole file system that can be reached: a path that something else was
/// mounted over is passed by.
pub(super) fn find(fs_type: &str, magic: u32) -> Option<PathBuf> {
    let mountinfo = read::text(Path::new("/proc/self/mountinfo"), 8 << 20).ok()?;
    mount_points(&mountinfo, fs_type)
        .into_iter()
        .find(|path| is_fs(path, magic))
}

fn is_fs(path: &Path, magic: u32) -> bool {
    // f_type is a long; the magic numbers are 32 bits of it.
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as u32 == magic)
}

/// Mount points of a type of file system whose own root is mounted there (`proc_pid_mountinfo(5)`).
fn mount_points(mountinfo: &str, fs_type: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut fields = front.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (root == "/" && back.split(' ').next() == Some(fs_type)).then(|| unescape(point))
        })
        .collect()
}

/// Undoes `\040` for space, and the like.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(byte));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::mount_points;
    use std::path::PathBuf;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw
42 31 0:38 /../.. /mnt/outer rw - cgroup2 cgroup2 rw
43 31 0:38 / /mnt/with\\040space\\134x rw - cgroup2 none rw
garbage
44 31 - cgroup2
";

    #[test]
    fn hybrid_hierarchies_optional_fields_and_escapes_are_understood() {
        assert_eq!(
            mount_points(HYBRID, "cgroup2"),
            [
                PathBuf::from("/sys/fs/cgroup/unified"),
                PathBuf::from("/mnt/with space\\x")
            ]
        );
        assert!(mount_points(HYBRID, "tracefs").is_empty());
    }
}
