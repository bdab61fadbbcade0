//! Tasks, their images and their parents.

use portwatch_common::connection::Owner;
use portwatch_common::task::{Ancestor, Image, ImageFlags, NO_LOGINUID, Task};

use super::DecodeError;
use super::path::{from_leaf_first, text_lengths};
use super::record::{AncestorInfo, ImageInfo, ProcessKey, TaskInfo};
use crate::time::BootNs;

/// A task.
pub(super) fn task(wire: &Task) -> TaskInfo {
    TaskInfo {
        key: ProcessKey {
            pid: wire.pid,
            start: BootNs(wire.start_boot_ns),
        },
        tid: wire.tid,
        ppid: wire.ppid,
        uid: wire.uid,
        gid: wire.gid,
        loginuid: (wire.loginuid != NO_LOGINUID).then_some(wire.loginuid),
        cgroup_id: wire.cgroup_id,
        comm: comm(&wire.comm),
        is_kthread: wire.is_kthread != 0,
    }
}

/// What a connection remembers of its owner; nobody when the pid is 0. What it does not remember
/// (parent, login, cgroup) is zero or absent.
pub(super) fn owner(wire: &Owner) -> Option<TaskInfo> {
    (wire.pid != 0).then(|| TaskInfo {
        key: ProcessKey {
            pid: wire.pid,
            start: BootNs(wire.start_boot_ns),
        },
        tid: wire.tid,
        ppid: 0,
        uid: wire.uid,
        gid: wire.gid,
        loginuid: None,
        cgroup_id: 0,
        comm: comm(&wire.comm),
        is_kthread: false,
    })
}

/// The chain up to its first empty place.
pub(super) fn ancestors(wire: &[Ancestor]) -> Vec<AncestorInfo> {
    wire.iter()
        .take_while(|ancestor| ancestor.pid != 0)
        .map(|ancestor| AncestorInfo {
            key: ProcessKey {
                pid: ancestor.pid,
                start: BootNs(ancestor.start_boot_ns),
            },
            comm: comm(&ancestor.comm),
        })
        .collect()
}

/// An image and, behind its texts, `extra` more bytes of the data area. No image when the probe could
/// read nothing at all.
pub(super) fn image<'a>(
    wire: &Image,
    extra: usize,
    data: &'a [u8],
) -> Result<(Option<ImageInfo>, &'a [u8]), DecodeError> {
    let [exe_len, cwd_len, args_len] = text_lengths(wire);
    let need = exe_len + cwd_len + args_len + extra;
    let texts = data.get(..need).ok_or(DecodeError::DataOverrun {
        have: data.len(),
        need,
    })?;
    let (args, texts) = texts.split_at(args_len);
    let (exe, texts) = texts.split_at(exe_len);
    let (cwd, extra) = texts.split_at(cwd_len);
    let nothing = exe_len + cwd_len + args_len == 0 && wire.exe_inode == 0 && wire.flags == 0;
    let has = |flag: u16| wire.flags & flag != 0;
    // An executable is never the root directory: such a path means that it was not read.
    let exe = (!has(ImageFlags::EXE_TRUNCATED))
        .then(|| from_leaf_first(exe))
        .filter(|path| path != b"/");
    let is_memfd = has(ImageFlags::EXE_MEMFD);
    let image = ImageInfo {
        exe,
        exe_inode: wire.exe_inode,
        exe_dev: wire.exe_dev,
        exe_deleted: wire.exe_inode != 0 && wire.exe_nlink == 0 && !is_memfd,
        exe_memfd: is_memfd,
        cwd: (!has(ImageFlags::CWD_TRUNCATED)).then(|| from_leaf_first(cwd)),
        args: if has(ImageFlags::ARGS_UNREADABLE) {
            None
        } else {
            arguments(args)
        },
        args_truncated: !has(ImageFlags::ARGS_UNREADABLE)
            && wire.args_total > u32::from(wire.args_len),
    };
    Ok(((!nothing).then_some(image), extra))
}

/// Splits `/proc/PID/cmdline`'s form. The empty tail that a program leaves when it writes a title over
/// its arguments is dropped.
fn arguments(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
    let args = bytes[..end].split(|&byte| byte == 0);
    Some(args.map(<[u8]>::to_vec).collect())
}

/// A task name without its padding.
fn comm(padded: &[u8]) -> Vec<u8> {
    padded
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::{arguments, comm};

    #[test]
    fn arguments_are_split_at_nul() {
        assert_eq!(
            arguments(b"nginx\0-g\0\0daemon on;\0"),
            Some(vec![
                b"nginx".to_vec(),
                b"-g".to_vec(),
                Vec::new(),
                b"daemon on;".to_vec()
            ])
        );
        assert_eq!(
            arguments(b"sshd: /usr/sbin/sshd -D\0\0\0\0"),
            Some(vec![b"sshd: /usr/sbin/sshd -D".to_vec()])
        );
        assert_eq!(arguments(b""), None);
        assert_eq!(arguments(b"\0\0"), None);
    }

    #[test]
    fn a_name_ends_at_its_padding() {
        assert_eq!(comm(b"nginx\0\0junk"), b"nginx");
        assert_eq!(comm(b"sixteen_bytes_xy"), b"sixteen_bytes_xy");
    }
}
