use std::net::Ipv6Addr;

use super::super::simulation::{
    FAST, HOUR, MS, OTHER, SECOND, SLOW, Told, WEB, detector, ended, grown, listener, namespace,
    process, run, source, started,
};
use super::*;
use crate::storm::reading::{ListenerReading, PeerReading, PortUse, SourceReading};

const START: u64 = 100 * SECOND;
const FOREVER: u64 = 1_000 * SECOND;

fn at(at: u64) -> Reading {
    Reading {
        at: BootNs(at),
        ..Reading::default()
    }
}

fn name(told: &[Told]) -> Vec<StormKind> {
    started(told).into_iter().map(|(_, kind)| kind).collect()
}

/// One kind begins within this time of its cause, and ends when that is over.
fn begins_and_ends(told: &[Told], kind: StormKind, within: u64) {
    let started = started(told);
    assert_eq!(started.len(), 1, "{told:#?}");
    assert_eq!(started[0].1, kind);
    let late = started[0].0 - START;
    assert!(late <= within, "named after {} ms", late / MS);
    assert_eq!(ended(told), [kind]);
}

#[test]
fn a_flood_is_named_in_two_seconds_beside_any_load() {
    for load in [0, 50, 300] {
        for phase in 0..20 {
            let begin = START + phase * 50 * MS;
            let model = |now| {
                let done = |now| grown(now, 0, FOREVER, load);
                let syns = done(now) + grown(now, begin, begin + 30 * SECOND, 100);
                Reading {
                    listeners: vec![
                        listener(WEB, syns, done(now.saturating_sub(40 * MS))),
                        listener(OTHER, done(now), done(now)),
                    ],
                    ..at(now)
                }
            };
            let told = run(&mut detector(), 1, begin + 90 * SECOND, &model);
            let begun = started(&told);
            assert_eq!(begun.len(), 1, "load {load}: {told:#?}");
            assert!(
                begun[0].0 - begin <= 2 * SECOND,
                "{} ms",
                (begun[0].0 - begin) / MS
            );
            assert_eq!(ended(&told), [StormKind::SynFlood]);
            let Some((_, Report::Ended(episode, false))) = told.last() else {
                panic!("{told:#?}");
            };
            assert_eq!(episode.subject, Subject::Listener(WEB));
            assert!((90..=130).contains(&episode.peak), "{episode:?}");
            assert!((2_000..=3_200).contains(&episode.total), "{episode:?}");
            assert!(
                (28_000..=32_000).contains(&episode.duration_ms()),
                "{episode:?}"
            );
        }
    }
}

#[test]
fn a_legitimate_burst_names_none() {
    for rtt in [0, 1, 40, 200, 450, 600] {
        for phase in 0..10 {
            for length in [100 * MS, SECOND, 20 * SECOND] {
                let begin = START + phase * 37 * MS;
                let burst = |now| grown(now, begin, begin + length, 20_000);
                let model = |now: u64| {
                    let accepted = burst(now.saturating_sub(rtt * MS));
                    let mut web = listener(WEB, burst(now), accepted);
                    web.half_open = u32::try_from(burst(now) - accepted).ok();
                    // The rude kind, that ends each connection with a reset.
                    web.resets = Some(accepted);
                    Reading {
                        listeners: vec![web],
                        processes: vec![process(burst(now), 0, 0)],
                        namespaces: vec![NamespaceReading {
                            reset_connections: Some(2 * accepted),
                            resets_sent: Some(accepted),
                            // The server closes first.
                            time_wait: Some(120_000),
                            ..namespace()
                        }],
                        ..at(now)
                    }
                };
                let told = run(&mut detector(), 1, begin + length + 30 * SECOND, &model);
                assert!(told.is_empty(), "rtt {rtt}, {length}: {told:#?}");
            }
        }
    }
}

