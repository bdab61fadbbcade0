//! The one sentence that an event says to a person, and how much the event matters.

mod storm;

pub use storm::{advice, scan_advice};

use std::fmt::Write as _;

use super::misuse::{self, Misuse};
use super::words::Word as _;
use super::{
    Check, CheckProtocol, Event, EventType, Exposure, Family, Gap, GapCause, Heartbeat, Owner,
    Policy, PolicyState, Process, Reconciled, RingName, Sensor, Severity, Socket,
};
use crate::text::{clip, guard};

/// Longest sentence, in characters.
pub const MAX_CHARS: usize = 1_000;

/// Owners that a sentence names before it only counts the others.
const NAMED_OWNERS: usize = 4;

/// One clear sentence: who did what to which socket. At most [`MAX_CHARS`] characters, no control
/// character, no final full stop.
#[must_use]
pub fn sentence(event: &Event) -> String {
    let text = match event.kind {
        EventType::ListenerOpened => {
            format!("{} {}{}", who(event), listens(event, ""), judged(event))
        }
        EventType::ListenerPresent => {
            let others = match event.owners.len() {
                0 | 1 => String::new(),
                _ => format!("; held by {}", owners(&event.owners)),
            };
            let judged = judged(event);
            format!(
                "{} {}{others}{judged}",
                who(event),
                listens(event, "already ")
            )
        }
        EventType::ListenerClosed => closed(event),
        EventType::ListenerChanged => changed(event),
        EventType::BindFailed => failed(event),
        EventType::ConnectionState => transition(event),
        EventType::ListenerDown => down(event),
        EventType::ListenerRecovered => recovered(event),
        EventType::SensorReady => ready(event.sensor.as_ref()),
        EventType::SensorDegraded => degraded(event.sensor.as_ref()),
        EventType::Gap => event
            .gap
            .as_ref()
            .map_or_else(|| "events were lost".to_owned(), lost),
        EventType::GapReconciled => event
            .reconciled
            .as_ref()
            .map_or_else(|| "looked at every socket again".to_owned(), reconciled),
        EventType::StormStarted
        | EventType::StormUpdated
        | EventType::StormEnded
        | EventType::ScanDetected
        | EventType::StormResponse => storm::sentence(event),
        EventType::Heartbeat => event
            .heartbeat
            .as_ref()
            .map_or_else(|| "watching".to_owned(), alive),
    };
    clip(&guard(&text), MAX_CHARS, |_| 1).into_owned()
}

/// Only what may not be, and what a new listener's port is known for, is said: everything else is as it should
/// be, or for the reader to find out.
fn judged(event: &Event) -> String {
    match &event.policy {
        Some(policy) if policy.state == PolicyState::Denied => {
            format!("; denied by the rule {}", policy.rule)
        }
        _ => suspicious(event).map_or_else(String::new, |known| {
            format!("; the port is known for {}", known.name)
        }),
    }
}

/// What the port of a listener that nobody approved is known for.
fn suspicious(event: &Event) -> Option<&'static Misuse> {
    let is_approved = |policy: &Policy| policy.state != PolicyState::New;
    if event.policy.as_ref().is_some_and(is_approved) {
        return None;
    }
    let socket = event.socket.as_ref()?;
    misuse::of(socket.port?, socket.protocol).next()
}

