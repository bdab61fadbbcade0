//! Who: the task, its process and its parents, in the ids of the initial namespaces.

use portwatch_common::connection::Owner;
use portwatch_common::task::{Ancestor, MAX_ANCESTORS, NO_LOGINUID, Task};

use crate::kernel::{copy, field, follow, offset};

/// `task_struct.flags` of a kernel thread.
const PF_KTHREAD: u32 = 0x0020_0000;

/// Fills in a task.
///
/// Trap: the current thread may be an io_uring worker (`iou-sqp-N`), and a thread may rename itself;
/// name and start are the group leader's, which is what `/proc/PID` shows.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill(task: u64, out: *mut Task) {
    let leader = follow(task, offset!(task_group_leader)).unwrap_or(task);
    let cred = follow(task, offset!(task_cred)).unwrap_or(0);
    let flags: u32 = field(task, offset!(task_flags)).unwrap_or(0);
    // SAFETY: `out` is writable; each statement writes one field of plain integers.
    unsafe {
        (*out).pid = field(task, offset!(task_tgid)).unwrap_or(0);
        (*out).tid = field(task, offset!(task_pid)).unwrap_or(0);
        (*out).ppid = match follow(leader, offset!(task_real_parent)) {
            Some(parent) => field(parent, offset!(task_tgid)).unwrap_or(0),
            None => 0,
        };
        (*out).uid = field(cred, offset!(cred_uid)).unwrap_or(u32::MAX);
        (*out).gid = field(cred, offset!(cred_gid)).unwrap_or(u32::MAX);
        (*out).loginuid = field(task, offset!(task_loginuid)).unwrap_or(NO_LOGINUID);
        (*out).start_boot_ns = field(leader, offset!(task_start_boottime)).unwrap_or(0);
        (*out).cgroup_id = cgroup_id(task);
        if !copy(
            &raw mut (*out).comm,
            leader.wrapping_add(u64::from(offset!(task_comm))),
        ) {
            (*out).comm = [0; 16];
        }
        (*out).is_kthread = u8::from(flags & PF_KTHREAD != 0);
        (*out).reserved = [0; 3];
        (*out).pidns = match follow(task, offset!(task_nsproxy)) {
            Some(nsproxy) => match follow(nsproxy, offset!(nsproxy_pid_ns)) {
                Some(pidns) => field(pidns, offset!(pidns_inum)).unwrap_or(0),
                None => 0,
            },
            None => 0,
        };
    }
}

/// The part of the task that a connection remembers.
#[inline(always)]
pub fn owner(task: u64) -> Owner {
    let leader = follow(task, offset!(task_group_leader)).unwrap_or(task);
    let cred = follow(task, offset!(task_cred)).unwrap_or(0);
    Owner {
        pid: field(task, offset!(task_tgid)).unwrap_or(0),
        tid: field(task, offset!(task_pid)).unwrap_or(0),
        uid: field(cred, offset!(cred_uid)).unwrap_or(u32::MAX),
        gid: field(cred, offset!(cred_gid)).unwrap_or(u32::MAX),
        start_boot_ns: field(leader, offset!(task_start_boottime)).unwrap_or(0),
        comm: field(leader, offset!(task_comm)).unwrap_or([0; 16]),
    }
}

/// Walks the chain of real parents. `real_parent` may be any thread of the parent: its leader counts.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill_ancestors(task: u64, out: *mut [Ancestor; MAX_ANCESTORS]) {
    let mut current = follow(task, offset!(task_group_leader)).unwrap_or(task);
    let mut index = 0;
    while index < MAX_ANCESTORS {
        let parent = match follow(current, offset!(task_real_parent)) {
            Some(parent) => follow(parent, offset!(task_group_leader)).unwrap_or(parent),
            None => 0,
        };
        let pid: u32 = if parent == 0 {
            0
        } else {
            field(parent, offset!(task_tgid)).unwrap_or(0)
        };
        // SAFETY: `index` is below the length; plain integers.
        unsafe {
            let slot = &raw mut (*out)[index];
            (*slot).pid = pid;
            (*slot).reserved = 0;
            (*slot).start_boot_ns = field(parent, offset!(task_start_boottime)).unwrap_or(0);
            if !copy(
                &raw mut (*slot).comm,
                parent.wrapping_add(u64::from(offset!(task_comm))),
            ) {
                (*slot).comm = [0; 16];
            }
        }
        // The swapper (pid 0) is its own parent: from there on every slot says pid 0, which ends the chain.
        current = parent;
        index += 1;
    }
}

/// The id of the task's cgroup in the default hierarchy.
#[inline(always)]
fn cgroup_id(task: u64) -> u64 {
    let Some(set) = follow(task, offset!(task_cgroups)) else {
        return 0;
    };
    let Some(group) = follow(set, offset!(css_set_dfl_cgrp)) else {
        return 0;
    };
    let Some(node) = follow(group, offset!(cgroup_kn)) else {
        return 0;
    };
    field(node, offset!(kernfs_id)).unwrap_or(0)
}
