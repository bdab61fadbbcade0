//! A sink that was taken away while its disk takes nothing: it waits for half a minute, then counts what it has as lost, and
//! ends. This waits for it: what the sink waits with is a thread's own clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use portwatch::event::example::examples;
use portwatch::sink::intake::{Left, Opened};
use portwatch::sink::{
    Bus, Figures, Intake, Interest, Limits, Line, Orders, Place, Reader, Selection, Shape, Sync,
};

/// More than is written at once.
const EVENTS: usize = 1_000;
/// What is promised.
const LEAVE: Duration = Duration::from_secs(30);

/// A disk that stays full.
struct Full;

impl Place for Full {
    fn write(&mut self, _lines: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn one_that_was_taken_away_waits_half_a_minute_for_a_full_disk() {
    let bus = Bus::new(Limits::READER, Limits::REPLAY);
    let event = examples().into_iter().next().expect("one");
    let host = Arc::clone(&event.host);
    let event = Line::new(Arc::new(event));
    // One waits for room, and one for its file to be opened at all.
    let sinks: Vec<_> = [true, false]
        .map(|can_open| {
            let reader = Reader {
                uid: 0,
                pid: None,
                is_own: true,
            };
            let mut intake = Intake {
                name: "x".to_owned(),
                subscriber: bus.subscribe(reader, Interest::default()).subscriber,
                selection: Selection::new(None),
                sync: Sync::Never,
                wake: None,
                figures: Arc::<Figures>::default(),
                host: Arc::clone(&host),
                orders: Arc::<Orders>::default(),
            };
            let (figures, orders) = (Arc::clone(&intake.figures), Arc::clone(&intake.orders));
            let leash = intake.subscriber.leash();
            let thread = thread::spawn(move || {
                let open = || match can_open {
                    true => Ok(Opened {
                        place: Box::new(Full),
                        shape: Shape::default(),
                        first: None,
                    }),
                    false => Err(io::ErrorKind::StorageFull.into()),
                };
                let lost = match intake.open(open) {
                    Ok(opened) => intake.run(opened, Left::default()).lost,
                    Err(lost) => lost,
                };
                (Instant::now(), lost)
            });
            (figures, orders, leash, thread)
        })
        .into();
    for _ in 0..EVENTS {
        bus.publish(&event);
    }
    // While it is configured, it waits for ever.
    thread::sleep(Duration::from_secs(3));
    assert!(sinks.iter().all(|(.., thread)| !thread.is_finished()));
    let left = Instant::now();
    for (_, orders, leash, _) in &sinks {
        leash.cut();
        orders.leave.store(true, Ordering::Relaxed);
    }
    for (figures, _, leash, thread) in sinks {
        let (ended, owed) = thread.join().expect("ended");
        let waited = ended - left;
        let about = LEAVE..LEAVE + Duration::from_secs(3);
        assert!(about.contains(&waited), "{waited:?}");
        // What the bus had no room for is for who cuts the leash to count.
        let missed = leash.status().missed;
        let told = u64::from(missed > 0);
        assert!(
            owed >= figures.all_lost(),
            "{owed} for the next one to tell"
        );
        let lost = figures.all_lost() + missed;
        assert_eq!(
            lost,
            EVENTS as u64 + told,
            "the gap of what was missed is lost, too"
        );
    }
}
