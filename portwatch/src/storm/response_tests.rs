use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::reading::Subject;
use super::*;

const SECOND: u64 = 1_000_000_000;

fn terms() -> Terms {
    Terms {
        storms: [StormKind::SynFlood].into(),
        scans: true,
        dry_run: false,
        ipv4_set: Set::parse("inet filter bad4"),
        ipv6_set: Set::parse("inet filter bad6"),
        per_hour: 5,
        never: vec![Prefix::parse("203.0.113.128/25").expect("a network")],
        ..Terms::default()
    }
}

fn episode(number: u64, peers: &[(&str, u32)]) -> Episode {
    let share = |(text, percent): &(&str, u32)| Share {
        prefix: Prefix::parse(text).expect("a prefix"),
        count: 100,
        percent: *percent,
    };
    Episode {
        number,
        kind: StormKind::SynFlood,
        subject: Subject::Namespace(1),
        began: BootNs(1),
        at: BootNs(1),
        value: 0,
        peak: 0,
        threshold: 0,
        total: 0,
        completed: None,
        begun: None,
        cookies: None,
        half_open: None,
        accept_queue: None,
        peers: Vec::new(),
        senders: peers.iter().map(share).collect(),
    }
}

fn names(orders: &[Order]) -> Vec<String> {
    let prefixes = orders.iter().flat_map(|order| &order.prefixes);
    prefixes.map(ToString::to_string).collect()
}

#[test]
fn only_what_matters_and_may_be_is_blocked() {
    let mut responder = Responder::new(terms());
    let storm = episode(
        1,
        &[
            ("203.0.113.7/32", 30),
            ("198.51.100.9/32", 20),
            ("203.0.113.200/32", 20),
            ("10.1.2.3/32", 20),
            ("2001:db8:1:2::/64", 15),
            ("fe80::/64", 15),
            ("203.0.113.8/32", 3),
            ("198.51.100.0/24", 50),
        ],
    );
    let own = ["198.51.100.9".parse().expect("an address")];
    let orders = responder.storm(&storm, &own, BootNs(SECOND));
    assert_eq!(names(&orders), ["203.0.113.7/32", "2001:db8:1:2::/64"]);
    assert_eq!(
        orders[0].scripts(),
        ["add element inet filter bad4 { 203.0.113.7 timeout 600s }\n"]
    );
    assert_eq!(
        orders[1].scripts(),
        ["add element inet filter bad6 { 2001:db8:1:2::/64 timeout 600s }\n"]
    );
    assert!(
        responder.storm(&storm, &own, BootNs(2 * SECOND)).is_empty(),
        "once"
    );
}

#[test]
fn the_end_undoes_what_its_episode_did_and_has_not_run_out() {
    let mut responder = Responder::new(terms());
    let (first, second) = (
        episode(1, &[("203.0.113.7/32", 30)]),
        episode(2, &[("203.0.113.8/32", 30)]),
    );
    responder.storm(&first, &[], BootNs(SECOND));
    responder.storm(&second, &[], BootNs(SECOND));
    let orders = responder.over(first.kind, first.number, BootNs(60 * SECOND));
    assert_eq!(names(&orders), ["203.0.113.7/32"]);
    assert_eq!(
        orders[0].scripts(),
        ["delete element inet filter bad4 { 203.0.113.7 }\n"]
    );
    assert!(
        responder
            .over(second.kind, second.number, BootNs(700 * SECOND))
            .is_empty()
    );
}

/// A flood that is shut out is calm: its episode ends, and it comes again with the next one.
#[test]
fn whoever_comes_again_when_he_is_let_in_stays_out() {
    let mut responder = Responder::new(Terms {
        per_hour: 1,
        ..terms()
    });
    let peers = [("203.0.113.7/32", 90)];
    let mut told = Vec::new();
    for number in 1..=5_u64 {
        let now = BootNs(number * 30 * SECOND);
        let blocked = responder.storm(&episode(number, &peers), &[], now);
        let over = BootNs(now.0 + 15 * SECOND);
        let unblocked = responder.over(StormKind::SynFlood, number, over);
        told.push((names(&blocked).len(), names(&unblocked).len()));
    }
    assert_eq!(told, [(1, 1), (1, 0), (0, 0), (0, 0), (0, 0)]);
    assert_eq!(responder.capped, 0, "it is one address");
    // Its time runs from the second time on, and the kernel takes it out.
    let later = BootNs(660 * SECOND + 1);
    let again = responder.storm(&episode(6, &peers), &[], later);
    assert_eq!(names(&again).len(), 1);
}

#[test]
fn whoever_is_not_known_well_enough_is_left_alone() {
    let mut responder = Responder::new(terms());
    let mut storm = episode(1, &[("203.0.113.7/32", 100)]);
    storm.senders[0].count = 72;
    assert!(responder.storm(&storm, &[], BootNs(SECOND)).is_empty());
    // At the next look there are more.
    storm.senders[0].count = 80;
    assert_eq!(
        names(&responder.storm(&storm, &[], BootNs(2 * SECOND))).len(),
        1
    );
}

