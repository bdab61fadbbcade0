//! What stands against a program on this kernel, and what could be done about it.

use super::signal::{Attach, Program};
use crate::kernel::capability::Capability;
use crate::kernel::features::{Features, Lockdown};
use crate::kernel::permitted::{Permitted, ProgramKind};

/// Why a program cannot be used.
#[derive(Debug)]
pub(super) struct Obstacle {
    /// A clause.
    pub(super) reason: String,
    pub(super) remedy: Option<Remedy>,
}

/// What helps, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remedy {
    MountCgroup2,
    MountTracefs,
    LockedMemory,
    Privileges,
    HostNamespace,
    Lockdown,
    Btf,
    SyscallTracepoints,
    Kprobes,
    Trampolines,
}

impl Remedy {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::MountCgroup2 => {
                "mount the host's cgroup2 hierarchy, for example: mount -t cgroup2 none /sys/fs/cgroup/unified"
            }
            Self::MountTracefs => "mount tracefs: mount -t tracefs tracefs /sys/kernel/tracing",
            Self::LockedMemory => {
                "raise the locked-memory limit (LimitMEMLOCK=infinity), or grant CAP_SYS_RESOURCE"
            }
            Self::Privileges => "run as root, or grant CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
            Self::HostNamespace => "run in the host's user namespace",
            Self::Lockdown => "boot with lockdown=integrity at most",
            Self::Btf => "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
            Self::SyscallTracepoints => "boot a kernel with CONFIG_FTRACE_SYSCALLS=y",
            Self::Kprobes => "boot a kernel with CONFIG_KPROBE_EVENTS=y",
            Self::Trampolines => {
                "boot a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y that permits fexit programs"
            }
        }
    }
}

/// The program as this kernel needs it: another one for an older prototype, none for a protocol that
/// the kernel does not speak.
pub(super) fn adapt(features: &Features, program: Program) -> Option<Program> {
    if program.is_ipv6() && !features.ipv6 {
        return None;
    }
    if program.name == "listen_fexit" && features.listen_start_has_backlog() {
        return Some(Program {
            name: "listen_backlog_fexit",
            ..program
        });
    }
    Some(program)
}

/// The first thing that stands against any of these programs.
pub(super) fn first(features: &Features, programs: &[Program]) -> Option<Obstacle> {
    programs
        .iter()
        .find_map(|program| privileges(features, program).or_else(|| kernel(features, program)))
}

fn privileges(features: &Features, program: &Program) -> Option<Obstacle> {
    let needs_net_admin = matches!(program.attach, Attach::SockOps | Attach::CgroupSock(_));
    let missing = [
        (Capability::Bpf, true),
        (Capability::Perfmon, true),
        (Capability::NetAdmin, needs_net_admin),
    ]
    .into_iter()
    .find(|&(one, needed)| needed && !features.capabilities.allows(one));
    if let Some((capability, _)) = missing {
        return obstacle(
            format!("{} is missing", capability.as_str()),
            Remedy::Privileges,
        );
    }
    if !features.initial_user_namespace {
        let reason = "capabilities of a user namespace do not permit BPF".to_owned();
        return obstacle(reason, Remedy::HostNamespace);
    }
    None
}

fn kernel(features: &Features, program: &Program) -> Option<Obstacle> {
    if features.lockdown == Lockdown::Confidentiality {
        let reason = "the kernel is locked down for confidentiality".to_owned();
        return obstacle(reason, Remedy::Lockdown);
    }
    // Every program reads kernel structures at offsets that only BTF tells.
    if let Err(reason) = &features.btf {
        return obstacle(reason.clone(), Remedy::Btf);
    }
    if let Err(reason) = &features.maps {
        return obstacle(reason.clone(), Remedy::LockedMemory);
    }
    missing_hook(features, program).or_else(|| refused(features, program))
}

/// What the program would attach to is not there.
fn missing_hook(features: &Features, program: &Program) -> Option<Obstacle> {
    match program.attach {
        Attach::Fexit { function } | Attach::Fentry { function } => {
            unknown_function(features, function)
        }
        Attach::Kprobe { function } | Attach::Kretprobe { function } => match &features.kprobes {
            Err(reason) => obstacle(reason.clone(), Remedy::Kprobes),
            Ok(()) => unknown_function(features, function),
        },
        Attach::TpBtf { tracepoint } => match features.raw_tracepoints.get(tracepoint) {
            None => Some(without_remedy(format!(
                "the kernel has no tracepoint {tracepoint}"
            ))),
            Some(prototype) => blind(tracepoint, prototype.params.len()),
        },
        Attach::Tracepoint { name, .. } => match &features.tracefs {
            Err(reason) => obstacle(reason.clone(), Remedy::MountTracefs),
            Ok(_) if features.tracepoints.contains_key(name) => None,
            Ok(_) => obstacle(
                format!("the kernel has no tracepoint {name}"),
                Remedy::SyscallTracepoints,
            ),
        },
        Attach::SockOps | Attach::CgroupSock(_) => match &features.cgroup2 {
            Err(reason) => obstacle(reason.clone(), Remedy::MountCgroup2),
            Ok(_) => None,
        },
        Attach::Iter { target } => {
            let is_there = features
                .functions
                .contains_key(format!("bpf_iter_{target}").as_str());
            (!is_there).then(|| without_remedy(format!("the kernel has no iterator {target}")))
        }
    }
}

/// Before 6.10 this tracepoint gave no reason, and was silent about the one that is asked for.
fn blind(tracepoint: &str, params: usize) -> Option<Obstacle> {
    (tracepoint == "tcp_send_reset" && params < 3).then(|| {
        without_remedy(
            "the tracepoint tcp_send_reset does not tell of closed ports here".to_owned(),
        )
    })
}

fn unknown_function(features: &Features, function: &str) -> Option<Obstacle> {
    let Some(prototype) = features.functions.get(function) else {
        return Some(without_remedy(format!(
            "the kernel's types do not tell of {function}()"
        )));
    };
    let params = prototype.params.len();
    (!known_params(function).contains(&params)).then(|| {
        without_remedy(format!(
            "{function}() takes {params} arguments here, which the probes do not know"
        ))
    })
}

/// Arguments that a function had in any kernel from 5.10 to 7.3: probes take them by position.
fn known_params(function: &str) -> &'static [usize] {
    match function {
        "inet_csk_listen_start" => &[1, 2],
        "inet_listen" | "unix_listen" | "unix_release_sock" => &[2],
        "inet_bind" | "inet6_bind" | "unix_bind" | "packet_bind" => &[3],
        "packet_create" | "tcp_conn_request" => &[4],
        "tcp_v4_send_reset" | "tcp_v6_send_reset" => &[2, 3],
        "__icmp_send" => &[4, 5],
        "icmp6_send" => &[4, 5, 6],
        _ => &[1],
    }
}

fn refused(features: &Features, program: &Program) -> Option<Obstacle> {
    let kind = program.kind();
    let Permitted::No(answer) = features.permitted(kind) else {
        return None;
    };
    let reason = format!("the kernel refuses {} programs: {answer}", kind.as_str());
    Some(match kind {
        ProgramKind::Fexit | ProgramKind::Fentry => Obstacle {
            reason,
            remedy: Some(Remedy::Trampolines),
        },
        _ => without_remedy(reason),
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is returned where the absence of an obstacle is None"
)]
fn obstacle(reason: String, remedy: Remedy) -> Option<Obstacle> {
    Some(Obstacle {
        reason,
        remedy: Some(remedy),
    })
}

fn without_remedy(reason: String) -> Obstacle {
    Obstacle {
        reason,
        remedy: None,
    }
}
