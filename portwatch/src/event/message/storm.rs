//! The sentences of storms, scans, and what is done about them.

use super::{endpoint, socket_of, span, who};
use crate::event::words::Word as _;
use crate::event::{
    Event, EventType, Protocol, Response, ResponseAction, Scan, ScanShape, Storm, StormKind,
};

/// Prefixes that a sentence names.
const NAMED: usize = 4;

/// The sentence of `storm.*` and `scan.detected`.
pub(super) fn sentence(event: &Event) -> String {
    if let Some(scan) = &event.scan {
        return scanned(scan);
    }
    if let Some(response) = &event.response {
        return answered(response);
    }
    let Some(storm) = &event.storm else {
        return "something was counted that is no longer known".to_owned();
    };
    let what = format!("{} {}", title(storm.kind), place(event, storm));
    match event.kind {
        EventType::StormEnded => over(event, storm, &what),
        EventType::StormUpdated => {
            let span = event
                .duration_ms
                .map_or_else(String::new, |ms| format!(" for {}", span(ms)));
            format!("{what} goes on{span}: {}{}", now(storm), so_far(storm))
        }
        _ => format!("{what}: {}{}", now(storm), mostly(storm)),
    }
}

const fn title(kind: StormKind) -> &'static str {
    match kind {
        StormKind::SynFlood => "SYN flood",
        StormKind::ConnectionStorm => "storm of connections",
        StormKind::ConnectStorm => "storm of outgoing connections",
        StormKind::ResetStorm => "storm of resets",
        StormKind::RefusedStorm => "storm of refused connections",
        StormKind::CloseWaitLeak => "sockets pile up in CLOSE_WAIT",
        StormKind::TimeWaitPressure => "local ports run out",
        StormKind::AcceptQueueOverflow => "accept queue overflows",
    }
}

/// `on 0.0.0.0:80/tcp of nginx (pid 812, root)`, `by curl (pid 7, root)`, `in network namespace 4026531840`.
fn place(event: &Event, storm: &Storm) -> String {
    match (&event.socket, &event.process) {
        (Some(_), Some(_)) => format!("on {} of {}", socket_of(event), who(event)),
        (Some(_), None) => format!("on {}", socket_of(event)),
        (None, Some(_)) => format!("by {}", who(event)),
        (None, None) => match storm.netns {
            Some(netns) => format!("in network namespace {netns}"),
            None => format!("on {}", storm.key),
        },
    }
}

const fn unit(kind: StormKind) -> &'static str {
    match kind {
        StormKind::SynFlood => "half-open connections",
        StormKind::ConnectionStorm => "connections",
        StormKind::ConnectStorm => "connections opened or failed",
        StormKind::ResetStorm => "resets",
        StormKind::RefusedStorm => "refused connections",
        StormKind::CloseWaitLeak => "sockets",
        StormKind::TimeWaitPressure => "local ports taken towards one peer",
        StormKind::AcceptQueueOverflow => "connections dropped",
    }
}

/// `480 half-open connections a second, 98 of 100 that begin`.
fn now(storm: &Storm) -> String {
    let unit = unit(storm.kind);
    let mut text = match (storm.rate, storm.level) {
        (Some(rate), _) => format!("{rate} {unit} a second"),
        (None, Some(level)) => format!("{level} {unit}"),
        (None, None) => format!("{} {unit}", storm.peak),
    };
    if let Some(ratio) = storm.ratio.filter(|ratio| *ratio <= 100) {
        text.push_str(&format!(", {ratio} of 100 that begin"));
    }
    if let (Some(now), Some(most)) = (storm.accept_queue, storm.accept_queue_max) {
        text.push_str(&format!(", {now} wait in a queue for {most}"));
    }
    text
}

fn so_far(storm: &Storm) -> String {
    match storm.rate {
        Some(_) => format!(", {} so far{}", storm.total, mostly(storm)),
        None => mostly(storm),
    }
}

/// Whom most of it comes from, or goes to.
fn mostly(storm: &Storm) -> String {
    match storm.peers.first() {
        Some(peer) if peer.share >= 20 => {
            let preposition = match storm.kind {
                StormKind::ConnectStorm | StormKind::TimeWaitPressure => "to",
                _ => "from",
            };
            format!(", {} % {preposition} {}", peer.share, peer.prefix)
        }
        Some(_) => ", from many sources".to_owned(),
        None => String::new(),
    }
}

fn over(event: &Event, storm: &Storm, what: &str) -> String {
    let after = event
        .duration_ms
        .map_or_else(String::new, |ms| format!(" after {}", span(ms)));
    let unit = unit(storm.kind);
    let counts = match storm.rate {
        Some(_) => format!("{} {unit}, at most {} a second", storm.total, storm.peak),
        None => format!("at most {} {unit}", storm.peak),
    };
    let reason = storm
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!("; {reason}"));
    format!("{what}: over{after}, {counts}{reason}")
}