/// Some connections are under way all the time: that is no reason to look closely, which costs a busy host much.
#[test]
fn a_busy_listener_is_not_looked_at_closely_and_a_flooded_one_is() {
    for (rate, flood, is_close) in [(20_000, 0, false), (20_000, 3_000, true), (10, 100, true)] {
        let mut detector = detector();
        for n in 1..50_u64 {
            let accepted = rate * n / 5;
            let under_way = 64 * (n % 2);
            let syns = accepted + under_way.min(rate / 10) + flood * n / 5;
            let reading = Reading {
                listeners: vec![listener(WEB, syns, accepted)],
                ..at(START + n * FAST)
            };
            detector.read(&reading, WallClock::from_epoch_ns(0));
            if n > 3 {
                assert_eq!(detector.wants_half_open(), is_close, "{rate}, {flood}: {n}");
            }
        }
    }
}

/// A day on a busy host: load with the sun, bursts now and then, mistakes of clients, a few who knock.
#[test]
fn a_day_of_load_with_bursts_gives_no_alarm() {
    const MINUTE: u64 = 60 * SECOND;
    let rate = |minute: u64| {
        let of_day = (minute % 1440).abs_diff(720);
        // At noon 4,000 a second, at night 200; each 47 minutes a burst of 20,000.
        let load = 200 + (720 - of_day.min(720)) * 3800 / 720;
        load + if minute % 47 == 3 { 20_000 } else { 0 }
    };
    let mut sums = vec![0_u64];
    for minute in 0..1_500 {
        sums.push(sums[minute] + rate(minute as u64) * 60);
    }
    let total = |now: u64| {
        let minute = now / MINUTE;
        let into = grown(now % MINUTE, 0, MINUTE, rate(minute));
        sums[usize::try_from(minute).expect("a minute")] + into
    };
    let model = |now: u64| {
        let accepted = total(now.saturating_sub(80 * MS));
        let mut web = listener(WEB, total(now) + total(now) / 50, accepted);
        web.unanswered = Some(total(now) / 30);
        web.resets = Some(accepted / 3);
        let knocks = now / (20 * SECOND);
        let host = u8::try_from(knocks % 200).expect("a host");
        Reading {
            listeners: vec![web],
            processes: vec![process(accepted, accepted / 100, 40)],
            namespaces: vec![NamespaceReading {
                refused: Some(knocks),
                reset_connections: Some(accepted / 2),
                time_wait: Some(28_000),
                ..namespace()
            }],
            sources: vec![source(host, &[23], now)],
            ..at(now)
        }
    };
    let mut detector = detector();
    let mut told = Vec::new();
    // Closely around each burst, and every five seconds between: the crossings of the kernel come of bursts.
    let mut now = 1;
    while now < 24 * HOUR {
        told.extend(detector.read(&model(now), WallClock::from_epoch_ns(0)));
        let is_near = (now / MINUTE) % 47 == 3 || ((now + 2 * SLOW) / MINUTE) % 47 == 3;
        let is_close = is_near || detector.beat(BootNs(now)).is_some();
        now += if is_close { FAST } else { SLOW };
    }
    assert!(told.is_empty(), "{told:#?}");
}

