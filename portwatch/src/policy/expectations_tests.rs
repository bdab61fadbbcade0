//! Down and back, by listening and by answering.

use std::time::Duration;

use proptest::prelude::*;

use super::super::rule::{Action, Rule, Selector};
use super::{Expectations, Health, News};
use crate::check::{AT_ONCE, Asked, Check, Failure, Order, Place, Remote, Target, Transport};
use crate::decode::record::SockId;
use crate::event::{self, CheckProtocol};
use crate::time::BootNs;

const SECOND: u64 = 1_000_000_000;

fn expected(name: &str) -> Rule {
    Rule {
        action: Action::Expect,
        name: name.into(),
        when: Selector::default(),
        severity: None,
        grace: Duration::from_secs(5),
        check: None,
        reason: None,
    }
}

fn expectations(names: &[&str]) -> Expectations {
    let rules: Vec<Rule> = names.iter().map(|name| expected(name)).collect();
    Expectations::new(&rules, BootNs(0))
}

fn down(rule: &str, since: u64) -> News {
    News::Down {
        rule: rule.into(),
        since: BootNs(since),
        check: None,
    }
}

fn back(rule: &str, since: u64) -> News {
    News::Recovered {
        rule: rule.into(),
        since: BootNs(since),
        check: None,
    }
}

#[test]
fn what_is_not_there_at_the_start_is_down_after_its_grace() {
    let mut all = expectations(&["ssh", "web"]);
    assert!(
        all.seen(SockId(1), Some("ssh"), None, BootNs(SECOND))
            .is_empty()
    );
    assert_eq!(all.next_due(), Some(BootNs(5 * SECOND)));
    assert!(all.due(BootNs(5 * SECOND - 1)).is_empty());
    assert_eq!(all.due(BootNs(5 * SECOND)), [down("web", 0)]);
    assert_eq!(all.next_due(), None);
    assert_eq!(all.down().collect::<Vec<_>>(), ["web"]);
}

#[test]
fn a_restart_within_the_grace_is_silent() {
    let mut all = expectations(&["web"]);
    all.seen(SockId(1), Some("web"), None, BootNs(0));
    all.gone(SockId(1), BootNs(SECOND));
    assert!(all.due(BootNs(3 * SECOND)).is_empty());
    assert!(
        all.seen(SockId(2), Some("web"), None, BootNs(3 * SECOND))
            .is_empty()
    );
    assert!(all.due(BootNs(99 * SECOND)).is_empty());
}

#[test]
fn both_ways_are_told_once_with_the_time_between() {
    let mut all = expectations(&["web"]);
    all.seen(SockId(1), Some("web"), None, BootNs(0));
    all.gone(SockId(1), BootNs(10 * SECOND));
    assert_eq!(all.due(BootNs(20 * SECOND)), [down("web", 10 * SECOND)]);
    assert!(all.due(BootNs(30 * SECOND)).is_empty());
    let told = all.seen(SockId(2), Some("web"), None, BootNs(40 * SECOND));
    assert_eq!(told, [back("web", 10 * SECOND)]);
    assert!(
        all.seen(SockId(3), Some("web"), None, BootNs(41 * SECOND))
            .is_empty()
    );
}

#[test]
fn other_rules_keep_what_is_down_and_begin_anew_with_the_rest() {
    let mut all = expectations(&["ssh", "web"]);
    all.seen(SockId(1), Some("ssh"), None, BootNs(0));
    assert_eq!(all.due(BootNs(5 * SECOND)), [down("web", 0)]);
    let rules = ["ssh", "web", "mail"].map(expected);
    all.reload(&rules, BootNs(6 * SECOND));
    all.seen(SockId(1), Some("ssh"), None, BootNs(6 * SECOND));
    assert_eq!(all.due(BootNs(11 * SECOND)), [down("mail", 6 * SECOND)]);
    let told = all.seen(SockId(2), Some("web"), None, BootNs(12 * SECOND));
    assert_eq!(told, [back("web", 0)]);
    assert!(all.has("mail") && !all.has("dns"));
}

