//! What the process runs: executable, working directory and arguments, captured at the event itself,
//! because a process that lives for a millisecond has no `/proc` entry by the time anybody looks.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use portwatch_common::listener::ARGS_LEN;
use portwatch_common::task::{Image, ImageFlags};

use crate::kernel::{field, offset};
use crate::path::{choose, is_less, not, walk};

/// Fills in the image of `task` and its texts; gives back how many bytes of `data` are used.
///
/// # Safety
/// `out` must be writable, `data` for `DATA_LEN + SLACK` bytes. Arguments are read from the current
/// address space: `task` must be current.
#[inline(always)]
pub unsafe fn fill(task: u64, out: *mut Image, data: *mut u8) -> u64 {
    let mm: u64 = field(task, offset!(task_mm));
    let file: u64 = field(mm, offset!(mm_exe_file));
    let inode: u64 = field(file, offset!(file_inode));
    let sb: u64 = field(inode, offset!(inode_sb));
    let fs: u64 = field(task, offset!(task_fs));
    let start: u64 = field(mm, offset!(mm_arg_start));
    let end: u64 = field(mm, offset!(mm_arg_end));
    let total = end.wrapping_sub(start) & 0xffff_ffff;
    let most = ARGS_LEN as u64 - 1;
    let wanted = choose(is_less(total, most), total, most) & most;
    // SAFETY: at most `ARGS_LEN` bytes at the beginning of the data area; the helper checks the source.
    let refused = unsafe {
        bpf_probe_read_user(
            data.cast(),
            wanted as u32,
            start as *const core::ffi::c_void,
        )
    };
    // A page that is not resident: nothing was copied, and `/proc` is asked later.
    let unreadable = is_less(refused as u64, 0);
    let args_len = wanted.wrapping_mul(not(unreadable)) & most;
    // SAFETY: the caller's promise about `data`.
    let exe = unsafe { walk(file.wrapping_add(offset!(file_path) as u64), data, args_len) };
    let used = args_len.wrapping_add(exe.len);
    // SAFETY: the caller's promise about `data`.
    let cwd = unsafe { walk(fs.wrapping_add(offset!(fs_pwd) as u64), data, used) };
    // SAFETY: `out` is writable; plain integers.
    unsafe {
        (*out).exe_inode = field(inode, offset!(inode_ino));
        (*out).exe_dev = field(sb, offset!(sb_dev));
        (*out).exe_nlink = field(inode, offset!(inode_nlink));
        (*out).exe_len = exe.len as u16;
        (*out).cwd_len = cwd.len as u16;
        (*out).args_len = args_len as u16;
        (*out).args_total = total as u32;
        (*out).reserved = 0;
        (*out).flags = (exe.truncated * ImageFlags::EXE_TRUNCATED)
            | (exe.detached * ImageFlags::EXE_MEMFD)
            | (cwd.truncated * ImageFlags::CWD_TRUNCATED)
            | (unreadable as u16 * ImageFlags::ARGS_UNREADABLE);
    }
    used.wrapping_add(cwd.len)
}
