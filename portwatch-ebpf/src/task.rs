//! Who: the task, its process and its parents, in the ids of the initial namespaces.

use portwatch_common::connection::Owner;
use portwatch_common::offsets::ABSENT;
use portwatch_common::task::{Ancestor, MAX_ANCESTORS, NO_LOGINUID, Task};

use crate::kernel::{Typed, copy, field, offset};

/// Bit of `PF_KTHREAD` in `task_struct.flags`.
const PF_KTHREAD_BIT: u32 = 21;

/// Fills in a task.
///
/// Trap: the current thread may be an io_uring worker (`iou-sqp-N`), and a thread may rename itself;
/// name and start are the group leader's, which is what `/proc/PID` shows.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill(task: u64, out: *mut Task) {
    let leader: u64 = field(task, offset!(task_group_leader));
    let cred: u64 = field(task, offset!(task_cred));
    let flags: u32 = field(task, offset!(task_flags));
    let parent: u64 = field(leader, offset!(task_real_parent));
    let nsproxy: u64 = field(task, offset!(task_nsproxy));
    let pidns: u64 = field(nsproxy, offset!(nsproxy_pid_ns));
    // SAFETY: `out` is writable; each statement writes one field of plain integers.
    unsafe {
        (*out).pid = field(task, offset!(task_tgid));
        (*out).tid = field(task, offset!(task_pid));
        (*out).ppid = field(parent, offset!(task_tgid));
        (*out).uid = field(cred, offset!(cred_uid));
        (*out).gid = field(cred, offset!(cred_gid));
        (*out).loginuid = if offset!(task_loginuid) == ABSENT {
            NO_LOGINUID
        } else {
            field(task, offset!(task_loginuid))
        };
        (*out).start_boot_ns = field(leader, offset!(task_start_boottime));
        (*out).cgroup_id = cgroup_id(task);
        copy(&raw mut (*out).comm, leader, offset!(task_comm));
        (*out).is_kthread = ((flags >> PF_KTHREAD_BIT) & 1) as u8;
        (*out).reserved = [0; 3];
        (*out).pidns = field(pidns, offset!(pidns_inum));
    }
}

/// Is this the task that was filled in there, going by its id and its process's start?
///
/// # Safety
/// `known` must be readable.
#[inline(always)]
pub unsafe fn is_in(task: Typed, known: *const Task) -> bool {
    // SAFETY: `group_leader` is a pointer to a task; the caller's promise; plain integers.
    unsafe {
        let leader = task.follow(offset!(task_group_leader));
        let start: u64 = leader.field(offset!(task_start_boottime));
        let tid: u32 = task.field(offset!(task_pid));
        (*known).tid == tid && (*known).start_boot_ns == start
    }
}

/// The part of the task that a connection remembers.
#[inline(always)]
pub fn owner(task: u64) -> Owner {
    let leader: u64 = field(task, offset!(task_group_leader));
    let cred: u64 = field(task, offset!(task_cred));
    Owner {
        pid: field(task, offset!(task_tgid)),
        tid: field(task, offset!(task_pid)),
        uid: field(cred, offset!(cred_uid)),
        gid: field(cred, offset!(cred_gid)),
        start_boot_ns: field(leader, offset!(task_start_boottime)),
        comm: field(leader, offset!(task_comm)),
    }
}

/// Walks the chain of real parents. `real_parent` may be any thread of the parent: its leader counts.
/// The swapper (pid 0) is its own parent: from there on every slot says pid 0, which ends the chain.
///
/// # Safety
/// `out` must be writable.
#[inline(always)]
pub unsafe fn fill_ancestors(task: u64, out: *mut [Ancestor; MAX_ANCESTORS]) {
    let mut current: u64 = field(task, offset!(task_group_leader));
    let mut index = 0;
    while index < MAX_ANCESTORS {
        let parent: u64 = field(current, offset!(task_real_parent));
        current = field(parent, offset!(task_group_leader));
        // SAFETY: `index` is below the length; plain integers.
        unsafe {
            let slot = &raw mut (*out)[index];
            (*slot).pid = field(current, offset!(task_tgid));
            (*slot).reserved = 0;
            (*slot).start_boot_ns = field(current, offset!(task_start_boottime));
            copy(&raw mut (*slot).comm, current, offset!(task_comm));
        }
        index += 1;
    }
}

/// The id of the task's cgroup in the default hierarchy.
#[inline(always)]
pub fn cgroup_id(task: u64) -> u64 {
    let set: u64 = field(task, offset!(task_cgroups));
    let group: u64 = field(set, offset!(css_set_dfl_cgrp));
    let node: u64 = field(group, offset!(cgroup_kn));
    field(node, offset!(kernfs_id))
}
