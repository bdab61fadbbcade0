//! Exec, fork and exit of processes, for the process table that outlives them.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use portwatch_common::header::{EventKind, Mechanism};

use crate::emit::{self, raw};
use crate::kernel::{argument, field, follow, offset};

/// `void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: runs in the
/// process itself, with the new address space in place.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec_tp_btf(context: BtfTracePointContext) -> i32 {
    if let Some(task) = argument(raw(&context), 0) {
        emit::exec(task, Mechanism::TP_BTF);
    }
    0
}

/// `void sched_process_fork(struct task_struct *parent, struct task_struct *child)`: threads are left out.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn fork_tp_btf(context: BtfTracePointContext) -> i32 {
    let context = raw(&context);
    let (Some(parent), Some(child)) = (argument(context, 0), argument(context, 1)) else {
        return 0;
    };
    let tgid: u32 = field(child, offset!(task_tgid)).unwrap_or(0);
    let pid: u32 = field(child, offset!(task_pid)).unwrap_or(0);
    if tgid != pid {
        return 0;
    }
    let leader = follow(parent, offset!(task_group_leader)).unwrap_or(parent);
    let start = field(leader, offset!(task_start_boottime)).unwrap_or(0);
    emit::life(child, EventKind::PROCESS_FORK, Mechanism::TP_BTF, start, 0);
    0
}

/// `void sched_process_exit(struct task_struct *p, …)`: only the last thread of a process is its end.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit_tp_btf(context: BtfTracePointContext) -> i32 {
    let Some(task) = argument(raw(&context), 0) else {
        return 0;
    };
    let live: i32 = match follow(task, offset!(task_signal)) {
        Some(signal) => field(signal, offset!(signal_live)).unwrap_or(0),
        None => 0,
    };
    if live == 0 {
        let code: i32 = field(task, offset!(task_exit_code)).unwrap_or(0);
        emit::life(task, EventKind::PROCESS_EXIT, Mechanism::TP_BTF, 0, code);
    }
    0
}
