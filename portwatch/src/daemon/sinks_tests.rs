use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use super::*;
use crate::config::sinks::{Address, File, Kafka, Kind};
use crate::sink::testing::opened;
use crate::sink::{Limits, Sync};

/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn sinks(state_dir: &Path) -> (Arc<Bus>, Arc<Sinks>) {
    let bus = Bus::new(Limits::READER, Limits::REPLAY);
    let sinks = Sinks::new(&bus, state_dir, super::super::host::host());
    (bus, sinks)
}

pub(super) fn file(name: &str, path: PathBuf, chain: bool) -> Sink {
    Sink {
        name: name.to_owned(),
        filter: None,
        format: crate::render::Format::Json,
        states: false,
        sync: Sync::Never,
        buffer: crate::config::sinks::Buffer::default(),
        kind: Kind::File(File {
            path,
            chain,
            ..File::default()
        }),
    }
}

/// To a cluster that is not there, with a password.
pub(super) fn kafka(name: &str, password: &Path) -> Sink {
    Sink {
        kind: Kind::Kafka(Box::new(Kafka {
            servers: vec![Address {
                tls: false,
                host: "127.0.0.1".to_owned(),
                port: 1,
            }],
            topic: "events".to_owned(),
            user: Some("portwatch".to_owned()),
            password_file: Some(password.to_owned()),
            ..Kafka::default()
        })),
        ..file(name, password.with_extension("unused"), false)
    }
}

fn secret(path: &Path, secret: &str) {
    fs::write(path, secret).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("mode");
}

fn switch(sinks: &Sinks, to: &[Sink]) {
    sinks.switch(sinks.prepare(to).expect("right"));
}

/// The numbers in a file, once there are so many.
pub(super) fn numbers(path: &Path, count: usize) -> Vec<u64> {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let numbers: Vec<u64> = text
            .lines()
            .filter_map(|line| {
                serde_json::from_str::<serde_json::Value>(line).ok()?["seq"].as_u64()
            })
            .collect();
        if numbers.len() >= count {
            return numbers;
        }
        assert!(Instant::now() < until, "{numbers:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_file_goes_on_with_its_numbers_whoever_writes_to_it_and_whenever() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("events");
    let (bus, sinks) = sinks(dir.path());
    let (one, other) = (
        file("one", path.clone(), false),
        file("other", path.clone(), false),
    );
    for (round, now) in [&one, &other, &one].into_iter().enumerate() {
        switch(&sinks, std::slice::from_ref(now));
        bus.publish(&opened(1));
        assert_eq!(numbers(&path, round + 1).len(), round + 1);
        // Nobody writes to it for a while, or the next one comes at once.
        if round == 0 {
            switch(&sinks, &[]);
            bus.publish(&opened(2));
        }
    }
    assert_eq!(numbers(&path, 3), [1, 2, 3]);
    // Another file has numbers of its own.
    let elsewhere = dir.path().join("elsewhere");
    switch(&sinks, &[file("one", elsewhere.clone(), false)]);
    bus.publish(&opened(3));
    assert_eq!(numbers(&elsewhere, 1), [1]);
    assert!(sinks.all().gone.len() <= 3, "{:?}", sinks.all().gone);
}

/// Its folder for the head of the chain cannot be made, so it tries again and again.
#[test]
fn one_that_was_taken_away_while_it_cannot_write_keeps_nobody_from_ending() {
    let dir = tempfile::tempdir().expect("dir");
    let state = dir.path().join("state");
    fs::write(&state, "no folder").expect("written");
    let (bus, sinks) = sinks(&state);
    let stuck = file("stuck", dir.path().join("events"), true);
    switch(&sinks, std::slice::from_ref(&stuck));
    let until = Instant::now() + PATIENCE;
    while sinks.status()[0].error.is_none() {
        assert!(Instant::now() < until, "it can write");
        std::thread::yield_now();
    }
    let behind = Sink {
        states: true,
        ..stuck
    };
    switch(&sinks, &[behind]);
    bus.close();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let begun = Instant::now();
    runtime.block_on(sinks.end(PATIENCE));
    let took = begun.elapsed();
    // It waits for no thread that does not end.
    runtime.shutdown_background();
    assert!(took < PATIENCE / 2, "{took:?}");
}

#[test]
fn what_a_sink_missed_stays_in_its_figures_when_it_changes() {
    let dir = tempfile::tempdir().expect("dir");
    let state = dir.path().join("state");
    fs::write(&state, "no folder").expect("written");
    let bus = Bus::new(
        Limits {
            lines: 2,
            bytes: 1 << 20,
        },
        Limits::REPLAY,
    );
    let sinks = Sinks::new(&bus, &state, super::super::host::host());
    let sink = file("x", dir.path().join("events"), true);
    switch(&sinks, std::slice::from_ref(&sink));
    for seq in 1..=1_000 {
        bus.publish(&opened(seq));
    }
    let lost = sinks.status()[0].lost;
    assert!(lost > 0);
    switch(
        &sinks,
        &[Sink {
            states: true,
            ..sink.clone()
        }],
    );
    assert_eq!(sinks.status()[0].lost, lost);
    switch(&sinks, &[]);
    switch(&sinks, &[sink]);
    assert_eq!(sinks.status()[0].lost, lost);
}

/// A reload may still wait for a disk while the daemon ends.
#[tokio::test]
async fn a_reload_that_comes_too_late_begins_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let (_bus, sinks) = sinks(dir.path());
    let prepared = sinks
        .prepare(&[file("late", dir.path().join("events"), false)])
        .expect("right");
    sinks.end(PATIENCE).await;
    sinks.switch(prepared);
    assert!(sinks.status().is_empty());
}

#[test]
fn a_secret_that_is_another_one_is_read_by_a_reload_and_nobody_else_is_touched() {
    let dir = tempfile::tempdir().expect("dir");
    let (_bus, sinks) = sinks(dir.path());
    let passwords = [dir.path().join("one"), dir.path().join("other")];
    for password in &passwords {
        secret(password, "hunter2\n");
    }
    let configured = [
        kafka("one", &passwords[0]),
        kafka("other", &passwords[1]),
        file("file", dir.path().join("events"), false),
    ];
    let at_work = || {
        let all = sinks.all();
        let orders = all.running.iter().map(|one| Arc::as_ptr(&one.orders));
        orders.collect::<Vec<_>>()
    };
    switch(&sinks, &configured);
    let before = at_work();
    switch(&sinks, &configured);
    assert_eq!(at_work(), before, "nothing has changed");
    secret(&passwords[0], "hunter3\n");
    switch(&sinks, &configured);
    let after = at_work();
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..]);
    // One that is not to be had changes nothing, and is told.
    fs::remove_file(&passwords[1]).expect("removed");
    let why = sinks.prepare(&configured).err().expect("no password");
    assert!(why.starts_with("sink other: "), "{why}");
    assert_eq!(at_work(), after);
}
