//! One event of each type, as a host called web1 might tell it: for the documentation and for tests.

mod storms;
mod variants;

use std::sync::Arc;

pub use variants::variants;

use super::message::{sentence, severity};
use super::sensor::SignalMechanism;
use super::{
    Ancestor, Check, CheckProtocol, Container, Event, EventCount, EventType, Exposure, Family, Gap,
    GapCause, GapCgroup, Heartbeat, Host, Mechanism, Owner, Policy, PolicyState, Previous, Process,
    Protocol, Reconciled, RingName, Sensor, SinkCount, Socket, SocketType, State,
};

/// One event of each type, in the order of [`EventType::ALL`].
#[must_use]
pub fn examples() -> Vec<Event> {
    EventType::ALL
        .iter()
        .zip(1..)
        .map(|(&kind, seq)| finished(example(kind, seq)))
        .collect()
}

fn heartbeat() -> Heartbeat {
    let count = |kind, count| EventCount { kind, count };
    Heartbeat {
        uptime_ms: 7_260_000,
        every_ms: 60_000,
        events: vec![
            count(EventType::ListenerOpened, 31),
            count(EventType::ListenerPresent, 14),
            count(EventType::Gap, 1),
        ],
        gaps: 1,
        lost: 12,
        sinks: vec![
            SinkCount {
                name: "file".to_owned(),
                delivered: 166,
                head: Some(format!("166:{}", "9f86d081884c7d65".repeat(4))),
                ..SinkCount::default()
            },
            SinkCount {
                name: "siem".to_owned(),
                delivered: 150,
                queued: 16,
                ..SinkCount::default()
            },
        ],
    }
}

/// The event with its sentence and severity as the daemon sets them.
fn finished(mut event: Event) -> Event {
    event.severity = severity(&event);
    event.message = sentence(&event);
    event
}

fn example(kind: EventType, seq: u64) -> Event {
    let event = bare(kind, seq);
    match kind {
        EventType::ListenerOpened => Event {
            socket: Some(http()),
            process: Some(nginx()),
            policy: Some(judged(PolicyState::New, "default")),
            sensor: Some(seen_by(Mechanism::Fexit)),
            ..event
        },
        EventType::ListenerClosed => Event {
            socket: Some(redis()),
            process: Some(redis_server()),
            policy: Some(judged(PolicyState::Allowed, "cache")),
            duration_ms: Some(192_450),
            sensor: Some(seen_by(Mechanism::Cgroup)),
            ..event
        },
        EventType::ListenerPresent => Event {
            socket: Some(docker_socket()),
            process: Some(systemd()),
            owners: vec![owner(1, "systemd", 42), owner(640, "dockerd", 3)],
            sensor: Some(seen_by(Mechanism::Snapshot)),
            ..event
        },
        EventType::ListenerChanged => Event {
            socket: Some(http()),
            process: Some(nginx()),
            owners: vec![owner(812, "nginx", 6), owner(813, "nginx", 6)],
            previous: Some(Previous {
                backlog: Some(128),
                owners: vec![owner(812, "nginx", 6)],
                interface: None,
            }),
            sensor: Some(seen_by(Mechanism::Reconcile)),
            ..event
        },
        EventType::BindFailed => Event {
            socket: Some(http()),
            process: Some(unresolved()),
            error: Some("EADDRINUSE".to_owned()),
            sensor: Some(seen_by(Mechanism::Fexit)),
            ..event
        },
        EventType::ConnectionState => Event {
            socket: Some(connection()),
            process: Some(redis_server()),
            old_state: Some(State::SynRecv),
            new_state: Some(State::Established),
            sensor: Some(seen_by(Mechanism::TpBtf)),
            ..event
        },
        EventType::ListenerDown => Event {
            socket: Some(http()),
            process: Some(nginx()),
            policy: Some(judged(PolicyState::Expected, "web")),
            duration_ms: Some(65_000),
            check: Some(Check {
                error: Some("no answer within 5 s".to_owned()),
                failures: Some(3),
                ..asked()
            }),
            ..event
        },
        EventType::ListenerRecovered => Event {
            socket: Some(http()),
            process: Some(nginx()),
            policy: Some(judged(PolicyState::Expected, "web")),
            duration_ms: Some(125_310),
            check: Some(asked()),
            sensor: Some(seen_by(Mechanism::Fexit)),
            ..event
        },
        EventType::SensorReady => Event {
            sensor: Some(Sensor {
                mechanisms: vec![
                    signal("tcp.listen", Mechanism::Fexit),
                    signal("socket.close", Mechanism::Cgroup),
                ],
                ..Sensor::default()
            }),
            ..event
        },
        EventType::SensorDegraded => Event {
            sensor: Some(Sensor {
                mechanism: Some(Mechanism::Cgroup),
                signal: Some("udp.bind".to_owned()),
                reason: Some("the kernel refuses fexit programs (EPERM)".to_owned()),
                blind_to: Some("binds that the kernel refuses".to_owned()),
                remedy: Some("boot a kernel with CONFIG_KPROBES".to_owned()),
                ..Sensor::default()
            }),
            ..event
        },
        EventType::Gap => Event {
            gap: Some(Gap {
                ring: RingName::Critical,
                cause: Some(GapCause::RingFull),
                lost: 12,
                from: "2026-11-21T19:41:58.000214000Z".to_owned(),
                to: "2026-11-21T19:42:00.871002113Z".to_owned(),
                probe: None,
                cgroups: vec![GapCgroup {
                    id: 4711,
                    path: Some("/system.slice/batch.service".to_owned()),
                    lost: 12,
                }],
            }),
            ..event
        },
        EventType::GapReconciled => Event {
            reconciled: Some(Reconciled {
                found: 1,
                vanished: 2,
                changed: 0,
                checked: 214,
                took_us: 1180,
            }),
            ..event
        },
        EventType::StormStarted => storms::started(event),
        EventType::StormUpdated => storms::updated(event),
        EventType::StormEnded => storms::ended(event),
        EventType::ScanDetected => storms::scan(event),
        EventType::StormResponse => storms::response(event),
        EventType::Heartbeat => Event {
            heartbeat: Some(heartbeat()),
            ..event
        },
    }
}