/// How much an event of this content matters when no rule says otherwise.
#[must_use]
pub fn severity(event: &Event) -> Severity {
    let state = event.policy.as_ref().map(|policy| policy.state);
    match (event.kind, state) {
        (EventType::ListenerOpened | EventType::ListenerPresent, Some(PolicyState::Denied)) => {
            return Severity::Critical;
        }
        (EventType::ListenerOpened | EventType::ListenerPresent, Some(PolicyState::New) | None)
            if suspicious(event).is_some() =>
        {
            return Severity::Warning;
        }
        (EventType::ListenerOpened, Some(PolicyState::New) | None) => {}
        (EventType::ListenerOpened, Some(_)) => return Severity::Info,
        // Found and not seen opening: no less new for that.
        (EventType::ListenerPresent, Some(PolicyState::New))
            if !is_local(event.socket.as_ref()) =>
        {
            return Severity::Notice;
        }
        _ => {}
    }
    match event.kind {
        EventType::ListenerOpened if is_local(event.socket.as_ref()) => Severity::Info,
        EventType::ListenerOpened | EventType::ListenerChanged | EventType::BindFailed => {
            Severity::Notice
        }
        EventType::ListenerClosed
        | EventType::ListenerPresent
        | EventType::SensorReady
        | EventType::GapReconciled
        | EventType::Heartbeat => Severity::Info,
        EventType::ConnectionState => Severity::Debug,
        EventType::ListenerDown => Severity::Critical,
        EventType::ListenerRecovered => Severity::Notice,
        EventType::SensorDegraded | EventType::Gap | EventType::StormStarted => Severity::Warning,
        EventType::StormUpdated => Severity::Info,
        EventType::StormEnded | EventType::ScanDetected | EventType::StormResponse => {
            Severity::Notice
        }
    }
}

/// Where a socket receives, as one token: `0.0.0.0:80`, `[::]:80`, a path, `@name`, an interface.
#[must_use]
pub fn endpoint(socket: &Socket) -> String {
    match socket.family {
        Family::Unix => unix_name(socket),
        Family::Packet => interface(socket).to_owned(),
        Family::Ipv4 | Family::Ipv6 | Family::Vsock => {
            inet(socket.address.as_deref().unwrap_or("*"), socket.port)
        }
    }
}

/// The other end of a connection, in the same form.
#[must_use]
pub fn peer(socket: &Socket) -> Option<String> {
    Some(inet(socket.peer_address.as_deref()?, socket.peer_port))
}

/// What a packet or raw socket receives: `all protocols`, `ARP`, `ICMP`, `ethertype 0x1234`, `protocol 99`.
#[must_use]
pub fn protocol_number(socket: &Socket) -> Option<String> {
    let number = socket.protocol_number?;
    let name = if socket.family == Family::Packet {
        // linux/if_ether.h
        match number {
            0x0000 => "no protocol yet",
            0x0003 => "all protocols",
            0x0800 => "IPv4",
            0x0806 => "ARP",
            0x86dd => "IPv6",
            0x8100 => "VLAN",
            0x888e => "802.1X",
            0x88cc => "LLDP",
            _ => return Some(format!("ethertype {number:#06x}")),
        }
    } else {
        // IANA protocol numbers
        match number {
            1 => "ICMP",
            2 => "IGMP",
            6 => "TCP",
            17 => "UDP",
            47 => "GRE",
            50 => "ESP",
            51 => "AH",
            58 => "ICMPv6",
            89 => "OSPF",
            103 => "PIM",
            112 => "VRRP",
            132 => "SCTP",
            255 => "any protocol, headers included",
            _ => return Some(format!("protocol {number}")),
        }
    };
    Some(name.to_owned())
}

/// A span in words of its two largest units: `84 ms`, `3.2 s`, `3 m 12 s`, `2 h 5 m`, `4 d 1 h`.
#[must_use]
pub fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{seconds}.{} s", ms % 1_000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `listener.changed`: what is different now, and what it was before; `None` when that is not known.
#[must_use]
pub fn changes(event: &Event) -> Option<String> {
    let mut changes = Vec::new();
    let socket = event.socket.as_ref();
    let before = event.previous.as_ref();
    let (old, new) = (
        before.and_then(|p| p.backlog),
        socket.and_then(|s| s.backlog),
    );
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        changes.push(format!("backlog {new}, before {old}"));
    }
    if let Some(old) = before.and_then(|previous| previous.interface.as_ref()) {
        let new = socket.map_or("every interface", interface);
        changes.push(format!("on {new}, before on {old}"));
    }
    let old = before.map_or(&[][..], |previous| &previous.owners);
    if old != event.owners {
        let before = if old.is_empty() {
            String::new()
        } else {
            format!(", before by {}", owners(old))
        };
        changes.push(format!("held by {}{before}", owners(&event.owners)));
    }
    (!changes.is_empty()).then(|| changes.join("; "))
}

/// Only this host can reach it.
fn is_local(socket: Option<&Socket>) -> bool {
    socket.is_some_and(|socket| {
        socket.family == Family::Unix || socket.exposure == Some(Exposure::Loopback)
    })
}

