//! The ladders: for each signal its mechanisms, best first, with their programs and blind spots.

use super::signal::{Attach, CgroupHook, Program, Signal};
use crate::event::Mechanism;

/// One mechanism of a ladder.
pub(super) struct Step {
    pub(super) mechanism: Mechanism,
    pub(super) programs: &'static [Program],
    /// What it does not see.
    pub(super) blind_to: Option<&'static str>,
}

/// The mechanisms of a signal, best first; [`Mechanism::Reconcile`] is the ground below every ladder.
pub(super) const fn steps(signal: Signal) -> &'static [Step] {
    match signal {
        Signal::TcpListen => TCP_LISTEN,
        Signal::TcpBacklog => TCP_BACKLOG,
        Signal::TcpState => TCP_STATE,
        Signal::UdpBind => UDP_BIND,
        Signal::UdpClose => UDP_CLOSE,
        Signal::UnixBind => UNIX_BIND,
        Signal::UnixListen => UNIX_LISTEN,
        Signal::UnixClose => UNIX_CLOSE,
        Signal::PacketOpen => PACKET_OPEN,
        Signal::PacketClose => PACKET_CLOSE,
        Signal::RawOpen => RAW_OPEN,
        Signal::RawClose => RAW_CLOSE,
        Signal::BindFailed => BIND_FAILED,
        Signal::SctpListen => SCTP_LISTEN,
        Signal::ProcessExec => PROCESS_EXEC,
        Signal::ProcessFork => PROCESS_FORK,
        Signal::ProcessExit => PROCESS_EXIT,
        Signal::Inventory => INVENTORY,
    }
}

const TCP_LISTEN: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[fexit("listen_fexit", "inet_csk_listen_start")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("listen_kprobe", "inet_csk_listen_start"),
            kretprobe("listen_kretprobe", "inet_csk_listen_start"),
        ],
    ),
    step(Mechanism::Cgroup, None, &[sock_ops("listen_sockops")]),
    step(
        Mechanism::TpBtf,
        Some(TENTATIVE),
        &[tp_btf("state_tp_btf", "inet_sock_set_state")],
    ),
];

const TCP_BACKLOG: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[fexit("relisten_fexit", "inet_listen")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("relisten_kprobe", "inet_listen"),
            kretprobe("relisten_kretprobe", "inet_listen"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(IO_URING),
        &[
            syscall("listen_enter", "sys_enter_listen"),
            syscall("listen_exit", "sys_exit_listen"),
        ],
    ),
];

const TCP_STATE: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[tp_btf("state_tp_btf", "inet_sock_set_state")],
)];

const UDP_BIND: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[
            fexit("bind_fexit", "inet_bind"),
            fexit("bind6_fexit", "inet6_bind"),
        ],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("bind_kprobe", "inet_bind"),
            kretprobe("bind_kretprobe", "inet_bind"),
            kprobe("bind6_kprobe", "inet6_bind"),
            kretprobe("bind6_kretprobe", "inet6_bind"),
        ],
    ),
    step(
        Mechanism::Cgroup,
        None,
        &[
            cgroup("post_bind4", CgroupHook::PostBind4),
            cgroup("post_bind6", CgroupHook::PostBind6),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(IO_URING),
        &[
            syscall("bind_enter", "sys_enter_bind"),
            syscall("bind_exit", "sys_exit_bind"),
        ],
    ),
];

const UDP_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[
            fentry("udp_close_fentry", "udp_destroy_sock"),
            fentry("udp6_close_fentry", "udpv6_destroy_sock"),
        ],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("udp_close_kprobe", "udp_destroy_sock"),
            kprobe("udp6_close_kprobe", "udpv6_destroy_sock"),
        ],
    ),
    step(
        Mechanism::Cgroup,
        Some(KERNEL_SOCKETS),
        &[cgroup("sock_release", CgroupHook::SockRelease)],
    ),
];

