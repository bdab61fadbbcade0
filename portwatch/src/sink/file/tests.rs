use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use super::{Begin, FileSink, Turnover};
use crate::render::Format;
use crate::sink::chain::{Chain, Verifier};
use crate::sink::disk::bad;
use crate::sink::intake::Place as _;
use crate::sink::settle::fail;

const NEVER: Turnover = Turnover {
    bytes: 0,
    age: None,
    keep: 3,
    keep_age: None,
    compress: false,
};

fn begin(path: &Path, turnover: Turnover) -> FileSink {
    FileSink::begin(path, turnover, None).expect("open").sink
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

/// Everything beside the file, oldest first; packed ones unpacked.
fn predecessors(path: &Path) -> Vec<(PathBuf, String)> {
    let mut all: Vec<PathBuf> = fs::read_dir(path.parent().expect("a folder"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|other| other != path)
        .collect();
    all.sort();
    let content = |path: PathBuf| {
        let bytes = fs::read(&path).expect("read");
        let mut text = String::new();
        if path.extension().is_some_and(|ending| ending == "gz") {
            GzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .expect("gzip");
        } else {
            text = String::from_utf8(bytes).expect("text");
        }
        (path, text)
    };
    all.into_iter().map(content).collect()
}

/// Whoever may write to the folder must not have us write elsewhere.
#[test]
fn links_are_not_followed() {
    let dir = tempfile::tempdir().expect("dir");
    let (other, path) = (dir.path().join("other"), dir.path().join("x.jsonl"));
    fs::write(&other, "no end").expect("written");
    let refused = |why: &str| {
        let error = FileSink::begin(&path, NEVER, None).expect_err("refused");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(text(&other), "no end");
    };
    std::os::unix::fs::symlink(&other, &path).expect("linked");
    refused("symbolic link");
    fs::remove_file(&path).expect("removed");
    fs::hard_link(&other, &path).expect("linked");
    refused("hard links");
    fs::remove_file(&path).expect("removed");
    // Nor by what is packed.
    let mut sink = begin(
        &path,
        Turnover {
            compress: true,
            ..NEVER
        },
    );
    sink.write(b"a\n").expect("written");
    let put_away = dir.path().join("x.jsonl.20200101T000000.000000");
    std::os::unix::fs::symlink(&other, &put_away).expect("linked");
    sink.beat().expect("a beat");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(text(&other), "no end");
    assert!(fs::symlink_metadata(&put_away).expect("there").is_symlink());
}

/// Two sinks whose names begin alike have a chain each.
#[test]
fn a_chain_does_not_go_on_behind_another_ones() {
    let dir = tempfile::tempdir().expect("dir");
    let (short, long) = (dir.path().join("events"), dir.path().join("events.ecs"));
    let heads = |name: &str| {
        let folder = dir.path().join(format!("heads-{name}"));
        fs::create_dir(&folder).expect("made");
        folder
    };
    let begin = FileSink::begin(&long, NEVER, Some(&heads("long"))).expect("open");
    let (mut sink, mut chain) = (begin.sink, begin.chain.expect("a chain"));
    let mut line = b"{\"a\":1}\n".to_vec();
    chain.seal(&mut line, 0, Format::Json);
    sink.write(&line).expect("written");
    let other = FileSink::begin(&short, NEVER, Some(&heads("short"))).expect("open");
    assert_eq!(other.chain.expect("a chain").head().number, 0);
}

#[test]
fn it_is_for_its_owner_alone_and_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    begin(&path, NEVER).write(b"a\nb\n").expect("written");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    begin(&path, NEVER).write(b"c\n").expect("written");
    assert_eq!(text(&path), "a\nb\nc\n");
    assert!(
        FileSink::begin(dir.path(), NEVER, None).is_err(),
        "a folder"
    );
}

#[test]
fn half_a_line_is_cut_off_and_told() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    for (before, whole, is_torn) in [
        ("a\nb\nhal", "a\nb\n", true),
        ("hal", "", true),
        ("a\n", "a\n", false),
        ("", "", false),
    ] {
        fs::write(&path, before).expect("written");
        let begin = FileSink::begin(&path, NEVER, None).expect("open");
        assert_eq!((begin.is_torn, text(&path).as_str()), (is_torn, whole));
    }
    // Not ours: no line of ours is so long.
    let long = "x".repeat(200_000);
    fs::write(&path, &long).expect("written");
    assert!(!FileSink::begin(&path, NEVER, None).expect("open").is_torn);
    assert_eq!(text(&path), long);
}

#[test]
fn a_file_that_was_put_away_is_followed_by_a_new_one() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let old = dir.path().join("x.jsonl.1");
    let mut sink = begin(&path, NEVER);
    sink.write(b"a\n").expect("written");
    fs::rename(&path, &old).expect("renamed");
    sink.write(b"b\n").expect("written");
    assert_eq!(
        text(&old),
        "a\nb\n",
        "until it is looked after, no line is lost"
    );
    sink.beat().expect("well");
    sink.write(b"c\n").expect("written");
    assert_eq!(text(&path), "c\n");
    // `create`: somebody has made the new one.
    fs::rename(&path, &old).expect("renamed");
    fs::write(&path, "").expect("made");
    sink.reopen();
    sink.write(b"d\n").expect("written");
    assert_eq!((text(&old).as_str(), text(&path).as_str()), ("c\n", "d\n"));
    fs::remove_file(&path).expect("removed");
    sink.beat().expect("well");
    assert_eq!(text(&path), "");
}

