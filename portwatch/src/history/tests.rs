//! What is written is read again, in order, within bounds, whatever happened in between.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

use super::segment::Segment;
use super::{Bounds, Writer, folder, read};
use crate::event::{Event, EventType};
use crate::sink::{encode_line, testing};

const DAY: Duration = Duration::from_secs(86_400);
const SMALL: Bounds = Bounds {
    bytes: 64 * 1024,
    age: DAY,
};

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + second)
}

fn event(port: u16, second: i64) -> Event {
    let mut event = testing::listener(EventType::ListenerOpened, port, 7, "/usr/bin/app");
    event.ts = at(second).to_string();
    event
}

fn line(port: u16, second: i64) -> Vec<u8> {
    encode_line(&event(port, second))
}

fn ports(folder: &Path, since: Option<Timestamp>) -> (Vec<u16>, u64) {
    let mut ports = Vec::new();
    let ended = read(folder, since, |past| {
        assert!(past.line.ends_with(b"\n"));
        ports.extend(past.event.socket.and_then(|socket| socket.port));
        ControlFlow::<()>::Continue(())
    });
    match ended.expect("readable") {
        ControlFlow::Continue(skipped) => (ports, skipped),
        ControlFlow::Break(()) => panic!("not asked for"),
    }
}

#[test]
fn every_run_of_the_daemon_goes_on_where_the_last_one_ended() {
    let dir = tempfile::tempdir().expect("dir");
    let folder = folder(dir.path());
    for run in 0..3 {
        let mut writer = Writer::open(&folder, SMALL).expect("writable");
        // The clock is set back between the runs.
        let now = i64::from(100 - run);
        writer.append(&line(run, now), at(now)).expect("room");
        writer.append(&line(run + 10, now), at(now)).expect("room");
        writer.settle().expect("synced");
    }
    assert_eq!(ports(&folder, None), (vec![0, 10, 1, 11, 2, 12], 0));
    assert_eq!(Segment::all(&folder).expect("listed").len(), 3);
}

#[test]
fn only_what_came_since_is_read() {
    let dir = tempfile::tempdir().expect("dir");
    let mut writer = Writer::open(dir.path(), SMALL).expect("writable");
    for n in 0..300 {
        let second = i64::from(n);
        writer.append(&line(n, second), at(second)).expect("room");
    }
    assert!(Segment::all(dir.path()).expect("listed").len() > 2);
    let (all, _) = ports(dir.path(), None);
    assert_eq!(all.last(), Some(&299));
    assert_eq!(
        ports(dir.path(), Some(at(290))).0,
        (290..300).collect::<Vec<_>>()
    );
    assert_eq!(ports(dir.path(), Some(at(300))).0, [0; 0]);
}

#[test]
fn a_reader_that_has_enough_is_asked_no_more() {
    let dir = tempfile::tempdir().expect("dir");
    let mut writer = Writer::open(dir.path(), SMALL).expect("writable");
    writer.append(&line(1, 1), at(1)).expect("room");
    writer.append(&line(2, 2), at(2)).expect("room");
    let first = read(dir.path(), None, |past| ControlFlow::Break(past.event.id));
    assert_eq!(first.expect("readable"), ControlFlow::Break(event(1, 1).id));
}

#[test]
fn what_a_crash_cut_off_costs_one_line() {
    let dir = tempfile::tempdir().expect("dir");
    let mut writer = Writer::open(dir.path(), SMALL).expect("writable");
    writer.append(&line(1, 1), at(1)).expect("room");
    drop(writer);
    let path = &Segment::all(dir.path()).expect("listed")[0].path;
    let mut bytes = fs::read(path).expect("read");
    bytes.extend_from_slice(&line(2, 2)[..100]);
    fs::write(path, bytes).expect("written");
    let mut writer = Writer::open(dir.path(), SMALL).expect("writable");
    writer.append(&line(3, 3), at(3)).expect("room");
    assert_eq!(ports(dir.path(), None), (vec![1, 3], 1));
}

#[test]
fn the_oldest_goes_when_there_is_too_much() {
    let dir = tempfile::tempdir().expect("dir");
    let mut writer = Writer::open(dir.path(), SMALL).expect("writable");
    for n in 0..2_000 {
        writer.append(&line(n, 1), at(1)).expect("room");
    }
    let sizes = Segment::all(dir.path()).expect("listed").into_iter();
    let total: u64 = sizes.filter_map(|segment| Some(segment.state()?.0)).sum();
    assert!(
        (SMALL.bytes / 2..=SMALL.bytes + SMALL.bytes / 8).contains(&total),
        "{total}"
    );
    let (kept, _) = ports(dir.path(), None);
    let first = kept[0];
    assert!(first > 0);
    assert_eq!(kept, (first..2_000).collect::<Vec<_>>());
}

#[test]
fn what_is_too_old_goes() {
    let dir = tempfile::tempdir().expect("dir");
    let mut writer = Writer::open(dir.path(), SMALL).expect("writable");
    writer.append(&line(1, 1), at(1)).expect("room");
    drop(writer);
    let path = Segment::all(dir.path()).expect("listed").remove(0).path;
    let long_ago = SystemTime::now() - 2 * DAY;
    let file = fs::File::options().write(true).open(&path).expect("open");
    file.set_modified(long_ago).expect("set");
    let mut writer = Writer::open(dir.path(), SMALL).expect("writable");
    writer.append(&line(2, 2), at(2)).expect("room");
    assert_eq!(ports(dir.path(), None), (vec![2], 0));
}

#[test]
fn other_files_are_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    for name in ["notes.txt", "1.jsonl", "000000000000000000x.jsonl"] {
        fs::write(dir.path().join(name), "not ours\n").expect("written");
    }
    Writer::open(dir.path(), SMALL).expect("writable");
    assert_eq!(ports(dir.path(), None), (Vec::new(), 0));
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 3);
}
