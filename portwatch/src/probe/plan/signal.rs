//! What can be learnt (signals), and what it is learnt with (programs and where they attach).

use crate::kernel::permitted::ProgramKind;

/// Something that can be learnt about sockets or processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// A TCP or MPTCP socket listens.
    TcpListen,
    /// It listens again, with another backlog.
    TcpBacklog,
    /// TCP state changes, among them the end of listening.
    TcpState,
    /// A UDP or UDP-Lite socket is bound.
    UdpBind,
    /// It is closed.
    UdpClose,
    /// A unix datagram socket is bound.
    UnixBind,
    /// A unix stream or seqpacket socket listens.
    UnixListen,
    /// A unix socket is closed.
    UnixClose,
    /// A packet socket receives.
    PacketOpen,
    /// It is closed.
    PacketClose,
    /// A raw socket receives.
    RawOpen,
    /// It is closed.
    RawClose,
    /// A bind or listen was refused.
    BindFailed,
    /// An SCTP socket listens.
    SctpListen,
    /// SYNs arrive at a listener.
    TcpSyn,
    /// A SYN-ACK is not answered.
    TcpSynack,
    /// A connection of a listener is reset.
    TcpReset,
    /// TCP at a port where nothing listens.
    TcpKnock,
    /// UDP at a port where nothing is bound.
    UdpKnock,
    /// A process runs another image.
    ProcessExec,
    /// A process is made.
    ProcessFork,
    /// A process ends.
    ProcessExit,
    /// What is there now, and who holds it.
    Inventory,
}

impl Signal {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 23] = [
        Self::TcpListen,
        Self::TcpBacklog,
        Self::TcpState,
        Self::UdpBind,
        Self::UdpClose,
        Self::UnixBind,
        Self::UnixListen,
        Self::UnixClose,
        Self::PacketOpen,
        Self::PacketClose,
        Self::RawOpen,
        Self::RawClose,
        Self::BindFailed,
        Self::SctpListen,
        Self::TcpSyn,
        Self::TcpSynack,
        Self::TcpReset,
        Self::TcpKnock,
        Self::UdpKnock,
        Self::ProcessExec,
        Self::ProcessFork,
        Self::ProcessExit,
        Self::Inventory,
    ];

    /// The name in `sensor.signal`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TcpListen => "tcp.listen",
            Self::TcpBacklog => "tcp.backlog",
            Self::TcpState => "tcp.state",
            Self::UdpBind => "udp.bind",
            Self::UdpClose => "udp.close",
            Self::UnixBind => "unix.bind",
            Self::UnixListen => "unix.listen",
            Self::UnixClose => "unix.close",
            Self::PacketOpen => "packet.open",
            Self::PacketClose => "packet.close",
            Self::RawOpen => "raw.open",
            Self::RawClose => "raw.close",
            Self::BindFailed => "bind.failed",
            Self::SctpListen => "sctp.listen",
            Self::TcpSyn => "tcp.syn",
            Self::TcpSynack => "tcp.synack",
            Self::TcpReset => "tcp.reset",
            Self::TcpKnock => "tcp.knock",
            Self::UdpKnock => "udp.knock",
            Self::ProcessExec => "process.exec",
            Self::ProcessFork => "process.fork",
            Self::ProcessExit => "process.exit",
            Self::Inventory => "inventory",
        }
    }

    /// Is it a part of storms, and nothing else?
    #[must_use]
    pub const fn is_of_storms(self) -> bool {
        matches!(
            self,
            Self::TcpSyn | Self::TcpSynack | Self::TcpReset | Self::TcpKnock | Self::UdpKnock
        )
    }

    /// Does it tell of listeners that open?
    #[must_use]
    pub const fn is_opening(self) -> bool {
        matches!(
            self,
            Self::TcpListen
                | Self::UdpBind
                | Self::UnixBind
                | Self::UnixListen
                | Self::PacketOpen
                | Self::RawOpen
                | Self::SctpListen
        )
    }
}

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attach {
    /// Exit of a kernel function, by trampoline.
    Fexit {
        /// Its name.
        function: &'static str,
    },
    /// Entry of a kernel function, by trampoline.
    Fentry {
        /// Its name.
        function: &'static str,
    },
    /// Entry of a kernel function, by breakpoint.
    Kprobe {
        /// Its name.
        function: &'static str,
    },
    /// Exit of a kernel function, by breakpoint.
    Kretprobe {
        /// Its name.
        function: &'static str,
    },
    /// A tracepoint with typed arguments.
    TpBtf {
        /// Its name.
        tracepoint: &'static str,
    },
    /// A perf tracepoint.
    Tracepoint {
        /// Its directory in tracefs.
        category: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// TCP events, at the root of cgroup2.
    SockOps,
    /// A socket hook, at the root of cgroup2.
    CgroupSock(CgroupHook),
    /// An iterator.
    Iter {
        /// What it walks.
        target: &'static str,
    },
}

/// A socket hook of cgroup2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CgroupHook {
    /// An inet socket was made.
    SockCreate,
    /// An inet socket is closed.
    SockRelease,
    /// An IPv4 bind succeeded.
    PostBind4,
    /// An IPv6 bind succeeded.
    PostBind6,
}