#[test]
fn a_file_that_was_cut_off_goes_on_at_its_new_end() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let bytes = 1_000;
    let mut sink = begin(&path, Turnover { bytes, ..NEVER });
    sink.write(&[b"x".repeat(600), b"\n".to_vec()].concat())
        .expect("written");
    fs::copy(&path, dir.path().join("copy")).expect("copied");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("open");
    file.set_len(0).expect("cut off");
    sink.beat().expect("well");
    sink.write(&[b"y".repeat(600), b"\n".to_vec()].concat())
        .expect("written");
    assert!(text(&path).bytes().all(|byte| b"y\n".contains(&byte)));
    assert_eq!(text(&path).len(), 601, "and is not put away too early");
}

#[test]
fn it_turns_over_by_size_keeps_so_many_and_packs_them() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let turnover = Turnover {
        bytes: 100,
        compress: true,
        ..NEVER
    };
    fs::write(
        dir.path().join("x.jsonl.20200101T000000.000000.gz-new"),
        "half",
    )
    .expect("written");
    fs::write(dir.path().join("x.jsonl.notes"), "mine\n").expect("written");
    let mut sink = begin(&path, turnover);
    for number in 0..70 {
        sink.write(format!("{number:09}\n").as_bytes())
            .expect("written");
    }
    let until = Instant::now() + Duration::from_secs(10);
    let are_packed = || {
        let names = fs::read_dir(dir.path()).expect("listed");
        let names = names.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| name.starts_with("x.jsonl.2"));
        names.len() == 3 && names.iter().all(|name| name.ends_with(".gz"))
    };
    while !are_packed() {
        assert!(Instant::now() < until, "not packed");
        std::thread::sleep(Duration::from_millis(5));
        sink.beat().expect("well");
    }
    let all = predecessors(&path);
    assert_eq!(all.len(), 4, "three, and what is none of ours: {all:?}");
    let kept: String = all[..3].iter().map(|(_, text)| text.as_str()).collect();
    let expected: String = (40..70).map(|number| format!("{number:09}\n")).collect();
    assert_eq!((kept, text(&path)), (expected, String::new()));
    let mode = fs::metadata(&all[0].0).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn it_turns_over_by_age_and_the_old_ones_go() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let old = dir.path().join("x.jsonl.20200101T000000.000000");
    fs::write(&old, "old\n").expect("written");
    let turnover = Turnover {
        age: Some(Duration::from_millis(30)),
        keep_age: Some(Duration::from_secs(3_600)),
        ..NEVER
    };
    let mut sink = begin(&path, turnover);
    sink.write(b"a\n").expect("written");
    std::thread::sleep(Duration::from_millis(60));
    sink.beat().expect("well");
    sink.beat().expect("an empty file stays");
    assert!(!old.exists());
    assert_eq!(predecessors(&path).len(), 1);
    assert_eq!(text(&path), "");
}

/// Writes so many sealed lines.
fn sealed(sink: &mut FileSink, chain: &mut Chain, count: usize) {
    for _ in 0..count {
        let mut lines = Vec::new();
        for _ in 0..3 {
            let start = lines.len();
            lines.extend_from_slice(b"{\"a\":1}\n");
            chain.seal(&mut lines, start, Format::Json);
        }
        sink.write(&lines).expect("written");
        sink.sealed(chain.head());
    }
}

