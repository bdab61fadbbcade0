//! Exec, fork and exit of processes, for the process table that outlives them.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use portwatch_common::header::{EventKind, Mechanism};

use crate::emit::{self, raw};
use crate::kernel::{argument, field, offset};

/// `void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: runs in the
/// process itself, with the new address space in place.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec_tp_btf(context: BtfTracePointContext) -> i32 {
    emit::exec(argument(raw(&context), 0), Mechanism::TP_BTF);
    0
}

/// `void sched_process_fork(struct task_struct *parent, struct task_struct *child)`: threads are left out.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn fork_tp_btf(context: BtfTracePointContext) -> i32 {
    let parent = argument(raw(&context), 0);
    let child = argument(raw(&context), 1);
    let tgid: u32 = field(child, offset!(task_tgid));
    let pid: u32 = field(child, offset!(task_pid));
    if tgid == pid {
        let leader: u64 = field(parent, offset!(task_group_leader));
        let start = field(leader, offset!(task_start_boottime));
        emit::life(child, EventKind::PROCESS_FORK, Mechanism::TP_BTF, start, 0);
    }
    0
}

/// `void sched_process_exit(struct task_struct *p, …)`: only the last thread of a process is its end.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit_tp_btf(context: BtfTracePointContext) -> i32 {
    let task = argument(raw(&context), 0);
    let live: i32 = field(field(task, offset!(task_signal)), offset!(signal_live));
    if live == 0 {
        let code: i32 = field(task, offset!(task_exit_code));
        emit::life(task, EventKind::PROCESS_EXIT, Mechanism::TP_BTF, 0, code);
    }
    0
}
