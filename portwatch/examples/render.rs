//! How long it takes to make a line of each format of a listener's event: nanoseconds of
//! processor time, as JSON, beside sealing it.

use std::hint::black_box;

use portwatch::event::example::examples;
use portwatch::render::Format;
use portwatch::sink::chain::Chain;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value};

/// Lines that are made of each.
const LINES: u32 = 50_000;

fn main() {
    let events = examples();
    let event = &events[0];
    let mut found = Map::new();
    for format in Format::ALL {
        let mut out = Vec::new();
        let ns = measure(|| {
            out.clear();
            format.append(black_box(event), &mut out);
        });
        found.insert(format!("{}_ns", format.as_str()), ns.into());
        found.insert(format!("{}_bytes", format.as_str()), out.len().into());
    }
    let line = Format::Json.line(event);
    let mut chain = Chain::default();
    let sealed = measure(|| {
        let mut line = line.clone();
        chain.seal(&mut line, 0, Format::Json);
        black_box(line);
    });
    found.insert("seal_ns".to_owned(), sealed.into());
    println!("{}", Value::Object(found));
}

fn measure(mut work: impl FnMut()) -> i64 {
    let begin = processor_ns();
    for _ in 0..LINES {
        work();
    }
    (processor_ns() - begin) / i64::from(LINES)
}

/// Of this thread: a busy machine does not count.
fn processor_ns() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
