//! More events than one of each type: whatever renderings tell apart, and every field at least once.

use super::{
    bare, connection, docker_socket, finished, http, init, judged, nginx, owner, redis_server,
    seen_by, socket,
};
use crate::event::{
    Ancestor, Event, EventType, Exposure, Family, Gap, GapCause, Mechanism, PolicyState, Previous,
    Process, Protocol, RingName, Sensor, Socket, SocketType, State,
};

/// Numbers of these events begin here, so that examples of types that are yet to come fit before them.
const FIRST: u64 = 1001;

/// The variants; their order is part of what is pinned, so new ones go to the end.
#[must_use]
pub fn variants() -> Vec<Event> {
    let kinds: [fn(u64) -> Event; 24] = [
        denied,
        misused,
        abstract_name,
        packet,
        ping,
        link_local,
        outbound,
        closing,
        refused,
        begins_to_listen,
        never_seen,
        slow_reader,
        skipped_probe,
        unwatched,
        moved,
        vsock,
        rootless,
        super::storms::leak,
        super::storms::failing,
        super::storms::overflow,
        super::storms::refused,
        super::storms::unseen,
        super::storms::distributed,
        super::storms::failed_response,
    ];
    kinds
        .iter()
        .zip(FIRST..)
        .map(|(make, seq)| finished(make(seq)))
        .collect()
}