/// `nginx (pid 812, root)`.
#[must_use]
pub fn who(event: &Event) -> String {
    event
        .process
        .as_ref()
        .map_or_else(|| "an unknown process".to_owned(), named)
}

fn named(process: &Process) -> String {
    let user = match (&process.user, process.uid) {
        (Some(user), _) => format!(", {user}"),
        (None, Some(uid)) => format!(", uid {uid}"),
        (None, None) => String::new(),
    };
    let name = if process.name.is_empty() {
        "a nameless process"
    } else {
        &process.name
    };
    format!("{name} (pid {}{user})", process.pid)
}

/// `listens on 0.0.0.0:80/tcp`, in the words of the socket's family; `already` goes before the verb.
fn listens(event: &Event, already: &str) -> String {
    let Some(socket) = &event.socket else {
        return format!("{already}listens");
    };
    match socket.family {
        Family::Packet => format!("{already}captures {}", place(socket)),
        _ => format!("{already}listens on {}", place(socket)),
    }
}

/// The socket in a sentence: `0.0.0.0:80/tcp`, `unix stream /run/x.sock`, `on eth0 (all protocols)`.
fn place(socket: &Socket) -> String {
    let at = endpoint(socket);
    let what = protocol_number(socket).map_or_else(String::new, |what| format!(" ({what})"));
    match socket.family {
        Family::Unix => format!("unix {} {at}", socket.kind.word()),
        Family::Packet => format!("on {at}{what}"),
        Family::Vsock => format!("vsock {at}"),
        Family::Ipv4 | Family::Ipv6 => {
            let device = match &socket.interface {
                Some(interface) => format!(" on {interface}"),
                None => String::new(),
            };
            format!("{at}/{}{device}{what}", socket.protocol.word())
        }
    }
}

/// The socket of an event in a sentence: `0.0.0.0:80/tcp`.
#[must_use]
pub fn socket_of(event: &Event) -> String {
    event
        .socket
        .as_ref()
        .map_or_else(|| "a socket".to_owned(), place)
}

fn inet(address: &str, port: Option<u16>) -> String {
    let address = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    match port {
        Some(port) => format!("{address}:{port}"),
        None => address,
    }
}

fn unix_name(socket: &Socket) -> String {
    match (&socket.path, &socket.abstract_name) {
        (Some(path), _) => path.clone(),
        (None, Some(name)) => format!("@{name}"),
        (None, None) => "(unnamed)".to_owned(),
    }
}

fn interface(socket: &Socket) -> &str {
    socket.interface.as_deref().unwrap_or("every interface")
}

fn closed(event: &Event) -> String {
    let packet = event
        .socket
        .as_ref()
        .is_some_and(|socket| socket.family == Family::Packet);
    let verb = if packet {
        "stopped capturing"
    } else {
        "closed"
    };
    let after = event
        .duration_ms
        .map_or_else(String::new, |ms| format!(" after {}", span(ms)));
    format!("{} {verb} {}{after}", who(event), socket_of(event))
}

/// `web is down: for 10 s nobody listens on 0.0.0.0:80/tcp, where nginx (pid 812, root) did`.
fn down(event: &Event) -> String {
    let (rule, span) = expected(event);
    if let Some(check) = &event.check {
        return format!("{rule} is down: {}", unanswered(event, check, &span));
    }
    match &event.socket {
        Some(socket) => {
            let last = event.process.as_ref().map(named);
            let last = last.map_or_else(String::new, |who| format!(", where {who} did"));
            format!(
                "{rule} is down: for {span} nobody listens on {}{last}",
                place(socket)
            )
        }
        None => format!("{rule} is down: for {span}, since portwatch looks, nobody listens there"),
    }
}

