//! What several models ask of an event and portwatch does not say in one word.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::event::{
    Event, EventType, Family, PolicyState, Process, Protocol, Severity, Socket, State, StormKind,
};

/// Is it for somebody to act on, rather than to know?
///
/// What a rule denies, what must listen and does not, and a listener that a warning is given of.
pub(super) fn is_alert(event: &Event) -> bool {
    match event.kind {
        EventType::ListenerOpened | EventType::ListenerPresent | EventType::ListenerChanged => {
            is_denied(event) || event.severity >= Severity::Warning
        }
        EventType::ListenerDown
        | EventType::StormStarted
        | EventType::StormUpdated
        | EventType::ScanDetected => true,
        EventType::ListenerClosed
        | EventType::BindFailed
        | EventType::ConnectionState
        | EventType::ListenerRecovered
        | EventType::SensorReady
        | EventType::SensorDegraded
        | EventType::Gap
        | EventType::GapReconciled
        | EventType::StormEnded
        | EventType::StormResponse
        | EventType::Heartbeat => false,
    }
}

/// Does a rule deny the listener?
pub(super) fn is_denied(event: &Event) -> bool {
    let denied = |policy: &crate::event::Policy| policy.state == PolicyState::Denied;
    event.policy.as_ref().is_some_and(denied)
}

/// The one who sends most of a storm, or scans; of a prefix the address that it begins with. What a process connects to is
/// no source.
pub(super) fn source(event: &Event) -> Option<IpAddr> {
    if let Some(scan) = &event.scan {
        return ip(scan.source.as_deref());
    }
    let storm = event.storm.as_ref()?;
    let is_outward = matches!(
        storm.kind,
        StormKind::ConnectStorm | StormKind::CloseWaitLeak | StormKind::TimeWaitPressure
    );
    let first = storm.peers.first().filter(|_| !is_outward)?;
    ip(first.prefix.split('/').next())
}

/// Severity from 0 to 10, where models want a number: 0–3 low, 4–6 medium, 7–8 high, 9–10 very high.
pub(super) const fn level(severity: Severity) -> u8 {
    match severity {
        Severity::Debug => 0,
        Severity::Info => 2,
        Severity::Notice => 4,
        Severity::Warning => 7,
        Severity::Critical => 10,
    }
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The peer.
    Inbound,
    /// This host.
    Outbound,
    /// The state change does not tell.
    Unknown,
}

/// Which end of a connection opened it, as far as its states tell: only the one that connects sends the first
/// SYN, only the one that listens receives it.
pub(super) fn direction(event: &Event) -> Direction {
    let is = |state| event.old_state == Some(state) || event.new_state == Some(state);
    if is(State::SynSent) {
        Direction::Outbound
    } else if is(State::SynRecv) || is(State::NewSynRecv) {
        Direction::Inbound
    } else {
        Direction::Unknown
    }
}

/// What a state change is in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It can carry data now.
    Opened,
    /// It is over.
    Closed,
    /// It never came to be.
    Failed,
    /// The socket listens.
    Listening,
    /// The socket listens no more.
    Silent,
    /// On the way.
    Other,
}

/// What this state change is in the life of a connection.
pub(super) const fn step(event: &Event) -> Step {
    match (event.old_state, event.new_state) {
        (_, Some(State::Established)) => Step::Opened,
        (_, Some(State::Listen)) => Step::Listening,
        (Some(State::Listen), Some(State::Close)) => Step::Silent,
        (Some(State::SynSent | State::SynRecv | State::NewSynRecv), Some(State::Close)) => {
            Step::Failed
        }
        (_, Some(State::Close | State::TimeWait)) => Step::Closed,
        _ => Step::Other,
    }
}

/// How many it tells of: events that were lost, what a storm or a scan has counted.
pub(super) fn count(event: &Event) -> Option<u64> {
    let lost = event.gap.as_ref().map(|gap| gap.lost);
    let storm = event.storm.as_ref().map(|storm| storm.total);
    let scan = event.scan.as_ref().map(|scan| scan.knocks);
    lost.or(storm).or(scan)
}

/// The address as one that programs compare: a v4-mapped one is IPv4. `None` for what is no address.
pub(super) fn ip(text: Option<&str>) -> Option<IpAddr> {
    let address: IpAddr = text?.parse().ok()?;
    Some(address.to_canonical())
}