/// A shell that came in by ssh listens from a program that is no longer there, and a rule forbids it.
fn denied(seq: u64) -> Event {
    Event {
        socket: Some(Socket {
            address: Some("0.0.0.0".to_owned()),
            port: Some(8080),
            backlog: Some(1),
            cookie: Some(9001),
            inode: Some(55_120),
            service: Some("http-alt".to_owned()),
            exposure: Some(Exposure::AllInterfaces),
            ..socket(Family::Ipv4, SocketType::Stream, Protocol::Tcp)
        }),
        process: Some(Process {
            pid: 4021,
            tid: Some(4022),
            ppid: Some(4000),
            name: "x".to_owned(),
            exe: Some("/tmp/x".to_owned()),
            exe_deleted: Some(true),
            args: Some(["/tmp/x", r#"-e "a=b|c]""#].map(str::to_owned).to_vec()),
            cwd: Some("/tmp".to_owned()),
            start_time: Some("2026-11-21T19:41:59.500000000Z".to_owned()),
            uid: Some(33),
            user: Some("www-data".to_owned()),
            gid: Some(33),
            group: Some("www-data".to_owned()),
            loginuid: Some(1000),
            ancestors: vec![
                ancestor(4000, "bash", "/usr/bin/bash"),
                ancestor(3998, "sshd-session", "/usr/lib/openssh/sshd-session"),
                ancestor(702, "sshd", "/usr/sbin/sshd"),
                init(),
            ],
            ..Process::default()
        }),
        policy: Some(judged(PolicyState::Denied, "nothing from /tmp")),
        sensor: Some(seen_by(Mechanism::Fexit)),
        ..bare(EventType::ListenerOpened, seq)
    }
}

/// A program in memory alone, on a port that is known for misuse.
fn misused(seq: u64) -> Event {
    Event {
        socket: Some(Socket {
            address: Some("::".to_owned()),
            port: Some(31_337),
            backlog: Some(128),
            v6only: Some(true),
            reuseport: Some(true),
            exposure: Some(Exposure::AllInterfaces),
            ..socket(Family::Ipv6, SocketType::Stream, Protocol::Tcp)
        }),
        process: Some(Process {
            exe: Some("/memfd:kworker".to_owned()),
            exe_memfd: Some(true),
            ..redis_server()
        }),
        policy: Some(judged(PolicyState::New, "default")),
        sensor: Some(seen_by(Mechanism::Kretprobe)),
        ..bare(EventType::ListenerOpened, seq)
    }
}

fn abstract_name(seq: u64) -> Event {
    Event {
        socket: Some(Socket {
            abstract_name: Some(r"/tmp/.X11-unix/X0\x00".to_owned()),
            inode: Some(33_001),
            exposure: Some(Exposure::Loopback),
            ..socket(Family::Unix, SocketType::Seqpacket, Protocol::Unix)
        }),
        process: Some(Process {
            pid: 1,
            ancestors: Vec::new(),
            ppid: None,
            ..nginx()
        }),
        sensor: Some(seen_by(Mechanism::Tracepoint)),
        ..bare(EventType::ListenerOpened, seq)
    }
}

fn packet(seq: u64) -> Event {
    Event {
        socket: Some(on_eth0(3)),
        process: Some(nginx()),
        sensor: Some(seen_by(Mechanism::Fexit)),
        ..bare(EventType::ListenerOpened, seq)
    }
}

fn on_eth0(protocol_number: u16) -> Socket {
    Socket {
        interface: Some("eth0".to_owned()),
        ifindex: Some(2),
        protocol_number: Some(protocol_number),
        exposure: Some(Exposure::PublicInterface),
        ..socket(Family::Packet, SocketType::Raw, Protocol::Packet)
    }
}

fn ping(seq: u64) -> Event {
    Event {
        socket: Some(Socket {
            address: Some("::".to_owned()),
            protocol_number: Some(58),
            exposure: Some(Exposure::AllInterfaces),
            ..socket(Family::Ipv6, SocketType::Raw, Protocol::Raw)
        }),
        process: Some(nginx()),
        duration_ms: Some(12),
        sensor: Some(seen_by(Mechanism::Fentry)),
        ..bare(EventType::ListenerClosed, seq)
    }
}

fn link_local(seq: u64) -> Event {
    Event {
        socket: Some(Socket {
            address: Some("fe80::1".to_owned()),
            port: Some(546),
            interface: Some("eth0".to_owned()),
            ifindex: Some(2),
            service: Some("dhcpv6-client".to_owned()),
            exposure: Some(Exposure::LinkLocal),
            ..socket(Family::Ipv6, SocketType::Dgram, Protocol::Udp)
        }),
        process: Some(nginx()),
        policy: Some(judged(PolicyState::Baseline, "default")),
        sensor: Some(seen_by(Mechanism::Cgroup)),
        ..bare(EventType::ListenerOpened, seq)
    }
}

fn state(seq: u64, socket: Socket, old: State, new: State) -> Event {
    Event {
        socket: Some(socket),
        process: Some(redis_server()),
        old_state: Some(old),
        new_state: Some(new),
        sensor: Some(seen_by(Mechanism::TpBtf)),
        ..bare(EventType::ConnectionState, seq)
    }
}

fn outbound(seq: u64) -> Event {
    let socket = Socket {
        address: Some("192.0.2.7".to_owned()),
        port: Some(40_112),
        peer_address: Some("198.51.100.20".to_owned()),
        peer_port: Some(443),
        exposure: Some(Exposure::PublicInterface),
        ..socket(Family::Ipv4, SocketType::Stream, Protocol::Tcp)
    };
    state(seq, socket, State::SynSent, State::Established)
}

fn closing(seq: u64) -> Event {
    state(seq, connection(), State::Established, State::FinWait1)
}

fn refused(seq: u64) -> Event {
    let socket = Socket {
        address: Some("2001:db8::7".to_owned()),
        port: Some(40_113),
        peer_address: Some("2001:db8::9".to_owned()),
        peer_port: Some(9200),
        ..connection()
    };
    state(seq, socket, State::SynSent, State::Close)
}

fn begins_to_listen(seq: u64) -> Event {
    state(seq, http(), State::Close, State::Listen)
}

/// An expectation that nothing ever met.
fn never_seen(seq: u64) -> Event {
    Event {
        policy: Some(judged(PolicyState::Expected, "dns")),
        duration_ms: Some(5_000),
        ..bare(EventType::ListenerDown, seq)
    }
}

fn lost(seq: u64, ring: RingName, probe: Option<&str>) -> Event {
    Event {
        gap: Some(Gap {
            ring,
            cause: None,
            lost: 3,
            from: "2026-11-21T19:41:58.000214000Z".to_owned(),
            to: "2026-11-21T19:42:00.871002113Z".to_owned(),
            probe: probe.map(str::to_owned),
            cgroups: Vec::new(),
        }),
        ..bare(EventType::Gap, seq)
    }
}

fn slow_reader(seq: u64) -> Event {
    let mut event = lost(seq, RingName::Client, None);
    if let Some(gap) = &mut event.gap {
        gap.cause = Some(GapCause::SlowReader);
    }
    event
}

fn skipped_probe(seq: u64) -> Event {
    lost(seq, RingName::Probe, Some("listen_exit"))
}

fn unwatched(seq: u64) -> Event {
    Event {
        sensor: Some(Sensor {
            signal: Some("unix.bind".to_owned()),
            reason: Some("no mechanism of it is permitted".to_owned()),
            ..Sensor::default()
        }),
        ..bare(EventType::SensorDegraded, seq)
    }
}

/// A packet socket that was bound to another interface.
fn moved(seq: u64) -> Event {
    Event {
        socket: Some(on_eth0(0x0800)),
        process: Some(nginx()),
        owners: vec![owner(812, "nginx", 9)],
        previous: Some(Previous {
            interface: Some("lo".to_owned()),
            owners: vec![owner(812, "nginx", 9)],
            backlog: None,
        }),
        sensor: Some(seen_by(Mechanism::Fexit)),
        ..bare(EventType::ListenerChanged, seq)
    }
}

fn vsock(seq: u64) -> Event {
    Event {
        socket: Some(Socket {
            address: Some("3".to_owned()),
            port: Some(1024),
            ..socket(Family::Vsock, SocketType::Stream, Protocol::Vsock)
        }),
        process: Some(nginx()),
        sensor: Some(seen_by(Mechanism::Reconcile)),
        ..bare(EventType::ListenerPresent, seq)
    }
}

/// A parent that is gone: its number is known, and the nearest ancestor is another one.
fn rootless(seq: u64) -> Event {
    Event {
        socket: Some(docker_socket()),
        process: Some(Process {
            ppid: Some(999),
            ancestors: vec![ancestor(640, "dockerd", "/usr/bin/dockerd")],
            ..nginx()
        }),
        error: Some("EACCES".to_owned()),
        sensor: Some(seen_by(Mechanism::Fexit)),
        ..bare(EventType::BindFailed, seq)
    }
}

fn ancestor(pid: u32, name: &str, exe: &str) -> Ancestor {
    Ancestor {
        pid,
        name: name.to_owned(),
        exe: Some(exe.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::variants;
    use crate::event::example::examples;
    use crate::event::fields::{DERIVED, FIELDS};

    #[test]
    fn every_field_is_in_some_example() {
        let all = [examples(), variants()].concat();
        let unseen: Vec<_> = FIELDS
            .iter()
            .filter(|field| !DERIVED.contains(&field.name))
            .filter(|field| all.iter().all(|event| (field.get)(event).is_none()))
            .map(|field| field.name)
            .collect();
        assert!(unseen.is_empty(), "no example has {unseen:?}");
    }
}
