//! rsyslog's imrelp: each record acknowledged, in order, and a receiver that is killed while it is written to.

use std::collections::BTreeSet;
use std::time::Duration;

use portwatch::sink::transport::relp::Relp;
use portwatch::sink::transport::syslog::Envelope;
use portwatch::sink::transport::{Delivery, Transport as _, Trouble};
use portwatch_tests::harness::receivers::{Rsyslog, missing};

use super::{PATIENCE, endpoint, number, parcels, skip, under_fire};

fn relp(port: u16) -> Relp {
    let envelope = Envelope {
        facility: 16,
        tag: "portwatch".to_owned(),
        host: "web1".to_owned(),
        is_whole: false,
    };
    Relp::new(endpoint(port, None), envelope)
}

#[test]
fn rsyslog_acknowledges_each_record() {
    let Some(mut rsyslog) = Rsyslog::start().expect("rsyslog") else {
        return skip(&missing());
    };
    let mut relp = relp(rsyslog.relp);
    assert_eq!(relp.deliver(&parcels(0, 3_000)), Delivery::all(3_000));
    relp.rest();
    assert_eq!(relp.deliver(&parcels(3_000, 1)), Delivery::all(1));
    let lines = rsyslog.wait_for(3_001, PATIENCE).expect("all");
    assert!(lines.iter().map(|line| number(line)).eq(0..3_001));
    rsyslog.kill().expect("killed");
    let away = relp.deliver(&parcels(3_001, 1));
    assert!(
        away.taken == 0 && matches!(away.trouble, Some(Trouble::Later(_))),
        "{away:?}"
    );
    rsyslog.restart().expect("started");
    assert_eq!(relp.deliver(&parcels(3_001, 1)), Delivery::all(1));
}

/// Killed at any moment, the receiver has every record that it acknowledged.
#[test]
fn what_it_acknowledged_it_has_whenever_it_is_killed() {
    const COUNT: usize = 20_000;
    let Some(mut rsyslog) = Rsyslog::start().expect("rsyslog") else {
        return skip(&missing());
    };
    let mut relp = relp(rsyslog.relp);
    let fire = (Duration::from_millis(50), 10);
    let (kills, failures) = under_fire(&mut relp, (COUNT, 500), fire, || {
        rsyslog.restart().expect("started");
    });
    let lines = rsyslog.lines();
    let whole = lines.iter().filter(|line| line.ends_with('}'));
    let numbers: BTreeSet<usize> = whole.map(|line| number(line)).collect();
    println!(
        "{kills} kills, {failures} failed deliveries, {} lines for {COUNT} records",
        lines.len()
    );
    assert!(kills > 1, "killed {kills} times only");
    assert!(numbers.into_iter().eq(0..COUNT));
}
