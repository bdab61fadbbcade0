//! The ladders: for each signal its mechanisms, best first, with their programs and blind spots.

mod storm;

use super::signal::{CgroupHook, Program, Signal};
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
        Signal::TcpSyn => storm::TCP_SYN,
        Signal::TcpSynack => storm::TCP_SYNACK,
        Signal::TcpReset => storm::TCP_RESET,
        Signal::TcpKnock => storm::TCP_KNOCK,
        Signal::UdpKnock => storm::UDP_KNOCK,
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
        &[Program::fexit("listen_fexit", "inet_csk_listen_start")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("listen_kprobe", "inet_csk_listen_start"),
            Program::kretprobe("listen_kretprobe", "inet_csk_listen_start"),
        ],
    ),
    step(Mechanism::Cgroup, None, &[Program::sock_ops("tcp_sockops")]),
    step(
        Mechanism::TpBtf,
        Some(TENTATIVE),
        &[Program::tp_btf("state_tp_btf", "inet_sock_set_state")],
    ),
    step(
        Mechanism::Tracepoint,
        Some(NOT_TRACED),
        &[
            Program::syscall("listen_enter", "sys_enter_listen"),
            Program::syscall("listen_exit", "sys_exit_listen"),
        ],
    ),
];

const TCP_BACKLOG: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[Program::fexit("relisten_fexit", "inet_listen")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("relisten_kprobe", "inet_listen"),
            Program::kretprobe("relisten_kretprobe", "inet_listen"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(NOT_TRACED),
        &[
            Program::syscall("listen_enter", "sys_enter_listen"),
            Program::syscall("listen_exit", "sys_exit_listen"),
        ],
    ),
];

const TCP_STATE: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[Program::tp_btf("state_tp_btf", "inet_sock_set_state")],
)];

const UDP_BIND: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[
            Program::fexit("bind_fexit", "inet_bind"),
            Program::fexit("bind6_fexit", "inet6_bind"),
        ],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("bind_kprobe", "inet_bind"),
            Program::kretprobe("bind_kretprobe", "inet_bind"),
            Program::kprobe("bind6_kprobe", "inet6_bind"),
            Program::kretprobe("bind6_kretprobe", "inet6_bind"),
        ],
    ),
    step(
        Mechanism::Cgroup,
        None,
        &[
            Program::cgroup("post_bind4", CgroupHook::PostBind4),
            Program::cgroup("post_bind6", CgroupHook::PostBind6),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(NOT_TRACED),
        &[
            Program::syscall("bind_enter", "sys_enter_bind"),
            Program::syscall("bind_exit", "sys_exit_bind"),
        ],
    ),
];

const UDP_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[
            Program::fentry("udp_close_fentry", "udp_destroy_sock"),
            Program::fentry("udp6_close_fentry", "udpv6_destroy_sock"),
        ],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("udp_close_kprobe", "udp_destroy_sock"),
            Program::kprobe("udp6_close_kprobe", "udpv6_destroy_sock"),
        ],
    ),
    step(
        Mechanism::Cgroup,
        Some(KERNEL_SOCKETS),
        &[Program::cgroup("sock_release", CgroupHook::SockRelease)],
    ),
];

const UNIX_BIND: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[Program::fexit("unix_bind_fexit", "unix_bind")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("unix_bind_kprobe", "unix_bind"),
            Program::kretprobe("unix_bind_kretprobe", "unix_bind"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(NOT_TRACED),
        &[
            Program::syscall("bind_enter", "sys_enter_bind"),
            Program::syscall("bind_exit", "sys_exit_bind"),
        ],
    ),
];

const UNIX_LISTEN: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[Program::fexit("unix_listen_fexit", "unix_listen")],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("unix_listen_kprobe", "unix_listen"),
            Program::kretprobe("unix_listen_kretprobe", "unix_listen"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(NOT_TRACED),
        &[
            Program::syscall("listen_enter", "sys_enter_listen"),
            Program::syscall("listen_exit", "sys_exit_listen"),
        ],
    ),
];

const UNIX_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[Program::fentry("unix_close_fentry", "unix_release_sock")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[Program::kprobe("unix_close_kprobe", "unix_release_sock")],
    ),
];

const PACKET_OPEN: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[
            Program::fexit("packet_create_fexit", "packet_create"),
            Program::fexit("packet_bind_fexit", "packet_bind"),
        ],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("packet_create_kprobe", "packet_create"),
            Program::kretprobe("packet_create_kretprobe", "packet_create"),
            Program::kprobe("packet_bind_kprobe", "packet_bind"),
            Program::kretprobe("packet_bind_kretprobe", "packet_bind"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(NOT_TRACED),
        &[
            Program::syscall("socket_enter", "sys_enter_socket"),
            Program::syscall("socket_exit", "sys_exit_socket"),
            Program::syscall("bind_enter", "sys_enter_bind"),
            Program::syscall("bind_exit", "sys_exit_bind"),
        ],
    ),
];

const PACKET_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[Program::fentry("packet_close_fentry", "packet_release")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[Program::kprobe("packet_close_kprobe", "packet_release")],
    ),
];

