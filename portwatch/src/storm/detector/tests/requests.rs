//! Floods whose SYNs make no request: known by their namespace alone, by full queues, drops and cookies.

use super::*;

#[test]
fn a_flood_goes_on_when_the_queue_is_full_and_syns_make_no_request() {
    // Counted as requests: as many as the queue has places, then none. The namespace counts what found it full.
    let all = |now| grown(now, START, START + 30 * SECOND, 100);
    let model = |now: u64| {
        let requests = all(now).min(128);
        let is_over = now > START + 30 * SECOND;
        let mut web = listener(WEB, requests, 0);
        web.half_open = Some(u32::try_from(requests).expect("few") * u32::from(!is_over));
        web.accept_queue = Some((0, 128));
        web.backlog = Some(128);
        Reading {
            listeners: vec![web],
            namespaces: vec![NamespaceReading {
                syn_queue_full: Some(all(now) - requests),
                ..namespace()
            }],
            sees_requests: true,
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    begins_and_ends(&told, StormKind::SynFlood, 2 * SECOND);
    let Some((ended, Report::Ended(episode, _))) = told.last() else {
        panic!("{told:#?}");
    };
    assert!(*ended > START + 30 * SECOND, "over after {ended} ns");
    assert!(
        (2_900..=3_100).contains(&episode.total),
        "{}",
        episode.total
    );
}

#[test]
fn a_full_queue_is_no_flood_when_cookies_complete_its_connections() {
    let grown = |now, rate| grown(now, START, START + 30 * SECOND, rate);
    for sees_requests in [true, false] {
        let model = |now: u64| {
            let (all, requests) = (grown(now, 150), grown(now, 10));
            let syns = if sees_requests { requests } else { all };
            let mut web = listener(WEB, syns, all);
            web.half_open = Some(6);
            web.accept_queue = Some((0, 5));
            web.backlog = Some(5);
            Reading {
                listeners: vec![web],
                namespaces: vec![NamespaceReading {
                    syn_queue_full: Some(all - requests),
                    ..namespace()
                }],
                sees_requests,
                ..at(now)
            }
        };
        let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
        assert!(name(&told).is_empty(), "{told:#?}");
    }
}

/// `tcp_syncookies = 2`: no SYN makes a request, and the namespace alone counts them.
#[test]
fn syns_without_requests_are_those_of_the_only_listener_or_of_the_namespace() {
    let all = |now| grown(now, START, START + 30 * SECOND, 100);
    for others in [0, 1, 3] {
        let model = |now: u64| {
            let mut listeners = vec![listener(WEB, 0, 0)];
            listeners.extend((0..others).map(|n| {
                let key = ListenerKey {
                    port: 9_000 + n,
                    ..WEB
                };
                listener(key, grown(now, 0, FOREVER, 40), grown(now, 0, FOREVER, 40))
            }));
            Reading {
                listeners,
                namespaces: vec![NamespaceReading {
                    syn_queue_full: Some(all(now)),
                    cookies_sent: Some(all(now)),
                    ..namespace()
                }],
                sees_requests: true,
                ..at(now)
            }
        };
        let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
        begins_and_ends(&told, StormKind::SynFlood, SLOW + 4 * SECOND);
        let subjects = told.iter().map(|(_, report)| match report {
            Report::Started(episode) | Report::Ended(episode, _) => Some(episode.subject),
            _ => None,
        });
        let expected = match others {
            0 => Subject::Listener(WEB),
            _ => Subject::Namespace(WEB.netns),
        };
        assert!(
            subjects.flatten().all(|subject| subject == expected),
            "{told:#?}"
        );
    }
}

/// Half-open connections are not counted in each reading, and there are other listeners.
#[test]
fn a_full_queue_is_remembered_between_the_readings_that_show_it() {
    for rate in [70, 100, 400] {
        let all = |now| grown(now, START, START + 30 * SECOND, rate);
        let model = |now: u64| {
            let requests = all(now).min(16);
            let is_over = now > START + 30 * SECOND;
            let is_counted = (now / FAST).is_multiple_of(5);
            let mut web = listener(WEB, requests, 0);
            let half_open = if is_over { 0 } else { requests };
            web.half_open = is_counted.then(|| u32::try_from(half_open).expect("few"));
            web.backlog = Some(16);
            let mut other = listener(OTHER, 0, 0);
            other.half_open = is_counted.then_some(0);
            other.backlog = Some(128);
            Reading {
                listeners: vec![web, other],
                namespaces: vec![NamespaceReading {
                    syn_queue_full: Some(all(now) - requests),
                    ..namespace()
                }],
                sees_requests: true,
                ..at(now)
            }
        };
        let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
        begins_and_ends(&told, StormKind::SynFlood, 4 * SECOND);
        let Some((_, Report::Ended(episode, _))) = told.last() else {
            panic!("{told:#?}");
        };
        assert_eq!(episode.subject, Subject::Listener(WEB), "{rate}");
    }
}

/// With cookies off, the last quarter of `tcp_max_syn_backlog` is for clients that are known: other SYNs count as drops alone.
#[test]
fn a_flood_goes_on_when_its_syns_are_dropped() {
    let all = |now| grown(now, START, START + 40 * SECOND, 500);
    let model = |now: u64| {
        let requests = all(now).min(768);
        Reading {
            listeners: vec![listener(WEB, requests, 0)],
            namespaces: vec![NamespaceReading {
                syn_queue_full: Some(0),
                listen_drops: Some(all(now) - requests),
                ..namespace()
            }],
            sees_requests: true,
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    begins_and_ends(&told, StormKind::SynFlood, 2 * SECOND);
    let Some((_, Report::Ended(episode, _))) = told.last() else {
        panic!("{told:#?}");
    };
    assert!(episode.total > 15_000, "{}", episode.total);
}

/// What a namespace told last is not counted again when it cannot be read.
#[test]
fn a_namespace_that_is_missing_from_a_reading_makes_no_flood() {
    for rate in [40, 300] {
        let all = |now| grown(now, 0, FOREVER, rate);
        let model = |now: u64| {
            let is_missing = (START..START + 4 * SECOND).contains(&now);
            let told = NamespaceReading {
                syn_queue_full: Some(all(now)),
                cookies_sent: Some(all(now)),
                cookies_received: Some(all(now)),
                ..namespace()
            };
            Reading {
                listeners: vec![listener(WEB, 0, all(now))],
                namespaces: if is_missing { Vec::new() } else { vec![told] },
                sees_requests: true,
                ..at(now)
            }
        };
        let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
        assert!(told.is_empty(), "{rate}: {told:#?}");
    }
}

#[test]
fn cookies_that_bring_connections_are_no_flood() {
    for rtt in [0, 40, 200, 450] {
        for others in [0, 1] {
            let burst = |now| grown(now, START, START + 20 * SECOND, 20_000);
            let model = |now: u64| {
                let accepted = burst(now.saturating_sub(rtt * MS));
                let mut listeners = vec![listener(WEB, 0, accepted)];
                listeners.extend((0..others).map(|_| listener(OTHER, 0, 0)));
                Reading {
                    listeners,
                    namespaces: vec![NamespaceReading {
                        syn_queue_full: Some(burst(now)),
                        cookies_sent: Some(burst(now)),
                        cookies_received: Some(accepted),
                        ..namespace()
                    }],
                    sees_requests: true,
                    ..at(now)
                }
            };
            let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
            assert!(told.is_empty(), "rtt {rtt}, {others} others: {told:#?}");
        }
    }
}

/// Where SYNs are not counted, all that is known of clients that come at once is how many cookies were sent and came back.
#[test]
fn cookies_that_come_back_late_are_no_flood() {
    for rate in [100, 300, 1_000, 10_000] {
        for rtt in [0, 40, 200, 450] {
            for seconds in [1, 3, 20] {
                let burst = |now| grown(now, START, START + seconds * SECOND, rate);
                let model = |now: u64| {
                    let accepted = burst(now.saturating_sub(rtt * MS));
                    let mut web = listener(WEB, 0, accepted);
                    (web.syns, web.unanswered) = (None, None);
                    Reading {
                        listeners: vec![web],
                        namespaces: vec![NamespaceReading {
                            cookies_sent: Some(burst(now)),
                            cookies_received: Some(accepted),
                            ..namespace()
                        }],
                        ..at(now)
                    }
                };
                let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
                assert!(
                    told.is_empty(),
                    "{rate} for {seconds} s, rtt {rtt}: {told:#?}"
                );
            }
        }
    }
}

#[test]
fn a_flood_is_seen_by_its_cookies_alone() {
    let cookies = |now| grown(now, START, START + 20 * SECOND, 500);
    let model = |now| {
        let mut web = listener(WEB, 0, grown(now, 0, FOREVER, 20));
        (web.syns, web.unanswered) = (None, None);
        Reading {
            listeners: vec![web],
            namespaces: vec![NamespaceReading {
                cookies_sent: Some(cookies(now)),
                ..namespace()
            }],
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 60 * SECOND, &model);
    begins_and_ends(&told, StormKind::SynFlood, SLOW + 4 * SECOND);
}

/// `tcp_syncookies = 2`: every connection comes by a cookie, and nothing of that is half of a flood.
#[test]
fn cookies_that_complete_all_connections_are_no_reason_to_look_closely() {
    for (rate, flood, is_close) in [(40, 0, false), (2_000, 0, false), (40, 100, true)] {
        let mut detector = detector();
        let all = |now: u64, rate| grown(now, START, FOREVER, rate);
        for n in 1..60 {
            let now = START + n * SECOND;
            let accepted = all(now - 40 * MS, rate);
            let reading = Reading {
                listeners: vec![listener(WEB, 0, accepted), listener(OTHER, 0, 0)],
                namespaces: vec![NamespaceReading {
                    syn_queue_full: Some(all(now, rate + flood)),
                    cookies_sent: Some(all(now, rate + flood)),
                    cookies_received: Some(accepted),
                    ..namespace()
                }],
                sees_requests: true,
                ..at(now)
            };
            detector.read(&reading, WallClock::from_epoch_ns(0));
            if n > 3 {
                assert_eq!(detector.wants_half_open(), is_close, "{rate}, {flood}: {n}");
                assert_eq!(detector.beat(reading.at).is_some(), is_close);
            }
        }
    }
}

/// What is left of it is a small part of what arrives.
#[test]
fn a_flood_of_nobody_is_over_when_nearly_all_is_completed() {
    let model = |now: u64| {
        let flood = grown(now, START, START + 20 * SECOND, 500);
        let rest = grown(now, START, FOREVER, 80);
        let done = grown(now, START + 20 * SECOND, FOREVER, 2_000);
        let sent = flood + rest + done;
        Reading {
            listeners: vec![listener(WEB, 0, done), listener(OTHER, 0, 0)],
            namespaces: vec![NamespaceReading {
                syn_queue_full: Some(sent),
                cookies_sent: Some(sent),
                cookies_received: Some(done),
                ..namespace()
            }],
            sees_requests: true,
            ..at(now)
        }
    };
    let told = run(&mut detector(), 1, START + 90 * SECOND, &model);
    begins_and_ends(&told, StormKind::SynFlood, SLOW + 4 * SECOND);
}
