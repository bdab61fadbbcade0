//! What the sentences say, word for word.

use super::*;
use crate::event::example::examples;
use crate::event::{Protocol, SocketType};

fn example(kind: EventType) -> Event {
    let found = examples().into_iter().find(|event| event.kind == kind);
    found.expect("an example of each type")
}

fn opened(change: impl FnOnce(&mut Socket)) -> Event {
    let mut event = example(EventType::ListenerOpened);
    change(event.socket.as_mut().expect("a socket"));
    event
}

#[test]
fn each_type_says_what_happened() {
    let said: Vec<_> = examples().iter().map(sentence).collect();
    assert_eq!(
        said,
        [
            "nginx (pid 812, root) listens on 0.0.0.0:80/tcp",
            "redis-server (pid 2204, uid 999) closed 127.0.0.1:6379/tcp after 3 m 12 s",
            "systemd (pid 1, root) already listens on unix stream /run/docker.sock; held by systemd (1) and dockerd (640)",
            "0.0.0.0:80/tcp of nginx (pid 812, root) changed: backlog 511, before 128; held by nginx (812) and nginx (813), before by nginx (812)",
            "python3 (pid 9120, www-data) could not bind 0.0.0.0:80/tcp: EADDRINUSE (address already in use)",
            "[::ffff:10.0.0.2]:6379/tcp with [::ffff:10.0.0.9]:44112 went from SYN_RECV to ESTABLISHED, owned by redis-server (pid 2204, uid 999)",
            "web is down: nginx (pid 812, root) listens on 0.0.0.0:80/tcp, but did not answer http for 1 m 5 s, 3 times in a row: no answer within 5 s",
            "web is back after 2 m 5 s: nginx (pid 812, root) listens on 0.0.0.0:80/tcp and answers http",
            "2 sensors are ready: tcp.listen by fexit, socket.close by cgroup",
            "udp.bind makes do with cgroup: the kernel refuses fexit programs (EPERM); not seen: binds that the kernel refuses; to mend it, boot a kernel with CONFIG_KPROBES",
            "lost 12 events on the critical ring between 2026-11-21T19:41:58.000214000Z and 2026-11-21T19:42:00.871002113Z, 12 of them of cgroup /system.slice/batch.service",
            "looked again at 214 sockets in 1.1 ms: 1 listener had not been reported, 2 were gone, 0 had changed",
            "SYN flood on 0.0.0.0:80/tcp of nginx (pid 812, root): 480 half-open connections a second, 98 of 100 that begin, 50 % from 203.0.113.7/32",
            "SYN flood on 0.0.0.0:80/tcp of nginx (pid 812, root) goes on for 31 s: 455 half-open connections a second, 98 of 100 that begin, 14812 so far, 50 % from 203.0.113.7/32",
            "SYN flood on 0.0.0.0:80/tcp of nginx (pid 812, root): over after 3 m 4 s, 86034 half-open connections, at most 512 a second",
            "203.0.113.66 scans ports: 23 closed ones tried (21, 23, 25, 53, 110, 111, 135, 139, …)",
            "203.0.113.7/32 put into the set inet filter portwatch4 for 10 m 0 s because of syn-flood",
            "watching for 2 h 1 m: 46 events told, 12 lost; 2 sinks, 16 events waiting",
        ]
    );
}

#[test]
fn what_is_denied_is_said_and_matters_most() {
    let judged = |state| {
        let mut event = opened(|_| ());
        let rule = "no web".to_owned();
        event.policy = Some(Policy { state, rule });
        event
    };
    let denied = judged(PolicyState::Denied);
    assert_eq!(
        sentence(&denied),
        "nginx (pid 812, root) listens on 0.0.0.0:80/tcp; denied by the rule no web"
    );
    assert_eq!(severity(&denied), Severity::Critical);
    assert_eq!(severity(&judged(PolicyState::New)), Severity::Notice);
    assert_eq!(severity(&judged(PolicyState::Expected)), Severity::Info);
}

#[test]
fn what_is_expected_is_down_in_several_ways() {
    let told = |kind, change: fn(&mut Event)| {
        let mut event = example(kind);
        change(&mut event);
        sentence(&event)
    };
    assert_eq!(
        told(EventType::ListenerDown, |event| event.check = None),
        "web is down: for 1 m 5 s nobody listens on 0.0.0.0:80/tcp, where nginx (pid 812, root) did"
    );
    assert_eq!(
        told(EventType::ListenerRecovered, |event| event.check = None),
        "web is back after 2 m 5 s: nginx (pid 812, root) listens on 0.0.0.0:80/tcp"
    );
    let elsewhere: fn(&mut Event) = |event| {
        (event.socket, event.process) = (None, None);
        let check = event.check.as_mut().expect("a check");
        check.target = "www.example.org:80".to_owned();
        check.failures = check.failures.map(|_| 1);
    };
    assert_eq!(
        told(EventType::ListenerDown, elsewhere),
        "web is down: www.example.org:80 did not answer http: no answer within 5 s"
    );
    assert_eq!(
        told(EventType::ListenerRecovered, elsewhere),
        "web is back after 2 m 5 s: www.example.org:80 answers http"
    );
    let connect: fn(&mut Event) =
        |event| event.check.as_mut().expect("a check").protocol = CheckProtocol::Connect;
    assert!(told(EventType::ListenerDown, connect).contains("but did not take a connection for"));
    assert!(told(EventType::ListenerRecovered, connect).ends_with("/tcp and takes connections"));
}

