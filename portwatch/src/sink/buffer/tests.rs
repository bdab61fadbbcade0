use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Bounds, Gauge, Hole, Read, Reader, Writer, list, open, segment};
use crate::sink::disk::bad;
use crate::sink::settle::fail;

pub(super) const SMALL: Bounds = Bounds {
    bytes: 64 * 1024,
    drop_oldest: true,
};

pub(super) fn opened(folder: &Path, bounds: Bounds) -> (Writer, Reader, Gauge) {
    let (reader, gauge) = open(folder).expect("open");
    (gauge.writer(bounds), reader, gauge)
}

/// `count` lines of `size` bytes, from this number on.
pub(super) fn lines(first: u64, count: u64, size: usize) -> Vec<u8> {
    let line = |number| format!("{number:0size$}\n");
    (first..first + count).map(line).collect::<String>().into()
}

/// The numbers in the records, and the holes between them. What cannot be read is tried again each second.
pub(super) fn read(reader: &mut Reader) -> Vec<Result<u64, Hole>> {
    read_for(reader, 1_000).expect("readable in the end")
}

/// The same, for so many seconds.
pub(super) fn read_for(reader: &mut Reader, seconds: u64) -> Option<Vec<Result<u64, Hole>>> {
    let all = read_indices(reader, seconds)?.into_iter();
    Some(all.map(|one| one.map(|(_, number)| number)).collect())
}

/// The same with the index of each record.
pub(super) fn read_indices(
    reader: &mut Reader,
    seconds: u64,
) -> Option<Vec<Result<(u64, u64), Hole>>> {
    let begin = Instant::now();
    let (mut all, mut second) = (Vec::new(), 0);
    while second < seconds {
        let Ok(some) = reader.read(7, 1 << 20, begin + Duration::from_secs(second)) else {
            second += 1;
            continue;
        };
        if some.is_empty() {
            return Some(all);
        }
        all.extend(some.into_iter().map(|one| match one {
            Read::Record { index, payload } => {
                let text = String::from_utf8(payload).expect("text");
                Ok((index, text.parse().expect("a number")))
            }
            Read::Hole(hole) => Err(hole),
        }));
    }
    None
}

pub(super) fn numbers(range: std::ops::Range<u64>) -> Vec<Result<u64, Hole>> {
    range.map(Ok).collect()
}

fn on_disk(folder: &Path) -> u64 {
    let all = segment::all(folder).expect("listed");
    all.iter().filter_map(|(_, size)| *size).sum()
}

pub(super) fn last_file(folder: &Path) -> PathBuf {
    let all = segment::all(folder).expect("listed");
    segment::path(folder, all.last().expect("some").0)
}

#[test]
fn what_is_not_acknowledged_comes_again_after_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, mut reader, gauge) = opened(dir.path(), SMALL);
    writer.append(&lines(0, 10, 20)).expect("written");
    assert_eq!(read(&mut reader), numbers(0..10));
    assert_eq!(gauge.queued(), 10);
    reader.acknowledge(4, 77).expect("noted");
    assert_eq!(gauge.queued(), 6);
    // Neither is closed: killed.
    for _ in 0..2 {
        let (mut writer, mut reader, gauge) = opened(dir.path(), SMALL);
        assert_eq!((gauge.queued(), reader.acknowledged_ts()), (6, 77));
        assert_eq!(read(&mut reader), numbers(4..10));
        writer.append(b"").expect("nothing");
    }
    let (mut writer, mut reader, gauge) = opened(dir.path(), SMALL);
    writer.append(&lines(10, 2, 20)).expect("written");
    assert_eq!(read(&mut reader), numbers(4..12));
    reader.acknowledge(12, 78).expect("noted");
    assert_eq!(gauge.queued(), 0);
    let files = segment::all(dir.path()).expect("listed");
    assert_eq!(files.len(), 1, "what is acknowledged goes");
}

#[test]
fn a_torn_end_and_a_damaged_middle_are_holes_of_the_right_size() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, ..) = opened(dir.path(), SMALL);
    writer.append(&lines(0, 10, 20)).expect("written");
    let path = last_file(dir.path());
    let mut bytes = fs::read(&path).expect("read");
    // 40 bytes a record: 3 and 4 are hit, and half of 9 is not there.
    bytes[3 * 40 + 30..4 * 40 + 5].fill(0);
    bytes.truncate(9 * 40 + 10);
    fs::write(&path, bytes).expect("written");
    let (mut writer, mut reader, _) = opened(dir.path(), SMALL);
    writer.append(&lines(10, 2, 20)).expect("written");
    let hole = |lost, next| {
        Err(Hole {
            lost,
            next,
            is_damage: true,
        })
    };
    let mut expected = numbers(0..3);
    expected.push(hole(2, 5));
    expected.extend(numbers(5..9));
    expected.push(hole(1, 10));
    expected.extend(numbers(10..12));
    assert_eq!(read(&mut reader), expected);
}