/// Workers and address families: one of several that goes is none that is missing.
#[test]
fn one_of_several_is_enough() {
    let mut all = expectations(&["web"]);
    all.seen(SockId(1), Some("web"), None, BootNs(0));
    all.seen(SockId(2), Some("web"), None, BootNs(0));
    all.gone(SockId(1), BootNs(SECOND));
    assert_eq!(all.next_due(), None);
    all.gone(SockId(2), BootNs(2 * SECOND));
    assert_eq!(all.next_due(), Some(BootNs(7 * SECOND)));
}

#[test]
fn a_listener_that_another_rule_decides_on_now_is_none_of_ours() {
    let mut all = expectations(&["web"]);
    all.seen(SockId(1), Some("web"), None, BootNs(0));
    all.seen(SockId(1), None, None, BootNs(SECOND));
    assert_eq!(all.due(BootNs(9 * SECOND)), [down("web", SECOND)]);
}

proptest! {
    /// Down and recovered alternate, and at the end it is down exactly if nothing listens for long enough.
    #[test]
    fn transitions_alternate(steps in prop::collection::vec((0u64..4, any::<bool>(), 0u64..8), 0..60)) {
        let mut all = expectations(&["web"]);
        let (mut now, mut is_down) = (0, false);
        let mut present = std::collections::HashSet::new();
        for (sock, opens, pause) in steps {
            now += pause * SECOND;
            let mut news = all.due(BootNs(now));
            if opens {
                present.insert(sock);
                news.extend(all.seen(SockId(sock), Some("web"), None, BootNs(now)));
            } else {
                present.remove(&sock);
                all.gone(SockId(sock), BootNs(now));
            }
            for one in news {
                let goes_down = matches!(one, News::Down { .. });
                prop_assert_ne!(goes_down, is_down);
                is_down = goes_down;
            }
            prop_assert!(!is_down || present.is_empty());
        }
        all.due(BootNs(now + 5 * SECOND));
        prop_assert_eq!(all.down().count() == 1, present.is_empty());
    }
}