#[test]
fn each_family_has_its_form() {
    let v6 = opened(|socket| {
        socket.family = Family::Ipv6;
        socket.address = Some("::".to_owned());
    });
    assert_eq!(
        sentence(&v6),
        "nginx (pid 812, root) listens on [::]:80/tcp"
    );
    let hidden = opened(|socket| {
        socket.family = Family::Unix;
        socket.kind = SocketType::Dgram;
        socket.abstract_name = Some("bus".to_owned());
    });
    assert_eq!(
        sentence(&hidden),
        "nginx (pid 812, root) listens on unix dgram @bus"
    );
    let mut packet = opened(|socket| {
        socket.family = Family::Packet;
        socket.protocol = Protocol::Packet;
        socket.interface = Some("eth0".to_owned());
        socket.protocol_number = Some(3);
    });
    assert_eq!(
        sentence(&packet),
        "nginx (pid 812, root) captures on eth0 (all protocols)"
    );
    packet.kind = EventType::ListenerClosed;
    assert_eq!(
        sentence(&packet),
        "nginx (pid 812, root) stopped capturing on eth0 (all protocols)"
    );
    let raw = opened(|socket| {
        socket.protocol = Protocol::Raw;
        socket.port = None;
        socket.protocol_number = Some(1);
    });
    assert_eq!(
        sentence(&raw),
        "nginx (pid 812, root) listens on 0.0.0.0/raw (ICMP)"
    );
}

#[test]
fn one_is_singular() {
    let mut gap = example(EventType::Gap);
    let lost = gap.gap.as_mut().expect("a gap");
    lost.lost = 1;
    lost.ring = RingName::Client;
    assert!(sentence(&gap).starts_with("this reader was too slow and missed 1 event between"));
}

#[test]
fn spans_use_their_two_largest_units() {
    let spans = [0, 999, 3_250, 59_999, 60_000, 7_500_000, 349_200_000].map(span);
    assert_eq!(
        spans,
        [
            "0 ms", "999 ms", "3.2 s", "59 s", "1 m 0 s", "2 h 5 m", "4 d 1 h"
        ]
    );
}

#[test]
fn a_long_sentence_is_cut_and_a_hostile_one_defused() {
    let mut event = example(EventType::ListenerOpened);
    let process = event.process.as_mut().expect("a process");
    process.name = "\x1b[2J\n".to_owned() + &"ü".repeat(5_000);
    let said = sentence(&event);
    assert_eq!(said.chars().count(), MAX_CHARS);
    assert!(said.starts_with(r"\x1b[2J\x0aü") && said.ends_with('…'));
}

#[test]
fn every_event_can_be_told_without_its_parts() {
    for mut event in examples() {
        event.socket = None;
        event.process = None;
        event.previous = None;
        event.gap = None;
        event.reconciled = None;
        event.sensor = None;
        let said = sentence(&event);
        assert!(said.len() > 10 && !said.contains("  "), "{said}");
    }
}

#[test]
fn what_others_can_reach_matters_more() {
    assert_eq!(severity(&opened(|_| ())), Severity::Notice);
    let local = opened(|socket| socket.exposure = Some(Exposure::Loopback));
    assert_eq!(severity(&local), Severity::Info);
    let unix = opened(|socket| socket.family = Family::Unix);
    assert_eq!(severity(&unix), Severity::Info);
    let expected = [
        (EventType::ListenerClosed, Severity::Info),
        (EventType::ListenerPresent, Severity::Info),
        (EventType::ListenerChanged, Severity::Notice),
        (EventType::BindFailed, Severity::Notice),
        (EventType::ConnectionState, Severity::Debug),
        (EventType::ListenerDown, Severity::Critical),
        (EventType::ListenerRecovered, Severity::Notice),
        (EventType::SensorReady, Severity::Info),
        (EventType::SensorDegraded, Severity::Warning),
        (EventType::Gap, Severity::Warning),
        (EventType::GapReconciled, Severity::Info),
        (EventType::StormStarted, Severity::Warning),
        (EventType::StormUpdated, Severity::Info),
        (EventType::StormEnded, Severity::Notice),
        (EventType::ScanDetected, Severity::Notice),
        (EventType::StormResponse, Severity::Notice),
    ];
    for (kind, wanted) in expected {
        assert_eq!(severity(&example(kind)), wanted, "{kind:?}");
    }
}
