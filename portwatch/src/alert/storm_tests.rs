//! Storms and scans on their way to a mail: one when it begins, one when it is over, and none between.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Zoned;

use super::incident::{Incidents, Notice, Open, Phase};
use super::route::{Now, Route, Terms};
use crate::baseline::Frame;
use crate::event::example::examples;
use crate::event::{Event, EventType, Severity, StormKind};
use crate::filter::Filter;
use crate::sink::testing;
use crate::time::BootNs;

const SECOND: u64 = 1_000_000_000;
const NAME: &str = "mail";

fn frame() -> Frame {
    Frame {
        netns: 1,
        ephemeral: 32_768..=60_999,
    }
}

fn example(kind: EventType) -> Event {
    let all = examples().into_iter();
    let mut of_kind = all.filter(|event| event.kind == kind);
    of_kind.next().expect("an example of each kind")
}

/// An event of an episode of this kind about this subject.
fn storm(event: EventType, kind: StormKind, key: &str, episode: u64) -> Arc<Event> {
    let mut event = example(event);
    if let Some(storm) = &mut event.storm {
        storm.kind = kind;
        key.clone_into(&mut storm.key);
        storm.episode = episode;
    }
    Arc::new(event)
}

/// A running daemon with one channel.
struct Way {
    incidents: Incidents,
    route: Route,
    now: u64,
}

impl Way {
    fn new(before: Option<Vec<Open>>, terms: Terms) -> Self {
        let mut incidents = Incidents::new(frame(), before);
        let ready = Arc::new(testing::event(1, EventType::SensorReady));
        assert_eq!(incidents.observe(&ready), None);
        Self {
            incidents,
            route: Route::new(NAME, terms),
            now: 0,
        }
    }

    fn at(&self) -> Now {
        Now {
            boot: BootNs(self.now),
            wall: Zoned::default(),
        }
    }

    /// As the desk does: an event becomes a notice, and who takes it is remembered.
    fn observe(&mut self, event: &Arc<Event>) {
        if let Some(notice) = self.incidents.observe(event) {
            self.offer(&notice);
        }
    }

    fn offer(&mut self, notice: &Notice) {
        if self.route.offer(notice, &self.at()) && notice.phase == Phase::Began {
            let told = BTreeSet::from([Arc::from(NAME)]);
            self.incidents.was_told(&notice.key, told);
        }
    }

    /// Messages of the next hour, and how many matters are in each.
    fn messages(&mut self) -> Vec<usize> {
        let mut messages = Vec::new();
        for _ in 0..360 {
            self.now += 10 * SECOND;
            let message = self.route.take(&self.at());
            messages.extend(message.map(|message| message.entries.len()));
        }
        messages
    }
}

const FLOOD: StormKind = StormKind::SynFlood;
const WEB: &str = "listener ipv4 port 80 of this host";

#[test]
fn an_episode_is_one_mail_each_way() {
    let mut way = Way::new(Some(Vec::new()), Terms::default());
    for episode in 1..3 {
        way.observe(&storm(EventType::StormStarted, FLOOD, WEB, episode));
        assert_eq!(way.messages(), [1], "it began");
        for _ in 0..20 {
            way.observe(&storm(EventType::StormUpdated, FLOOD, WEB, episode));
        }
        assert_eq!(way.messages(), [0; 0], "it goes on");
        let ended = storm(EventType::StormEnded, FLOOD, WEB, episode);
        way.observe(&ended);
        assert_eq!(way.messages(), [1], "it is over");
        way.observe(&ended);
        assert_eq!(way.messages(), [0; 0], "it was over already");
    }
}

#[test]
fn what_begins_together_is_one_mail() {
    let mut way = Way::new(Some(Vec::new()), Terms::default());
    let all = [
        (FLOOD, WEB),
        (StormKind::AcceptQueueOverflow, WEB),
        (FLOOD, "listener ipv6 port 80 of this host"),
    ];
    for ((kind, key), episode) in all.into_iter().zip(1..) {
        way.observe(&storm(EventType::StormStarted, kind, key, episode));
        // The same matter, told twice: it began once.
        way.observe(&storm(EventType::StormStarted, kind, key, episode));
    }
    assert_eq!(way.messages(), [3]);
    for ((kind, key), episode) in all.into_iter().zip(1..) {
        way.observe(&storm(EventType::StormEnded, kind, key, episode));
    }
    assert_eq!(way.messages(), [3]);
}

#[test]
fn who_does_not_want_to_hear_of_it_hears_of_neither_end() {
    for terms in [
        Terms {
            severity: Severity::Critical,
            ..Terms::default()
        },
        Terms {
            filter: Filter::parse("not storm == syn-flood").ok(),
            ..Terms::default()
        },
    ] {
        assert!(example(EventType::StormStarted).severity < Severity::Critical);
        let mut way = Way::new(Some(Vec::new()), terms);
        way.observe(&storm(EventType::StormStarted, FLOOD, WEB, 1));
        way.observe(&storm(EventType::StormEnded, FLOOD, WEB, 1));
        assert_eq!(way.messages(), [0; 0]);
    }
}

#[test]
fn a_storm_that_a_restart_cut_off_is_told_to_be_over() {
    let mut first = Way::new(Some(Vec::new()), Terms::default());
    first.observe(&storm(EventType::StormStarted, FLOOD, WEB, 1));
    assert_eq!(first.messages(), [1]);
    let left: Vec<Open> = first.incidents.all().collect();
    // It goes on: known again, and not told again.
    let mut second = Way::new(Some(left.clone()), Terms::default());
    second.observe(&storm(EventType::StormStarted, FLOOD, WEB, 1));
    assert_eq!(second.messages(), [0; 0]);
    assert_eq!(second.incidents.ended_unseen().len(), 0);
    // It does not: whoever was told is told.
    let mut third = Way::new(Some(left), Terms::default());
    let gone = third.incidents.ended_unseen();
    assert_eq!(gone.len(), 1);
    assert!(gone[0].told.contains(NAME), "{gone:?}");
}

#[test]
fn a_scan_is_told_once_and_has_no_end() {
    let mut way = Way::new(Some(Vec::new()), Terms::default());
    let scan = |last: u8| {
        let mut event = example(EventType::ScanDetected);
        if let Some(scan) = &mut event.scan {
            scan.source = Some(format!("203.0.113.{last}"));
        }
        Arc::new(event)
    };
    let notice = way.incidents.observe(&scan(1)).expect("news");
    assert_eq!((notice.phase, notice.key.topic()), (Phase::Once, "scan"));
    for last in 1..9 {
        way.observe(&scan(last));
    }
    assert_eq!(way.messages(), [8], "many at once are one mail");
    assert_eq!(way.incidents.all().count(), 0, "nothing is left open");
}