#[test]
fn the_oldest_go_when_there_is_no_room_and_the_hole_is_where_they_were() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, mut reader, gauge) = opened(dir.path(), SMALL);
    for first in (0..4_000).step_by(10) {
        writer.append(&lines(first, 10, 80)).expect("written");
    }
    let on_disk = on_disk(dir.path());
    assert!(
        (SMALL.bytes / 2..=SMALL.bytes).contains(&on_disk),
        "{on_disk}"
    );
    assert_eq!(gauge.bytes(), on_disk);
    let all = read(&mut reader);
    let Some(Err(hole)) = all.first().copied() else {
        panic!("no hole");
    };
    assert!(!hole.is_damage && hole.lost == gauge.dropped() && hole.lost == hole.next);
    assert_eq!(all[1..], numbers(hole.next..4_000));
    assert_eq!(gauge.queued(), 4_000 - hole.next);
}

#[test]
fn what_comes_goes_when_it_is_to_and_a_restart_does_not_forget_the_hole() {
    let dir = tempfile::tempdir().expect("dir");
    let bounds = Bounds {
        drop_oldest: false,
        ..SMALL
    };
    let (mut writer, mut reader, gauge) = opened(dir.path(), bounds);
    for first in (0..1_000).step_by(10) {
        writer.append(&lines(first, 10, 80)).expect("written");
    }
    let kept = 1_000 - gauge.dropped();
    assert!((600..660).contains(&kept), "{kept}");
    assert_eq!(read(&mut reader).first(), Some(&Ok(0)));
    let (mut writer, mut reader, _) = opened(
        dir.path(),
        Bounds {
            bytes: 1 << 20,
            ..bounds
        },
    );
    writer.append(&lines(1_000, 1, 80)).expect("written");
    let mut expected = numbers(0..kept);
    expected.push(Err(Hole {
        lost: 1_000 - kept,
        next: 1_000,
        is_damage: false,
    }));
    expected.push(Ok(1_000));
    assert_eq!(read(&mut reader), expected);
}

#[test]
fn files_of_others_are_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    for name in ["head", "x.records", "1.records"] {
        fs::write(dir.path().join(name), "not ours").expect("written");
    }
    let (mut writer, mut reader, _) = opened(dir.path(), SMALL);
    writer.append(&lines(0, 1, 8)).expect("written");
    assert_eq!(read(&mut reader), numbers(0..1));
    assert_eq!(
        fs::read(dir.path().join("head")).expect("there"),
        b"not ours"
    );
}

/// The numbers and what is missing between them: how many in all, and whether it is told as damage.
pub(super) fn told(all: &[Result<u64, Hole>]) -> (Vec<u64>, u64) {
    let numbers = all.iter().filter_map(|one| one.ok());
    let holes = all.iter().filter_map(|one| one.err());
    (
        numbers.collect(),
        holes
            .map(|hole| {
                assert!(hole.is_damage, "{hole:?}");
                hole.lost
            })
            .sum(),
    )
}

#[test]
fn nothing_goes_before_it_is_on_the_disk_that_it_was_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    // It can be written to, and not synced.
    std::os::unix::fs::symlink("/dev/null", dir.path().join("acknowledged")).expect("a link");
    let (mut writer, mut reader, gauge) = opened(dir.path(), SMALL);
    for first in (0..300).step_by(10) {
        writer.append(&lines(first, 10, 80)).expect("written");
    }
    let files = segment::all(dir.path()).expect("listed");
    assert!(files.len() > 2, "{files:?}");
    reader.acknowledge(300, 1).expect_err("not synced");
    assert_eq!(segment::all(dir.path()).expect("listed"), files);
    assert_eq!(gauge.queued(), 0);
    // Neither makes it room for others by that.
    let full = (300..3_000)
        .step_by(10)
        .try_for_each(|first| writer.append(&lines(first, 10, 80)));
    full.expect_err("not synced");
    assert_eq!(segment::all(dir.path()).expect("listed")[..2], files[..2]);
}

