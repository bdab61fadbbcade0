//! Whatever readings come: each episode begins once and ends once.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn total() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        Just(None),
        (0..100_000_u64).prop_map(Some),
        any::<u64>().prop_map(Some)
    ]
}

prop_compose! {
    fn some_listener()(
        port in 1..4_u16, syns in total(), accepted in total(), unanswered in total(), resets in total(),
        half_open in prop::option::of(any::<u32>()), queue in prop::option::of((any::<u32>(), any::<u32>())),
    ) -> ListenerReading {
        ListenerReading {
            key: ListenerKey { port, ..WEB },
            syns, accepted, unanswered, resets, half_open,
            accept_queue: queue,
            backlog: queue.map(|(_, most)| most),
            peers: Vec::new(),
        }
    }
}

prop_compose! {
    fn some_reading()(
        listeners in prop::collection::vec(some_listener(), 0..4),
        (connects, failed, refused) in (total(), total(), total()),
        close_wait in prop::option::of(0..300_u32),
        (overflows, cookies, unqueued) in (total(), total(), total()),
        sees_requests in any::<bool>(),
        is_blind in any::<bool>(),
    ) -> Reading {
        let mut process = process(0, 0, 0);
        (process.connects, process.failed, process.close_wait) = (connects, failed, close_wait);
        Reading {
            at: BootNs(0),
            listeners,
            processes: vec![process],
            namespaces: vec![NamespaceReading {
                listen_overflows: overflows,
                cookies_sent: cookies,
                syn_queue_full: unqueued,
                refused,
                ..namespace()
            }],
            sources: Vec::new(),
            sees_requests,
            is_blind,
        }
    }
}

proptest! {
    /// Each episode begins once and ends at most once, in that order, whatever comes; and all of them end when it is
    /// quiet.
    #[test]
    fn an_episode_begins_once_and_ends_once(
        readings in prop::collection::vec((some_reading(), 0..3_000_u64), 1..60)
    ) {
        let mut detector = detector();
        let mut states: HashMap<u64, bool> = HashMap::new();
        let mut now = SECOND;
        let quiet = (0..400).map(|_| (Reading::default(), 500));
        for (mut reading, pause) in readings.into_iter().chain(quiet) {
            now += pause * MS;
            reading.at = BootNs(now);
            for report in detector.read(&reading, WallClock::from_epoch_ns(0)) {
                match report {
                    Report::Started(one) => {
                        prop_assert!(one.value >= one.threshold, "{one:?}");
                        prop_assert_eq!(states.insert(one.number, true), None);
                    }
                    Report::Updated(one) => prop_assert_eq!(states.get(&one.number), Some(&true)),
                    Report::Ended(one, _) => prop_assert_eq!(states.insert(one.number, false), Some(true)),
                    Report::Scan(_) => {}
                }
            }
        }
        prop_assert!(states.values().all(|is_open| !is_open), "{states:?}");
        prop_assert_eq!(detector.beat(BootNs(now)), None);
    }
}
