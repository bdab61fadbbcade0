//! Cells by listeners, and when they are read.

use std::sync::Arc;

use portwatch_common::counters::Counters;
use portwatch_common::storm::StormCount;
use zerocopy::FromZeros as _;

use super::super::announce::Limits;
use super::{CellTotals, FAST, LATE, Observer, SLOW, Storms, key_of};
use crate::event::Mechanism;
use crate::inventory::fixture::{tcp, udp};
use crate::inventory::{Change, Inventory, Listener};
use crate::storm::{Detector, Settings};
use crate::time::BootNs;

/// A listener of the inventory's own making.
fn listener(id: u64, port: u16) -> Arc<Listener> {
    let sock = tcp(id, id, port);
    Arc::new(crate::inventory::fixture::listener(sock))
}

fn opened(listener: &Arc<Listener>) -> Change {
    Change::Opened {
        listener: Arc::clone(listener),
    }
}

fn closed(listener: &Arc<Listener>) -> Change {
    Change::Closed {
        listener: Arc::clone(listener),
        at: BootNs(1),
        mechanism: Mechanism::TpBtf,
        duration_ns: None,
    }
}

#[test]
fn a_port_is_watched_while_any_socket_listens_there() {
    let mut storms = Storms::new(BootNs(0));
    let (one, other) = (listener(1, 80), listener(2, 80));
    for change in [opened(&one), opened(&other), opened(&one), closed(&one)] {
        storms.follow(&change, None);
    }
    let key = key_of(&other).expect("TCP");
    assert!(storms.keys.contains_key(&key));
    storms.follow(&closed(&one), None);
    storms.follow(&closed(&other), None);
    assert!(storms.keys.is_empty());
    assert_eq!(
        key_of(&crate::inventory::fixture::listener(udp(3, 3, 53))),
        None
    );
}

#[test]
fn what_changes_did_not_tell_is_put_right() {
    let mut storms = Storms::new(BootNs(0));
    let gone = listener(1, 80);
    storms.follow(&opened(&gone), None);
    let there = listener(2, 81);
    storms.settle(std::iter::once(&*there), None);
    let keys: Vec<_> = storms.keys.keys().map(|key| key.port).collect();
    assert_eq!(keys, [81]);
    storms.settle(Inventory::new(1).iter(), None);
    assert!(storms.keys.is_empty());
}

#[test]
fn a_look_comes_at_once_when_too_much_happens_and_late_when_nothing_does() {
    let mut storms = Storms::new(BootNs(0));
    storms.limits = Limits::new(&Settings::default());
    let mut counters = Counters::new_zeroed();
    let now = BootNs(FAST / 2);
    storms.every_second(&counters, now);
    assert!(!storms.is_due(now), "nothing happened");
    let limit = storms.limits.half_open;
    counters.storm[StormCount::SYN.0 as usize] = limit - 1;
    storms.every_second(&counters, now);
    assert!(!storms.is_due(now), "few did");
    counters.storm[StormCount::SYN.0 as usize] += 5_000;
    // SYN_RECV to ESTABLISHED.
    counters.transitions[3 * 16 + 1] += 5_000;
    storms.every_second(&counters, now);
    assert!(!storms.is_due(now), "all of them were completed");
    counters.storm[StormCount::SYN.0 as usize] += limit;
    storms.every_second(&counters, now);
    assert!(storms.is_due(now));
    let idle = Storms::new(BootNs(0));
    assert!(!idle.is_due(BootNs(FAST - 1)) && idle.is_due(BootNs(FAST)));
}

#[test]
fn a_namespace_where_nothing_listened_is_looked_for() {
    let mut storms = Storms::new(BootNs(0));
    let first = listener(1, 80);
    storms.follow(&opened(&first), None);
    assert!(std::mem::take(&mut storms.is_elsewhere));
    storms.follow(&opened(&listener(2, 81)), None);
    assert!(!storms.is_elsewhere, "it is known");
    let mut sock = tcp(3, 3, 82);
    sock.netns += 1;
    let other = Arc::new(crate::inventory::fixture::listener(sock));
    storms.follow(&opened(&other), None);
    assert!(std::mem::take(&mut storms.is_elsewhere));
    // Its number may come again.
    storms.follow(&closed(&other), None);
    storms.follow(&opened(&other), None);
    assert!(std::mem::take(&mut storms.is_elsewhere));
    storms.follow(&closed(&first), None);
    storms.follow(&opened(&first), None);
    assert!(!storms.is_elsewhere, "another one listens there still");
}

#[tokio::test]
async fn a_look_that_panics_is_told_once_and_the_next_one_works() {
    let mut storms = Storms::new(BootNs(0));
    for round in 1..4 {
        storms.look.begin(|| panic!("as told"));
        assert_eq!(storms.next_due(), None, "one look at a time");
        assert!(storms.looked().await.is_err());
        let now = BootNs(round * 100 * SLOW);
        assert_eq!(storms.broke(now), round == 1, "news once");
        assert_eq!(storms.failed(), round);
        assert!(storms.observer.is_none());
        let again = BootNs(now.0 + SLOW);
        assert_eq!(storms.next_due(), Some(again), "not at once, and for sure");
    }
    storms.look.begin(|| {
        let detector = Detector::new(Settings::default());
        let observer = Observer::new(detector, None);
        (Box::new(observer), Err(std::io::Error::other("as told")))
    });
    let (observer, _) = storms.looked().await.expect("no panic");
    storms.ended(observer, None);
    assert!(storms.observer.is_some());
    assert!(storms.broke(BootNs(1)), "news again");
}

#[tokio::test]
async fn a_look_that_hangs_is_told_once() {
    let mut storms = Storms::new(BootNs(0));
    assert!(!storms.is_late(BootNs(LATE)), "none is under way");
    for _ in 0..2 {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        storms.began = BootNs(SLOW);
        storms.look.begin(move || {
            let _ = wait.recv();
            let observer = Observer::new(Detector::new(Settings::default()), None);
            (Box::new(observer), Err(std::io::Error::other("as told")))
        });
        assert!(!storms.is_late(BootNs(SLOW + LATE - 1)));
        assert!(storms.is_late(BootNs(SLOW + LATE)));
        assert!(!storms.is_late(BootNs(SLOW + 2 * LATE)), "once");
        drop(go);
        let (observer, _) = storms.looked().await.expect("no panic");
        storms.ended(observer, None);
    }
}

/// Crossings of a listener's SYNs: only those that leave something half open deserve a look.
#[test]
fn a_burst_that_is_completed_is_not_worth_a_look() {
    let key = key_of(&listener(1, 80)).expect("TCP");
    let cell = |syns, accepted| {
        Some(CellTotals {
            syns,
            accepted,
            ..CellTotals::default()
        })
    };
    let mut storms = Storms::new(BootNs(0));
    storms.half_open = 10;
    assert!(
        storms.are_half_open(key, cell(20, 0)),
        "nothing is known yet"
    );
    // Twenty thousand a second, with eight hundred under way all the time.
    for second in 1..20 {
        let syns = 20_000 * second + 20;
        assert!(!storms.are_half_open(key, cell(syns, syns - 800)));
    }
    // A flood of a hundred beside a hundred good ones.
    assert!(storms.are_half_open(key, cell(380_220, 379_320)));
    assert!(storms.are_half_open(key, cell(5, 5)), "another cell");
    assert!(
        storms.are_half_open(key, None),
        "a cell that cannot be read"
    );
    storms.unmake(key, None);
    assert!(storms.crossed.is_empty());
}
