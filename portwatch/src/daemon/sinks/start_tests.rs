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
    let why = sinks.prepare(&configured).err().expect("not now");
    assert!(why.contains("still waited for"), "{why}");
    // The disk is back: what was told meanwhile is not missed.
    let writing = spawn_blocking(move || fs::write(pipe, CERTIFICATE));
    writing.await.expect("ended").expect("written");
    until(|| {
        let siem = &sinks.status()[1];
        siem.queued_bytes.is_some_and(|bytes| bytes > 0) && siem.queued == 1
    })
    .await;
    until(|| sinks.alone().is_ok()).await;
    bus.close();
    sinks.end(PATIENCE).await;
}

#[tokio::test]
async fn what_is_wrong_is_told_at_the_start_and_also_when_it_comes_late() {
    let dir = tempfile::tempdir().expect("dir");
    let (_bus, sinks) = sinks(dir.path());
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
    until(|| sinks.alone().is_ok()).await;
    let patience = Duration::from_millis(50);
    sinks.start(&[late], patience).await.expect("begun");
    let writing = spawn_blocking(move || fs::write(pipe, "no certificate"));
    writing.await.expect("ended").expect("written");
    until(|| sinks.alone().is_ok()).await;
    let status = sinks.status();
    let why = status[0].error.as_deref().unwrap_or_default();
    assert!(why.contains("no certificate"), "{why}");
    // Another configuration takes it away.
    sinks.switch(sinks.prepare(&[]).expect("right"));
    assert!(sinks.status().is_empty());
}
