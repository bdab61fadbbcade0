//! Asks the kernel which kinds of programs it permits, by loading the smallest of each.

use std::fs::File;
use std::path::PathBuf;

use aya::{Btf, Ebpf};

use super::load::{self, LoadError};
use super::plan::{Attach, CgroupHook, Program};
use crate::kernel::features::Features;
use crate::kernel::permitted::{Prober, ProgramKind};

/// Loads and attaches one small program a kind, and lets it go at once.
pub struct KernelProber<'a> {
    ebpf: Ebpf,
    btf: &'a Btf,
    cgroup: Option<PathBuf>,
}

impl<'a> KernelProber<'a> {
    /// Parses the object and makes its maps, as small as they can be.
    ///
    /// # Errors
    /// When even the maps are refused.
    pub fn new(features: &Features, btf: &'a Btf) -> Result<Self, LoadError> {
        let ebpf = load::object(
            features,
            load::Sizes::SMALLEST,
            load::settings(features, None),
        )?;
        Ok(Self {
            ebpf,
            btf,
            cgroup: features.cgroup2.as_ref().ok().cloned(),
        })
    }
}

impl Prober for KernelProber<'_> {
    fn try_kind(&mut self, kind: ProgramKind) -> Result<(), String> {
        let program = smallest(kind);
        let cgroup = match &self.cgroup {
            Some(path) => File::open(path).ok(),
            None => None,
        };
        let result = load::attach(&mut self.ebpf, self.btf, cgroup.as_ref(), &program);
        load::unload(&mut self.ebpf, program.name);
        result.map_err(|error| error.to_string())
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
