//! nats-server with JetStream: logins, streams that are not there, and a server that is killed while it is written to.

use std::collections::BTreeSet;
use std::time::Duration;

use portwatch::sink::transport::nats::{Login, Nats, Settings};
use portwatch::sink::transport::{Delivery, Transport as _, Trouble};
use portwatch_tests::harness::receivers::{NatsServer, missing};

use super::{endpoint, number, parcels, skip, tls, under_fire};

const KILLS: usize = 20;

fn settings(server: &NatsServer, create: bool) -> Settings {
    let ca = server.authority.certificate();
    Settings {
        servers: vec![endpoint(server.port, Some(tls(&ca, None)))],
        subject: "portwatch.web1.{type}".to_owned(),
        stream: Some("EVENTS".to_owned()),
        create,
        login: None,
    }
}

/// Messages in its one stream.
fn messages(server: &NatsServer) -> u64 {
    let streams = server.streams().expect("streams");
    streams["messages"].as_u64().expect("a number")
}

/// The numbers of the records that are on its disk.
fn stored(server: &NatsServer) -> BTreeSet<usize> {
    let stored = server.stored().expect("files");
    let text = String::from_utf8_lossy(&stored);
    let records = text.split("{\"n\":").skip(1);
    records
        .map(|rest| number(&format!("{{\"n\":{rest}")))
        .collect()
}

fn why(delivery: Delivery) -> String {
    assert_eq!(delivery.taken, 0);
    match delivery.trouble {
        Some(Trouble::Later(why) | Trouble::Refused(why) | Trouble::After(why, _)) => why,
        None => panic!("no trouble"),
    }
}

#[test]
fn a_stream_takes_each_record_once() {
    let Some(server) = NatsServer::start("").expect("nats-server") else {
        return skip(&missing());
    };
    let mut nats = Nats::new(settings(&server, false));
    let told = why(nats.deliver(&parcels(0, 3)));
    assert!(told.contains("no stream takes this subject"), "{told}");
    let mut nats = Nats::new(settings(&server, true));
    assert_eq!(
        nats.deliver(&parcels(0, 2_000)),
        Delivery::all(2_000),
        "{}",
        server.log()
    );
    // As after an answer that was lost.
    assert_eq!(nats.deliver(&parcels(1_000, 1_500)), Delivery::all(1_500));
    assert_eq!(messages(&server), 2_500);
    assert!(stored(&server).into_iter().eq(0..2_500));
    let streams = server.streams().expect("streams");
    let config = &streams["account_details"][0]["stream_detail"][0]["config"];
    assert_eq!(config["subjects"][0], "portwatch.web1.*", "{streams}");
    // Another server of ours finds the stream.
    let mut nats = Nats::new(settings(&server, true));
    assert_eq!(nats.deliver(&parcels(2_500, 1)), Delivery::all(1));
    // What is too long is never taken, and what is behind it is.
    let mut long = parcels(3_000, 2);
    long[0].line = vec![b'x'; 2 << 20];
    let refused = nats.deliver(&long);
    assert!(
        matches!(refused.trouble, Some(Trouble::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(nats.deliver(&long[1..]), Delivery::all(1));
    // A connection that was broken meanwhile is no trouble.
    nats.rest();
    assert_eq!(nats.deliver(&parcels(4_000, 1)), Delivery::all(1));
}

#[test]
fn a_stream_of_another_name_is_not_written_to() {
    let Some(server) = NatsServer::start("").expect("nats-server") else {
        return skip(&missing());
    };
    let mut nats = Nats::new(settings(&server, true));
    assert_eq!(nats.deliver(&parcels(0, 1)), Delivery::all(1));
    let mut nats = Nats::new(Settings {
        stream: Some("OTHERS".to_owned()),
        ..settings(&server, false)
    });
    let told = why(nats.deliver(&parcels(1, 1)));
    assert!(told.contains("expected stream does not match"), "{told}");
    assert_eq!(messages(&server), 1);
}

#[test]
fn who_may_not_is_told_so_and_who_may_is_let_in() {
    const SEED: &str = "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU";
    const PUBLIC: &str = "UCK5N7N66OBOINFXAYC2ACJQYFSOD4VYNU6APEJTAVFZB2SVHLKGEW7L";
    for (authorization, login) in [
        (
            "{ user: ops, password: hunter2 }".to_owned(),
            Login::Password("ops".to_owned(), "hunter2".to_owned()),
        ),
        (
            "{ token: s3cret }".to_owned(),
            Login::Token("s3cret".to_owned()),
        ),
        (
            format!("{{ users: [ {{ nkey: {PUBLIC} }} ] }}"),
            Login::parse(SEED).expect("a key"),
        ),
    ] {
        let more = format!("authorization {authorization}");
        let Some(server) = NatsServer::start(&more).expect("nats-server") else {
            return skip(&missing());
        };
        let mut stranger = Nats::new(settings(&server, true));
        let told = why(stranger.deliver(&parcels(0, 1)));
        assert!(told.contains("Authorization Violation"), "{told}");
        let mut nats = Nats::new(Settings {
            login: Some(login),
            ..settings(&server, true)
        });
        assert_eq!(
            nats.deliver(&parcels(0, 1)),
            Delivery::all(1),
            "{authorization}"
        );
    }
}

/// Killed at any moment, the stream has every record that it acknowledged, and has it once.
#[test]
fn what_a_stream_acknowledged_it_has_whenever_it_is_killed() {
    const COUNT: usize = 20_000;
    const BATCH: usize = 500;
    let Some(mut server) = NatsServer::start("").expect("nats-server") else {
        return skip(&missing());
    };
    let mut nats = Nats::new(settings(&server, true));
    let fire = (Duration::from_millis(150), KILLS);
    let (kills, failures) = under_fire(&mut nats, (COUNT, BATCH), fire, || {
        server.restart().expect("started");
    });
    let (messages, stored) = (messages(&server), stored(&server));
    println!(
        "{kills} kills, {failures} failed deliveries, {messages} messages for {COUNT} records"
    );
    assert!(kills > 3, "killed {kills} times only");
    assert!(stored.into_iter().eq(0..COUNT));
    assert_eq!(messages, COUNT as u64);
}
