//! A day of a busy host in virtual time, for tests: everything that has fooled a detector and is no storm; and the same day
//! with storms and scans in it, each of which has to be named.

use super::detector::{Detector, Report};
use super::reading::{
    ListenerKey, NamespaceReading, PortUse, ProcessReading, Reading, SourceReading,
};
use super::simulation::{
    FAST, HOUR, MS, SECOND, SLOW, Told, WEB, ended, grown, listener, namespace, process, source,
    started,
};
use crate::event::StormKind;
use crate::storm::Settings;
use crate::time::{BootNs, WallClock};

const API: ListenerKey = ListenerKey { port: 8443, ..WEB };
const DATABASE: ListenerKey = ListenerKey { port: 5432, ..WEB };
/// Seconds of the day, and some behind it in which all becomes quiet.
const SECONDS: u64 = 24 * 3_600;
const DAY: u64 = SECONDS * SECOND;
/// From the SYN to the last ACK.
const RTT: u64 = 80 * MS;

/// Events that come at a rate which changes each second: how many until when.
struct Flow {
    rates: Vec<u64>,
    sums: Vec<u64>,
}

impl Flow {
    fn new(rate: impl Fn(u64) -> u64) -> Self {
        let rates: Vec<u64> = (0..=SECONDS).map(rate).collect();
        let mut sum = 0;
        let sums = rates.iter().map(|rate| {
            sum += rate;
            sum - rate
        });
        let sums = sums.collect();
        Self { rates, sums }
    }

    fn total(&self, now: u64) -> u64 {
        let second = usize::try_from((now / SECOND).min(SECONDS)).expect("a second");
        self.sums[second] + grown(now % SECOND, 0, SECOND, self.rates[second])
    }
}

/// What goes wrong on the second day.
#[derive(Clone, Copy)]
struct Attack {
    begin: u64,
    seconds: u64,
    rate: u64,
}

impl Attack {
    const fn at(begin: u64, seconds: u64, rate: u64) -> Self {
        Self {
            begin,
            seconds,
            rate,
        }
    }

    fn total(self, now: u64) -> u64 {
        let end = self.begin + self.seconds * SECOND;
        grown(now, self.begin, end, self.rate)
    }

    fn is_on(self, now: u64) -> bool {
        (self.begin..self.begin + self.seconds * SECOND).contains(&now)
    }
}

const MINUTE: u64 = 60 * SECOND;
/// Nothing begins on a full minute, nor where the host is looked at closely anyway.
const ODD: u64 = 100 * SECOND + 370 * MS;
/// Of 126 connections a second at night, of 2,000 at noon, of 260 in the evening.
const NIGHT: Attack = Attack::at(10 * MINUTE + ODD, 30, 100);
const NOON: Attack = Attack::at(12 * HOUR + ODD, 30, 1_500);
const EVENING: Attack = Attack::at(18 * HOUR + ODD, 30, 200);
const WORM: Attack = Attack::at(6 * HOUR + ODD, 30, 400);
const LEAK: Attack = Attack::at(8 * HOUR + ODD, 40, 10);
const OVERFLOW: Attack = Attack::at(10 * HOUR + ODD, 20, 200);
const SCAN: Attack = Attack::at(20 * HOUR + ODD, 10, 100);
/// A port each quarter of an hour.
const SLOW_SCAN: (u64, u64) = (HOUR, 15 * MINUTE);

/// The host.
struct Host {
    has_attacks: bool,
    web: Flow,
    api: Flow,
    database: Flow,
    hang_ups: Flow,
    cron: Flow,
    backup: Flow,
}

/// The sun, from 100 at midnight to 2,000 at noon.
fn sun(second: u64) -> u64 {
    2_000 - 1_900 * second.abs_diff(SECONDS / 2) / (SECONDS / 2)
}

/// A fleet of five thousand clients is restarted twice a day.
fn restarts(second: u64) -> Option<u64> {
    let since = |at: u64| second.checked_sub(at).filter(|since| *since < 5);
    since(3 * 3_600 + 1_800).or_else(|| since(15 * 3_600))
}