/// `nginx (pid 812, root) listens on 0.0.0.0:80/tcp, but did not answer http for 1 m 5 s, 3 times in a row: …`.
fn unanswered(event: &Event, check: &Check, span: &str) -> String {
    let who = match &event.socket {
        Some(_) => format!("{} {}, but", who(event), listens(event, "")),
        None => check.target.clone(),
    };
    let missed = match check.protocol {
        CheckProtocol::Connect => "did not take a connection".to_owned(),
        protocol => format!("did not answer {}", protocol.word()),
    };
    // One failure alone took no longer than itself.
    let times = match check.failures {
        Some(1) => String::new(),
        Some(times) => format!(" for {span}, {times} times in a row"),
        None => format!(" for {span}"),
    };
    let error = check.error.as_ref();
    let error = error.map_or_else(String::new, |error| format!(": {error}"));
    format!("{who} {missed}{times}{error}")
}

/// `web is back after 42 s: nginx (pid 934, root) listens on 0.0.0.0:80/tcp and answers http`.
fn recovered(event: &Event) -> String {
    let (rule, span) = expected(event);
    let answers = event.check.as_ref().map(|check| match check.protocol {
        CheckProtocol::Connect => "takes connections".to_owned(),
        protocol => format!("answers {}", protocol.word()),
    });
    let what = match (answers, &event.check, &event.socket) {
        (Some(answers), Some(check), None) => format!("{} {answers}", check.target),
        (Some(answers), ..) => format!("{} {} and {answers}", who(event), listens(event, "")),
        (None, ..) => format!("{} {}", who(event), listens(event, "")),
    };
    format!("{rule} is back after {span}: {what}")
}

/// The expectation by its name, and for how long it was not met.
fn expected(event: &Event) -> (&str, String) {
    let rule = event.policy.as_ref().map(|policy| policy.rule.as_str());
    let span = event.duration_ms.map(span);
    (
        rule.unwrap_or("a listener that is expected"),
        span.unwrap_or_else(|| "some time".to_owned()),
    )
}

fn changed(event: &Event) -> String {
    let changes = changes(event).map_or_else(String::new, |changes| format!(": {changes}"));
    format!("{} of {} changed{changes}", socket_of(event), who(event))
}

