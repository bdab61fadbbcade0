//! Paths without `d_path`: walks dentries and mounts up to the root, leaf first.
//!
//! The helper `bpf_d_path` is allowed in a handful of functions only, none of them ours.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use portwatch_common::listener::DATA_LEN;
use portwatch_common::offsets::ABSENT;

use crate::kernel::{field, follow, offset};

/// Longest component with its NUL (`NAME_MAX` + 1); the slack behind every data area, so that a write
/// at any masked offset stays inside the record.
pub const SLACK: usize = 256;

/// Steps of a walk, mounts crossed included. Deeper paths are marked as cut and read from `/proc`.
const MAX_STEPS: usize = 24;

/// What a walk found.
pub struct Walk {
    /// Bytes written.
    pub len: usize,
    /// The path did not end at a root within the bounds.
    pub truncated: bool,
    /// The file hangs in no directory tree: a memfd and its like.
    pub detached: bool,
}

/// Walks from a `struct path` at `path` up to the root, appending NUL-terminated components to the
/// data area at `data + start`.
///
/// # Safety
/// `data` must be writable for `DATA_LEN + SLACK` bytes.
#[inline(always)]
pub unsafe fn walk(path: u64, data: *mut u8, start: usize) -> Walk {
    let mut result = Walk {
        len: 0,
        truncated: true,
        detached: false,
    };
    let Some(mut vfsmount) = follow(path, offset!(path_mnt)) else {
        return result;
    };
    let Some(mut dentry) = follow(path, offset!(path_dentry)) else {
        return result;
    };
    if offset!(mount_mnt) == ABSENT || offset!(dentry_name) == ABSENT {
        return result;
    }
    let mut at = start;
    let mut step = 0;
    while step < MAX_STEPS {
        step += 1;
        let root = field::<u64>(vfsmount, offset!(vfsmount_root)).unwrap_or(0);
        if dentry == root {
            let mount = vfsmount.wrapping_sub(u64::from(offset!(mount_mnt)));
            let parent = field::<u64>(mount, offset!(mount_parent)).unwrap_or(0);
            if parent == mount || parent == 0 {
                result.truncated = false;
                break;
            }
            dentry = field::<u64>(mount, offset!(mount_mountpoint)).unwrap_or(0);
            vfsmount = parent.wrapping_add(u64::from(offset!(mount_mnt)));
            continue;
        }
        if at > DATA_LEN - SLACK {
            break;
        }
        let name = field::<u64>(dentry, offset!(dentry_name)).unwrap_or(0);
        // SAFETY: the masked offset plus the longest component lies inside the record.
        let copied = unsafe {
            bpf_probe_read_kernel_str(
                data.add(at & (DATA_LEN - 1)).cast(),
                SLACK as u32,
                name as *const core::ffi::c_void,
            )
        };
        if copied <= 0 || copied > SLACK as i64 {
            break;
        }
        at += copied as usize;
        let parent = field::<u64>(dentry, offset!(dentry_parent)).unwrap_or(0);
        if parent == dentry || parent == 0 {
            result.truncated = false;
            result.detached = true;
            break;
        }
        dentry = parent;
    }
    result.len = at - start;
    result
}
