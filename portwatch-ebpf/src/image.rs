//! What the process runs: executable, working directory and arguments, captured at the event itself,
//! because a process that lives for a millisecond has no `/proc` entry by the time anybody looks.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use portwatch_common::listener::DATA_LEN;
use portwatch_common::task::{Image, ImageFlags};

use crate::kernel::{field, follow, offset};
use crate::path::{SLACK, walk};

/// Arguments are copied in pieces of this size, so that one page that is not there costs one piece.
const PIECE: usize = SLACK;
/// Pieces at most: half of the data area.
const MAX_PIECES: usize = 6;

/// Fills in the image of `task` and its texts; gives back how many bytes of `data` are used.
///
/// # Safety
/// `out` must be writable, `data` for `DATA_LEN + SLACK` bytes. Arguments are read from the current
/// address space: `task` must be current.
#[inline(always)]
pub unsafe fn fill(task: u64, out: *mut Image, data: *mut u8) -> usize {
    let mut flags = 0;
    let mut used = 0;
    // SAFETY: `out` is writable; plain integers.
    unsafe {
        (*out).exe_inode = 0;
        (*out).exe_dev = 0;
        (*out).exe_nlink = 0;
        (*out).exe_len = 0;
        (*out).cwd_len = 0;
        (*out).args_len = 0;
        (*out).args_total = 0;
        (*out).reserved = 0;
    }
    let Some(mm) = follow(task, offset!(task_mm)) else {
        // SAFETY: as above. A kernel thread has no image.
        unsafe {
            (*out).flags =
                ImageFlags::EXE_TRUNCATED | ImageFlags::CWD_TRUNCATED | ImageFlags::ARGS_UNREADABLE;
        }
        return 0;
    };
    if let Some(file) = follow(mm, offset!(mm_exe_file)) {
        if let Some(inode) = follow(file, offset!(file_inode)) {
            // SAFETY: `out` is writable; plain integers.
            unsafe {
                (*out).exe_inode = field(inode, offset!(inode_ino)).unwrap_or(0);
                (*out).exe_nlink = field(inode, offset!(inode_nlink)).unwrap_or(1);
                if let Some(sb) = follow(inode, offset!(inode_sb)) {
                    (*out).exe_dev = field(sb, offset!(sb_dev)).unwrap_or(0);
                }
            }
        }
        // SAFETY: the caller's promise about `data`.
        let exe = unsafe { walk(file.wrapping_add(u64::from(offset!(file_path))), data, used) };
        if exe.truncated {
            flags |= ImageFlags::EXE_TRUNCATED;
        }
        if exe.detached {
            flags |= ImageFlags::EXE_MEMFD;
        }
        used += exe.len;
        // SAFETY: `out` is writable.
        unsafe { (*out).exe_len = exe.len as u16 };
    } else {
        flags |= ImageFlags::EXE_TRUNCATED;
    }
    if let Some(fs) = follow(task, offset!(task_fs)) {
        // SAFETY: the caller's promise about `data`.
        let cwd = unsafe { walk(fs.wrapping_add(u64::from(offset!(fs_pwd))), data, used) };
        if cwd.truncated {
            flags |= ImageFlags::CWD_TRUNCATED;
        }
        used += cwd.len;
        // SAFETY: `out` is writable.
        unsafe { (*out).cwd_len = cwd.len as u16 };
    } else {
        flags |= ImageFlags::CWD_TRUNCATED;
    }
    let start: u64 = field(mm, offset!(mm_arg_start)).unwrap_or(0);
    let end: u64 = field(mm, offset!(mm_arg_end)).unwrap_or(0);
    let total = if start == 0 || end < start {
        0
    } else {
        end - start
    };
    // SAFETY: the caller's promise about `data`.
    let copied = unsafe { copy_arguments(start, total, data, used) };
    if copied == 0 {
        flags |= ImageFlags::ARGS_UNREADABLE;
    }
    // SAFETY: `out` is writable.
    unsafe {
        (*out).args_len = copied as u16;
        (*out).args_total = if total > 0xffff_ffff {
            u32::MAX
        } else {
            total as u32
        };
        (*out).flags = flags;
    }
    used + copied
}

/// Copies the arguments piece by piece; stops at the first page that is not resident.
#[inline(always)]
unsafe fn copy_arguments(start: u64, total: u64, data: *mut u8, used: usize) -> usize {
    let mut copied = 0usize;
    let mut piece = 0;
    while piece < MAX_PIECES {
        piece += 1;
        let at = used + copied;
        if at > DATA_LEN - PIECE || copied as u64 >= total {
            break;
        }
        let left = total - copied as u64;
        let length = if left < PIECE as u64 {
            left as u32
        } else {
            PIECE as u32
        };
        // SAFETY: the masked offset plus a piece lies inside the record; the helper checks the source.
        let result = unsafe {
            bpf_probe_read_user(
                data.add(at & (DATA_LEN - 1)).cast(),
                length,
                start.wrapping_add(copied as u64) as *const core::ffi::c_void,
            )
        };
        if result != 0 {
            break;
        }
        copied += length as usize;
    }
    copied
}