/// `nginx (812) and nginx (813)`; `nobody` for none.
fn owners(owners: &[Owner]) -> String {
    let mut names: Vec<_> = owners
        .iter()
        .take(NAMED_OWNERS)
        .map(|owner| format!("{} ({})", owner.name, owner.pid))
        .collect();
    if owners.len() > NAMED_OWNERS {
        names.push(format!("{} more", owners.len() - NAMED_OWNERS));
    }
    match names.split_last() {
        None => "nobody".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

fn failed(event: &Event) -> String {
    let error = event.error.as_deref().unwrap_or("no reason known");
    let meaning = match error {
        "EACCES" => " (permission denied)",
        "EADDRINUSE" => " (address already in use)",
        "EADDRNOTAVAIL" => " (this host does not have the address)",
        "EAFNOSUPPORT" => " (address family not supported)",
        "EDESTADDRREQ" => " (no address was bound)",
        "EINVAL" => " (invalid argument, or already bound)",
        "ELOOP" => " (too many symbolic links)",
        "ENAMETOOLONG" => " (name too long)",
        "ENOBUFS" => " (no buffer space)",
        "ENODEV" => " (no such interface)",
        "ENOENT" => " (no such directory)",
        "ENOMEM" => " (out of memory)",
        "ENOTDIR" => " (not a directory)",
        "EOPNOTSUPP" => " (this kind of socket cannot listen)",
        "EPERM" => " (not permitted)",
        "EROFS" => " (read-only file system)",
        _ => "",
    };
    format!(
        "{} could not bind {}: {error}{meaning}",
        who(event),
        socket_of(event)
    )
}

fn transition(event: &Event) -> String {
    let owner = event.process.as_ref().map_or_else(String::new, owned_by);
    let (local, peer, protocol) = match &event.socket {
        Some(socket) => (endpoint(socket), peer(socket), socket.protocol.word()),
        None => ("a connection".to_owned(), None, "tcp"),
    };
    let peer = peer.map_or_else(String::new, |peer| format!(" with {peer}"));
    let state = match (event.old_state, event.new_state) {
        (Some(old), Some(new)) => format!(" went from {} to {}", old.word(), new.word()),
        (None, Some(new)) => format!(" went to {}", new.word()),
        (_, None) => " changed its state".to_owned(),
    };
    format!("{local}/{protocol}{peer}{state}{owner}")
}

/// The end of the sentence about a connection: `, owned by nginx (pid 812, root)`.
#[must_use]
pub fn owned_by(process: &Process) -> String {
    format!(", owned by {}", named(process))
}

fn ready(sensor: Option<&Sensor>) -> String {
    let signals: Vec<_> = sensor
        .iter()
        .flat_map(|sensor| &sensor.mechanisms)
        .map(|pair| format!("{} by {}", pair.signal, pair.mechanism.word()))
        .collect();
    match signals.len() {
        0 => "the sensors are ready".to_owned(),
        1 => format!("the sensor is ready: {}", signals.join("")),
        count => format!("{count} sensors are ready: {}", signals.join(", ")),
    }
}

fn degraded(sensor: Option<&Sensor>) -> String {
    let Some(sensor) = sensor else {
        return "a sensor sees less than it could".to_owned();
    };
    let signal = sensor.signal.as_deref();
    let mut text = match (signal, sensor.mechanism) {
        (None, None) => "less is known than could be".to_owned(),
        (Some(signal), None) => format!("{signal} cannot be watched"),
        (signal, Some(mechanism)) => {
            let signal = signal.unwrap_or("a sensor");
            format!("{signal} makes do with {}", mechanism.word())
        }
    };
    let parts = [
        (": ", &sensor.reason),
        ("; not seen: ", &sensor.blind_to),
        ("; to mend it, ", &sensor.remedy),
    ];
    for (lead, part) in parts {
        if let Some(part) = part {
            let _ = write!(text, "{lead}{part}");
        }
    }
    text
}

fn lost(gap: &Gap) -> String {
    let Gap { lost, from, to, .. } = gap;
    let count = counted(*lost, "event");
    let between = format!("between {from} and {to}");
    match (gap.ring, &gap.probe) {
        (RingName::Client, _) => format!("this reader was too slow and missed {count} {between}"),
        (RingName::Probe, Some(probe)) => {
            format!("the probe {probe} did not run for {count} {between}")
        }
        (RingName::Probe, None) => format!("a probe did not run for {count} {between}"),
        (RingName::Sink, _) => {
            let why = match gap.cause {
                Some(GapCause::BufferFull) => "found no room in this output's buffer on disk",
                Some(GapCause::Damaged) => "were damaged or torn on this output's disk",
                Some(GapCause::Refused) => "were refused for good by this output's receiver",
                Some(GapCause::Unwritten) => "could not be written to this output's disk",
                _ => "did not reach this output",
            };
            format!("{count} {why} {between}")
        }
        (ring, _) => {
            let most = gap.cgroups.first().map(|cgroup| match &cgroup.path {
                Some(path) => format!(", {} of them of cgroup {path}", cgroup.lost),
                None => format!(", {} of them of cgroup {}", cgroup.lost, cgroup.id),
            });
            let ring = ring.word();
            let most = most.unwrap_or_default();
            match gap.cause {
                Some(GapCause::TableFull) => {
                    format!("the kernel's table of listeners was full for {count} {between}")
                }
                _ => format!("lost {count} on the {ring} ring {between}{most}"),
            }
        }
    }
}

fn reconciled(found: &Reconciled) -> String {
    format!(
        "looked again at {} in {}: {} had not been reported, {} {} gone, {} had changed",
        counted(found.checked, "socket"),
        micros(found.took_us),
        counted(found.found, "listener"),
        found.vanished,
        if found.vanished == 1 { "was" } else { "were" },
        found.changed,
    )
}

fn alive(heartbeat: &Heartbeat) -> String {
    let told = heartbeat.events.iter().map(|of| of.count);
    let told = told.fold(0, u64::saturating_add);
    let waiting = heartbeat.sinks.iter().map(|sink| sink.queued);
    let waiting = waiting.fold(0, u64::saturating_add);
    format!(
        "watching for {}: {} told, {} lost; {}, {} waiting",
        span(heartbeat.uptime_ms),
        counted(told, "event"),
        heartbeat.lost,
        counted(heartbeat.sinks.len() as u64, "sink"),
        counted(waiting, "event"),
    )
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => span(us / 1_000),
    }
}

#[cfg(test)]
mod tests;
