//! A buffer on a disk that does not give what is on it: for a while, or for ever.

use std::fs;
use std::path::{Path, PathBuf};

use super::tests::{SMALL, last_file, lines, numbers, opened, read, read_for, read_indices, told};
use super::{Bounds, segment};
use crate::sink::disk::bad;

const LARGE: Bounds = Bounds {
    bytes: 16 << 20,
    drop_oldest: true,
};

/// Three files of ten records each, in a daemon's run each.
fn three_files(folder: &Path) -> Vec<PathBuf> {
    for first in [0, 10, 20] {
        let (mut writer, ..) = opened(folder, LARGE);
        writer.append(&lines(first, 10, 80)).expect("written");
    }
    let files = segment::all(folder).expect("listed");
    files
        .iter()
        .map(|(first, _)| segment::path(folder, *first))
        .collect()
}

#[test]
fn a_bad_sector_costs_what_is_in_it_and_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, mut reader, _) = opened(dir.path(), LARGE);
    // 100 bytes a record.
    writer.append(&lines(0, 1_000, 80)).expect("written");
    let path = last_file(dir.path());
    for at in [0, 50_000, 54_000] {
        bad::sector(&path, at);
    }
    // Behind the begin, 40.96 records are in a sector.
    let (numbers, lost) = told(&read(&mut reader));
    assert_eq!(numbers.first(), Some(&41));
    assert_eq!(numbers.last(), Some(&999));
    assert_eq!(numbers.len() as u64 + lost, 1_000);
    assert!((41 + 82..=41 + 84).contains(&lost), "{lost}");
    // The daemon begins with such a disk as well.
    let (_, mut reader, _) = opened(dir.path(), LARGE);
    assert_eq!(told(&read(&mut reader)), (numbers, lost));
    bad::none();
}

#[test]
fn a_bad_sector_at_the_end_costs_no_record_that_comes_later() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, _, _) = opened(dir.path(), SMALL);
    writer.append(&lines(0, 30, 80)).expect("written");
    bad::sector(&last_file(dir.path()), 2_999);
    writer.append(&lines(30, 2, 80)).expect("written");
    // All of it is in one sector.
    let (mut writer, mut reader, _) = opened(dir.path(), SMALL);
    writer.append(&lines(32, 3, 80)).expect("written");
    let all = read(&mut reader);
    let (found, lost) = told(&all);
    assert_eq!(found, [32, 33, 34]);
    assert!(lost >= 1, "{all:?}");
    // That it could not be read was perhaps a whim: then nothing is missing.
    bad::none();
    let (_, mut reader, _) = opened(dir.path(), SMALL);
    assert_eq!(read(&mut reader), numbers(0..35));
}

#[test]
fn how_much_is_lost_at_an_end_that_cannot_be_read_is_told_about() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, _, _) = opened(dir.path(), LARGE);
    writer.append(&lines(0, 400, 80)).expect("written");
    // The last 3136 of 40000 bytes, and the record that they cut.
    bad::sector(&last_file(dir.path()), 39_999);
    let (mut writer, mut reader, _) = opened(dir.path(), LARGE);
    writer.append(&lines(400, 1, 80)).expect("written");
    let (numbers, lost) = told(&read(&mut reader));
    assert_eq!(numbers.last(), Some(&400));
    assert_eq!(numbers.len(), 369);
    assert!((31..=32).contains(&lost), "{lost}");
    bad::none();
}

#[test]
fn an_error_that_passes_costs_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, mut reader, _) = opened(dir.path(), LARGE);
    writer.append(&lines(0, 1_000, 80)).expect("written");
    for at in [0, 50_000] {
        bad::passing(&last_file(dir.path()), at, 4);
    }
    let all = read_for(&mut reader, 10).expect("soon");
    assert_eq!(all, numbers(0..1_000));
    bad::none();
}

#[test]
fn an_error_that_does_not_pass_is_waited_for_once_in_a_file() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, mut reader, _) = opened(dir.path(), LARGE);
    writer.append(&lines(0, 1_000, 80)).expect("written");
    for at in [0, 50_000, 90_000] {
        bad::sector(&last_file(dir.path()), at);
    }
    let all = read_for(&mut reader, 12).expect("soon");
    let (numbers, lost) = told(&all);
    assert_eq!(numbers.len() as u64 + lost, 1_000);
    bad::none();
}

