//! Numbers without holes, through the bus and at the byte level.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::event::{EventType, example};
use crate::sink::chain::GROWTH;
use crate::sink::testing::{event, opened, state, states};
use crate::sink::{Bus, Interest, Item, Limits, MAX_LINE, Reader, Selection, Subscriber};

fn line(event: Event) -> Arc<Line> {
    Line::new(Arc::new(event))
}

fn numbering(last: u64) -> Numbering {
    Numbering {
        last,
        ..Numbering::default()
    }
}

fn appended(numbering: &mut Numbering, line: &Line) -> Vec<u8> {
    let mut out = Vec::new();
    numbering.append(line, &mut out);
    out
}

/// What the copy is instead of: the event with its number, serialized again.
fn reserialized(event: &Event, seq: u64) -> Vec<u8> {
    encode_line(&Event {
        seq,
        ..event.clone()
    })
}

#[test]
fn every_kind_of_event_is_spliced() {
    let mut numbering = numbering(41);
    for (event, seq) in example::examples().into_iter().zip(42..) {
        let line = line(event);
        let head = format!(
            r#"{{"schema":"portwatch.event/1","id":"{}","seq":"#,
            line.event().id
        );
        let (before, after) = around_seq(line.json()).expect("begins as agreed");
        assert_eq!(before, head.as_bytes());
        assert!(after.starts_with(br#","ts":""#));
        assert_eq!(
            appended(&mut numbering, &line),
            reserialized(line.event(), seq)
        );
    }
}

#[test]
fn what_begins_otherwise_is_serialized_again() {
    let mut other = event(1000, EventType::ListenerOpened);
    other.schema = "portwatch.event/2".to_owned();
    let other = line(other);
    assert_eq!(around_seq(other.json()), None);
    let mut numbering = Numbering::default();
    for seq in 1..=2 {
        assert_eq!(
            appended(&mut numbering, &other),
            reserialized(other.event(), seq)
        );
    }
    assert_eq!(numbering.event(&other).seq, 3);

    for json in [
        "",
        "{",
        r#"{"schema":"portwatch.event/1","id":"x"#,
        r#"{"schema":"portwatch.event/1","id":"x","seq":"#,
        r#"{"schema":"portwatch.event/1","id":"x","seq":,"#,
        r#"{"schema":"portwatch.event/1","id":"x","seq":12"#,
        r#"{"schema":"portwatch.event/1","id":"x","seq":1e9,"#,
        r#"{"schema":"portwatch.event/1","id":"x","ts":"","seq":12,"#,
    ] {
        assert_eq!(around_seq(json.as_bytes()), None, "{json}");
    }
}

/// The longest line that is not shortened has exactly the room its number and its link may need, and the next is.
#[test]
fn the_widest_number_still_fits() {
    let short = event(1, EventType::ListenerOpened);
    let room = MAX_LINE - Numbering::GROWTH - GROWTH - encode_line(&short).len();
    let widest = |more: usize| {
        let mut long = short.clone();
        long.message.push_str(&"m".repeat(more));
        let mut numbering = numbering(u64::MAX - 1);
        let json = appended(&mut numbering, &line(long));
        let event: Event = serde_json::from_slice(&json).expect("JSON of an event");
        assert_eq!(event.seq, u64::MAX);
        json.len()
    };
    assert_eq!(widest(room), MAX_LINE - GROWTH);
    assert!(widest(room + 1) < MAX_LINE - GROWTH);
}

/// A reader with its filter and what it has written.
struct Output {
    subscriber: Subscriber,
    selection: Selection,
    numbering: Numbering,
    written: Vec<u8>,
}

impl Output {
    /// `divisor`: only events whose place in the daemon's stream it divides.
    fn new(bus: &Arc<Bus>, divisor: u64, interest: Interest) -> Self {
        let reader = Reader {
            uid: 0,
            pid: None,
            is_own: false,
        };
        Self {
            subscriber: bus.subscribe(reader, interest).subscriber,
            selection: Selection::new(Some(Box::new(move |event| event.seq % divisor == 0))),
            numbering: Numbering::default(),
            written: Vec::new(),
        }
    }

    /// Writes what is there without waiting for more; false when there is nothing.
    fn read(&mut self, bytes: usize) -> bool {
        let batch = pin!(self.subscriber.next_batch(bytes));
        let Poll::Ready(Some(lines)) = batch.poll(&mut Context::from_waker(Waker::noop())) else {
            return false;
        };
        for item in lines {
            match item {
                Item::Line(line) if self.selection.admits(line.event()) => {
                    self.numbering.append(&line, &mut self.written);
                }
                Item::Line(_) => {}
                Item::States(states) => {
                    for index in 0..states.count() {
                        if self.selection.admits_state(&states, index) {
                            self.numbering
                                .append_state(&states, index, &mut self.written);
                        }
                    }
                }
            }
        }
        true
    }

    fn events(&self) -> Vec<Event> {
        serde_json::Deserializer::from_slice(&self.written)
            .into_iter()
            .map(|event| event.expect("JSON of an event"))
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Listener,
    State,
    States {
        count: usize,
    },
    Join {
        divisor: u64,
        states: bool,
        replay: bool,
    },
    Read {
        reader: usize,
        bytes: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Listener),
        2 => Just(Step::State),
        2 => (1_usize..4).prop_map(|count| Step::States { count }),
        1 => (1_u64..4, any::<bool>(), any::<bool>())
            .prop_map(|(divisor, states, replay)| Step::Join { divisor, states, replay }),
        2 => (any::<usize>(), 0_usize..3000).prop_map(|(reader, bytes)| Step::Read { reader, bytes }),
    ]
}

proptest! {
    /// However filters, states, replays, late comers and overruns interleave.
    #[test]
    fn no_output_has_a_hole(steps in proptest::collection::vec(step(), 1..200)) {
        let small = Limits { lines: 4, bytes: 1 << 20 };
        let bus = Bus::new(small, small);
        let mut outputs = vec![
            Output::new(&bus, 1, Interest { states: true, since: None }),
            Output::new(&bus, 2, Interest { states: false, since: None }),
        ];
        let mut place = 0;
        for step in steps {
            match step {
                Step::Listener => {
                    place += 1;
                    bus.publish(&opened(place));
                }
                Step::State => {
                    place += 1;
                    bus.publish(&state(place));
                }
                Step::States { count } => {
                    if let Item::States(batch) = states(place + 1, count) {
                        bus.publish_states(batch);
                    }
                    place += count as u64;
                }
                Step::Join { divisor, states, replay } => {
                    let since = replay.then_some(Timestamp::UNIX_EPOCH);
                    outputs.push(Output::new(&bus, divisor, Interest { states, since }));
                }
                Step::Read { reader, bytes } => {
                    let count = outputs.len();
                    outputs[reader % count].read(bytes);
                }
            }
        }
        bus.close();
        let mut told = 0;
        for (index, output) in outputs.iter_mut().enumerate() {
            while output.read(1000) {}
            let events = output.events();
            let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
            prop_assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
            let ids: HashSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
            prop_assert_eq!(ids.len(), events.len(), "an event twice");
            let lost: u64 = events.iter().filter_map(|event| event.gap.as_ref()).map(|gap| gap.lost).sum();
            told += lost;
            if index == 0 {
                // It asked for everything from the start.
                let seen = events.iter().filter(|event| event.gap.is_none()).count() as u64;
                prop_assert_eq!(seen + lost, place);
            }
        }
        prop_assert_eq!(told, bus.missed(), "a loss without its gap");
    }

    #[test]
    fn the_copy_is_what_serializing_would_give(id in any::<String>(), last in 0..u64::MAX, old in any::<u64>()) {
        let mut odd = event(1, EventType::ListenerOpened);
        odd.id = id;
        odd.seq = old;
        let odd = line(odd);
        prop_assert_eq!(appended(&mut numbering(last), &odd), reserialized(odd.event(), last + 1));
    }

    #[test]
    fn no_bytes_make_it_panic(start in 0_usize..70, bytes in any::<Vec<u8>>()) {
        let whole = reserialized(&event(1, EventType::Gap), 1);
        let mut json = whole[..start].to_vec();
        json.extend(bytes);
        if let Some((head, tail)) = around_seq(&json) {
            prop_assert!(json.starts_with(head) && json.ends_with(tail));
        }
    }
}
