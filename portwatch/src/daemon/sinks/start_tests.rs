use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::tests::{PATIENCE, file, kafka, numbers, sinks};
use super::*;
use crate::config::sinks::{Address, Kind, Syslog, Way};
use crate::sink::testing::opened;

/// Of an authority that nobody has the key of.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBcTCCARegAwIBAgIUXaF5i6Co0HFk2f+MkBbLlOjRSBkwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTMwMjA0MzAyWhgPMjEyNjExMDYyMDQzMDJa
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAECFSA3tBD
FHzn9bTEK2oeTMWRmX+ffDsKiNbchH3Cr+29aswsMSCMVcpjHFZ3g9yNzm+xCoU0
kcJryDQ3vT/HpqNTMFEwHQYDVR0OBBYEFDBn9H0Envmfz688fcNTHKvxyXssMB8G
A1UdIwQYMBaAFDBn9H0Envmfz688fcNTHKvxyXssMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSAAwRQIgUjx+KxomCUoK7J5LeMzaZbTTYLT9ovtcNbX2i1Qh
3C8CIQD/T724MmVl66+iAvQc7lOXfEXG/AE2pTDDTDu5Jubzcg==
-----END CERTIFICATE-----
";

/// Whoever waits for this pipe waits no longer when the test ends, however it does: tokio waits for its threads.
struct Answered<'a>(&'a Path);

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        // Opening both ends wakes whoever opens it, and closing them is the end of the file.
        let _ = fs::OpenOptions::new().read(true).write(true).open(self.0);
    }
}

/// By syslog to nobody, with a certificate that comes from a pipe, as from a disk of the network that hangs.
fn hanging(pipe: &Path) -> Sink {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, pipe, FileType::Fifo, mode, 0).expect("a pipe");
    Sink {
        kind: Kind::Syslog(Syslog {
            address: Some(Address {
                tls: true,
                host: "127.0.0.1".to_owned(),
                port: 1,
            }),
            way: Way {
                ca_file: Some(pipe.to_owned()),
                ..Way::default()
            },
            ..Syslog::default()
        }),
        ..file("siem", pipe.with_extension("unused"), false)
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_one_sink_from_beginning_and_nothing_else() {
    let dir = tempfile::tempdir().expect("dir");
    let (bus, sinks) = sinks(dir.path());
    let (pipe, path) = (dir.path().join("ca"), dir.path().join("events"));
    let configured = [hanging(&pipe), file("file", path.clone(), false)];
    let answered = pipe.clone();
    let _answered = Answered(&answered);
    let begun = Instant::now();
    let patience = Duration::from_millis(200);
    sinks.start(&configured, patience).await.expect("begun");
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    // The other one works, and it is told that this one does not.
    bus.publish(&opened(1));
    assert_eq!(numbers(&path, 1), [1]);
    let status = sinks.status();
    assert_eq!(
        (status[0].name.as_str(), status[0].error.clone()),
        ("file", None)
    );
    assert_eq!((status[1].name.as_str(), status[1].queued), ("siem", 1));
    assert!(
        status[1]
            .error
            .as_deref()
            .is_some_and(|why| why.contains("disk"))
    );
    // Others cannot be had now; whatever else is reloaded need not wait for that.
    let why = sinks.prepare(&configured[1..]).err().expect("not now");
    assert!(why.contains("still waited for"), "{why}");
    fs::rename(&path, dir.path().join("rotated")).expect("put away");
    sinks.switch(sinks.prepare(&configured).expect("as before"));
    bus.publish(&opened(2));
    assert_eq!(numbers(&path, 1), [2], "and it is opened anew");
    assert_eq!(sinks.status()[1].queued, 2);
    // The disk is back: what was told meanwhile is not missed.
    let writing = spawn_blocking(move || fs::write(pipe, CERTIFICATE));
    writing.await.expect("ended").expect("written");
    until(|| {
        let siem = &sinks.status()[1];
        siem.queued_bytes.is_some_and(|bytes| bytes > 0) && siem.queued == 2
    })
    .await;
    until(|| sinks.alone().is_ok()).await;
    bus.close();
    sinks.end(PATIENCE).await;
}

#[tokio::test]
async fn what_is_wrong_is_told_at_the_start_and_also_when_it_comes_late() {
    let dir = tempfile::tempdir().expect("dir");
    let (bus, sinks) = sinks(dir.path());
    let wrong = kafka("siem", &dir.path().join("nowhere"));
    let why = sinks
        .start(&[wrong], PATIENCE)
        .await
        .expect_err("no password");
    assert!(
        why.starts_with("sink siem: ") && why.contains("nowhere"),
        "{why}"
    );
    let pipe = dir.path().join("ca");
    let late = hanging(&pipe);
    let _answered = Answered(&pipe);
    until(|| sinks.alone().is_ok()).await;
    let patience = Duration::from_millis(50);
    sinks
        .start(std::slice::from_ref(&late), patience)
        .await
        .expect("begun");
    bus.publish(&opened(1));
    let writing = spawn_blocking({
        let pipe = pipe.clone();
        move || fs::write(pipe, "no certificate")
    });
    writing.await.expect("ended").expect("written");
    until(|| sinks.alone().is_ok()).await;
    let status = sinks.status();
    let why = status[0].error.as_deref().unwrap_or_default();
    assert!(why.contains("no certificate"), "{why}");
    // Events wait for it all the same.
    bus.publish(&opened(2));
    assert_eq!((sinks.status()[0].queued, sinks.status()[0].lost), (2, 0));
    // Mended, it gets them, also when its settings are others.
    fs::remove_file(&pipe).expect("removed");
    fs::write(&pipe, CERTIFICATE).expect("written");
    let mended = Sink {
        sync: crate::sink::Sync::Always,
        ..late
    };
    sinks.switch(sinks.prepare(&[mended]).expect("right"));
    until(|| {
        let siem = &sinks.status()[0];
        siem.queued_bytes.is_some_and(|bytes| bytes > 0) && siem.queued == 2
    })
    .await;
    bus.close();
    sinks.end(PATIENCE).await;
}

#[tokio::test]
async fn what_waits_for_a_sink_that_is_taken_away_before_it_begins_is_lost_and_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let (bus, sinks) = sinks(dir.path());
    let pipe = dir.path().join("ca");
    let late = hanging(&pipe);
    let _answered = Answered(&pipe);
    let patience = Duration::from_millis(50);
    sinks
        .start(std::slice::from_ref(&late), patience)
        .await
        .expect("begun");
    bus.publish(&opened(1));
    let writing = spawn_blocking({
        let pipe = pipe.clone();
        move || fs::write(pipe, "no certificate")
    });
    writing.await.expect("ended").expect("written");
    until(|| sinks.alone().is_ok()).await;
    sinks.switch(sinks.prepare(&[]).expect("right"));
    assert!(sinks.status().is_empty());
    // It comes back, mended.
    fs::remove_file(&pipe).expect("removed");
    fs::write(&pipe, CERTIFICATE).expect("written");
    sinks.switch(sinks.prepare(&[late]).expect("right"));
    assert_eq!((sinks.status()[0].queued, sinks.status()[0].lost), (0, 1));
    bus.close();
    sinks.end(PATIENCE).await;
}
