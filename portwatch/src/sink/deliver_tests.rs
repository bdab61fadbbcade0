use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::sink::buffer::{self, Bounds, Gauge};
use crate::sink::testing;
use crate::sink::transport::Delivery;

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    drop_oldest: true,
};

/// Takes what it is told to, and keeps it.
#[derive(Clone, Default)]
struct Peer {
    got: Arc<Mutex<Vec<Parcel>>>,
    /// What becomes of the next attempts; all is taken when there is nothing more.
    script: Arc<Mutex<VecDeque<Delivery>>>,
}

impl Transport for Peer {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        let all = Delivery {
            taken: parcels.len(),
            trouble: None,
        };
        let delivery = self
            .script
            .lock()
            .expect("whole")
            .pop_front()
            .unwrap_or(all);
        let taken = delivery.taken.min(parcels.len());
        self.got
            .lock()
            .expect("whole")
            .extend_from_slice(&parcels[..taken]);
        delivery
    }
}

impl Peer {
    fn events(&self) -> Vec<Event> {
        let got = self.got.lock().expect("whole");
        let event = |parcel: &Parcel| serde_json::from_slice(&parcel.line).expect("an event");
        got.iter().map(event).collect()
    }
}

struct Bench {
    lane: Arc<Lane>,
    gauge: Gauge,
    figures: Arc<Figures>,
    wake: SyncSender<()>,
    thread: thread::JoinHandle<()>,
}

/// A peer to whom nothing more is to go from its first delivery on.
struct Last {
    peer: Peer,
    wake: Option<SyncSender<()>>,
}

impl Transport for Last {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        self.wake = None;
        self.peer.deliver(parcels)
    }
}

fn bench(folder: &Path, peer: &Peer, format: Format) -> Bench {
    let (reader, gauge) = buffer::open(folder).expect("open");
    let figures = Arc::new(Figures::default());
    let lane = Lane::new("x", reader, testing::host(), Arc::clone(&figures));
    let (wake, woken) = sync_channel(1);
    let (mut transport, working) = (peer.clone(), Arc::clone(&lane));
    let thread = thread::spawn(move || working.deliver(&mut transport, format, &woken));
    Bench {
        lane,
        gauge,
        figures,
        wake,
        thread,
    }
}

impl Bench {
    fn append(&self, seqs: std::ops::RangeInclusive<u64>) {
        let event = |seq| Event {
            id: Uuid::now_v7().to_string(),
            ..testing::event(seq, EventType::ListenerOpened)
        };
        let lines: Vec<u8> = seqs
            .map(event)
            .flat_map(|event| encode_line(&event))
            .collect();
        self.gauge.writer(BOUNDS).append(&lines).expect("written");
        let _ = self.wake.try_send(());
    }