#[test]
fn a_file_that_cannot_be_opened_for_a_while_is_read_later() {
    let dir = tempfile::tempdir().expect("dir");
    let files = three_files(dir.path());
    let (_, mut reader, gauge) = opened(dir.path(), LARGE);
    bad::file(&files[1]);
    assert_eq!(read_for(&mut reader, 9), None);
    bad::none();
    // What came before the error has been handed on by the first attempt.
    assert_eq!(read(&mut reader), numbers(10..30));
    assert_eq!(gauge.bytes(), 3_000);
}

#[test]
fn a_file_that_cannot_be_opened_is_told_and_goes_when_that_is_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let files = three_files(dir.path());
    bad::file(&files[1]);
    let (_, mut reader, gauge) = opened(dir.path(), LARGE);
    let all = read(&mut reader);
    let (found, lost) = told(&all);
    assert_eq!(found, (0..10).chain(20..30).collect::<Vec<_>>());
    assert_eq!(lost, 10);
    assert_eq!(gauge.queued(), 30);
    assert!(
        fs::exists(&files[1]).expect("looked"),
        "it may be read by the next run"
    );
    reader.acknowledge(30, 1).expect("noted");
    assert!(!fs::exists(&files[1]).expect("looked"), "nobody wants it");
    bad::none();
}

/// Its name would be given to another file, which would take its place.
#[test]
fn the_number_of_a_last_file_that_cannot_be_looked_at_is_not_used_again() {
    let dir = tempfile::tempdir().expect("dir");
    let files = three_files(dir.path());
    bad::file(&files[2]);
    let (mut writer, mut reader, gauge) = opened(dir.path(), LARGE);
    assert_eq!(gauge.queued(), 30);
    writer.append(&lines(30, 5, 80)).expect("written");
    assert_eq!(gauge.queued(), 35);
    let all = read(&mut reader);
    let (found, lost) = told(&all);
    assert_eq!(found, (0..20).chain(30..35).collect::<Vec<_>>());
    assert_eq!(lost, 10, "as many as in the file before");
    // It comes back before anybody has the hole.
    bad::none();
    let (_, mut reader, gauge) = opened(dir.path(), LARGE);
    assert_eq!(read(&mut reader), numbers(0..35));
    assert_eq!(gauge.queued(), 35);
}

/// At the start, it seems that there are fewer records than there are.
#[test]
fn what_comes_to_light_at_an_end_and_what_came_behind_it_are_told_apart_over_restarts() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, ..) = opened(dir.path(), LARGE);
    writer.append(&lines(0, 40, 80)).expect("written");
    writer.append(&lines(40, 100, 20)).expect("written");
    // Of the 100 short ones, hardly any can be read.
    bad::sector(&last_file(dir.path()), 4_100);
    let (mut writer, _, gauge) = opened(dir.path(), LARGE);
    writer.append(&lines(140, 5, 80)).expect("written");
    let guessed = gauge.queued();
    assert!((60..140).contains(&guessed), "{guessed}");
    bad::none();
    // Wherever it ends, the next run goes on there.
    for acknowledged in [0, 1, 39, 90, 139, 140, 143, 145] {
        let (_, mut reader, gauge) = opened(dir.path(), LARGE);
        assert_eq!(gauge.queued(), 145, "known by now");
        let all = read_indices(&mut reader, 1).expect("readable");
        let all: Vec<_> = all.into_iter().map(|one| one.expect("a record")).collect();
        assert_eq!(all.len(), 145);
        let behind = match acknowledged {
            0 => 0,
            count => all[count - 1].0 + 1,
        };
        let copy = tempfile::tempdir().expect("dir");
        for file in fs::read_dir(dir.path()).expect("listed") {
            let file = file.expect("a file");
            fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
        }
        let (_, mut reader, _) = opened(copy.path(), LARGE);
        reader.acknowledge(behind, 1).expect("noted");
        let (_, mut reader, gauge) = opened(copy.path(), LARGE);
        assert_eq!(gauge.queued(), 145 - acknowledged as u64);
        assert_eq!(read(&mut reader), numbers(acknowledged as u64..145));
    }
}

#[test]
fn what_has_to_go_behind_an_end_that_cannot_be_read_is_counted_as_what_it_is() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut writer, ..) = opened(dir.path(), SMALL);
    writer.append(&lines(0, 30, 80)).expect("written");
    bad::file(&last_file(dir.path()));
    let (mut writer, mut reader, gauge) = opened(dir.path(), SMALL);
    for first in (0..1_000).step_by(10) {
        writer.append(&lines(first, 10, 80)).expect("written");
    }
    let all = read(&mut reader);
    let Some(Err(hole)) = all.first().copied() else {
        panic!("no hole");
    };
    assert_eq!(hole.lost, gauge.dropped());
    assert!((300..500).contains(&hole.lost), "{hole:?}");
    bad::none();
}