const RAW_OPEN: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[Program::fexit("raw_open_fexit", "raw_hash_sk")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[Program::kprobe("raw_open_kprobe", "raw_hash_sk")],
    ),
    step(
        Mechanism::Cgroup,
        Some(KERNEL_SOCKETS),
        &[Program::cgroup("sock_create", CgroupHook::SockCreate)],
    ),
    step(
        Mechanism::Tracepoint,
        Some(NOT_TRACED),
        &[
            Program::syscall("socket_enter", "sys_enter_socket"),
            Program::syscall("socket_exit", "sys_exit_socket"),
        ],
    ),
];

const RAW_CLOSE: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[Program::fentry("raw_close_fentry", "raw_unhash_sk")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[Program::kprobe("raw_close_kprobe", "raw_unhash_sk")],
    ),
    step(
        Mechanism::Cgroup,
        Some(KERNEL_SOCKETS),
        &[Program::cgroup("sock_release", CgroupHook::SockRelease)],
    ),
];

const BIND_FAILED: &[Step] = &[
    step(
        Mechanism::Fexit,
        None,
        &[
            Program::fexit("listen_fexit", "inet_csk_listen_start"),
            Program::fexit("bind_fexit", "inet_bind"),
            Program::fexit("bind6_fexit", "inet6_bind"),
            Program::fexit("unix_bind_fexit", "unix_bind"),
            Program::fexit("unix_listen_fexit", "unix_listen"),
        ],
    ),
    step(
        Mechanism::Kretprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("listen_kprobe", "inet_csk_listen_start"),
            Program::kretprobe("listen_kretprobe", "inet_csk_listen_start"),
            Program::kprobe("bind_kprobe", "inet_bind"),
            Program::kretprobe("bind_kretprobe", "inet_bind"),
            Program::kprobe("bind6_kprobe", "inet6_bind"),
            Program::kretprobe("bind6_kretprobe", "inet6_bind"),
            Program::kprobe("unix_bind_kprobe", "unix_bind"),
            Program::kretprobe("unix_bind_kretprobe", "unix_bind"),
            Program::kprobe("unix_listen_kprobe", "unix_listen"),
            Program::kretprobe("unix_listen_kretprobe", "unix_listen"),
        ],
    ),
    step(
        Mechanism::Tracepoint,
        Some(REFUSED_ARGUMENT),
        &[
            Program::syscall("bind_enter", "sys_enter_bind"),
            Program::syscall("bind_exit", "sys_exit_bind"),
            Program::syscall("listen_enter", "sys_enter_listen"),
            Program::syscall("listen_exit", "sys_exit_listen"),
        ],
    ),
];

const SCTP_LISTEN: &[Step] = &[step(
    Mechanism::TpBtf,
    Some(TENTATIVE),
    &[Program::tp_btf("state_tp_btf", "inet_sock_set_state")],
)];

const PROCESS_EXEC: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[Program::tp_btf("exec_tp_btf", "sched_process_exec")],
)];

const PROCESS_FORK: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[Program::tp_btf("fork_tp_btf", "sched_process_fork")],
)];

const PROCESS_EXIT: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[Program::tp_btf("exit_tp_btf", "sched_process_exit")],
)];

const INVENTORY: &[Step] = &[step(
    Mechanism::Iterator,
    None,
    &[Program::iter("task_file_iter", "task_file")],
)];

/// What nothing but looking again does not see.
pub(super) const fn reconcile_is_blind_to(signal: Signal) -> &'static str {
    match signal {
        Signal::TcpListen => {
            "short-lived listeners, which open and close between two looks; exactly when and by whom the others were opened; and SO_REUSEPORT"
        }
        Signal::UdpBind => {
            "short-lived sockets, which open and close between two looks; exactly when and by whom the others were opened; SO_REUSEPORT; and whether a port was bound by a server or chosen by the kernel for a client: both are told"
        }
        Signal::UnixBind | Signal::UnixListen => {
            "short-lived sockets, which open and close between two looks; exactly when and by whom the others were opened; and the directory of a relative path, if that process has changed its own since"
        }
        Signal::SctpListen => "SCTP listeners: the look without probes has no table for them",
        Signal::PacketOpen | Signal::RawOpen => {
            "short-lived sockets, which open and close between two looks; and exactly when and by whom the others were opened"
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
        Signal::TcpSyn => {
            "SYNs by listener and by sender: half-open connections and the namespace's counters tell of a flood"
        }
        Signal::TcpSynack => "clients that do not answer, by listener",
        Signal::TcpReset => {
            "connections of a listener that are reset: the namespace's counters tell how many were"
        }
        Signal::TcpKnock => {
            "who knocks at closed TCP ports, and so scans: the namespace's counter of sent resets tells how much"
        }
        Signal::UdpKnock => {
            "who knocks at closed UDP ports, and so scans: the namespace's counter of datagrams without a port tells how much"
        }
        Signal::ProcessExec => {
            "executable, arguments and parents of short-lived processes, which end before they are looked at"
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
/// x86 and arm64 leave the calls of 32-bit programs out of their tracepoints (`ARCH_TRACE_IGNORE_COMPAT_SYSCALLS`): the numbers are
/// those of other calls.
const NOT_TRACED: &str = "calls made through io_uring or by 32-bit programs";
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