/// The protocol over IP by its IANA keyword, and its number; `None` for what does not go over IP.
pub(super) fn transport(socket: &Socket) -> Option<(&'static str, u16)> {
    let is_v6 = socket.family == Family::Ipv6;
    Some(match socket.protocol {
        // Multipath TCP is an option of TCP.
        Protocol::Tcp | Protocol::Mptcp => ("tcp", 6),
        Protocol::Udp => ("udp", 17),
        Protocol::Udplite => ("udplite", 136),
        Protocol::Sctp => ("sctp", 132),
        Protocol::Icmp if is_v6 => ("ipv6-icmp", 58),
        Protocol::Icmp => ("icmp", 1),
        Protocol::Raw => return raw(socket),
        Protocol::Unix | Protocol::Packet | Protocol::Vsock => return None,
    })
}

/// Keywords of what raw sockets carry most.
fn raw(socket: &Socket) -> Option<(&'static str, u16)> {
    let number = socket.protocol_number?;
    let name = match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        _ => return None,
    };
    Some((name, number))
}

/// IP version of the socket's traffic: that of its addresses, or of its family where it has none.
pub(super) fn ip_version(socket: &Socket) -> Option<u8> {
    let address = ip(socket.peer_address.as_deref()).or_else(|| ip(socket.address.as_deref()));
    match (address, socket.family) {
        (Some(IpAddr::V4(_)), _) | (None, Family::Ipv4) => Some(4),
        (Some(IpAddr::V6(_)), _) | (None, Family::Ipv6) => Some(6),
        (None, Family::Unix | Family::Packet | Family::Vsock) => None,
    }
}

/// What stands for the address of a socket that has none: a path, `@` and an abstract name, an interface.
pub(super) fn local_name(socket: &Socket) -> Option<String> {
    match (&socket.path, &socket.abstract_name) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(name)) => Some(format!("@{name}")),
        (None, None) if socket.family == Family::Packet => socket.interface.clone(),
        (None, None) => None,
    }
}

/// The arguments as one text; `None` for an empty one.
pub(super) fn command_line(process: &Process) -> Option<String> {
    let args = process.args.as_ref()?;
    Some(args.join(" ")).filter(|line| !line.is_empty())
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.is_empty() { path } else { name }
}

/// A moment of an event; `None` when the text is none.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Milliseconds since 1970; 0 for what is no moment.
pub(super) fn epoch_ms(text: &str) -> i64 {
    moment(text).map_or(0, Timestamp::as_millisecond)
}

/// From when to when the event was going on, where it was: a closed listener listened, an expected one was
/// gone, records were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Span {
    /// Of this event.
    pub(super) fn of(event: &Event) -> Option<Self> {
        if let Some(gap) = &event.gap {
            return Some(Self {
                start: moment(&gap.from)?,
                end: moment(&gap.to)?,
            });
        }
        let length = SignedDuration::from_millis(event.duration_ms?.try_into().ok()?);
        let end = moment(&event.ts)?;
        Some(Self {
            start: end.checked_sub(length).ok()?,
            end,
        })
    }
}

/// When portwatch had the event: the kernel's time and what passed since.
pub(super) fn told_at(event: &Event) -> Option<Timestamp> {
    let latency = event.sensor.as_ref()?.latency_us?;
    let latency = SignedDuration::from_micros(latency.try_into().ok()?);
    moment(&event.ts)?.checked_add(latency).ok()
}

/// The process by which work of this kind entered the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<'e> {
    pub(super) pid: u32,
    pub(super) name: &'e str,
    pub(super) exe: Option<&'e str>,
    /// It is the process of the event itself.
    pub(super) is_self: bool,
    /// init, sshd or container: who let it in.
    pub(super) through: &'static str,
}

/// The eldest process below init, or below the sshd or container runtime that init runs. `None` where the
/// chain of parents does not reach init.
pub(super) fn entry(process: &Process) -> Option<Entry<'_>> {
    let (init, ancestors) = process.ancestors.split_last()?;
    if init.pid != 1 {
        return None;
    }
    let mut through = "init";
    for ancestor in ancestors.iter().rev() {
        match gate(&ancestor.name) {
            Some(gate) => through = gate,
            None => {
                return Some(Entry {
                    pid: ancestor.pid,
                    name: &ancestor.name,
                    exe: ancestor.exe.as_deref(),
                    is_self: false,
                    through,
                });
            }
        }
    }
    Some(Entry {
        pid: process.pid,
        name: &process.name,
        exe: process.exe.as_deref(),
        is_self: true,
        through,
    })
}

/// Lets others in, and is no entry itself.
fn gate(name: &str) -> Option<&'static str> {
    match name {
        "sshd" | "sshd-session" | "sshd-auth" => Some("sshd"),
        "conmon" => Some("container"),
        name if name.starts_with("containerd-shim") => Some("container"),
        _ => None,
    }
}