/// Only the most frequent senders are told apart: of a million that send once each, one who sends often is most of those.
#[test]
fn whoever_is_next_to_nothing_of_a_storm_is_left_alone() {
    let mut responder = Responder::new(terms());
    let mut storm = episode(1, &[("203.0.113.7/32", 54)]);
    (storm.total, storm.begun) = (120_000, Some(120_000));
    storm.senders[0].count = 300;
    assert!(responder.storm(&storm, &[], BootNs(SECOND)).is_empty());
    storm.senders[0].count = 12_000;
    assert_eq!(
        names(&responder.storm(&storm, &[], BootNs(SECOND))).len(),
        1
    );
}

#[test]
fn an_hour_has_its_limit() {
    let mut responder = Responder::new(terms());
    let peers: Vec<String> = (1..=9).map(|n| format!("203.0.113.{n}/32")).collect();
    let peers: Vec<(&str, u32)> = peers.iter().map(|peer| (peer.as_str(), 11)).collect();
    let orders = responder.storm(&episode(1, &peers), &[], BootNs(SECOND));
    assert_eq!(names(&orders).len(), 5);
    assert_eq!(responder.capped, 4);
    responder.storm(&episode(1, &peers), &[], BootNs(2 * SECOND));
    assert_eq!(responder.capped, 4, "once each, though every look asks");
    let later = BootNs(2 * HOUR_NS);
    assert_eq!(
        names(&responder.storm(&episode(1, &peers), &[], later)).len(),
        5
    );
    assert_eq!(responder.capped, 8, "and once in the next hour");
}

#[test]
fn what_is_not_configured_is_not_done() {
    let mut responder = Responder::new(Terms::default());
    let storm = episode(1, &[("203.0.113.7/32", 90)]);
    assert!(!responder.is_needed());
    assert!(responder.storm(&storm, &[], BootNs(1)).is_empty());
    let mut other = storm;
    other.kind = StormKind::ConnectionStorm;
    let mut responder = Responder::new(terms());
    assert!(responder.storm(&other, &[], BootNs(1)).is_empty());
}

/// Networks that many share are told, and shut out by nobody: 32 bits of IPv6 are a whole provider.
#[test]
fn whole_networks_are_not_blocked() {
    let mut responder = Responder::new(terms());
    let peers = [
        ("2600:1700::/32", 60),
        ("2600:1700:1::/48", 50),
        ("203.0.0.0/8", 50),
    ];
    assert!(
        responder
            .storm(&episode(1, &peers), &[], BootNs(1))
            .is_empty()
    );
}

#[test]
fn a_source_that_completes_what_it_begins_is_not_the_flood() {
    let mut responder = Responder::new(terms());
    let mut storm = episode(1, &[("203.0.113.7/32", 40)]);
    storm.completed = Some(50);
    assert!(responder.storm(&storm, &[], BootNs(1)).is_empty());
    storm.completed = Some(49);
    assert_eq!(responder.storm(&storm, &[], BootNs(1)).len(), 1);
}

#[test]
fn what_this_host_connects_to_is_not_blocked() {
    let mut terms = terms();
    terms.storms.insert(StormKind::ConnectStorm);
    let mut responder = Responder::new(terms);
    let mut storm = episode(1, &[("203.0.113.7/32", 90)]);
    storm.kind = StormKind::ConnectStorm;
    assert!(responder.storm(&storm, &[], BootNs(1)).is_empty());
}

#[test]
fn what_was_only_told_or_failed_is_not_blocked() {
    let dry = Terms {
        dry_run: true,
        ..terms()
    };
    let storm = episode(1, &[("203.0.113.7/32", 90)]);
    let mut responder = Responder::new(dry.clone());
    assert!(responder.storm(&storm, &[], BootNs(1))[0].dry_run);
    responder.configure(terms());
    let ordered = responder.storm(&storm, &[], BootNs(2));
    assert!(!ordered[0].dry_run, "{ordered:?}");
    responder.failed(&ordered[0], BootNs(2));
    let soon = responder.storm(&storm, &[], BootNs(AGAIN_NS + 1));
    assert!(soon.is_empty(), "not with each look: {soon:?}");
    let later = BootNs(AGAIN_NS + 2);
    assert_eq!(responder.storm(&storm, &[], later).len(), 1);
    // What is blocked is unblocked, whatever is configured by then.
    responder.configure(dry);
    let undone = responder.over(storm.kind, storm.number, later);
    assert!(undone.len() == 1 && !undone[0].dry_run, "{undone:?}");
}

#[test]
fn names_of_sets_are_names() {
    assert!(Set::parse("inet filter bad_4").is_some());
    for text in [
        "",
        "inet filter",
        "inet filter a b",
        "x filter a",
        "inet filter a;flush",
        "inet filter 4",
        "inet  filter a",
        "inet fil\nter a",
    ] {
        assert_eq!(Set::parse(text), None, "{text:?}");
    }
}

proptest! {
    /// Nobody of the inside is ever blocked, and the limit holds.
    #[test]
    fn whoever_is_inside_stays(bits in prop::collection::vec(any::<u32>(), 1..200)) {
        let mut responder = Responder::new(terms());
        let mut blocked = 0;
        for (bits, n) in bits.into_iter().zip(1..) {
            let address = Ipv4Addr::from_bits(bits);
            let text = format!("{address}/32");
            let orders = responder.storm(&episode(n, &[(&text, 99)]), &[], BootNs(n * SECOND));
            blocked += orders.len();
            let is_inside = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_unspecified();
            prop_assert!(orders.is_empty() || !is_inside, "{address}");
        }
        prop_assert!(blocked <= 5);
    }
}