impl Host {
    fn new(has_attacks: bool) -> Self {
        Self {
            has_attacks,
            // Each 47 minutes a minute of 20,000.
            web: Flow::new(|second| sun(second) + if second / 60 % 47 == 3 { 20_000 } else { 0 }),
            api: Flow::new(|second| sun(second) / 4),
            // All of them come back within three seconds.
            database: Flow::new(|second| match restarts(second) {
                Some(2..5) => 1_700,
                _ => 1,
            }),
            // All of them are gone at once.
            hang_ups: Flow::new(|second| {
                if restarts(second) == Some(0) {
                    5_000
                } else {
                    0
                }
            }),
            // Each five minutes jobs begin, for two seconds.
            cron: Flow::new(|second| if second % 300 < 2 { 400 } else { 3 }),
            // From two to twenty to three, a connection a file.
            backup: Flow::new(|second| {
                if (7_200..9_600).contains(&second) {
                    200
                } else {
                    0
                }
            }),
        }
    }

    fn attack(&self, attack: Attack, now: u64) -> u64 {
        if self.has_attacks {
            attack.total(now)
        } else {
            0
        }
    }

    fn reading(&self, now: u64) -> Reading {
        let later = now.saturating_sub(RTT);
        let overflow = self.attack(OVERFLOW, now);
        // Two of a hundred SYNs are sent twice.
        let begun = |flow: &Flow| flow.total(now) + flow.total(now) / 50;
        let floods = [NIGHT, NOON].map(|flood| self.attack(flood, now));
        let syns = begun(&self.web) + floods.iter().sum::<u64>();
        let mut web = listener(WEB, syns, self.web.total(later));
        web.unanswered = Some(self.web.total(now) / 30);
        web.resets = Some(self.web.total(later) / 3);
        // Ten load balancers hang up on the SYN-ACK each two seconds: they have seen what they wanted.
        let health = now / (SECOND / 5);
        let flood = self.attack(EVENING, now);
        let api = listener(
            API,
            begun(&self.api) + health + flood,
            self.api.total(later),
        );
        // Slow to accept: half a second.
        let accepted = self.database.total(now.saturating_sub(500 * MS));
        let mut database = listener(DATABASE, begun(&self.database) + overflow, accepted);
        database.resets = Some(self.hang_ups.total(now));
        let is_full = self.has_attacks && OVERFLOW.is_on(now);
        database.accept_queue = Some(if is_full { (129, 128) } else { (12, 128) });
        let listeners = vec![web, api, database];
        let resets = listeners.iter().filter_map(|one| one.resets).sum::<u64>();
        let connects = self.cron.total(now) + self.backup.total(now);
        Reading {
            at: BootNs(now),
            processes: self.processes(now, connects),
            namespaces: vec![NamespaceReading {
                listen_overflows: Some(overflow),
                refused: Some(health + 2 * now / SECOND),
                reset_connections: Some(resets + resets / 10),
                time_wait: Some(12_000),
                busiest: Some(PortUse {
                    peer: "198.51.100.7".parse().expect("an address"),
                    port: 443,
                    taken: 12_000,
                }),
                ..namespace()
            }],
            sources: self.sources(now),
            sees_requests: false,
            is_blind: false,
            listeners,
        }
    }

    fn processes(&self, now: u64, connects: u64) -> Vec<ProcessReading> {
        // A pool that closes late, but does.
        let closing = u32::try_from(now / SECOND % 60).expect("few");
        let worm = self.attack(WORM, now);
        let leak = u32::try_from(self.attack(LEAK, now)).expect("few");
        // It is restarted in the afternoon.
        let leak = if now < 14 * HOUR { leak } else { 0 };
        vec![
            process(connects, connects / 50, 60 + closing),
            ProcessReading {
                pid: 8,
                ..process(worm, worm, leak)
            },
        ]
    }

    fn sources(&self, now: u64) -> Vec<SourceReading> {
        // Weather: one stranger each 20 seconds, at one of two ports; and what comes late to ports that are closed already.
        let n = now / (20 * SECOND);
        let host = u8::try_from(n % 200).expect("a host");
        let port = if n.is_multiple_of(2) { 23 } else { 445 };
        let mut sources = vec![
            source(host, &[port], now),
            source(201, &[40_000, 40_001, 50_000], now),
        ];
        if self.has_attacks {
            let (begin, pause) = SLOW_SCAN;
            let tried = now.saturating_sub(begin).div_ceil(pause).min(24);
            let ports: Vec<u16> = (1..=24).map(|n| n * 11).collect();
            let fast: Vec<u16> = (1..=1_000).collect();
            let scans = [(250, ports, tried), (251, fast, self.attack(SCAN, now))];
            for (who, ports, tried) in scans {
                let tried = usize::try_from(tried).expect("few");
                if tried > 0 {
                    let mut one = source(who, &ports[..tried], now);
                    // The kernel remembers the first ones alone.
                    one.last = BootNs(now.min(SCAN.begin + 10 * SECOND));
                    sources.push(one);
                }
            }
        }
        sources
    }

