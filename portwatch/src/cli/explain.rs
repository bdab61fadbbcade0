//! `portwatch explain`: what is a port for, what was it misused for, and who holds it now.

use std::fmt::Write as _;
use std::path::Path;

use super::args::{self, PortOf};
use super::exit::Exit;
use super::failure::Failure;
use super::sightings::{self, to_second};
use super::{ls, print};
use crate::baseline::{Frame, Identity};
use crate::config::Paths;
use crate::enrich::services::Services;
use crate::event::words::Word as _;
use crate::event::{Event, Protocol, message, misuse};
use crate::history::Sighting;
use crate::text::guard;
use crate::time::BootNs;

/// Where nothing else is said.
const USUAL: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Listeners of the past that are told, at most.
const SEEN: usize = 10;

pub(super) fn run(explain: &args::Explain, paths: &Paths) -> Result<Exit, Failure> {
    let PortOf { port, protocol } = explain.port;
    let wanted = protocol.map_or_else(|| USUAL.to_vec(), |protocol| vec![protocol]);
    let mut services = Services::new(Path::new("/etc"));
    let mut text = String::new();
    for &protocol in &wanted {
        let name = services.name(port, protocol, BootNs::now());
        text.push_str(&of_protocol(port, protocol, name.as_deref()));
    }
    let range = Frame::of_host(0).ephemeral;
    if range.contains(&port) {
        let (first, last) = (range.start(), range.end());
        let _ = writeln!(
            text,
            "the kernel gives ports from {first} to {last} to whoever asks for any"
        );
    }
    let held = held(&ls::all(paths)?, port, protocol);
    if held.is_empty() {
        text.push_str("nobody listens there now\n");
    }
    let seen = seen(&sightings::known(paths), port, &wanted);
    for line in held.into_iter().chain(seen) {
        text.push_str(&guard(&line));
        text.push('\n');
    }
    print(text.as_bytes())
}

/// Registered for, and known for.
fn of_protocol(port: u16, protocol: Protocol, service: Option<&str>) -> String {
    let place = format!("{port}/{}", protocol.word());
    let mut text = match service {
        Some(service) => format!("{place} is {service}\n"),
        None => format!("{place} is no service that this host has a name for\n"),
    };
    for known in misuse::of(port, protocol) {
        let (name, kind, source) = (known.name, known.kind.as_str(), known.source);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{place} is known for {name} ({kind}; {source})");
    }
    text
}

/// Who listens there, and how that is judged.
fn held(events: &[Event], port: u16, protocol: Option<Protocol>) -> Vec<String> {
    let is_it = |event: &&Event| {
        event.socket.as_ref().is_some_and(|socket| {
            socket.port == Some(port) && protocol.is_none_or(|protocol| socket.protocol == protocol)
        })
    };
    let line = |event: &Event| {
        let judged = event.policy.as_ref().map_or_else(String::new, |policy| {
            format!(": {} ({})", policy.state.word(), policy.rule)
        });
        let (who, place) = (message::who(event), message::socket_of(event));
        format!("{who} listens on {place}{judged}")
    };
    events.iter().filter(is_it).map(line).collect()
}

/// Who was seen there before, the last one first.
fn seen(known: &[(Identity, Sighting)], port: u16, wanted: &[Protocol]) -> Vec<String> {
    let port = port.to_string();
    let is_it = |one: &Identity| one.port == port && wanted.contains(&one.protocol);
    let there = known.iter().filter(|(one, _)| is_it(one)).take(SEEN);
    let line = |(one, seen): &(Identity, Sighting)| {
        let (first, last) = (to_second(&seen.first), to_second(&seen.last));
        let exe = &one.exe;
        format!("{exe} was seen on {one}: first {first}, last {last}")
    };
    there.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{Identity, Sighting, held, of_protocol, seen};
    use crate::event::{EventType, Protocol};
    use crate::sink::testing;

    #[test]
    fn names_and_misuse_are_told_apart() {
        assert_eq!(
            of_protocol(22, Protocol::Tcp, Some("ssh")),
            "22/tcp is ssh\n"
        );
        assert_eq!(
            of_protocol(31335, Protocol::Udp, None),
            "31335/udp is no service that this host has a name for\n\
             31335/udp is known for Trinoo (agent for distributed floods; CERT Incident Note IN-99-07)\n"
        );
    }

    #[test]
    fn who_was_there_before_is_told() {
        let identity = Identity {
            is_host: true,
            protocol: Protocol::Tcp,
            address: "0.0.0.0".to_owned(),
            port: "4444".to_owned(),
            name: String::new(),
            exe: "/usr/bin/nc".to_owned(),
        };
        let times = Sighting {
            first: "2026-11-01T10:00:00.5Z".to_owned(),
            last: "2026-11-22T10:00:00Z".to_owned(),
            opened: 2,
        };
        let known = [(identity, times)];
        let told = [
            "/usr/bin/nc was seen on 0.0.0.0:4444/tcp: first 2026-11-01T10:00:00Z, last 2026-11-22T10:00:00Z",
        ];
        assert_eq!(seen(&known, 4444, &[Protocol::Tcp]), told);
        assert!(seen(&known, 4444, &[Protocol::Udp]).is_empty());
        assert!(seen(&known, 444, &[Protocol::Tcp]).is_empty());
    }

    #[test]
    fn who_holds_it_is_told() {
        let events = [
            testing::listener(EventType::ListenerPresent, 4444, 812, "/usr/bin/nc"),
            testing::listener(EventType::ListenerPresent, 80, 7, "/usr/sbin/nginx"),
        ];
        let told = ["nc (pid 812, root) listens on 0.0.0.0:4444/tcp"];
        assert_eq!(held(&events, 4444, None), told);
        assert_eq!(held(&events, 4444, Some(Protocol::Tcp)), told);
        assert!(held(&events, 4444, Some(Protocol::Udp)).is_empty());
    }
}
