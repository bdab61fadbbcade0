//! Knocks at ports where nothing listens: TCP that is answered by a reset, UDP that is answered by ICMP.
//!
//! Trap `reset_without_socket`: the tracepoint `tcp_send_reset` tells of closed ports from 6.10 on; before, it fired for
//! whole sockets alone. The function that sends the reset knows both at all times.
//! Trap `null_argument`: an argument that may be null is read as memory; of a typed pointer the verifier of some kernels
//! believes that it never is, and takes the test away.
//! A segment with ACK to a closed port is the rest of a connection more often than a scan, and is no knock: ACK scans
//! are not seen. Nor is what a firewall drops.

use aya_ebpf::macros::{btf_tracepoint, fentry, kprobe};
use aya_ebpf::programs::{BtfTracePointContext, FEntryContext, ProbeContext};
use portwatch_common::header::Mechanism;
use portwatch_common::storm::{
    Announcement, BITMAP, SAMPLE, SOURCE_EVERY, SOURCE_FLOOD, SOURCE_FORGOTTEN, Source, SourceKey,
    StormCount, StormRate, StormSubject,
};

use crate::count::add_one;
use crate::emit::raw;
use crate::kernel::{argument, field, offset, read};
use crate::maps::{KNOCKS, SOURCES};
use crate::{sock, storm};

/// ACK and RST in a TCP header.
const ACK_OR_RST: u8 = 0x10 | 0x04;
/// Ethertype of IPv4, as it lies in memory.
const ETH_P_IP: u16 = 0x0800_u16.to_be();

/// `void tcp_send_reset(const struct sock *sk, const struct sk_buff *skb, const enum sk_rst_reason reason)`, from 6.10.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn reset_tp_btf(context: BtfTracePointContext) -> i32 {
    let context = raw(&context);
    reset(
        argument(context, 0),
        argument(context, 1),
        Mechanism::TP_BTF,
    )
}

/// `void tcp_v4_send_reset(const struct sock *sk, struct sk_buff *skb)`; with a reason behind it from 6.10.
#[fentry(function = "tcp_v4_send_reset")]
pub fn reset_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    reset(
        argument(context, 0),
        argument(context, 1),
        Mechanism::FENTRY,
    )
}

/// `void tcp_v6_send_reset(const struct sock *sk, struct sk_buff *skb)`; with a reason behind it from 6.10.
#[fentry(function = "tcp_v6_send_reset")]
pub fn reset6_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    reset(
        argument(context, 0),
        argument(context, 1),
        Mechanism::FENTRY,
    )
}

/// As [`reset_fentry`].
#[kprobe]
pub fn reset_kprobe(context: ProbeContext) -> u32 {
    let sk = context.arg::<u64>(0).unwrap_or(1);
    reset(sk, context.arg::<u64>(1).unwrap_or(0), Mechanism::KPROBE);
    0
}

/// As [`reset6_fentry`].
#[kprobe]
pub fn reset6_kprobe(context: ProbeContext) -> u32 {
    let sk = context.arg::<u64>(0).unwrap_or(1);
    reset(sk, context.arg::<u64>(1).unwrap_or(0), Mechanism::KPROBE);
    0
}

/// `void __icmp_send(struct sk_buff *skb_in, int type, int code, __be32 info, …)`: before ICMP's own rate limit.
#[fentry(function = "__icmp_send")]
pub fn icmp_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    let (kind, code) = (argument(context, 1), argument(context, 2));
    unreachable4(argument(context, 0), kind, code, Mechanism::FENTRY)
}

/// `void icmp6_send(struct sk_buff *skb, u8 type, u8 code, __u32 info, …)`.
#[fentry(function = "icmp6_send")]
pub fn icmp6_fentry(context: FEntryContext) -> i32 {
    let context = raw(&context);
    let (kind, code) = (argument(context, 1), argument(context, 2));
    unreachable6(argument(context, 0), kind, code, Mechanism::FENTRY)
}

/// As [`icmp_fentry`].
#[kprobe]
pub fn icmp_kprobe(context: ProbeContext) -> u32 {
    let (kind, code) = (context.arg::<u64>(1), context.arg::<u64>(2));
    let (kind, code) = (kind.unwrap_or(0), code.unwrap_or(0));
    let skb = context.arg::<u64>(0).unwrap_or(0);
    unreachable4(skb, kind, code, Mechanism::KPROBE);
    0
}

/// As [`icmp6_fentry`].
#[kprobe]
pub fn icmp6_kprobe(context: ProbeContext) -> u32 {
    let (kind, code) = (context.arg::<u64>(1), context.arg::<u64>(2));
    let (kind, code) = (kind.unwrap_or(0), code.unwrap_or(0));
    let skb = context.arg::<u64>(0).unwrap_or(0);
    unreachable6(skb, kind, code, Mechanism::KPROBE);
    0
}

/// `void icmp_send(const struct sk_buff *skb, int type, int code)`, from 6.11: IPv4 alone.
#[btf_tracepoint(function = "icmp_send")]
pub fn icmp_tp_btf(context: BtfTracePointContext) -> i32 {
    let context = raw(&context);
    let (kind, code) = (argument(context, 1), argument(context, 2));
    unreachable4(argument(context, 0), kind, code, Mechanism::TP_BTF)
}

/// Destination unreachable, port unreachable; of a UDP datagram.
#[inline(always)]
fn unreachable4(skb: u64, kind: u64, code: u64, by: Mechanism) -> i32 {
    if kind as u8 != 3 || code as u8 != 3 || read::<u8>(network(skb) + 9) != 17 {
        return 0;
    }
    storm::note(StormCount::UDP_KNOCK);
    knock(skb, sock::IPPROTO_UDP, by)
}