/// One that is asked every ten seconds, and told after three failures.
fn asked(name: &str, host: Option<&str>) -> Rule {
    let remote = |host: &str| Remote {
        host: host.to_owned(),
        port: 80,
        transport: Transport::Tcp,
    };
    Rule {
        check: Some(Check {
            protocol: CheckProtocol::Http,
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            failures: 3,
            host: host.map(remote),
            name: None,
            path: None,
        }),
        ..expected(name)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as it is seen")]
fn here(port: u16) -> Option<Place> {
    Some(Place::At(Target::Tcp(([127, 0, 0, 1], port).into())))
}

/// Asks what is due next, at the time when it is; the time, and the only order.
fn next_order(all: &mut Expectations) -> (u64, Order) {
    let due = all.next_due().expect("something is due");
    assert_eq!(all.due(due), []);
    let mut orders = all.checks(due);
    assert_eq!(orders.len(), 1, "{orders:?}");
    assert!(all.checks(due).is_empty(), "a second one at the same time");
    (due.0, orders.remove(0))
}

fn good(all: &mut Expectations, order: &Order) -> Option<News> {
    let (ticket, result) = (order.ticket, Ok(order.targets[0].clone()));
    all.outcome(&Asked { ticket, result })
}

fn bad(all: &mut Expectations, order: &Order) -> Option<News> {
    let (ticket, result) = (order.ticket, Err(Failure::HungUp));
    all.outcome(&Asked { ticket, result })
}

#[expect(clippy::unnecessary_wraps, reason = "as it is told")]
fn told(target: &str, failures: Option<u32>) -> Option<event::Check> {
    Some(event::Check {
        protocol: CheckProtocol::Http,
        target: target.to_owned(),
        error: failures.map(|_| "it hung up without an answer".to_owned()),
        failures,
    })
}

#[test]
fn what_listens_and_does_not_answer_is_down_after_so_many_failures() {
    let mut all = Expectations::new(&[asked("web", None)], BootNs(0));
    assert!(
        all.seen(SockId(1), Some("web"), here(80), BootNs(0))
            .is_empty()
    );
    let (first, order) = next_order(&mut all);
    assert!(first < 10 * SECOND);
    assert_eq!(bad(&mut all, &order), None);
    let (second, order) = next_order(&mut all);
    assert_eq!(second, first + 10 * SECOND);
    assert_eq!(good(&mut all, &order), None, "nothing was told yet");
    // One success in between, and the count begins anew.
    let (since, order) = next_order(&mut all);
    assert_eq!(bad(&mut all, &order), None);
    let (_, order) = next_order(&mut all);
    assert_eq!(bad(&mut all, &order), None);
    let (_, order) = next_order(&mut all);
    let news = News::Down {
        rule: "web".into(),
        since: BootNs(since),
        check: told("127.0.0.1:80", Some(3)),
    };
    assert_eq!(bad(&mut all, &order), Some(news));
    assert_eq!(all.down().collect::<Vec<_>>(), ["web"]);
    let (_, order) = next_order(&mut all);
    assert_eq!(bad(&mut all, &order), None, "told once");
    let (_, order) = next_order(&mut all);
    let news = News::Recovered {
        rule: "web".into(),
        since: BootNs(since),
        check: told("127.0.0.1:80", None),
    };
    assert_eq!(good(&mut all, &order), Some(news));
    assert_eq!(all.down().count(), 0);
}

/// A hung service is killed and started again: one down, and one recovered when it answers.
#[test]
fn absence_and_silence_are_one_matter() {
    let mut all = Expectations::new(&[asked("web", None)], BootNs(0));
    all.seen(SockId(1), Some("web"), here(80), BootNs(0));
    let mut since = None;
    for _ in 0..3 {
        let (at, order) = next_order(&mut all);
        since.get_or_insert(at);
        bad(&mut all, &order);
    }
    let since = since.expect("asked");
    let (at, order) = next_order(&mut all);
    all.gone(SockId(1), BootNs(at + 1));
    assert_eq!(all.due(BootNs(at + 60 * SECOND)), []);
    let again = BootNs(at + 60 * SECOND);
    assert_eq!(all.seen(SockId(2), Some("web"), here(80), again), []);
    assert!(
        all.checks(again).is_empty(),
        "the one before is still under way"
    );
    assert_eq!(good(&mut all, &order), None, "that was another listener");
    // What has come back is asked at once, and soon again.
    let orders = all.checks(again);
    assert_eq!(bad(&mut all, &orders[0]), None);
    assert_eq!(all.next_due(), Some(BootNs(again.0 + SECOND)));
    let (at, order) = next_order(&mut all);
    assert_eq!(at, again.0 + SECOND);
    let back = good(&mut all, &order);
    assert!(
        matches!(back, Some(News::Recovered { since: told, .. }) if told.0 == since),
        "{back:?}"
    );
}

#[test]
fn what_is_down_because_nothing_listens_is_back_when_it_answers() {
    let mut all = Expectations::new(&[asked("web", None)], BootNs(0));
    assert_eq!(all.due(BootNs(5 * SECOND)), [down("web", 0)]);
    assert_eq!(
        all.seen(SockId(1), Some("web"), here(80), BootNs(6 * SECOND)),
        []
    );
    let orders = all.checks(BootNs(6 * SECOND));
    assert!(matches!(
        good(&mut all, &orders[0]),
        Some(News::Recovered {
            since: BootNs(0),
            ..
        })
    ));
}

#[test]
fn one_that_cannot_be_asked_need_only_listen() {
    let mut all = Expectations::new(&[asked("web", None)], BootNs(0));
    let beyond = || Some(Place::Beyond("elsewhere"));
    assert_eq!(all.due(BootNs(5 * SECOND)), [down("web", 0)]);
    let told = all.seen(SockId(1), Some("web"), beyond(), BootNs(6 * SECOND));
    assert_eq!(told, [back("web", 0)]);
    assert_eq!(all.next_due(), None);
    let health: Vec<_> = all.health().map(|(_, _, health)| health).collect();
    assert_eq!(health, [Health::Beyond("elsewhere".to_owned())]);
    // Beside one that can be asked, that one counts; when it has gone, listening is enough again.
    all.seen(SockId(2), Some("web"), here(80), BootNs(7 * SECOND));
    for _ in 0..3 {
        let (_, order) = next_order(&mut all);
        bad(&mut all, &order);
    }
    assert_eq!(all.down().count(), 1);
    all.gone(SockId(2), BootNs(90 * SECOND));
    let due = all.next_due().expect("due at once");
    assert!(due <= BootNs(90 * SECOND));
    assert!(matches!(
        all.due(BootNs(90 * SECOND))[..],
        [News::Recovered { check: None, .. }]
    ));
}

#[test]
fn another_host_only_has_to_answer() {
    let rules = [asked("mx", Some("mx.example.org"))];
    let mut all = Expectations::new(&rules, BootNs(0));
    for times in 1..=3 {
        let (_, order) = next_order(&mut all);
        assert_eq!(order.targets[0].to_string(), "mx.example.org:80");
        let news = bad(&mut all, &order);
        assert_eq!(news.is_some(), times == 3);
    }
    // The same rules again change nothing, others do.
    all.reload(&rules, BootNs(50 * SECOND));
    assert_eq!(all.down().collect::<Vec<_>>(), ["mx"]);
    let (_, order) = next_order(&mut all);
    assert!(matches!(
        good(&mut all, &order),
        Some(News::Recovered { .. })
    ));
    all.reload(&[], BootNs(90 * SECOND));
    assert_eq!((all.next_due(), all.health().count()), (None, 0));
}

#[test]
fn that_we_may_not_ask_says_nothing_of_the_service() {
    let mut all = Expectations::new(&[asked("mx", Some("mx"))], BootNs(0));
    for _ in 0..9 {
        let (_, order) = next_order(&mut all);
        assert_eq!(all.asking(order.ticket), Some("mx"));
        let result = Err(Failure::Unmade("permission denied".to_owned()));
        let ticket = order.ticket;
        assert_eq!(all.outcome(&Asked { ticket, result }), None);
    }
    let health = |all: &Expectations| all.health().map(|(_, _, health)| health).next();
    let beyond = Health::Beyond("permission denied".to_owned());
    assert_eq!(health(&all), Some(beyond));
    let (_, order) = next_order(&mut all);
    good(&mut all, &order);
    assert_eq!(health(&all), Some(Health::Good));
}

/// Workers share an address, and a service can have several of which one is enough.
#[test]
fn each_address_is_asked_once() {
    let mut all = Expectations::new(&[asked("web", None)], BootNs(0));
    for (sock, port) in [(1, 81), (2, 80), (3, 80), (4, 82), (5, 83), (6, 84)] {
        all.seen(SockId(sock), Some("web"), here(port), BootNs(0));
    }
    let (_, order) = next_order(&mut all);
    let ports: Vec<_> = order.targets.iter().map(ToString::to_string).collect();
    assert_eq!(
        ports,
        [
            "127.0.0.1:80",
            "127.0.0.1:81",
            "127.0.0.1:82",
            "127.0.0.1:83"
        ]
    );
}

#[test]
fn many_checks_are_spread_out_and_never_too_many_at_once() {
    let rules: Vec<Rule> = (0..200)
        .map(|n| asked(&format!("r{n}"), Some("h")))
        .collect();
    let mut all = Expectations::new(&rules, BootNs(0));
    let mut in_first_second = 0;
    while let Some(due) = all.next_due().filter(|due| due.0 < SECOND) {
        let orders = all.checks(due);
        in_first_second += orders.len();
        for order in &orders {
            good(&mut all, order);
        }
    }
    assert!(
        (5..50).contains(&in_first_second),
        "{in_first_second} of 200 in a tenth of the time"
    );
    // All are due; without answers, no more than so many go out.
    let late = BootNs(60 * SECOND);
    let orders = all.checks(late);
    assert_eq!(orders.len(), AT_ONCE);
    assert!(all.checks(late).is_empty());
    assert_eq!(
        all.next_due(),
        None,
        "nothing to wake up for until one has answered"
    );
    good(&mut all, &orders[0]);
    assert_eq!(all.checks(late).len(), 1);
}

/// What happens to one expectation that is asked, in some order.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Opens(u64, bool),
    Closes(u64),
    Answers,
    Fails,
    Passes(u64),
    Reloads,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0u64..3, prop::bool::weighted(0.8)).prop_map(|(sock, at)| Happens::Opens(sock, at)),
        (0u64..3).prop_map(Happens::Closes),
        Just(Happens::Answers),
        Just(Happens::Fails),
        Just(Happens::Fails),
        (0u64..15_000).prop_map(Happens::Passes),
        Just(Happens::Reloads),
    ]
}