#[test]
fn the_chain_goes_on_over_turnovers_restarts_torn_lines_and_empty_files() {
    let dir = tempfile::tempdir().expect("dir");
    let (logs, state) = (dir.path().join("logs"), dir.path().join("state"));
    fs::create_dir(&logs).expect("made");
    let path = logs.join("x.jsonl");
    let turnover = Turnover {
        bytes: 2_000,
        keep: 1_000,
        ..NEVER
    };
    let again = || {
        let Begin {
            sink,
            chain,
            is_torn,
        } = FileSink::begin(&path, turnover, Some(&state)).expect("open");
        (sink, chain.expect("a chain"), is_torn)
    };
    let (mut sink, mut chain, _) = again();
    sealed(&mut sink, &mut chain, 10);
    // Killed while it wrote.
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .expect("open");
    file.write_all(b"{\"a\":1,\"chain\":{\"numb")
        .expect("written");
    let (mut sink, mut chain, is_torn) = again();
    assert!(is_torn);
    sealed(&mut sink, &mut chain, 1);
    // Put away by somebody, and what is kept by itself is gone.
    fs::rename(&path, logs.join("x.jsonl.20990101T000000.000000")).expect("renamed");
    fs::remove_file(state.join("head")).expect("removed");
    let (mut sink, mut chain, _) = again();
    sealed(&mut sink, &mut chain, 1);
    // The file is packed and nothing is left of it but what is kept by itself.
    fs::rename(&path, dir.path().join("elsewhere")).expect("renamed");
    let all = predecessors(&path);
    let (mut sink, mut chain, _) = again();
    assert_eq!(chain.head().number, 36);
    sealed(&mut sink, &mut chain, 1);

    let mut verifier = Verifier::from(1, Some(chain.head()));
    let mut lines: Vec<String> = all.into_iter().flat_map(|(_, text)| split(&text)).collect();
    lines.extend(split(&text(&dir.path().join("elsewhere"))));
    lines.extend(
        predecessors(&path)
            .into_iter()
            .filter(|(at, _)| !at.to_string_lossy().contains("2099"))
            .flat_map(|(_, text)| split(&text))
            .filter(|line| !lines.contains(line))
            .collect::<Vec<_>>(),
    );
    lines.extend(split(&text(&path)));
    lines.sort_by_key(|line| {
        crate::sink::chain::Link::read(line.as_bytes())
            .expect("sealed")
            .number
    });
    for line in &lines {
        verifier.push(line.as_bytes()).expect("whole");
    }
    assert_eq!(verifier.finish().expect("whole").number, 39);
}

fn split(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_a_failed_sync_may_have_lost_is_written_again_before_the_file_is_put_away() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let turnover = Turnover { bytes: 8, ..NEVER };
    let mut sink = begin(&path, turnover);
    fail::next(1);
    sink.write(b"one\ntwo\n").expect("written");
    assert_eq!(predecessors(&path).len(), 0, "it is not safe yet");
    sink.beat().expect("synced");
    let away = predecessors(&path);
    assert_eq!(away[0].1, "one\ntwo\n");
    assert_eq!((text(&path).as_str(), sink.lost()), ("", 0));
}

/// What the kernel could not write it has dropped, and the disk cannot read it either.
#[test]
fn lines_that_can_no_longer_be_read_keep_no_others_from_being_written() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let mut sink = begin(&path, NEVER);
    sink.write(b"one\n").expect("written");
    sink.settle().expect("synced");
    sink.write(b"two\nthree\n").expect("written");
    fail::next(1);
    sink.settle().expect_err("failed");
    bad::sector(&path, 4);
    sink.settle().expect("synced");
    bad::none();
    assert_eq!(sink.lost(), 2);
    sink.write(b"four\n").expect("written");
    sink.settle().expect("synced");
    assert_eq!(text(&path), "one\nfour\n");
}

/// As logrotate asks after it has copied and cut off the file.
#[test]
fn a_failed_sync_is_not_forgotten_by_opening_the_same_file_anew() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let mut sink = begin(&path, NEVER);
    sink.write(b"one\n").expect("written");
    fail::next(3);
    sink.settle().expect_err("failed");
    sink.reopen();
    sink.settle().expect_err("failed again");
    sink.settle().expect_err("and again");
    // What came instead of it is found.
    fs::write(&path, "xxx\n").expect("written");
    sink.settle().expect("synced");
    assert_eq!(sink.lost(), 1);
    // Another file in its place is taken up.
    fs::rename(&path, dir.path().join("away")).expect("put away");
    sink.reopen();
    sink.write(b"two\n").expect("written");
    assert_eq!(text(&path), "two\n");
}

#[test]
fn lines_that_a_failed_sync_has_lost_are_cut_off_and_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let mut sink = begin(&path, NEVER);
    sink.write(b"one\n").expect("written");
    sink.settle().expect("synced");
    sink.write(b"two\nthree\n").expect("written");
    fail::next(1);
    sink.settle().expect_err("failed");
    // As btrfs does: what could not be written is read from the disk again.
    let kernel = fs::OpenOptions::new().write(true).open(&path);
    std::os::unix::fs::FileExt::write_all_at(&kernel.expect("open"), &[0; 5], 6).expect("written");
    sink.settle().expect("synced");
    assert_eq!((sink.lost(), sink.lost()), (2, 0));
    sink.write(b"four\n").expect("written");
    assert_eq!(text(&path), "one\nfour\n");
    // What somebody else cut off is not lost.
    fail::next(1);
    sink.settle().expect_err("failed");
    fs::write(&path, "").expect("cut off");
    sink.settle().expect("synced");
    sink.write(b"five\n").expect("written");
    assert_eq!((text(&path).as_str(), sink.lost()), ("five\n", 0));
}

#[test]
fn one_that_was_put_away_is_not_held_on_to_although_it_cannot_be_synced() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x.jsonl");
    let mut sink = begin(&path, NEVER);
    sink.write(b"one\n").expect("written");
    fs::rename(&path, dir.path().join("x.jsonl.1")).expect("renamed");
    fail::next(2);
    sink.beat().expect_err("told");
    sink.beat().expect("a new one");
    sink.write(b"two\n").expect("written");
    assert_eq!(text(&path), "two\n");
}