/// The same of ICMPv6.
#[inline(always)]
fn unreachable6(skb: u64, kind: u64, code: u64, by: Mechanism) -> i32 {
    if kind as u8 != 1 || code as u8 != 4 || read::<u8>(network(skb) + 6) != 17 {
        return 0;
    }
    storm::note(StormCount::UDP_KNOCK);
    knock(skb, sock::IPPROTO_UDP, by)
}

/// A reset is sent: to whom no socket is there for, and who did not answer anything.
#[inline(always)]
fn reset(sk: u64, skb: u64, by: Mechanism) -> i32 {
    if sk != 0 || skb == 0 || read::<u8>(transport(skb) + 13) & ACK_OR_RST != 0 {
        return 0;
    }
    storm::note(StormCount::KNOCK);
    knock(skb, sock::IPPROTO_TCP, by)
}

#[inline(always)]
fn network(skb: u64) -> u64 {
    field::<u64>(skb, offset!(skb_head))
        .wrapping_add(field::<u16>(skb, offset!(skb_network_header)) as u64)
}

#[inline(always)]
fn transport(skb: u64) -> u64 {
    field::<u64>(skb, offset!(skb_head))
        .wrapping_add(field::<u16>(skb, offset!(skb_transport_header)) as u64)
}

/// Who sent a packet; an IPv4 address as IPv6 has it.
#[inline(always)]
pub fn sender(skb: u64) -> [u8; 16] {
    if field::<u16>(skb, offset!(skb_protocol)) == ETH_P_IP {
        storm::mapped(read(network(skb) + 12))
    } else {
        read(network(skb) + 8)
    }
}

#[inline(never)]
fn knock(skb: u64, protocol: u16, by: Mechanism) -> i32 {
    let device: u64 = field(skb, offset!(skb_dev));
    let key = SourceKey {
        netns: field(field(device, offset!(netdev_net)), offset!(net_inum)),
        protocol: u32::from(protocol),
        address: sender(skb),
    };
    let port = read::<u16>(transport(skb) + 2).swap_bytes();
    let now = storm::now();
    let Some(source) = SOURCES.get_ptr_mut(&key) else {
        if is_remembered() {
            let _ = SOURCES.insert(&key, first(port, now), NOEXIST);
        } else {
            storm::note(StormCount::PASSED_OVER);
        }
        return 0;
    };
    // SAFETY: a value of the map. CPUs that write at once may lose a port: it is a sketch, and the next knock comes.
    let ports = unsafe {
        if now.wrapping_sub((*source).last) > SOURCE_FORGOTTEN {
            *source = first(port, now);
            return 0;
        }
        add_one(&raw mut (*source).count);
        (*source).last = now;
        let class = class(port);
        let word = (&raw mut (*source).bitmap)
            .cast::<u64>()
            .add(class / 64 % BITMAP);
        let bit = 1 << (class % 64);
        if *word & bit != 0 {
            return 0;
        }
        *word |= bit;
        (*source).ports += 1;
        let sampled = (*source).sampled as usize;
        if sampled < SAMPLE {
            (&raw mut (*source).sample)
                .cast::<u16>()
                .add(sampled & (SAMPLE - 1))
                .write(port);
            (*source).sampled = sampled as u32 + 1;
        }
        (*source).ports
    };
    if is_announced(u64::from(ports)) {
        let announcement = Announcement {
            subject: StormSubject {
                listener: portwatch_common::storm::CellKey {
                    netns: key.netns,
                    port: 0,
                    family: 0,
                },
                process: storm::NOBODY,
                address: key.address,
            },
            rate: StormRate::PORTS,
            protocol: key.protocol,
            window: u64::from(ports),
        };
        storm::announce(&announcement, u64::from(ports), by);
    }
    0
}

/// `BPF_NOEXIST`: another CPU's entry of the same moment stays.
const NOEXIST: u64 = 1;

/// Is this number of ports the threshold, or twice, four times … as many?
#[inline(always)]
fn is_announced(ports: u64) -> bool {
    let Some(limits) = storm::thresholds() else {
        return false;
    };
    // SAFETY: a value of the map.
    let limit = unsafe { (*limits).ports };
    if limit == 0 {
        return false;
    }
    let mut doubled = limit;
    let mut is_it = false;
    let mut step = 0;
    while step < 8 {
        is_it |= doubled == ports;
        doubled <<= 1;
        step += 1;
    }
    is_it
}

/// Under a flood of invented addresses, each of which would evict one that is remembered, most are passed over; who is
/// remembered stays and is counted, and a scan is found at one of its next knocks.
#[inline(always)]
fn is_remembered() -> bool {
    let Some(knocks) = KNOCKS.get_ptr_mut(0) else {
        return true;
    };
    let window = storm::window();
    // SAFETY: this CPU's own; a count that is too low by one does no harm.
    unsafe {
        let [known, count] = *knocks;
        let count = if known == window { count + 1 } else { 1 };
        *knocks = [window, count];
        count <= SOURCE_FLOOD || count % SOURCE_EVERY == 0
    }
}

/// One in 1024 classes; ports in a row are in different ones.
#[inline(always)]
fn class(port: u16) -> usize {
    usize::from((port ^ (port >> 10)) & 1023)
}

#[inline(always)]
fn first(port: u16, now: u64) -> Source {
    let mut source = Source {
        first: now,
        last: now,
        count: 1,
        ports: 1,
        sampled: 1,
        bitmap: [0; BITMAP],
        sample: [0; SAMPLE],
    };
    source.sample[0] = port;
    let class = class(port);
    source.bitmap[(class / 64) % BITMAP] = 1 << (class % 64);
    source
}
