//! A host in virtual time, for tests: its counters grow as told, and it is read as the daemon reads it.

use std::net::{IpAddr, Ipv4Addr};

use super::detector::{Detector, Report};
use super::reading::{
    Crossing, ListenerKey, ListenerReading, NamespaceReading, ProcessReading, Rate, Reading,
    SourceReading, Subject,
};
use super::settings::Settings;
use crate::event::StormKind;
use crate::time::{BootNs, WallClock};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;
pub(super) const HOUR: u64 = 3_600 * SECOND;
/// How often it is read while nothing is up, and while something is.
pub(super) const SLOW: u64 = 10 * SECOND;
pub(super) const FAST: u64 = 200 * MS;
/// How many SYNs in a second make the kernel speak up.
const CROSSES: u64 = 20;

pub(super) const WEB: ListenerKey = ListenerKey {
    netns: 1,
    is_v6: false,
    port: 80,
};
pub(super) const OTHER: ListenerKey = ListenerKey { port: 81, ..WEB };

/// What the host looks like at a moment.
pub(super) type Model<'a> = dyn Fn(u64) -> Reading + 'a;

/// A report, and when it was made.
pub(super) type Told = (u64, Report);

/// Reads the model from one time to another; what was told comes back.
pub(super) fn run(detector: &mut Detector, from: u64, to: u64, model: &Model<'_>) -> Vec<Told> {
    let mut told = Vec::new();
    let (mut at, mut spoke) = (from, 0);
    let mut next = from;
    while at < to {
        let reading = model(at);
        // The kernel looks at a second at a time, and speaks once in each.
        let second = at / SECOND;
        if second != spoke
            && let Some(crossing) = crossing(&model(second * SECOND), &reading)
        {
            spoke = second;
            detector.crossed(&crossing);
            next = at;
        }
        if at >= next {
            for report in detector.read(&reading, WallClock::from_epoch_ns(0)) {
                told.push((at, report));
            }
            let usual = if reading.sees_requests { SECOND } else { SLOW };
            next = at + detector.beat(BootNs(at)).unwrap_or(usual);
        }
        at += 10 * MS;
        if at < next && !is_busy(&reading) {
            // Nothing can cross before the next reading: what is quiet is passed over.
            at = next.min(at + SLOW);
        }
    }
    told
}

fn is_busy(reading: &Reading) -> bool {
    reading.processes.is_empty()
}

fn crossing(begin: &Reading, now: &Reading) -> Option<Crossing> {
    let syns = |of: &Reading, key| {
        let one = of.listeners.iter().find(|one| one.key == key)?;
        one.syns
    };
    let crossing = |subject, rate, count| Crossing {
        is_udp: false,
        at: now.at,
        subject,
        rate,
        count,
        window_ns: SECOND,
    };
    for one in &now.listeners {
        let grown = one.syns?.saturating_sub(syns(begin, one.key).unwrap_or(0));
        if grown >= CROSSES {
            return Some(crossing(Subject::Listener(one.key), Rate::Syn, grown));
        }
    }
    let source = now.sources.iter().find(|one| one.ports >= 20)?;
    let subject = Subject::Source(source.netns, source.address);
    Some(crossing(subject, Rate::Ports, source.ports.into()))
}

pub(super) fn detector() -> Detector {
    Detector::new(Settings::default())
}

/// A listener at which so many began and were completed.
pub(super) fn listener(key: ListenerKey, syns: u64, accepted: u64) -> ListenerReading {
    ListenerReading {
        key,
        syns: Some(syns),
        accepted: Some(accepted),
        unanswered: Some(0),
        resets: Some(0),
        half_open: None,
        accept_queue: None,
        backlog: None,
        peers: Vec::new(),
    }
}

pub(super) fn process(connects: u64, failed: u64, close_wait: u32) -> ProcessReading {
    ProcessReading {
        pid: 7,
        start: 1,
        connects: Some(connects),
        failed: Some(failed),
        close_wait: Some(close_wait),
        peers: Vec::new(),
    }
}

pub(super) fn namespace() -> NamespaceReading {
    NamespaceReading {
        netns: 1,
        listen_overflows: Some(0),
        resets_sent: Some(0),
        refused: Some(0),
        reset_connections: Some(0),
        cookies_sent: Some(0),
        cookies_received: Some(0),
        time_wait: Some(0),
        ephemeral_ports: Some(28_232),
        ..NamespaceReading::default()
    }
}

pub(super) fn source(last: u8, ports: &[u16], at: u64) -> SourceReading {
    SourceReading {
        netns: 1,
        address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, last)),
        is_udp: false,
        ports: u32::try_from(ports.len()).expect("few"),
        count: ports.len() as u64,
        sample: ports.iter().copied().take(16).collect(),
        first: BootNs(1),
        last: BootNs(at),
    }
}

/// Whole events by this time of a rate that began at `begin` and ended at `end`.
pub(super) fn grown(at: u64, begin: u64, end: u64, rate: u64) -> u64 {
    let ns = u128::from(at.clamp(begin, end) - begin);
    u64::try_from(ns * u128::from(rate) / u128::from(SECOND)).expect("a count")
}

/// The kinds of episodes that began.
pub(super) fn started(told: &[Told]) -> Vec<(u64, StormKind)> {
    let started = told.iter().filter_map(|(at, report)| match report {
        Report::Started(episode) => Some((*at, episode.kind)),
        _ => None,
    });
    started.collect()
}

/// The kinds of episodes that ended.
pub(super) fn ended(told: &[Told]) -> Vec<StormKind> {
    let ended = told.iter().filter_map(|(_, report)| match report {
        Report::Ended(episode, _) => Some(episode.kind),
        _ => None,
    });
    ended.collect()
}