#[test]
fn a_sync_that_failed_is_made_good_for_before_another_file_begins() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, mut reader, _) = opened(dir.path(), SMALL);
    fail::next(2);
    writer.append(&lines(0, 50, 80)).expect("written");
    writer.settle().expect_err("failed");
    let full = writer.append(&lines(50, 1, 80));
    full.expect_err("what is in the file is not safe");
    assert_eq!(segment::all(dir.path()).expect("listed").len(), 1);
    writer.append(&lines(50, 1, 80)).expect("written");
    assert_eq!(segment::all(dir.path()).expect("listed").len(), 2);
    writer.settle().expect("synced");
    assert_eq!(read(&mut reader), numbers(0..51));
}

/// The page that could not be written is no longer in memory, and cannot be read either.
#[test]
fn what_a_failed_sync_has_lost_keeps_nothing_else_from_being_written() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, mut reader, _) = opened(dir.path(), SMALL);
    fail::next(1);
    writer.append(&lines(0, 100, 80)).expect("written");
    writer.settle().expect_err("failed");
    let file = segment::all(dir.path()).expect("listed")[0].0;
    let path = segment::path(dir.path(), file);
    bad::sector(&path, 4_096);
    writer.settle().expect("synced");
    writer.append(&lines(100, 1, 80)).expect("written");
    assert_eq!(segment::all(dir.path()).expect("listed").len(), 2);
    bad::none();
    assert_eq!(read(&mut reader), numbers(0..101));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Read,
    Acknowledge,
    /// Killed.
    Restart,
    /// A byte of a file is another one, or cannot be read.
    Damage(prop::sample::Index, prop::sample::Index, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = any::<(prop::sample::Index, prop::sample::Index, bool)>();
    let step = prop_oneof![
        8 => (1_u64..40).prop_map(Step::Append),
        6 => Just(Step::Read),
        4 => Just(Step::Acknowledge),
        2 => Just(Step::Restart),
        1 => place.prop_map(|(file, byte, is_bad)| Step::Damage(file, byte, is_bad)),
    ];
    proptest::collection::vec(step, 1..60)
}

fn damage(
    folder: &Path,
    file: prop::sample::Index,
    byte: prop::sample::Index,
    is_bad: bool,
) -> bool {
    let mut all = segment::all(folder).expect("listed");
    all.retain(|(_, size)| *size > Some(0));
    if all.is_empty() {
        return false;
    }
    let path = segment::path(folder, all[file.index(all.len())].0);
    let mut bytes = fs::read(&path).expect("read");
    let at = byte.index(bytes.len());
    if is_bad {
        bad::sector(&path, at as u64);
        return true;
    }
    bytes[at] ^= 0x5a;
    fs::write(&path, bytes).expect("written");
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens: records come in their order, and each is there, or in a hole; after a restart, from the first
    /// on that was not acknowledged.
    #[test]
    fn records_and_holes_add_up(steps in steps(), drop_oldest in any::<bool>()) {
        bad::none();
        let dir = tempfile::tempdir().expect("dir");
        let bounds = Bounds { bytes: 16 * 1024, drop_oldest };
        let (mut writer, mut reader, mut gauge) = opened(dir.path(), bounds);
        let (mut next, mut told, mut acknowledged, mut is_harmed) = (0, 0, 0, false);
        for step in steps {
            match step {
                Step::Append(count) => {
                    writer.append(&lines(next, count, 60)).expect("written");
                    next += count;
                }
                Step::Read => for one in read_indices(&mut reader, 1_000).expect("readable") {
                    match one {
                        Ok((index, number)) => {
                            prop_assert!(is_harmed || (index, number) == (told, told), "{} {} {}", index, number, told);
                            // Only behind an end that could not be read indices are left out.
                            prop_assert!(index == told || list::is_behind_unknown(index) && index > told);
                            told = index + 1;
                        }
                        Err(hole) => {
                            let is_leap = hole.next / list::LEAP > told / list::LEAP;
                            prop_assert!(hole.lost >= 1 && (is_leap || hole.next - hole.lost == told));
                            prop_assert!(is_harmed || !hole.is_damage);
                            told = hole.next;
                        }
                    }
                },
                Step::Acknowledge => {
                    reader.acknowledge(told, 1).expect("noted");
                    acknowledged = told;
                }
                Step::Restart => {
                    (writer, reader, gauge) = opened(dir.path(), bounds);
                    told = acknowledged;
                }
                Step::Damage(file, byte, is_bad) => {
                    is_harmed |= damage(dir.path(), file, byte, is_bad);
                }
            }
            let on_disk = on_disk(dir.path());
            // One batch may pass where there is nothing else.
            prop_assert!(on_disk <= bounds.bytes + 4096, "{}", on_disk);
            prop_assert_eq!(gauge.bytes(), on_disk);
        }
    }
}