const UNIX_BIND: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[fexit("unix_bind_fexit", "unix_bind")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("unix_bind_kprobe", "unix_bind"),
            kretprobe("unix_bind_kretprobe", "unix_bind"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(IO_URING),
        &[
            syscall("bind_enter", "sys_enter_bind"),
            syscall("bind_exit", "sys_exit_bind"),
        ],
    ),
];

const UNIX_LISTEN: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[fexit("unix_listen_fexit", "unix_listen")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("unix_listen_kprobe", "unix_listen"),
            kretprobe("unix_listen_kretprobe", "unix_listen"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(IO_URING),
        &[
            syscall("listen_enter", "sys_enter_listen"),
            syscall("listen_exit", "sys_exit_listen"),
        ],
    ),
];

const UNIX_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[fentry("unix_close_fentry", "unix_release_sock")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[kprobe("unix_close_kprobe", "unix_release_sock")],
    ),
];

const PACKET_OPEN: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[
            fexit("packet_create_fexit", "packet_create"),
            fexit("packet_bind_fexit", "packet_bind"),
        ],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("packet_create_kprobe", "packet_create"),
            kretprobe("packet_create_kretprobe", "packet_create"),
            kprobe("packet_bind_kprobe", "packet_bind"),
            kretprobe("packet_bind_kretprobe", "packet_bind"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(IO_URING),
        &[
            syscall("socket_enter", "sys_enter_socket"),
            syscall("socket_exit", "sys_exit_socket"),
            syscall("bind_enter", "sys_enter_bind"),
            syscall("bind_exit", "sys_exit_bind"),
        ],
    ),
];

const PACKET_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[fentry("packet_close_fentry", "packet_release")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[kprobe("packet_close_kprobe", "packet_release")],
    ),
];

const RAW_OPEN: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[fexit("raw_open_fexit", "raw_hash_sk")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[kprobe("raw_open_kprobe", "raw_hash_sk")],
    ),
    step(
        Mechanism::Cgroup,
        Some(KERNEL_SOCKETS),
        &[cgroup("sock_create", CgroupHook::SockCreate)],
    ),
    step(
        Mechanism::Tracepoint,
        Some(IO_URING),
        &[
            syscall("socket_enter", "sys_enter_socket"),
            syscall("socket_exit", "sys_exit_socket"),
        ],
    ),
];

const RAW_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[fentry("raw_close_fentry", "raw_unhash_sk")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[kprobe("raw_close_kprobe", "raw_unhash_sk")],
    ),
    step(
        Mechanism::Cgroup,
        Some(KERNEL_SOCKETS),
        &[cgroup("sock_release", CgroupHook::SockRelease)],
    ),
];

const BIND_FAILED: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[
            fexit("listen_fexit", "inet_csk_listen_start"),
            fexit("bind_fexit", "inet_bind"),
            fexit("bind6_fexit", "inet6_bind"),
            fexit("unix_bind_fexit", "unix_bind"),
            fexit("unix_listen_fexit", "unix_listen"),
        ],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            kprobe("listen_kprobe", "inet_csk_listen_start"),
            kretprobe("listen_kretprobe", "inet_csk_listen_start"),
            kprobe("bind_kprobe", "inet_bind"),
            kretprobe("bind_kretprobe", "inet_bind"),
            kprobe("bind6_kprobe", "inet6_bind"),
            kretprobe("bind6_kretprobe", "inet6_bind"),
            kprobe("unix_bind_kprobe", "unix_bind"),
            kretprobe("unix_bind_kretprobe", "unix_bind"),
            kprobe("unix_listen_kprobe", "unix_listen"),
            kretprobe("unix_listen_kretprobe", "unix_listen"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(REFUSED_ARGUMENT),
        &[
            syscall("bind_enter", "sys_enter_bind"),
            syscall("bind_exit", "sys_exit_bind"),
            syscall("listen_enter", "sys_enter_listen"),
            syscall("listen_exit", "sys_exit_listen"),
        ],
    ),
];