fn asked() -> Check {
    Check {
        protocol: CheckProtocol::Http,
        target: "127.0.0.1:80".to_owned(),
        error: None,
        failures: None,
    }
}

fn judged(state: PolicyState, rule: &str) -> Policy {
    Policy {
        state,
        rule: rule.to_owned(),
    }
}

fn bare(kind: EventType, seq: u64) -> Event {
    let host = Host {
        name: "web1".to_owned(),
        id: Some("b08dfa6083e7567a1921a715000001fb".to_owned()),
        boot_id: Some("7d1c5f0e-4a0c-4c1e-9f0a-0f6b2f1f9a11".to_owned()),
        kernel: "6.1.0-50-amd64".to_owned(),
    };
    let ts = "2026-11-21T19:42:01.123456789Z".to_owned();
    Event {
        id: format!("019aa7e5-bb43-7c60-8b1d-{seq:012x}"),
        seq,
        ..Event::new(kind, ts, Arc::new(host))
    }
}

fn socket(family: Family, kind: SocketType, protocol: Protocol) -> Socket {
    Socket {
        family,
        kind,
        protocol,
        address: None,
        port: None,
        peer_address: None,
        peer_port: None,
        path: None,
        path_as_bound: None,
        abstract_name: None,
        backlog: None,
        cookie: None,
        inode: None,
        netns: Some(4_026_531_840),
        interface: None,
        ifindex: None,
        protocol_number: None,
        v6only: None,
        reuseport: None,
        service: None,
        exposure: None,
    }
}

fn http() -> Socket {
    Socket {
        address: Some("0.0.0.0".to_owned()),
        port: Some(80),
        backlog: Some(511),
        cookie: Some(1234),
        inode: Some(5678),
        service: Some("http".to_owned()),
        exposure: Some(Exposure::AllInterfaces),
        ..socket(Family::Ipv4, SocketType::Stream, Protocol::Tcp)
    }
}