fn scanned(scan: &Scan) -> String {
    let source = scan.source.as_deref().unwrap_or("somebody");
    let protocol = scan.protocol.word();
    let ports: Vec<String> = scan
        .sample
        .iter()
        .take(NAMED * 2)
        .map(u16::to_string)
        .collect();
    let named = match ports.len() {
        0 => String::new(),
        _ if ports.len() < scan.ports as usize => format!(" ({}, …)", ports.join(", ")),
        _ => format!(" ({})", ports.join(", ")),
    };
    match scan.shape {
        ScanShape::Vertical => {
            let kind = if scan.protocol == Protocol::Udp {
                " of UDP"
            } else {
                ""
            };
            let (who, scans) = match scan.sources {
                0 | 1 => (source.to_owned(), "scans"),
                several => (format!("{several} addresses of {source}/64"), "scan"),
            };
            format!(
                "{who} {scans} ports{kind}: {} closed ones tried{named}",
                scan.ports
            )
        }
        ScanShape::Distributed => {
            let port = scan.sample.first().copied().unwrap_or(0);
            format!(
                "{} sources knock at the closed port {port}/{protocol}",
                scan.sources
            )
        }
        ScanShape::Horizontal => {
            let port = scan.sample.first().copied().unwrap_or(0);
            format!(
                "{source} knocks at the closed port {port}/{protocol} in {} network namespaces",
                scan.namespaces
            )
        }
    }
}

fn answered(response: &Response) -> String {
    let mut named: Vec<&str> = response
        .prefixes
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect();
    let more = response.prefixes.len().saturating_sub(named.len());
    let others = format!("{more} more");
    if more > 0 {
        named.push(&others);
    }
    let (prefixes, set) = (named.join(", "), &response.set);
    let (done, would) = match response.action {
        ResponseAction::Block => ("put into", "would be put into"),
        ResponseAction::Unblock => ("taken out of", "would be taken out of"),
    };
    let verb = if response.dry_run { would } else { done };
    let span = response.timeout_s.map_or_else(String::new, |seconds| {
        format!(" for {}", span(seconds * 1_000))
    });
    match &response.error {
        Some(error) => format!("{prefixes} could not be {done} the set {set}: {error}"),
        None => format!(
            "{prefixes} {verb} the set {set}{span} because of {}",
            response.cause
        ),
    }
}

/// What to do next, for an administrator who was woken.
#[must_use]
pub fn advice(kind: StormKind, storm: &Event) -> String {
    let at = storm.socket.as_ref().map_or_else(String::new, endpoint);
    let port = storm.socket.as_ref().and_then(|socket| socket.port);
    let port = port.map_or_else(String::new, |port| format!(" sport = :{port}"));
    match kind {
        StormKind::SynFlood => format!(
            "See that net.ipv4.tcp_syncookies is 1, look at the half-open ones with `ss -tan state syn-recv{port}`, and have the provider filter the prefixes named here if the link is full"
        ),
        StormKind::ConnectionStorm => format!(
            "Look who connects with `ss -tn{port}`, limit connections by source at the proxy or with nftables, and raise the floor in [storm] if this is success"
        ),
        StormKind::ConnectStorm => "Look what the process is and who started it; if nobody knows it, stop it with `kill -STOP` and look at its parents before it is ended".to_owned(),
        StormKind::ResetStorm => "Look whether a proxy, a firewall or the service itself was restarted, and with `nstat -az TcpEstabResets TcpOutRsts` which side resets".to_owned(),
        StormKind::RefusedStorm => "Look with `portwatch ls` and `portwatch history type:listener.closed` whether a service is gone that its clients still ask for".to_owned(),
        StormKind::CloseWaitLeak => "The process does not close what its peers have closed: look at it with `ss -tnp state close-wait`, and restart it before it runs out of descriptors".to_owned(),
        StormKind::TimeWaitPressure => "Have the client keep connections open, or widen net.ipv4.ip_local_port_range; net.ipv4.tcp_tw_reuse=1 helps for outgoing connections".to_owned(),
        StormKind::AcceptQueueOverflow => format!(
            "The service on {at} does not accept fast enough: look at its load with `top`, then at its backlog and net.core.somaxconn with `ss -ltn{port}`"
        ),
    }
}

/// See [`advice`].
#[must_use]
pub fn scan_advice(scan: &Scan) -> String {
    match scan.shape {
        ScanShape::Vertical => "Look with `portwatch ls all-interfaces` what this source can reach; block it at the firewall if nobody of yours scans",
        ScanShape::Distributed => "Look whether a service on that port is gone (`portwatch history type:listener.closed`); if there never was one, nothing is lost",
        ScanShape::Horizontal => "Look who this source is: from inside, it may be a worm that looks for more victims",
    }
    .to_owned()
}