const SCTP_LISTEN: &[Step] = &[step(
    Mechanism::TpBtf,
    Some(TENTATIVE),
    &[tp_btf("state_tp_btf", "inet_sock_set_state")],
)];

const PROCESS_EXEC: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[tp_btf("exec_tp_btf", "sched_process_exec")],
)];

const PROCESS_FORK: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[tp_btf("fork_tp_btf", "sched_process_fork")],
)];

const PROCESS_EXIT: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[tp_btf("exit_tp_btf", "sched_process_exit")],
)];

const INVENTORY: &[Step] = &[step(
    Mechanism::Iterator,
    None,
    &[iter("task_file_iter", "task_file")],
)];

/// What nothing but looking again does not see.
pub(super) const fn reconcile_is_blind_to(signal: Signal) -> &'static str {
    match signal {
        Signal::TcpListen
        | Signal::UdpBind
        | Signal::UnixBind
        | Signal::UnixListen
        | Signal::PacketOpen
        | Signal::RawOpen
        | Signal::SctpListen => {
            "sockets that open and close between two looks, and exactly when and by whom the others were opened"
        }
        Signal::TcpBacklog => "a changed backlog before the next look",
        Signal::TcpState => "all connection states, and the moment at which a TCP listener closes",
        Signal::UnixClose => {
            "the moment of a close: it is told when the process ends, or the next look misses the socket"
        }
        Signal::UdpClose | Signal::PacketClose | Signal::RawClose => {
            "the moment of a close: it is told when the next look misses the socket"
        }
        Signal::BindFailed => "every refused bind and listen",
        Signal::ProcessExec => {
            "executable, arguments and parents of processes that end before they were looked at"
        }
        Signal::ProcessFork => "holders of a listener that came by fork, until the next look",
        Signal::ProcessExit => "the moment at which a holder of a listener ends",
        Signal::Inventory => {
            "sockets that move between processes while /proc is read; and it costs more"
        }
    }
}

const BUSY_PROBES: &str = "calls during which another kprobe runs on the same processor, or more at once than it has slots for";
const TENTATIVE: &str =
    "whether the kernel accepted the listen: one that closes before it is looked up is not told";
const IO_URING: &str = "calls made through io_uring";
const KERNEL_SOCKETS: &str = "sockets that the kernel opened for itself";
const REFUSED_ARGUMENT: &str =
    "refusals through io_uring; and another thread may forge the address that was asked for";

const fn step(
    mechanism: Mechanism,
    blind_to: Option<&'static str>,
    programs: &'static [Program],
) -> Step {
    Step {
        mechanism,
        programs,
        blind_to,
    }
}

const fn fexit(name: &'static str, function: &'static str) -> Program {
    let attach = Attach::Fexit { function };
    Program { name, attach }
}

const fn fentry(name: &'static str, function: &'static str) -> Program {
    let attach = Attach::Fentry { function };
    Program { name, attach }
}

const fn kprobe(name: &'static str, function: &'static str) -> Program {
    let attach = Attach::Kprobe { function };
    Program { name, attach }
}

const fn kretprobe(name: &'static str, function: &'static str) -> Program {
    let attach = Attach::Kretprobe { function };
    Program { name, attach }
}

const fn tp_btf(name: &'static str, tracepoint: &'static str) -> Program {
    let attach = Attach::TpBtf { tracepoint };
    Program { name, attach }
}

const fn syscall(program: &'static str, name: &'static str) -> Program {
    let category = "syscalls";
    Program {
        name: program,
        attach: Attach::Tracepoint { category, name },
    }
}

const fn cgroup(name: &'static str, hook: CgroupHook) -> Program {
    let attach = Attach::CgroupSock(hook);
    Program { name, attach }
}

const fn sock_ops(name: &'static str) -> Program {
    let attach = Attach::SockOps;
    Program { name, attach }
}

const fn iter(name: &'static str, target: &'static str) -> Program {
    let attach = Attach::Iter { target };
    Program { name, attach }
}
