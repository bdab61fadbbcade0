//! Asks the kernel which kinds of programs it permits, by loading the smallest of each.

use std::fs::File;

use aya::{Btf, Ebpf};

use super::load;
use super::plan::{Attach, CgroupHook, Program};
use crate::kernel::features::Features;
use crate::kernel::permitted::{Prober, ProgramKind};
use crate::memory;

/// Loads and attaches one small program a kind.
pub(super) struct KernelProber<'a> {
    trial: Ebpf,
    btf: &'a Btf,
    cgroup: Option<File>,
}

/// The programs that were tried, and their maps. They go when this is dropped, and nobody waits for it: at each of them the
/// kernel waits until no CPU runs it any more, which takes longer than all else at a start.
pub(super) struct Trial(Option<Ebpf>);

impl Drop for Trial {
    fn drop(&mut self) {
        let tried = self.0.take();
        let thread = std::thread::Builder::new().name("probe-trial".to_owned());
        // Without a thread they go here and now.
        let letting_go = move || {
            drop(tried);
            // Megabytes of instructions; the start has given back what it took before.
            memory::give_back();
        };
        if let Err(error) = thread.spawn(letting_go) {
            tracing::debug!(%error, "no thread lets the tried programs go");
        }
    }
}

impl<'a> KernelProber<'a> {
    /// Tries the programs of this object.
    pub(super) fn new(features: &Features, btf: &'a Btf, trial: Ebpf) -> Self {
        let cgroup = features.cgroup2.as_ref().ok();
        Self {
            trial,
            btf,
            cgroup: cgroup.and_then(|path| File::open(path).ok()),
        }
    }

    /// What was tried, still in the kernel.
    pub(super) fn into_trial(self) -> Trial {
        Trial(Some(self.trial))
    }
}

impl Prober for KernelProber<'_> {
    fn try_kind(&mut self, kind: ProgramKind) -> Result<(), String> {
        let program = smallest(kind);
        load::attach(&mut self.trial, self.btf, self.cgroup.as_ref(), &program)
            .map_err(|error| error.to_string())
    }
}

/// The cheapest program of each kind to verify, on a hook that hardly ever runs.
fn smallest(kind: ProgramKind) -> Program {
    match kind {
        ProgramKind::Fexit => Program {
            name: "raw_open_fexit",
            attach: Attach::Fexit {
                function: "raw_hash_sk",
            },
        },
        ProgramKind::Fentry => Program {
            name: "raw_close_fentry",
            attach: Attach::Fentry {
                function: "raw_unhash_sk",
            },
        },
        ProgramKind::Kprobe => Program {
            name: "raw_close_kprobe",
            attach: Attach::Kprobe {
                function: "raw_unhash_sk",
            },
        },
        ProgramKind::TpBtf => Program {
            name: "exit_tp_btf",
            attach: Attach::TpBtf {
                tracepoint: "sched_process_exit",
            },
        },
        ProgramKind::Tracepoint => Program {
            name: "listen_enter",
            attach: Attach::Tracepoint {
                category: "syscalls",
                name: "sys_enter_listen",
            },
        },
        ProgramKind::CgroupSock => Program {
            name: "sock_release",
            attach: Attach::CgroupSock(CgroupHook::SockRelease),
        },
        ProgramKind::SockOps => Program {
            name: "tcp_sockops",
            attach: Attach::SockOps,
        },
        ProgramKind::Iterator => Program {
            name: "task_file_iter",
            attach: Attach::Iter {
                target: "task_file",
            },
        },
    }
}
