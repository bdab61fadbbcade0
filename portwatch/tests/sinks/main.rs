//! Transports of sinks against the real receivers, which come and go: what was acknowledged is there. And a disk that stays full.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod kafka;
mod kafka_tls;
mod leave;
mod nats;
mod relp;
mod syslog;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portwatch::event::{EventType, Severity};
use portwatch::net::{self, Endpoint, Identity};
use portwatch::sink::transport::{Parcel, Transport, Trouble};
use rustls::ClientConfig;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

/// Records from this number on, each line with its number in it.
fn parcels(first: usize, count: usize) -> Vec<Parcel> {
    let parcel = |n: usize| Parcel {
        id: Uuid::from_u128(n as u128),
        ts_ns: 1_795_290_121_123_456_789,
        kind: EventType::ListenerOpened,
        severity: Severity::Notice,
        line: format!("{{\"n\":{n},\"text\":\"größe\"}}").into_bytes(),
    };
    (first..first + count).map(parcel).collect()
}

/// The number in a line that is written as above.
fn number(line: &str) -> usize {
    // Behind one that a kill cut off.
    let (_, rest) = line.rsplit_once("{\"n\":").expect("a record");
    let digits = rest.split(',').next().expect("a number");
    digits.parse().expect("a number")
}

/// The way to a server of this host whose authority's certificate is in a file.
fn endpoint(port: u16, tls: Option<Arc<ClientConfig>>) -> Endpoint {
    Endpoint {
        host: "localhost".to_owned(),
        port,
        tls,
        patience: PATIENCE,
    }
}

fn tls(ca: &Path, identity: Option<(&Path, &Path)>) -> Arc<ClientConfig> {
    let read = |path: &Path| fs::read(path).expect("a file");
    let identity = identity.map(|(chain, key)| Identity {
        chain: read(chain),
        key: read(key),
    });
    Arc::new(net::client(Some(&read(ca)), identity.as_ref()).expect("TLS"))
}

/// Hands over all of it, however often that fails for a while.
fn insist(transport: &mut dyn Transport, mut parcels: &[Parcel], mut trouble: impl FnMut(&str)) {
    while !parcels.is_empty() {
        let delivery = transport.deliver(parcels);
        parcels = &parcels[delivery.taken..];
        match delivery.trouble {
            None => {}
            Some(Trouble::Later(why) | Trouble::After(why, _)) => trouble(&why),
            Some(Trouble::Refused(why)) => panic!("refused: {why}"),
        }
    }
}

/// Hands over so many records, so many at a time, while a receiver is killed and started again after about such a pause,
/// at most so often. Tells how often it was, and how many deliveries failed.
fn under_fire(
    transport: &mut dyn Transport,
    (count, batch): (usize, usize),
    (pause, most): (Duration, usize),
    mut restart: impl FnMut() + Send,
) -> (usize, usize) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut kills = 0;
            while !is_over.load(Ordering::Relaxed) && kills < most {
                // Never at the same place of what goes on.
                std::thread::sleep(pause + pause.mul_f64(0.2) * (kills as u32 % 11));
                restart();
                kills += 1;
            }
            kills
        });
        let mut failures = 0;
        for first in (0..count).step_by(batch) {
            insist(transport, &parcels(first, batch), |_| {
                failures += 1;
                std::thread::sleep(Duration::from_millis(10));
            });
        }
        is_over.store(true, Ordering::Relaxed);
        (killer.join().expect("the killer"), failures)
    })
}

/// Says that a test could not run.
fn skip(why: &str) {
    println!("skipped: {why}");
}
