use std::sync::{Mutex, Weak, mpsc};

use super::*;
use crate::event::{EventType, GapCause};
use crate::sink::testing::{self, opened, states};
use crate::sink::{Bus, Interest, Limits, Reader};

/// Keeps what it gets; fails as often as it is told to.
#[derive(Clone, Default)]
struct Paper {
    lines: Arc<Mutex<Vec<u8>>>,
    failures: Arc<Mutex<u32>>,
    /// Bytes at each attempt to sync them, and how often that fails.
    synced: Arc<Mutex<Vec<usize>>>,
    unsynced: Arc<Mutex<u32>>,
    lost: Arc<Mutex<u64>>,
    writes: Arc<Mutex<u64>>,
}

impl Place for Paper {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut failures = self.failures.lock().expect("whole");
        if *failures > 0 {
            *failures -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.lines.lock().expect("whole").extend_from_slice(lines);
        *self.writes.lock().expect("whole") += 1;
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock().expect("whole");
        if *unsynced > 0 {
            *unsynced -= 1;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let written = self.lines.lock().expect("whole").len();
        self.synced.lock().expect("whole").push(written);
        Ok(())
    }

    fn lost(&mut self) -> u64 {
        std::mem::take(&mut *self.lost.lock().expect("whole"))
    }
}

impl Paper {
    fn events(&self) -> Vec<Event> {
        let lines = self.lines.lock().expect("whole");
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| serde_json::from_slice(line).expect("an event"))
            .collect()
    }
}

struct Bench {
    bus: Arc<Bus>,
    intake: Intake,
    paper: Paper,
}

fn bench(limits: Limits, selection: Selection, wake: Option<Weak<SyncSender<()>>>) -> Bench {
    let bus = Bus::new(limits, Limits::REPLAY);
    let reader = Reader {
        uid: 0,
        pid: None,
        is_own: true,
    };
    let interest = Interest {
        states: true,
        since: None,
    };
    let intake = Intake {
        name: "x".to_owned(),
        subscriber: bus.subscribe(reader, interest).subscriber,
        selection,
        sync: Sync::Within(Duration::from_millis(1)),
        wake,
        figures: Arc::default(),
        host: testing::host(),
        orders: Arc::default(),
    };
    Bench {
        bus,
        intake,
        paper: Paper::default(),
    }
}

fn on(paper: &Paper) -> Opened {
    Opened {
        place: Box::new(paper.clone()),
        shape: Shape::default(),
        first: None,
    }
}

#[test]
fn lines_that_come_one_by_one_are_gathered() {
    const LINES: u64 = 300;
    let Bench { bus, intake, paper } = bench(Limits::READER, Selection::default(), None);
    let place = on(&paper);
    let start = Instant::now();
    let thread = thread::spawn(move || intake.run(place, Left::default()));
    for seq in 1..=LINES {
        bus.publish(&opened(seq));
        thread::sleep(Duration::from_micros(100));
    }
    bus.close();
    assert_eq!(thread.join().expect("ended").numbering.last(), LINES);
    // A pause behind each write of few lines: however slow the machine is, no more fit into this time.
    let pauses = start.elapsed().as_millis() as u64 / GATHER.as_millis() as u64;
    let writes = *paper.writes.lock().expect("whole");
    assert!(
        writes <= pauses + LINES / FEW + 2,
        "{writes} writes, {pauses} pauses"
    );
}

#[test]
fn what_a_full_disk_does_not_take_waits_and_what_does_not_fit_is_a_gap_at_its_place() {
    let limits = Limits {
        lines: 2,
        bytes: 1 << 20,
    };
    let Bench { bus, intake, paper } = bench(limits, Selection::default(), None);
    *paper.failures.lock().expect("whole") = 1;
    let figures = Arc::clone(&intake.figures);
    bus.publish(&opened(1));
    let place = on(&paper);
    let thread = thread::spawn(move || intake.run(place, Left::default()));
    let until = Instant::now() + Duration::from_secs(10);
    while figures.error().is_none() {
        assert!(Instant::now() < until, "not told");
        thread::yield_now();
    }
    // 128 fit, as for every reader of states: 32 times two.
    for seq in 2..=100 {
        bus.publish(&opened(seq));
    }
    while figures.all_delivered() == 0 {
        assert!(Instant::now() < until, "not overcome");
        thread::yield_now();
    }
    bus.close();
    let Left { numbering, lost } = thread.join().expect("ended");
    assert_eq!(lost, 0);
    let events = paper.events();
    assert_eq!(figures.error(), None);
    assert_eq!(figures.all_delivered(), events.len() as u64);
    assert_eq!(numbering.last(), events.len() as u64);
    assert!(
        events
            .iter()
            .map(|event| event.seq)
            .eq(1..=events.len() as u64)
    );
    let gap = events
        .last()
        .and_then(|event| event.gap.clone())
        .expect("a gap");
    assert_eq!(gap.cause, Some(GapCause::SlowReader));
    assert_eq!(events.len() as u64 - 1 + gap.lost, 100);
}