fn redis() -> Socket {
    Socket {
        address: Some("127.0.0.1".to_owned()),
        port: Some(6379),
        backlog: Some(511),
        cookie: Some(77),
        inode: Some(91_022),
        service: Some("redis".to_owned()),
        exposure: Some(Exposure::Loopback),
        ..socket(Family::Ipv4, SocketType::Stream, Protocol::Tcp)
    }
}

fn docker_socket() -> Socket {
    Socket {
        path: Some("/run/docker.sock".to_owned()),
        path_as_bound: Some("/var/run/docker.sock".to_owned()),
        backlog: Some(4096),
        inode: Some(14_402),
        exposure: Some(Exposure::Loopback),
        ..socket(Family::Unix, SocketType::Stream, Protocol::Unix)
    }
}

fn connection() -> Socket {
    Socket {
        address: Some("::ffff:10.0.0.2".to_owned()),
        port: Some(6379),
        peer_address: Some("::ffff:10.0.0.9".to_owned()),
        peer_port: Some(44_112),
        cookie: Some(1301),
        v6only: Some(false),
        ..socket(Family::Ipv6, SocketType::Stream, Protocol::Tcp)
    }
}

fn nginx() -> Process {
    Process {
        pid: 812,
        tid: Some(812),
        ppid: Some(1),
        name: "nginx".to_owned(),
        exe: Some("/usr/sbin/nginx".to_owned()),
        args: Some(["nginx", "-g", "daemon on;"].map(str::to_owned).to_vec()),
        cwd: Some("/".to_owned()),
        start_time: Some("2026-11-21T19:42:01.090000000Z".to_owned()),
        uid: Some(0),
        user: Some("root".to_owned()),
        gid: Some(0),
        group: Some("root".to_owned()),
        loginuid: Some(1000),
        sha256: Some("4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945".to_owned()),
        package: Some("nginx-core".to_owned()),
        unit: Some("nginx.service".to_owned()),
        ancestors: vec![init()],
        ..Process::default()
    }
}

fn redis_server() -> Process {
    Process {
        pid: 2204,
        ppid: Some(2180),
        name: "redis-server".to_owned(),
        exe: Some("/usr/local/bin/redis-server".to_owned()),
        args: Some(vec!["redis-server *:6379".to_owned()]),
        uid: Some(999),
        gid: Some(999),
        container: Some(Container {
            id: "3f2a9c41d07be55e0a9a1f8b6f7c3d21".to_owned(),
            runtime: Some("docker".to_owned()),
        }),
        ancestors: vec![
            Ancestor {
                pid: 2180,
                name: "containerd-shim".to_owned(),
                exe: None,
            },
            init(),
        ],
        ..Process::default()
    }
}

fn systemd() -> Process {
    Process {
        pid: 1,
        name: "systemd".to_owned(),
        exe: Some("/usr/lib/systemd/systemd".to_owned()),
        args: Some(["/sbin/init", "splash"].map(str::to_owned).to_vec()),
        args_truncated: Some(true),
        uid: Some(0),
        user: Some("root".to_owned()),
        gid: Some(0),
        group: Some("root".to_owned()),
        unit: Some("init.scope".to_owned()),
        ..Process::default()
    }
}

fn unresolved() -> Process {
    Process {
        pid: 9120,
        name: "python3".to_owned(),
        uid: Some(33),
        user: Some("www-data".to_owned()),
        unresolved: Some("the process was gone before it could be read".to_owned()),
        ..Process::default()
    }
}

fn init() -> Ancestor {
    Ancestor {
        pid: 1,
        name: "systemd".to_owned(),
        exe: Some("/usr/lib/systemd/systemd".to_owned()),
    }
}

fn owner(pid: u32, name: &str, fd: u32) -> Owner {
    Owner {
        pid,
        name: name.to_owned(),
        fd: Some(fd),
    }
}

fn signal(name: &str, mechanism: Mechanism) -> SignalMechanism {
    SignalMechanism {
        signal: name.to_owned(),
        mechanism,
    }
}

fn seen_by(mechanism: Mechanism) -> Sensor {
    Sensor {
        mechanism: Some(mechanism),
        latency_us: Some(84),
        ..Sensor::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_example() {
        let kinds: Vec<_> = examples().iter().map(|event| event.kind).collect();
        assert_eq!(kinds, EventType::ALL);
    }
}
