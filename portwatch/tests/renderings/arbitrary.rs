//! Any event at all: every key there or not, numbers at their limits, texts that others chose.

use std::sync::Arc;

use portwatch::event::words::Word;
use portwatch::event::{
    Ancestor, Check, Container, Event, EventCount, EventType, Gap, GapCgroup, Heartbeat, Host,
    Owner, Policy, Previous, Process, Reconciled, Response, Scan, Sensor, SignalMechanism,
    SinkCount, Socket, Storm, StormPeer,
};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// An event whose times are times, as only portwatch itself writes them; all else may be anything.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    Just(()).prop_perturb(|(), rng| Dice(rng).event())
}

struct Dice(TestRng);

/// Texts that are likely to break something.
const TEXTS: [&str; 16] = [
    "nginx",
    "",
    "a b",
    "0.0.0.0",
    "::ffff:10.0.0.9",
    "2001:db8::1",
    "fe80::1%eth0",
    "\u{1b}[2J\n",
    "a=b|c]\"d\\e",
    r"\x1b\x",
    "ünïcödé ☃ 𝄞",
    "\u{202e}\u{feff}",
    "/usr/bin/x/",
    "//",
    "null",
    "…",
];

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0.next_u64() as usize % count
    }

    fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flip().then(|| make(self))
    }

    fn list<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn word<W: Word>(&mut self) -> W {
        W::ALL[self.below(W::ALL.len())]
    }

    fn text(&mut self) -> String {
        TEXTS[self.below(TEXTS.len())].to_owned()
    }

    /// Small, at a limit, or any.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => 1,
            2 => i32::MAX as u64 + 1,
            3 => i64::MAX as u64 + 1,
            4 => u64::MAX,
            _ => self.0.next_u64() >> self.below(64),
        }
    }

    fn small(&mut self) -> u32 {
        self.number() as u32
    }

    fn port(&mut self) -> u16 {
        self.number() as u16
    }

    fn time(&mut self) -> String {
        let seconds = self.number() as u32;
        let at = jiff::Timestamp::new(seconds.into(), 123_456_789).expect("a time");
        format!("{at:.9}")
    }

    fn event(&mut self) -> Event {
        let host = Host {
            name: self.text(),
            id: self.maybe(Self::text),
            boot_id: self.maybe(Self::text),
            kernel: self.text(),
        };
        let kind = self.word::<EventType>();
        let ts = self.time();
        Event {
            id: "019aa7e5-bb43-7c60-8b1d-000000000001".to_owned(),
            seq: self.number(),
            severity: self.word(),
            message: self.text(),
            socket: self.maybe(Self::socket),
            process: self.maybe(Self::process),
            owners: self.list(Self::owner),
            policy: self.maybe(|dice| Policy {
                state: dice.word(),
                rule: dice.text(),
            }),
            previous: self.maybe(|dice| Previous {
                backlog: dice.maybe(Self::small),
                owners: dice.list(Self::owner),
                interface: dice.maybe(Self::text),
            }),
            old_state: self.maybe(Self::word),
            new_state: self.maybe(Self::word),
            duration_ms: self.maybe(Self::number),
            error: self.maybe(Self::text),
            check: self.maybe(|dice| Check {
                protocol: dice.word(),
                target: dice.text(),
                error: dice.maybe(Self::text),
                failures: dice.maybe(Self::small),
            }),
            gap: self.maybe(Self::gap),
            reconciled: self.maybe(|dice| Reconciled {
                found: dice.number(),
                vanished: dice.number(),
                changed: dice.number(),
                checked: dice.number(),
                took_us: dice.number(),
            }),
            sensor: self.maybe(Self::sensor),
            heartbeat: self.maybe(Self::heartbeat),
            storm: self.maybe(Self::storm),
            scan: self.maybe(Self::scan),
            response: self.maybe(Self::response),
            ..Event::new(kind, ts, Arc::new(host))
        }
    }

    fn heartbeat(&mut self) -> Heartbeat {
        Heartbeat {
            uptime_ms: self.number(),
            every_ms: self.number(),
            events: self.list(|dice| EventCount {
                kind: dice.word(),
                count: dice.number(),
            }),
            gaps: self.number(),
            lost: self.number(),
            sinks: self.list(|dice| SinkCount {
                name: dice.text(),
                delivered: dice.number(),
                queued: dice.number(),
                refused: dice.number(),
                lost: dice.number(),
                head: dice.maybe(Self::text),
            }),
        }
    }

    fn socket(&mut self) -> Socket {
        Socket {
            family: self.word(),
            kind: self.word(),
            protocol: self.word(),
            address: self.maybe(Self::text),
            port: self.maybe(Self::port),
            peer_address: self.maybe(Self::text),
            peer_port: self.maybe(Self::port),
            path: self.maybe(Self::text),
            path_as_bound: self.maybe(Self::text),
            abstract_name: self.maybe(Self::text),
            backlog: self.maybe(Self::small),
            cookie: self.maybe(Self::number),
            inode: self.maybe(Self::number),
            netns: self.maybe(Self::small),
            interface: self.maybe(Self::text),
            ifindex: self.maybe(Self::small),
            protocol_number: self.maybe(Self::port),
            v6only: self.maybe(Self::flip),
            reuseport: self.maybe(Self::flip),
            service: self.maybe(Self::text),
            exposure: self.maybe(Self::word),
        }
    }

    fn process(&mut self) -> Process {
        Process {
            pid: self.small(),
            tid: self.maybe(Self::small),
            ppid: self.maybe(Self::small),
            name: self.text(),
            exe: self.maybe(Self::text),
            exe_deleted: self.maybe(Self::flip),
            exe_memfd: self.maybe(Self::flip),
            args: self.maybe(|dice| dice.list(Self::text)),
            args_truncated: self.maybe(Self::flip),
            cwd: self.maybe(Self::text),
            start_time: self.maybe(Self::time),
            uid: self.maybe(Self::small),
            user: self.maybe(Self::text),
            gid: self.maybe(Self::small),
            group: self.maybe(Self::text),
            loginuid: self.maybe(Self::small),
            sha256: self.maybe(Self::text),
            package: self.maybe(Self::text),
            unit: self.maybe(Self::text),
            container: self.maybe(|dice| Container {
                id: dice.text(),
                runtime: dice.maybe(Self::text),
            }),
            ancestors: self.list(|dice| Ancestor {
                pid: if dice.flip() { 1 } else { dice.small() },
                name: dice.text(),
                exe: dice.maybe(Self::text),
            }),
            unresolved: self.maybe(Self::text),
        }
    }

    fn owner(&mut self) -> Owner {
        Owner {
            pid: self.small(),
            name: self.text(),
            fd: self.maybe(Self::small),
        }
    }

    fn storm(&mut self) -> Storm {
        Storm {
            kind: self.word(),
            episode: self.number(),
            key: self.text(),
            netns: self.maybe(Self::small),
            rate: self.maybe(Self::number),
            level: self.maybe(Self::number),
            peak: self.number(),
            threshold: self.number(),
            total: self.number(),
            completed: self.maybe(Self::number),
            ratio: self.maybe(Self::small),
            half_open: self.maybe(Self::small),
            accept_queue: self.maybe(Self::small),
            accept_queue_max: self.maybe(Self::small),
            cookies_sent: self.maybe(Self::number),
            peers: self.list(|dice| StormPeer {
                prefix: dice.text(),
                count: dice.number(),
                share: dice.small(),
            }),
            advice: self.text(),
            reason: self.maybe(Self::text),
        }
    }

    fn scan(&mut self) -> Scan {
        Scan {
            shape: self.word(),
            source: self.maybe(Self::text),
            sources: self.small(),
            netns: self.small(),
            namespaces: self.small(),
            protocol: self.word(),
            ports: self.small(),
            knocks: self.number(),
            sample: self.list(Self::port),
            first: self.time(),
            last: self.time(),
            advice: self.text(),
        }
    }

    fn response(&mut self) -> Response {
        Response {
            action: self.word(),
            dry_run: self.below(2) == 0,
            prefixes: self.list(Self::text),
            set: self.text(),
            timeout_s: self.maybe(Self::number),
            cause: self.text(),
            episode: self.maybe(Self::number),
            error: self.maybe(Self::text),
        }
    }

    fn gap(&mut self) -> Gap {
        Gap {
            ring: self.word(),
            cause: self.maybe(Self::word),
            lost: self.number(),
            from: self.time(),
            to: self.time(),
            probe: self.maybe(Self::text),
            cgroups: self.list(|dice| GapCgroup {
                id: dice.number(),
                path: dice.maybe(Self::text),
                lost: dice.number(),
            }),
        }
    }

    fn sensor(&mut self) -> Sensor {
        Sensor {
            mechanism: self.maybe(Self::word),
            latency_us: self.maybe(Self::number),
            signal: self.maybe(Self::text),
            reason: self.maybe(Self::text),
            blind_to: self.maybe(Self::text),
            remedy: self.maybe(Self::text),
            mechanisms: self.list(|dice| SignalMechanism {
                signal: dice.text(),
                mechanism: dice.word(),
            }),
        }
    }
}