proptest! {
    /// Down and recovered alternate; each is told only when it is true; no check is made twice at once, or without
    /// something to ask; nothing is due in the past after it was seen to.
    #[test]
    fn answers_and_listeners_tell_one_story(steps in prop::collection::vec(happens(), 0..120)) {
        let rules = [asked("web", None)];
        let mut all = Expectations::new(&rules, BootNs(0));
        let (mut now, mut is_down) = (0_u64, false);
        let mut present = std::collections::HashMap::new();
        let mut under_way: Option<(Order, bool)> = None;
        let mut failures = 0;
        for step in steps {
            let mut news = Vec::new();
            match step {
                Happens::Opens(sock, can_be_asked) => {
                    present.insert(sock, can_be_asked);
                    let place = if can_be_asked { here(80) } else { Some(Place::Beyond("no")) };
                    news = all.seen(SockId(sock), Some("web"), place, BootNs(now));
                }
                Happens::Closes(sock) => {
                    present.remove(&sock);
                    all.gone(SockId(sock), BootNs(now));
                }
                Happens::Answers => if let Some((order, counts)) = under_way.take() {
                    news.extend(good(&mut all, &order));
                    if counts { failures = 0; } else { prop_assert!(news.is_empty()); }
                },
                Happens::Fails => if let Some((order, counts)) = under_way.take() {
                    news.extend(bad(&mut all, &order));
                    if counts { failures += 1; }
                    for one in &news {
                        let is_silent = matches!(one, News::Down { check: Some(_), .. });
                        prop_assert!(is_silent);
                        prop_assert!(counts && failures >= 3, "{} failures", failures);
                    }
                },
                Happens::Passes(ms) => now += ms * 1_000_000,
                Happens::Reloads => {
                    all.reload(&rules, BootNs(now));
                    for (sock, can_be_asked) in &present {
                        let place = if *can_be_asked { here(80) } else { Some(Place::Beyond("no")) };
                        news.extend(all.seen(SockId(*sock), Some("web"), place, BootNs(now)));
                    }
                }
            }
            if !present.values().any(|can_be_asked| *can_be_asked) {
                failures = 0;
                if let Some((_, counts)) = &mut under_way {
                    *counts = false;
                }
            }
            news.extend(all.due(BootNs(now)));
            for one in news {
                let goes_down = matches!(one, News::Down { .. });
                prop_assert_ne!(goes_down, is_down);
                is_down = goes_down;
                prop_assert!(is_down || !present.is_empty());
            }
            for order in all.checks(BootNs(now)) {
                prop_assert!(under_way.is_none(), "two at once");
                prop_assert!(present.values().any(|can_be_asked| *can_be_asked));
                under_way = Some((order, true));
            }
            prop_assert!(all.next_due().is_none_or(|due| due.0 > now), "it would spin");
            prop_assert_eq!(all.down().count() == 1, is_down);
        }
        // With everything well, all is well in the end.
        all.seen(SockId(9), Some("web"), here(80), BootNs(now));
        for _ in 0..4 {
            if let Some((order, _)) = under_way.take() {
                good(&mut all, &order);
            }
            now += 10 * SECOND;
            all.due(BootNs(now));
            under_way = all.checks(BootNs(now)).pop().map(|order| (order, true));
        }
        prop_assert_eq!(all.down().count(), 0);
    }
}