    /// Where a detector is likely to be wrong: around everything that begins or ends all at once.
    fn is_sudden(second: u64) -> bool {
        let near =
            |second: u64| second / 60 % 47 == 3 || second % 300 < 2 || restarts(second).is_some();
        (0..12).any(|ahead| near(second + ahead))
            || (0..5).any(|ago| near(second.saturating_sub(ago)))
    }

    /// Reads as the daemon does: each ten seconds, when the sum of a second says that something moved, when the detector asks
    /// for it; and more often than that around what is sudden.
    fn watch(&self) -> Vec<Told> {
        let mut detector = Detector::new(Settings::default());
        let mut told = Vec::new();
        let (mut next, mut before) = (1, self.reading(1));
        let mut now = 1;
        while now < DAY {
            let reading = self.reading(now);
            if now % SECOND == 1 {
                if moved(&before, &reading) {
                    next = now;
                }
                before = reading.clone();
            }
            if now >= next {
                let reports = detector.read(&reading, WallClock::from_epoch_ns(0));
                told.extend(reports.into_iter().map(|report| (now, report)));
                let is_sudden = Self::is_sudden(now / SECOND);
                let usual = if is_sudden { FAST } else { SLOW };
                next = now + detector.beat(BootNs(now)).unwrap_or(usual).min(usual);
            }
            // Nothing happens before the next reading or the next second.
            let second = (now - 1) / SECOND * SECOND + SECOND + 1;
            now = next.max(now + 1).min(second);
        }
        told
    }
}

/// Was there more in this second than passes without a look?
fn moved(before: &Reading, now: &Reading) -> bool {
    let half_open = |of: &Reading| {
        let open = |syns: Option<u64>, accepted: Option<u64>| {
            syns.unwrap_or(0).saturating_sub(accepted.unwrap_or(0))
        };
        let all = of.listeners.iter();
        all.map(|one| open(one.syns, one.accepted)).sum::<u64>()
    };
    let failed = |of: &Reading| {
        of.processes
            .iter()
            .filter_map(|one| one.failed)
            .sum::<u64>()
    };
    let resets = |of: &Reading| {
        of.listeners
            .iter()
            .filter_map(|one| one.resets)
            .sum::<u64>()
    };
    let knocks = |of: &Reading| of.sources.iter().map(|one| one.count).sum::<u64>();
    let grew = |of: &dyn Fn(&Reading) -> u64| of(now).saturating_sub(of(before));
    grew(&half_open) >= 20 || grew(&failed) >= 25 || grew(&resets) >= 250 || grew(&knocks) >= 15
}

#[test]
fn a_day_with_everything_that_is_no_storm_gives_no_alarm() {
    let told = Host::new(false).watch();
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn every_storm_of_a_day_is_named_once_and_nothing_else() {
    let told = Host::new(true).watch();
    let expected = [
        (NIGHT, StormKind::SynFlood, 2),
        (WORM, StormKind::ConnectStorm, 5),
        (LEAK, StormKind::CloseWaitLeak, 60),
        (OVERFLOW, StormKind::AcceptQueueOverflow, 16),
        (NOON, StormKind::SynFlood, 2),
        (EVENING, StormKind::SynFlood, 2),
    ];
    let named = started(&told);
    let kinds: Vec<StormKind> = named.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, expected.map(|(_, kind, _)| kind), "{told:#?}");
    for ((at, _), (attack, kind, within)) in named.iter().zip(expected) {
        let late = at - attack.begin;
        assert!(late <= within * SECOND, "{kind:?} after {} ms", late / MS);
    }
    assert_eq!(ended(&told).len(), expected.len(), "each is over once");
    let scans = told.iter().filter_map(|(at, report)| match report {
        Report::Scan(found) => Some((*at, found)),
        _ => None,
    });
    let scans: Vec<_> = scans.collect();
    let [(slow_at, slow), (fast_at, fast)] = scans.as_slice() else {
        panic!("{scans:#?}");
    };
    let address = |last: u8| Some(std::net::IpAddr::from([203, 0, 113, last]));
    assert_eq!((slow.source, fast.source), (address(250), address(251)));
    // With its twentieth port.
    assert!(*slow_at <= SLOW_SCAN.0 + 20 * SLOW_SCAN.1);
    assert!(
        *fast_at <= SCAN.begin + 1_200 * MS,
        "{}",
        fast_at - SCAN.begin
    );
}
