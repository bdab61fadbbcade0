//! Cells by listeners, and when they are read.

use std::sync::Arc;

use portwatch_common::counters::Counters;
use portwatch_common::storm::StormCount;
use zerocopy::FromZeros as _;

use super::{SLOW, Storms, key_of, online_cpus};
use crate::event::Mechanism;
use crate::inventory::fixture::{tcp, udp};
use crate::inventory::{Change, Inventory, Listener};
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
    let mut counters = Counters::new_zeroed();
    let now = BootNs(1_000_000_000);
    storms.every_second(&counters, now);
    assert!(!storms.is_due(now), "nothing happened");
    counters.storm[StormCount::SYN.0 as usize] = 99;
    storms.every_second(&counters, now);
    assert!(!storms.is_due(now), "few did");
    counters.storm[StormCount::SYN.0 as usize] += 100;
    storms.every_second(&counters, now);
    assert!(storms.is_due(now));
    let mut connecting = Storms::new(BootNs(0));
    counters.transitions[7 * 16 + 2] += 200;
    connecting.every_second(&counters, now);
    assert!(connecting.is_due(now), "connects are among the transitions");
    let mut idle = Storms::new(BootNs(0));
    assert!(!idle.is_due(BootNs(SLOW - 1)) && idle.is_due(BootNs(SLOW)));
    idle.is_looking = true;
    assert_eq!(idle.next_due(), None, "one look at a time");
}

#[test]
fn there_is_a_processor() {
    assert!(online_cpus() >= 1);
}
