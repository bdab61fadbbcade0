//! Paths without `d_path`: walks dentries and mounts up to the root, leaf first.
//!
//! The helper `bpf_d_path` is allowed in a handful of functions only, none of them ours.
//!
//! The body of the walk has no branch: a choice is made by arithmetic. With branches, the verifier
//! follows both sides of each of them in every step (two to the number of steps) and gives up at a
//! million instructions; without, one walk is a straight line. Truth is 0 or 1, not a mask of ones:
//! newer verifiers split the state in two wherever they see a value of either 0 or -1.

use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use portwatch_common::listener::DATA_LEN;

use crate::kernel::{field, offset};

/// Longest component with its NUL (`NAME_MAX` + 1); the slack behind every data area, so that a write
/// at any masked offset stays inside the record.
pub const SLACK: usize = 256;

/// Steps of a walk, mounts crossed included. Deeper paths are marked as cut and read from `/proc`.
const MAX_STEPS: usize = 24;

/// What a walk found.
pub struct Walk {
    /// Bytes written.
    pub len: u64,
    /// 1 when the path did not end at a root within the bounds.
    pub truncated: u16,
    /// 1 when the file hangs in no directory tree: a memfd and its like.
    pub detached: u16,
}

/// Walks from a `struct path` at `path` up to the root, appending NUL-terminated components to the
/// data area at `data + start`.
///
/// # Safety
/// `data` must be writable for `DATA_LEN + SLACK` bytes.
#[inline(always)]
pub unsafe fn walk(path: u64, data: *mut u8, start: u64) -> Walk {
    let mut vfsmount: u64 = field(path, offset!(path_mnt));
    let mut dentry: u64 = field(path, offset!(path_dentry));
    let mut at = start;
    // 1 once the walk is over; nothing moves any more then.
    let mut ended = 0u64;
    let mut complete = 0u64;
    let mut detached = 0u64;
    let mut step = 0;
    while step < MAX_STEPS {
        step += 1;
        let root: u64 = field(vfsmount, offset!(vfsmount_root));
        let mount = vfsmount.wrapping_sub(offset!(mount_mnt) as u64);
        let mount_parent: u64 = field(mount, offset!(mount_parent));
        let mountpoint: u64 = field(mount, offset!(mount_mountpoint));
        let name: u64 = field(dentry, offset!(dentry_name));
        let parent: u64 = field(dentry, offset!(dentry_parent));

        let at_root = is_equal(dentry, root);
        let at_top = at_root & (is_equal(mount_parent, mount) | is_zero(mount_parent));
        // The whole component must fit below the end of the area.
        let full = is_less((DATA_LEN - SLACK) as u64, at);
        let reads = not(ended | at_root | full);
        // SAFETY: the masked offset plus the longest component lies inside the record.
        let copied = unsafe {
            bpf_probe_read_kernel_str(
                data.add((at & (DATA_LEN as u64 - 1)) as usize).cast(),
                SLACK as u32,
                name.wrapping_mul(reads) as *const core::ffi::c_void,
            )
        } as u64;
        let appended = reads & not(is_less(copied, 1));
        let failed = not(ended | at_root) & not(appended);
        at = at.wrapping_add((copied & 0x1ff).wrapping_mul(appended));

        let orphan = appended & (is_equal(parent, dentry) | is_zero(parent));
        complete |= not(ended) & (at_top | orphan);
        detached |= orphan;
        let moves = not(ended | at_top | orphan | failed);
        let crosses = moves & at_root;
        dentry = choose(crosses, mountpoint, choose(moves, parent, dentry));
        let above = mount_parent.wrapping_add(offset!(mount_mnt) as u64);
        vfsmount = choose(crosses, above, vfsmount);
        ended |= not(moves);
    }
    Walk {
        len: at.wrapping_sub(start),
        truncated: not(complete) as u16,
        detached: detached as u16,
    }
}

/// 1 when `a == b`.
#[inline(always)]
pub fn is_equal(a: u64, b: u64) -> u64 {
    is_zero(a ^ b)
}

/// 1 when `value == 0`: the sign of `value | -value` is set for everything else.
#[inline(always)]
fn is_zero(value: u64) -> u64 {
    not(sign(value | value.wrapping_neg()))
}

/// 1 when `a < b` as signed numbers that are not far apart.
#[inline(always)]
pub fn is_less(a: u64, b: u64) -> u64 {
    sign(a.wrapping_sub(b))
}

/// The sign bit. The black boxes keep the compiler from recognising a comparison or a selection, which
/// it would compile to branches.
#[inline(always)]
fn sign(value: u64) -> u64 {
    black_box(black_box(value) >> 63)
}

/// 1 for 0 and 0 for 1.
#[inline(always)]
pub fn not(truth: u64) -> u64 {
    truth ^ 1
}

/// `a` where the truth is 1, `b` where it is 0.
#[inline(always)]
pub fn choose(truth: u64, a: u64, b: u64) -> u64 {
    b.wrapping_add(truth.wrapping_mul(a.wrapping_sub(b)))
}
