//! rsyslog: each way to it, its certificate and ours, and a receiver that is killed while it is written to.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use portwatch::net::Endpoint;
use portwatch::sink::transport::syslog::{Envelope, Place, Syslog};
use portwatch::sink::transport::{Delivery, Parcel, Transport as _, Trouble};
use portwatch_tests::harness::receivers::{Rsyslog, missing};

use super::{PATIENCE, endpoint, insist, number, parcels, skip, tls, under_fire};

/// Which of the ways below has no end that confirms it.
const UNCONFIRMED: usize = 2;
/// How often the receiver is killed.
const KILLS: usize = 20;

fn syslog(endpoint: Endpoint, confirm: bool) -> Syslog {
    Syslog::new(Place::Remote { endpoint, confirm }, envelope())
}

fn envelope() -> Envelope {
    Envelope {
        facility: 16,
        tag: "portwatch".to_owned(),
        host: "web1".to_owned(),
        is_whole: false,
    }
}

#[test]
fn rsyslog_takes_records_by_each_way_as_they_are() {
    let Some(rsyslog) = Rsyslog::start().expect("rsyslog") else {
        return skip(&missing());
    };
    let authority = &rsyslog.authority;
    let (ca, leaf, key) = (authority.certificate(), authority.leaf(), authority.key());
    let socket = rsyslog.socket();
    let local = Place::Local {
        socket,
        patience: PATIENCE,
    };
    let ways = [
        syslog(endpoint(rsyslog.tcp, None), true),
        syslog(endpoint(rsyslog.tls, Some(tls(&ca, None))), true),
        syslog(endpoint(rsyslog.tls, Some(tls(&ca, None))), false),
        syslog(
            endpoint(rsyslog.mutual, Some(tls(&ca, Some((&leaf, &key))))),
            true,
        ),
        Syslog::new(local, envelope()),
    ];
    for (way, mut syslog) in ways.into_iter().enumerate() {
        let first = way * 100;
        // This receiver breaks a handshake now and then, for an error of a connection before.
        insist(&mut syslog, &parcels(first, 100), |_| {
            std::thread::sleep(Duration::from_millis(10));
        });
        // While the connection is there: of one that does not confirm, the end may lose what was not read.
        let is_all = |lines: &[String]| {
            let whole = lines.iter().filter(|line| line.ends_with('}'));
            let numbers: BTreeSet<usize> = whole.map(|line| number(line)).collect();
            (first..first + 100).all(|one| numbers.contains(&one))
        };
        let mut until = Instant::now() + PATIENCE;
        let mut is_again = way == UNCONFIRMED;
        while !is_all(&rsyslog.lines()) {
            if Instant::now() > until {
                // It may have broken this one too, and then nobody knows.
                assert!(is_again, "way {way}: {}", rsyslog.log());
                is_again = false;
                until = Instant::now() + PATIENCE;
                insist(&mut syslog, &parcels(first, 100), |_| {});
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let lines = rsyslog.lines();
    // Those of the host's socket have a header without a kind.
    let line = "133 listener.opened {\"n\":7,\"text\":\"größe\"}";
    assert!(lines.iter().any(|one| one == line), "{:?}", lines.first());
}

#[test]
fn the_longest_record_arrives_whole() {
    let Some(rsyslog) = Rsyslog::start().expect("rsyslog") else {
        return skip(&missing());
    };
    let mut record: Vec<Parcel> = parcels(0, 1);
    record[0].line = format!("{{\"n\":0,\"text\":\"{}\"}}", "x".repeat(64_000)).into_bytes();
    let ca = rsyslog.authority.certificate();
    let mut syslog = syslog(endpoint(rsyslog.tls, Some(tls(&ca, None))), true);
    assert_eq!(syslog.deliver(&record), Delivery::all(1));
    let lines = rsyslog.wait_for(1, PATIENCE).expect("one");
    assert!(
        lines[0].as_bytes().ends_with(&record[0].line),
        "{} bytes",
        lines[0].len()
    );
}

#[test]
fn nobody_gets_anything_whose_certificate_is_not_right() {
    let Some(rsyslog) = Rsyslog::start().expect("rsyslog") else {
        return skip(&missing());
    };
    let ca = rsyslog.authority.certificate();
    let stranger = portwatch_tests::harness::receiver::Authority::new().expect("an authority");
    let unknown = tls(&stranger.certificate(), None);
    let mut other = endpoint(rsyslog.tls, Some(tls(&ca, None)));
    other.host = "127.0.0.2".to_owned();
    for (endpoint, expected) in [
        (endpoint(rsyslog.tls, Some(unknown)), "its certificate is "),
        // The certificate is not for this address, at which nobody listens either.
        (other, "refused"),
        (endpoint(rsyslog.mutual, Some(tls(&ca, None))), "localhost:"),
    ] {
        let delivery = syslog(endpoint, true).deliver(&parcels(0, 1));
        assert_eq!(delivery.taken, 0);
        let Some(Trouble::Later(why)) = delivery.trouble else {
            panic!("{delivery:?}")
        };
        assert!(why.contains(expected), "{why}");
    }
    assert_eq!(rsyslog.lines(), [""; 0]);
}

/// Killed at any moment, the receiver has every record that it confirmed.
#[test]
fn what_a_receiver_confirmed_it_has_whenever_it_is_killed() {
    const COUNT: usize = 40_000;
    const BATCH: usize = 200;
    let Some(mut rsyslog) = Rsyslog::start().expect("rsyslog") else {
        return skip(&missing());
    };
    let ca = rsyslog.authority.certificate();
    let mut syslog = syslog(endpoint(rsyslog.tls, Some(tls(&ca, None))), true);
    let fire = (Duration::from_millis(40), KILLS);
    let (kills, failures) = under_fire(&mut syslog, (COUNT, BATCH), fire, || {
        rsyslog.restart().expect("started");
    });
    let lines = rsyslog.lines();
    // One that was cut off by the kill came again, whole.
    let whole = lines.iter().filter(|line| line.ends_with('}'));
    let numbers: BTreeSet<usize> = whole.map(|line| number(line)).collect();
    println!(
        "{kills} kills, {failures} failed deliveries, {} lines for {COUNT} records",
        lines.len()
    );
    assert!(kills > 3, "killed {kills} times only");
    let missing: Vec<usize> = (0..COUNT).filter(|n| !numbers.contains(n)).collect();
    assert!(
        missing.is_empty(),
        "{} are missing, {missing:?}",
        missing.len()
    );
}
