//! Storms, scans and responses, one of each kind that reads differently.

use super::{bare, http, init, nginx, owner, redis_server};
use crate::event::message::{advice, scan_advice};
use crate::event::{
    Event, EventType, Process, Protocol, Response, ResponseAction, Scan, ScanShape, Storm,
    StormKind, StormPeer,
};

fn peer(prefix: &str, count: u64, share: u32) -> StormPeer {
    StormPeer {
        prefix: prefix.to_owned(),
        count,
        share,
    }
}

/// With nothing counted yet.
fn storm(kind: StormKind, key: &str) -> Storm {
    Storm {
        kind,
        episode: 3,
        key: key.to_owned(),
        netns: Some(4_026_531_840),
        rate: None,
        level: None,
        peak: 0,
        threshold: 0,
        total: 0,
        completed: None,
        ratio: None,
        half_open: None,
        accept_queue: None,
        accept_queue_max: None,
        cookies_sent: None,
        peers: Vec::new(),
        advice: String::new(),
        reason: None,
    }
}

/// With its advice.
fn of(mut event: Event, mut storm: Storm) -> Event {
    storm.advice = advice(storm.kind, &event);
    event.storm = Some(storm);
    event
}

fn flood(event: Event, rate: u64, total: u64) -> Event {
    let event = Event {
        socket: Some(http()),
        process: Some(nginx()),
        owners: vec![owner(812, "nginx", 6), owner(813, "nginx", 6)],
        ..event
    };
    let flood = Storm {
        rate: Some(rate),
        peak: 512,
        threshold: 60,
        total,
        completed: Some(41),
        ratio: Some(98),
        half_open: Some(256),
        cookies_sent: Some(total / 2),
        peers: vec![
            peer("203.0.113.7/32", total / 2, 50),
            peer("198.51.100.0/24", total / 4, 25),
        ],
        ..storm(StormKind::SynFlood, "listener ipv4 port 80 of this host")
    };
    of(event, flood)
}

/// A flood begins.
pub(super) fn started(event: Event) -> Event {
    let event = Event {
        duration_ms: Some(1_400),
        ..event
    };
    flood(event, 480, 672)
}

/// It goes on.
pub(super) fn updated(event: Event) -> Event {
    let event = Event {
        duration_ms: Some(31_400),
        ..event
    };
    flood(event, 455, 14_812)
}

/// It is over.
pub(super) fn ended(event: Event) -> Event {
    let event = Event {
        duration_ms: Some(184_200),
        ..event
    };
    flood(event, 0, 86_034)
}

/// One source, many ports.
pub(super) fn scan(event: Event) -> Event {
    scanned(
        event,
        Scan {
            shape: ScanShape::Vertical,
            source: Some("203.0.113.66".to_owned()),
            sources: 1,
            netns: 4_026_531_840,
            namespaces: 1,
            protocol: Protocol::Tcp,
            ports: 23,
            knocks: 23,
            sample: vec![21, 23, 25, 53, 110, 111, 135, 139, 143, 445],
            first: "2026-11-21T19:42:00.911000000Z".to_owned(),
            last: "2026-11-21T19:42:01.120000000Z".to_owned(),
            advice: String::new(),
        },
    )
}

fn scanned(event: Event, mut scan: Scan) -> Event {
    scan.advice = scan_advice(&scan);
    Event {
        scan: Some(scan),
        ..event
    }
}

/// Addresses are blocked.
pub(super) fn response(event: Event) -> Event {
    Event {
        response: Some(Response {
            action: ResponseAction::Block,
            dry_run: false,
            prefixes: vec!["203.0.113.7/32".to_owned()],
            set: "inet filter portwatch4".to_owned(),
            timeout_s: Some(600),
            cause: "syn-flood".to_owned(),
            episode: Some(3),
            error: None,
        }),
        ..event
    }
}

/// A process that never closes.
pub(super) fn leak(seq: u64) -> Event {
    let event = Event {
        process: Some(redis_server()),
        ..bare(EventType::StormStarted, seq)
    };
    let leak = Storm {
        level: Some(240),
        peak: 240,
        threshold: 100,
        total: 240,
        netns: None,
        ..storm(
            StormKind::CloseWaitLeak,
            "process /usr/local/bin/redis-server",
        )
    };
    of(event, leak)
}

/// A process that nobody knows looks for victims.
pub(super) fn failing(seq: u64) -> Event {
    let event = Event {
        process: Some(Process {
            pid: 4021,
            name: "x".to_owned(),
            exe: Some("/tmp/x".to_owned()),
            ancestors: vec![init()],
            ..Process::default()
        }),
        ..bare(EventType::StormStarted, seq)
    };
    let failing = Storm {
        rate: Some(310),
        peak: 310,
        threshold: 50,
        total: 620,
        ratio: Some(97),
        netns: None,
        peers: vec![peer("192.0.2.0/24", 256, 41)],
        ..storm(StormKind::ConnectStorm, "process /tmp/x")
    };
    of(event, failing)
}

/// A service that is too slow.
pub(super) fn overflow(seq: u64) -> Event {
    let event = Event {
        socket: Some(http()),
        process: Some(nginx()),
        ..bare(EventType::StormStarted, seq)
    };
    let overflow = Storm {
        rate: Some(212),
        peak: 212,
        threshold: 10,
        total: 640,
        accept_queue: Some(512),
        accept_queue_max: Some(511),
        ..storm(
            StormKind::AcceptQueueOverflow,
            "listener ipv4 port 80 of this host",
        )
    };
    of(event, overflow)
}

/// A service is gone that its clients still ask for.
pub(super) fn refused(seq: u64) -> Event {
    let names = (1..9).map(|n| format!("192.0.2.{n}/32"));
    let refused = Storm {
        rate: Some(800),
        peak: 800,
        threshold: 100,
        total: 1_700,
        peers: names.map(|name| peer(&name, 100, 12)).collect(),
        ..storm(StormKind::RefusedStorm, "network namespace of this host")
    };
    of(bare(EventType::StormStarted, seq), refused)
}

/// Nobody can see any more whether it is over.
pub(super) fn unseen(seq: u64) -> Event {
    let event = Event {
        duration_ms: Some(95_000),
        ..bare(EventType::StormEnded, seq)
    };
    let unseen = Storm {
        level: Some(25_000),
        peak: 26_100,
        threshold: 22_585,
        total: 26_100,
        reason: Some("it can no longer be seen".to_owned()),
        ..storm(
            StormKind::TimeWaitPressure,
            "network namespace of this host",
        )
    };
    of(event, unseen)
}

/// Many who knock at one door.
pub(super) fn distributed(seq: u64) -> Event {
    scanned(
        bare(EventType::ScanDetected, seq),
        Scan {
            shape: ScanShape::Distributed,
            source: None,
            sources: 140,
            netns: 4_026_531_840,
            namespaces: 1,
            protocol: Protocol::Tcp,
            ports: 1,
            knocks: 161,
            sample: vec![23],
            first: "2026-11-21T19:35:00.000000000Z".to_owned(),
            last: "2026-11-21T19:42:01.000000000Z".to_owned(),
            advice: String::new(),
        },
    )
}

/// Blocking failed.
pub(super) fn failed_response(seq: u64) -> Event {
    let mut event = response(bare(EventType::StormResponse, seq));
    if let Some(response) = &mut event.response {
        response.error = Some("nft ended with 1: No such file or directory".to_owned());
    }
    event
}