    fn wait_until(&self, is_done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        while !is_done(self) {
            assert!(Instant::now() < until, "too late");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(self) {
        self.lane.end();
        let _ = self.wake.try_send(());
        self.thread.join().expect("ended");
    }
}

/// A new configuration has another way to another peer: what waits may be none of the old one's business.
#[test]
fn one_that_is_replaced_ends_although_there_is_more() {
    let dir = tempfile::tempdir().expect("dir");
    let peer = Peer::default();
    let one = Delivery {
        taken: 1,
        trouble: None,
    };
    peer.script
        .lock()
        .expect("whole")
        .extend(std::iter::repeat_n(one, 5));
    let (reader, gauge) = buffer::open(dir.path()).expect("open");
    let lines: Vec<u8> = (1..=9)
        .flat_map(|seq| encode_line(&testing::event(seq, EventType::ListenerOpened)))
        .collect();
    gauge.writer(BOUNDS).append(&lines).expect("written");
    let lane = Lane::new("x", reader, testing::host(), Arc::default());
    let (wake, woken) = sync_channel(1);
    let mut last = Last {
        peer: peer.clone(),
        wake: Some(wake),
    };
    lane.deliver(&mut last, Format::Json, &woken);
    assert_eq!(peer.got.lock().expect("whole").len(), 1);
    // One whose time was over before it had its turn hands over nothing at all.
    let (wake, woken) = sync_channel(1);
    drop(wake);
    lane.deliver(&mut peer.clone(), Format::Json, &woken);
    assert_eq!(peer.got.lock().expect("whole").len(), 1);
    // The next one goes on where it ended.
    let (wake, woken) = sync_channel(1);
    lane.end();
    drop(wake);
    peer.script.lock().expect("whole").clear();
    lane.deliver(&mut peer.clone(), Format::Json, &woken);
    assert_eq!(peer.got.lock().expect("whole").len(), 9);
}

#[test]
fn what_a_peer_does_not_take_comes_again_in_its_order_and_under_its_number() {
    let dir = tempfile::tempdir().expect("dir");
    let peer = Peer::default();
    let later = |taken| Delivery {
        taken,
        trouble: Some(Trouble::Later("away".to_owned())),
    };
    peer.script
        .lock()
        .expect("whole")
        .extend([later(0), later(2), later(0)]);
    let bench = bench(dir.path(), &peer, Format::Json);
    bench.append(11..=15);
    bench.wait_until(|bench| bench.figures.error().is_some());
    bench.wait_until(|bench| bench.gauge.queued() == 0);
    bench.wait_until(|bench| bench.figures.error().is_none());
    let seqs: Vec<u64> = peer.events().iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    let messages: Vec<String> = peer
        .events()
        .into_iter()
        .map(|event| event.message)
        .collect();
    assert_eq!(messages[0], "event 11");
    assert_eq!(bench.figures.all_delivered(), 5);
    bench.end();
}

#[test]
fn a_gap_takes_the_place_of_what_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let peer = Peer::default();
    let refused = |taken| Delivery {
        taken,
        trouble: Some(Trouble::Refused("no".to_owned())),
    };
    // The second event; then the fourth, and its gap.
    let all = |taken| Delivery {
        taken,
        trouble: None,
    };
    peer.script
        .lock()
        .expect("whole")
        .extend([refused(1), all(2), refused(0), refused(0)]);
    let bench = bench(dir.path(), &peer, Format::Json);
    bench.append(1..=5);
    bench.wait_until(|bench| bench.gauge.queued() == 0);
    let events = peer.events();
    let told: Vec<_> = events.iter().map(|event| (event.seq, event.kind)).collect();
    use EventType::{Gap, ListenerOpened};
    assert_eq!(
        told,
        [
            (1, ListenerOpened),
            (2, Gap),
            (3, ListenerOpened),
            (5, ListenerOpened)
        ]
    );
    let gap = events[1].gap.as_ref().expect("gap");
    assert_eq!(
        (gap.ring, gap.cause, gap.lost),
        (RingName::Sink, Some(GapCause::Refused), 1)
    );
    assert_eq!(
        (bench.figures.all_refused(), bench.figures.all_delivered()),
        (2, 4)
    );
    bench.end();
}

#[test]
fn what_had_to_go_is_a_gap_at_its_place() {
    let dir = tempfile::tempdir().expect("dir");
    let peer = Peer::default();
    let (_, gauge) = buffer::open(dir.path()).expect("open");
    let mut writer = gauge.writer(BOUNDS);
    for seq in 1..=4_000 {
        let event = Event {
            id: Uuid::now_v7().to_string(),
            message: "m".repeat(400),
            ..testing::event(seq, EventType::ListenerOpened)
        };
        writer.append(&encode_line(&event)).expect("written");
    }
    let dropped = gauge.dropped();
    assert!(dropped > 0);
    let bench = bench(dir.path(), &peer, Format::Json);
    bench.wait_until(|bench| bench.gauge.queued() == 0);
    let events = peer.events();
    let gap = events[0].gap.as_ref().expect("a gap comes first");
    assert_eq!((gap.cause, gap.lost), (Some(GapCause::BufferFull), dropped));
    assert_eq!(events.len() as u64 - 1 + dropped, 4_000);
    assert!(
        events
            .iter()
            .map(|event| event.seq)
            .eq(1..=events.len() as u64)
    );
    bench.end();
}

#[test]
fn a_buffer_that_cannot_be_read_for_a_while_is_told_and_then_delivered() {
    let dir = tempfile::tempdir().expect("dir");
    let peer = Peer::default();
    let (reader, gauge) = buffer::open(dir.path()).expect("open");
    let line = encode_line(&Event {
        id: Uuid::now_v7().to_string(),
        ..testing::event(1, EventType::ListenerOpened)
    });
    gauge.writer(BOUNDS).append(&line).expect("written");
    let figures = Arc::new(Figures::default());
    let lane = Lane::new("x", reader, testing::host(), Arc::clone(&figures));
    let (wake, woken) = sync_channel(1);
    let (mut transport, working) = (peer.clone(), Arc::clone(&lane));
    let file = dir.path().join("00000000000000000000.records");
    let thread = thread::spawn(move || {
        crate::sink::disk::bad::passing(&file, 0, 2);
        working.deliver(&mut transport, Format::Json, &woken);
    });
    let bench = Bench {
        lane,
        gauge,
        figures,
        wake,
        thread,
    };
    bench.wait_until(|bench| {
        let error = bench.figures.error();
        error.is_some_and(|error| error.starts_with("the buffer cannot be read"))
    });
    // Nothing else wakes it.
    bench.wait_until(|bench| bench.figures.all_delivered() == 1);
    bench.wait_until(|bench| bench.figures.error().is_none());
    bench.end();
    assert_eq!(peer.events()[0].message, "event 1");
}

#[test]
fn an_ending_lane_delivers_what_goes_at_once_and_a_new_format_what_is_left() {
    let dir = tempfile::tempdir().expect("dir");
    let peer = Peer::default();
    peer.script.lock().expect("whole").push_back(Delivery {
        taken: 1,
        trouble: Some(Trouble::After("busy".to_owned(), Duration::from_secs(600))),
    });
    let bench = bench(dir.path(), &peer, Format::Json);
    bench.append(1..=3);
    bench.wait_until(|bench| bench.figures.error().is_some());
    let (lane, (wake, woken)) = (Arc::clone(&bench.lane), sync_channel(1));
    drop(bench.wake);
    bench.thread.join().expect("ended");
    lane.end();
    let mut transport = peer.clone();
    lane.deliver(&mut transport, Format::Ecs, &woken);
    drop(wake);
    let got = peer.got.lock().expect("whole");
    assert_eq!(got.len(), 3);
    assert!(
        got[1..]
            .iter()
            .all(|parcel| parcel.line.starts_with(br#"{"@timestamp""#))
    );
}
