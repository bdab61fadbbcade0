//! Exec, fork and exit of processes, for the process table that outlives them.

use core::ffi::c_void;

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use portwatch_common::header::{EventKind, Mechanism};

use super::traced;
use crate::emit;
use crate::kernel::{argument, field, offset};
use crate::spare::Turn;

traced! {
    /// `void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: runs in the
    /// process itself, with the new address space in place.
    btf_tracepoint BtfTracePointContext "sched_process_exec": exec_tp_btf / exec_tp_btf_spare, EXEC, exec
}

#[inline(never)]
fn exec(context: *mut c_void, turn: Turn) -> i32 {
    if turn.is_mine(true) {
        emit::exec(argument(context, 0), Mechanism::TP_BTF);
    }
    0
}

traced! {
    /// `void sched_process_fork(struct task_struct *parent, struct task_struct *child)`: threads are left out.
    btf_tracepoint BtfTracePointContext "sched_process_fork": fork_tp_btf / fork_tp_btf_spare, FORK, fork
}

#[inline(never)]
fn fork(context: *mut c_void, turn: Turn) -> i32 {
    let parent = argument(context, 0);
    let child = argument(context, 1);
    let tgid: u32 = field(child, offset!(task_tgid));
    let pid: u32 = field(child, offset!(task_pid));
    if turn.is_mine(tgid == pid) {
        let leader: u64 = field(parent, offset!(task_group_leader));
        let start = field(leader, offset!(task_start_boottime));
        emit::life(child, EventKind::PROCESS_FORK, Mechanism::TP_BTF, start, 0);
    }
    0
}

traced! {
    /// `void sched_process_exit(struct task_struct *p, …)`: only the last thread of a process is its end.
    btf_tracepoint BtfTracePointContext "sched_process_exit": exit_tp_btf / exit_tp_btf_spare, EXIT, exit
}

#[inline(never)]
fn exit(context: *mut c_void, turn: Turn) -> i32 {
    let task = argument(context, 0);
    let live: i32 = field(field(task, offset!(task_signal)), offset!(signal_live));
    if turn.is_mine(live == 0) {
        let code: i32 = field(task, offset!(task_exit_code));
        emit::life(task, EventKind::PROCESS_EXIT, Mechanism::TP_BTF, 0, code);
    }
    0
}