#[test]
fn what_is_not_wanted_is_not_written_and_numbers_have_no_hole() {
    let wanted = Selection::new(Some(Box::new(|event| event.seq % 2 == 0)));
    let Bench { bus, intake, paper } = bench(Limits::READER, wanted, None);
    for seq in 1..=5 {
        bus.publish(&opened(seq));
    }
    if let Item::States(batch) = states(6, 4) {
        bus.publish_states(batch);
    }
    bus.close();
    let mut place = on(&paper);
    place.first = Some(testing::event(99, EventType::Gap));
    let mut numbering = Numbering::default();
    numbering.go_on_with(8);
    let left = Left { numbering, lost: 0 };
    let _ = intake.run(place, left);
    let seqs: Vec<u64> = paper.events().iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [8, 9, 10, 11, 12]);
    assert_eq!(paper.events()[0].kind, EventType::Gap);
    assert_eq!(paper.events()[4].kind, EventType::ConnectionState);
}

#[test]
fn every_format_has_its_chain_and_who_delivers_is_woken() {
    use crate::sink::chain::Verifier;
    for format in Format::ALL {
        let (wake, woken) = mpsc::sync_channel(1);
        let wake = Arc::new(wake);
        let awake = Some(Arc::downgrade(&wake));
        let Bench { bus, intake, paper } = bench(Limits::READER, Selection::default(), awake);
        let figures = Arc::clone(&intake.figures);
        bus.publish(&opened(1));
        if let Item::States(batch) = states(2, 4) {
            bus.publish_states(batch);
        }
        bus.close();
        let mut place = on(&paper);
        place.shape = Shape {
            format,
            chain: Some(Chain::default()),
        };
        let _ = intake.run(place, Left::default());
        let mut verifier = Verifier::from(1, figures.head());
        let lines = paper.lines.lock().expect("whole");
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            verifier.push(line).expect("whole");
        }
        assert_eq!(verifier.finish().expect("whole").number, 5);
        woken.try_recv().expect("woken");
        assert_eq!(
            figures.all_delivered(),
            0,
            "delivered is for the other side to say"
        );
    }
}

#[test]
fn who_is_to_give_up_does() {
    let Bench { bus, intake, paper } = bench(Limits::READER, Selection::default(), None);
    *paper.failures.lock().expect("whole") = u32::MAX;
    intake.orders.give_up.store(true, Ordering::Relaxed);
    bus.publish(&opened(1));
    bus.close();
    let figures = Arc::clone(&intake.figures);
    let left = intake.run(on(&paper), Left::default());
    assert!(figures.error().is_some());
    assert_eq!((left.lost, figures.all_lost()), (1, 1));
    // Whoever comes after it could not write either, and owes it on.
    let Bench { bus, intake, .. } = bench(Limits::READER, Selection::default(), None);
    intake.orders.give_up.store(true, Ordering::Relaxed);
    bus.close();
    let left = intake.run(on(&paper), left);
    assert_eq!((left.lost, left.numbering.last()), (2, 2));
    // The next one tells of it, behind the numbers that are missing.
    let Bench { bus, intake, paper } = bench(Limits::READER, Selection::default(), None);
    bus.close();
    let left = intake.run(on(&paper), left);
    let events = paper.events();
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| Some((event.seq, event.gap.as_ref()?.lost)))
        .collect();
    assert_eq!((told, left.lost), (vec![(3, 2)], 0));
    assert_eq!(
        events[0].gap.as_ref().and_then(|gap| gap.cause),
        Some(GapCause::Unwritten)
    );
}

#[test]
fn what_a_disk_does_not_sync_is_tried_again_and_told_until_then() {
    let Bench { bus, intake, paper } = bench(Limits::READER, Selection::default(), None);
    *paper.unsynced.lock().expect("whole") = 1;
    let figures = Arc::clone(&intake.figures);
    bus.publish(&opened(1));
    let place = on(&paper);
    let thread = thread::spawn(move || intake.run(place, Left::default()));
    let until = Instant::now() + Duration::from_secs(10);
    while figures.error().is_none() {
        assert!(Instant::now() < until, "not told");
        thread::yield_now();
    }
    // Nothing more comes, and what is written is synced all the same.
    while paper.synced.lock().expect("whole").is_empty() {
        assert!(Instant::now() < until, "not tried again");
        thread::yield_now();
    }
    while figures.error().is_some() {
        assert!(Instant::now() < until, "still told");
        thread::yield_now();
    }
    bus.close();
    let _ = thread.join().expect("ended");
    let written = paper.lines.lock().expect("whole").len();
    assert_eq!(paper.synced.lock().expect("whole").first(), Some(&written));
}

#[test]
fn lines_that_are_gone_are_told_and_counted() {
    let Bench { bus, intake, paper } = bench(Limits::READER, Selection::default(), None);
    *paper.lost.lock().expect("whole") = 3;
    let figures = Arc::clone(&intake.figures);
    bus.publish(&opened(1));
    bus.close();
    let _ = intake.run(on(&paper), Left::default());
    let events = paper.events();
    assert_eq!(events.len(), 2);
    let gap = events[1].gap.as_ref().expect("a gap");
    assert_eq!(
        (gap.cause, gap.lost, events[1].seq),
        (Some(GapCause::Damaged), 3, 2)
    );
    assert_eq!(figures.all_lost(), 3);
}
