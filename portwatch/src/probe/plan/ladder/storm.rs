//! The ladders of what storms are told by.

use super::{BUSY_PROBES, Step, step};
use crate::event::Mechanism;
use crate::probe::plan::signal::Program;

pub(super) const TCP_SYN: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[Program::fentry("syn_fentry", "tcp_conn_request")],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[Program::kprobe("syn_kprobe", "tcp_conn_request")],
    ),
    step(
        Mechanism::Cgroup,
        Some(COOKIES),
        &[Program::sock_ops("tcp_sockops")],
    ),
];

pub(super) const TCP_SYNACK: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[Program::tp_btf("synack_tp_btf", "tcp_retransmit_synack")],
)];

pub(super) const TCP_RESET: &[Step] = &[step(
    Mechanism::TpBtf,
    None,
    &[Program::tp_btf(
        "received_reset_tp_btf",
        "tcp_receive_reset",
    )],
)];

pub(super) const TCP_KNOCK: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[
            Program::fentry("reset_fentry", "tcp_v4_send_reset"),
            Program::fentry("reset6_fentry", "tcp_v6_send_reset"),
        ],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("reset_kprobe", "tcp_v4_send_reset"),
            Program::kprobe("reset6_kprobe", "tcp_v6_send_reset"),
        ],
    ),
    step(
        Mechanism::TpBtf,
        None,
        &[Program::tp_btf("reset_tp_btf", "tcp_send_reset")],
    ),
];

pub(super) const UDP_KNOCK: &[Step] = &[
    step(
        Mechanism::Fentry,
        None,
        &[
            Program::fentry("icmp_fentry", "__icmp_send"),
            Program::fentry("icmp6_fentry", "icmp6_send"),
        ],
    ),
    step(
        Mechanism::Kprobe,
        Some(BUSY_PROBES),
        &[
            Program::kprobe("icmp_kprobe", "__icmp_send"),
            Program::kprobe("icmp6_kprobe", "icmp6_send"),
        ],
    ),
    step(
        Mechanism::TpBtf,
        Some(ICMP6),
        &[Program::tp_btf("icmp_tp_btf", "icmp_send")],
    ),
];

const COOKIES: &str = "SYNs that are answered by a cookie, or dropped since a queue is full: the namespace's counters tell how many those are";
const ICMP6: &str = "UDP over IPv6 at closed ports: the namespace's counter tells how much";