/// A program of the eBPF object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// Its name in the object.
    pub name: &'static str,
    /// Where it belongs.
    pub attach: Attach,
}

impl Program {
    /// The kind that the kernel must permit.
    #[must_use]
    pub const fn kind(&self) -> ProgramKind {
        match self.attach {
            Attach::Fexit { .. } => ProgramKind::Fexit,
            Attach::Fentry { .. } => ProgramKind::Fentry,
            Attach::Kprobe { .. } | Attach::Kretprobe { .. } => ProgramKind::Kprobe,
            Attach::TpBtf { .. } => ProgramKind::TpBtf,
            Attach::Tracepoint { .. } => ProgramKind::Tracepoint,
            Attach::SockOps => ProgramKind::SockOps,
            Attach::CgroupSock(_) => ProgramKind::CgroupSock,
            Attach::Iter { .. } => ProgramKind::Iterator,
        }
    }

    /// Is it about IPv6 alone?
    pub(super) fn is_ipv6(&self) -> bool {
        match self.attach {
            Attach::Fexit { function }
            | Attach::Fentry { function }
            | Attach::Kprobe { function }
            | Attach::Kretprobe { function } => {
                matches!(
                    function,
                    "inet6_bind" | "udpv6_destroy_sock" | "tcp_v6_send_reset" | "icmp6_send"
                )
            }
            Attach::CgroupSock(hook) => hook == CgroupHook::PostBind6,
            _ => false,
        }
    }
}

/// One constructor an attachment, for the ladders.
impl Program {
    pub(super) const fn fexit(name: &'static str, function: &'static str) -> Self {
        let attach = Attach::Fexit { function };
        Self { name, attach }
    }

    pub(super) const fn fentry(name: &'static str, function: &'static str) -> Self {
        let attach = Attach::Fentry { function };
        Self { name, attach }
    }

    pub(super) const fn kprobe(name: &'static str, function: &'static str) -> Self {
        let attach = Attach::Kprobe { function };
        Self { name, attach }
    }

    pub(super) const fn kretprobe(name: &'static str, function: &'static str) -> Self {
        let attach = Attach::Kretprobe { function };
        Self { name, attach }
    }

    pub(super) const fn tp_btf(name: &'static str, tracepoint: &'static str) -> Self {
        let attach = Attach::TpBtf { tracepoint };
        Self { name, attach }
    }

    pub(super) const fn syscall(program: &'static str, name: &'static str) -> Self {
        let category = "syscalls";
        Self {
            name: program,
            attach: Attach::Tracepoint { category, name },
        }
    }

    pub(super) const fn cgroup(name: &'static str, hook: CgroupHook) -> Self {
        let attach = Attach::CgroupSock(hook);
        Self { name, attach }
    }

    pub(super) const fn sock_ops(name: &'static str) -> Self {
        let attach = Attach::SockOps;
        Self { name, attach }
    }

    pub(super) const fn iter(name: &'static str, target: &'static str) -> Self {
        let attach = Attach::Iter { target };
        Self { name, attach }
    }
}