/// Four seconds on, four off, and neither side of the threshold for a moment: one episode.
#[test]
fn a_flood_that_comes_in_pulses_is_one_episode() {
    let pulse = |now: u64| {
        let period = 8 * SECOND;
        let (whole, rest) = (now / period, now % period);
        whole * 800 + grown(rest, 0, 4 * SECOND, 200)
    };
    let model = |now: u64| {
        let syns = pulse(now.clamp(START, START + 64 * SECOND));
        Reading {
            listeners: vec![listener(WEB, syns, 0)],
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 120 * SECOND, &model);
    assert_eq!(name(&told), [StormKind::SynFlood]);
    assert_eq!(ended(&told), [StormKind::SynFlood]);
}

#[test]
fn a_storm_of_connections_is_above_what_is_normal() {
    let model = |rate, begin| {
        move |now: u64| {
            let load = grown(now, 0, FOREVER, rate);
            let all = load + grown(now, begin, begin + 20 * SECOND, 50_000);
            Reading {
                listeners: vec![listener(WEB, all, all)],
                ..at(now)
            }
        }
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model(100, START));
    begins_and_ends(&told, StormKind::ConnectionStorm, 4 * SECOND);
    // A host that is used to twenty thousand takes seventy for a good day.
    let later = 4 * START;
    let told = run(
        &mut detector(),
        1,
        later + 60 * SECOND,
        &model(20_000, later),
    );
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn a_process_whose_connections_fail_is_named() {
    let fails = |now| grown(now, START, START + 30 * SECOND, 400);
    let model = |now| Reading {
        processes: vec![process(
            fails(now) + grown(now, 0, FOREVER, 10),
            fails(now),
            0,
        )],
        ..at(now)
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    begins_and_ends(&told, StormKind::ConnectStorm, SLOW + 4 * SECOND);
}

#[test]
fn refused_connections_are_a_storm_unless_a_scan_explains_them() {
    let refused = |now| grown(now, START, START + 20 * SECOND, 1_000);
    let model = |now, ports: &[u16]| {
        let mut who = source(9, ports, now);
        who.count = refused(now);
        Reading {
            namespaces: vec![NamespaceReading {
                refused: Some(0),
                ..namespace()
            }],
            sources: if now < START { Vec::new() } else { vec![who] },
            ..at(now)
        }
    };
    let one = |now| model(now, &[8080]);
    let told = run(&mut detector(), 1, START + 60 * SECOND, &one);
    begins_and_ends(&told, StormKind::RefusedStorm, SLOW + 4 * SECOND);
    let Some((_, Report::Started(episode))) = told.first() else {
        panic!("{told:#?}");
    };
    assert_eq!(episode.peers[0].prefix.to_string(), "203.0.113.9/32");
    let ports: Vec<u16> = (1..500).collect();
    let many = |now| model(now, &ports);
    let told = run(&mut detector(), 1, START + 60 * SECOND, &many);
    assert!(name(&told).is_empty(), "{told:#?}");
    assert!(
        matches!(told.as_slice(), [(_, Report::Scan(_))]),
        "{told:#?}"
    );
}

#[test]
fn what_cannot_be_read_is_not_quiet() {
    let flood = |now| grown(now, START, FOREVER, 1_000);
    let blind = START + 5 * SECOND..START + 45 * SECOND;
    let model = |now| match blind.contains(&now) {
        true => Reading {
            is_blind: true,
            ..at(now)
        },
        false => Reading {
            listeners: vec![listener(WEB, flood(now), 0)],
            ..at(now)
        },
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    assert_eq!(name(&told), [StormKind::SynFlood]);
    assert_eq!(ended(&told), [], "{told:#?}");
}

#[test]
fn whoever_was_busy_before_a_flood_is_not_its_source() {
    let peer = |last: u8, count| PeerReading {
        address: std::net::Ipv4Addr::new(203, 0, 113, last).into(),
        count,
    };
    let flood = |now| grown(now, START, START + 20 * SECOND, 200);
    let load = |now| grown(now, 0, FOREVER, 20);
    let model = |now| {
        let mut web = listener(WEB, load(now) + flood(now), load(now));
        web.peers = vec![peer(1, 50_000 + load(now)), peer(66, flood(now) / 8 * 8)];
        Reading {
            listeners: vec![web],
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 20 * SECOND, &model);
    let Some((_, Report::Started(first))) = told.first() else {
        panic!("{told:#?}");
    };
    assert!(first.senders.iter().all(|one| one.count < 80), "{first:#?}");
    let mut detector = detector();
    let told = run(&mut detector, 1, START + 60 * SECOND, &model);
    let Some((_, Report::Ended(last, _))) = told.last() else {
        panic!("{told:#?}");
    };
    let worst = last.senders.first().expect("known by now");
    assert_eq!(worst.prefix.to_string(), "203.0.113.66/32");
    assert!(worst.percent > 80, "{:#?}", last.senders);
    assert_eq!(last.peers, last.senders);
}

#[test]
fn refusals_that_both_sides_count_are_told_once() {
    let refused = |now| grown(now, START, START + 20 * SECOND, 1_000);
    // On loopback the knocks are those of the same connects, and are read at other moments.
    let model = |now: u64| {
        let mut who = source(9, &[8080], now);
        who.count = refused(now - now % (400 * MS));
        Reading {
            namespaces: vec![NamespaceReading {
                refused: Some(refused(now)),
                ..namespace()
            }],
            sources: if now < START { Vec::new() } else { vec![who] },
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    let Some((_, Report::Ended(episode, _))) = told.last() else {
        panic!("{told:#?}");
    };
    assert!(
        (15_000..=21_000).contains(&episode.total),
        "{}",
        episode.total
    );
}

#[test]
fn sockets_that_are_never_closed_are_a_leak_and_those_that_come_and_go_are_none() {
    let leak = |now: u64| u32::try_from(grown(now, START, START + 20 * SECOND, 10)).expect("few");
    let model = |now| Reading {
        processes: vec![process(0, 0, if now < 3 * START { leak(now) } else { 0 })],
        ..at(now)
    };
    let told = run(&mut detector(), 1, 4 * START, &model);
    begins_and_ends(&told, StormKind::CloseWaitLeak, 50 * SECOND);
    let model = |now: u64| Reading {
        processes: vec![process(
            0,
            0,
            300 + u32::try_from(now / SECOND % 7).expect("few"),
        )],
        ..at(now)
    };
    assert!(run(&mut detector(), 1, 4 * START, &model).is_empty());
}

#[test]
fn local_ports_that_run_out_are_named_before_they_have() {
    let taken = |now| u32::try_from(grown(now, START, START + 60 * SECOND, 450)).expect("few");
    let model = |now: u64| Reading {
        namespaces: vec![NamespaceReading {
            time_wait: Some(taken(now)),
            busiest: (now < 3 * START).then(|| PortUse {
                peer: "198.51.100.7".parse().expect("an address"),
                port: 5432,
                taken: taken(now),
            }),
            ..namespace()
        }],
        ..at(now)
    };
    let told = run(&mut detector(), 1, 3 * START, &model);
    assert_eq!(name(&told), [StormKind::TimeWaitPressure]);
    let Some((when, Report::Started(episode))) = told.first() else {
        panic!("{told:#?}");
    };
    assert!(
        episode.value < 28_232 && *when < START + 63 * SECOND,
        "{episode:?}"
    );
    // As many, and nobody knows towards whom.
    let blind = |now: u64| {
        let mut reading = model(now);
        reading.namespaces[0].busiest = None;
        reading
    };
    assert!(run(&mut detector(), 1, 3 * START, &blind).is_empty());
}

#[test]
fn the_listener_whose_queue_is_full_is_named() {
    let dropped = |now| grown(now, START, START + 20 * SECOND, 200);
    let model = |now| {
        let mut web = listener(WEB, dropped(now), 0);
        let is_full = (START..START + 20 * SECOND).contains(&now);
        web.accept_queue = Some(if is_full { (129, 128) } else { (0, 128) });
        let mut other = listener(OTHER, 0, 0);
        other.accept_queue = Some((1, 128));
        Reading {
            listeners: vec![web, other],
            namespaces: vec![NamespaceReading {
                listen_overflows: Some(dropped(now)),
                ..namespace()
            }],
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    begins_and_ends(&told, StormKind::AcceptQueueOverflow, SLOW + 5 * SECOND);
    let Some((_, Report::Started(episode))) = told.first() else {
        panic!("{told:#?}");
    };
    assert_eq!(episode.subject, Subject::Listener(WEB));
    assert_eq!(episode.accept_queue, Some((129, 128)));
}

#[test]
fn what_is_not_known_is_no_storm() {
    let model = |now| {
        let mut web = listener(WEB, 0, 0);
        web.syns = None;
        web.accepted = None;
        web.unanswered = None;
        web.resets = Some(grown(now, START, FOREVER, 9_000));
        Reading {
            listeners: vec![web],
            namespaces: vec![NamespaceReading {
                cookies_sent: Some(grown(now, START, FOREVER, 9_000)),
                reset_connections: Some(grown(now, START, FOREVER, 9_000)),
                netns: 1,
                time_wait: Some(60_000),
                ..NamespaceReading::default()
            }],
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    assert!(told.is_empty(), "{told:#?}");
}

#[test]
fn an_episode_that_nobody_sees_any_more_ends_and_says_so() {
    let flood = |now| grown(now, START, FOREVER, 1_000);
    let model = |now| {
        let mut web = listener(WEB, flood(now), 0);
        if now > START + 20 * SECOND {
            web.accepted = None;
        }
        Reading {
            listeners: vec![web],
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 200 * SECOND, &model);
    let lost = |told: &&Told| matches!(told.1, Report::Ended(_, true));
    assert_eq!(told.iter().filter(lost).count(), 1, "{told:#?}");
}

#[test]
fn a_kind_that_is_off_is_not_told() {
    let mut settings = Settings::default();
    settings.off.insert(StormKind::SynFlood);
    let flood = |now| grown(now, START, FOREVER, 1_000);
    let model = |now| Reading {
        listeners: vec![listener(WEB, flood(now), 0)],
        ..at(now)
    };
    let mut detector = Detector::new(settings);
    assert!(run(&mut detector, 1, START + 20 * SECOND, &model).is_empty());
    detector.configure(Settings::default());
    let told = run(
        &mut detector,
        START + 20 * SECOND,
        START + 40 * SECOND,
        &model,
    );
    assert_eq!(name(&told), [StormKind::SynFlood]);
}

#[test]
fn a_scan_is_named_within_a_second_of_its_twentieth_port() {
    let mut ports: Vec<u16> = (0..1_000_u16).map(|n| 1 + n * 37 % 2_000).collect();
    ports.dedup();
    // A thousand ports in ten seconds: the twentieth after 200 ms.
    let model = |now: u64| {
        let tried = grown(now, START, START + 10 * SECOND, 100);
        let tried = &ports[..usize::try_from(tried).expect("few")];
        let who = source(7, tried, now);
        Reading {
            sources: if tried.is_empty() {
                Vec::new()
            } else {
                vec![who]
            },
            ..at(now)
        }
    };
    let told = run(&mut detector(), START - SECOND, START + 60 * SECOND, &model);
    let [(when, Report::Scan(found))] = told.as_slice() else {
        panic!("{told:#?}");
    };
    assert!(when - START <= 1_200 * MS, "{} ms", (when - START) / MS);
    assert_eq!(
        found.source,
        Some("203.0.113.7".parse().expect("an address"))
    );
}

/// Sources by the million, each with another address, and a storm of listeners.
#[test]
fn memory_is_bounded_whoever_comes() {
    let mut detector = detector();
    for round in 1..40_u64 {
        let sources = (0..4_096_u128).map(|n| SourceReading {
            address: Ipv6Addr::from_bits(u128::from(round) << 64 | n).into(),
            ports: 30,
            ..source(1, &[22], round * FAST)
        });
        let listeners = (0..9_000_u32).map(|n| {
            let key = ListenerKey {
                netns: n / 3_000,
                port: u16::try_from(n % 3_000).expect("a port"),
                ..WEB
            };
            listener(key, u64::from(n % 1_000) * round, 0)
        });
        let reading = Reading {
            listeners: listeners.collect(),
            sources: sources.collect(),
            ..at(round * FAST)
        };
        detector.read(&reading, WallClock::from_epoch_ns(0));
    }
    assert_eq!(detector.listeners.len(), LISTENERS);
    assert!(detector.candidates.len() <= CANDIDATES);
    assert_eq!(detector.open().count(), EPISODES);
    assert_eq!(detector.account().sources, 2_048);
    assert!(
        detector.account().dropped > 100_000,
        "{:?}",
        detector.account()
    );
    assert!(detector.account().untold > 0);
    assert_eq!(detector.account().unjudged, 9_000 - 8_192);
    // Those that nobody counts any more make room at once.
    let strangers = (0..8_000_u16).map(|port| {
        listener(
            ListenerKey {
                port,
                netns: 9,
                ..WEB
            },
            1,
            1,
        )
    });
    for n in 40..42 {
        let reading = Reading {
            listeners: strangers.clone().collect(),
            ..at(n * FAST)
        };
        detector.read(&reading, WallClock::from_epoch_ns(0));
    }
    assert_eq!(detector.account().unjudged, 0);
}

mod properties;
mod requests;
mod resets;
