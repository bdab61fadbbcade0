//! A cluster of Kafka as librdkafka plays it, and a consumer of librdkafka: what is read there, and what there is when
//! the cluster hangs or is killed while it is written to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portwatch::sink::transport::kafka::{Kafka, Settings};
use portwatch::sink::transport::{Delivery, Transport as _};
use portwatch_tests::harness::kafka::{Consumed, KafkaCluster, TOPIC, missing};
use portwatch_tests::harness::watch::scale;

use super::kafka_tls::Front;
use super::{endpoint, insist, number, parcels, skip, tls};

const COUNT: usize = 20_000;
const BATCH: usize = 100;
const TROUBLES: usize = 20;
/// A host's id.
const HOST: &str = "0f8fad5bd9cb469fa16570867728950e";

fn settings(cluster: &KafkaCluster) -> Settings {
    Settings {
        servers: vec![endpoint(cluster.port, None)],
        topic: TOPIC.to_owned(),
        create: false,
        key: HOST.to_owned(),
        gzip: true,
        login: None,
        is_anywhere: false,
    }
}

/// How often each record was consumed. Each has the id, by which its repetitions are known.
fn times(consumed: &[Consumed]) -> BTreeMap<usize, usize> {
    let mut times = BTreeMap::new();
    for record in consumed {
        let number = number(&record.value);
        let id = uuid::Uuid::from_u128(number as u128);
        assert_eq!(record.headers, format!("id={id},type=listener.opened"));
        *times.entry(number).or_default() += 1;
    }
    times
}

#[test]
fn a_consumer_reads_what_was_handed_over() {
    let Some(cluster) = KafkaCluster::start().expect("a cluster") else {
        return skip(&missing());
    };
    for (first, gzip) in [(0, true), (3_000, false)] {
        let mut kafka = Kafka::new(Settings {
            gzip,
            ..settings(&cluster)
        });
        assert_eq!(
            kafka.deliver(&parcels(first, 2_500)),
            Delivery::all(2_500),
            "{}",
            cluster.log()
        );
        // A connection that was broken meanwhile is no trouble.
        kafka.rest();
        assert_eq!(
            kafka.deliver(&parcels(first + 2_500, 500)),
            Delivery::all(500)
        );
    }
    let consumed = cluster.wait(|all| all.len() >= 6_000).expect("records");
    // In order, each once, as they were.
    let lines: Vec<&str> = consumed.iter().map(|one| one.value.as_str()).collect();
    let sent = parcels(0, 6_000);
    let sent: Vec<&str> = sent
        .iter()
        .map(|parcel| std::str::from_utf8(&parcel.line).expect("text"))
        .collect();
    assert_eq!(lines, sent);
    assert_eq!(times(&consumed).len(), 6_000);
    assert!(
        consumed
            .iter()
            .all(|one| one.key == HOST && one.ms == 1_795_290_121_123)
    );
    // Where another client, which hashes as Kafka's own does, puts what has the same key.
    cluster.produce(HOST, "{\"n\":6000}").expect("produced");
    let partitions: BTreeSet<String> = cluster
        .consumed()
        .into_iter()
        .map(|record| record.partition)
        .collect();
    assert_eq!(partitions.len(), 1, "{partitions:?}");
}

#[test]
fn hosts_are_spread_and_each_has_its_partition() {
    let Some(cluster) = KafkaCluster::start().expect("a cluster") else {
        return skip(&missing());
    };
    let hosts: Vec<String> = (0..12).map(|host| format!("{host:032x}")).collect();
    for (at, host) in hosts.iter().enumerate() {
        let mut kafka = Kafka::new(Settings {
            key: host.clone(),
            ..settings(&cluster)
        });
        assert_eq!(kafka.deliver(&parcels(at * 10, 10)), Delivery::all(10));
        cluster
            .produce(host, &format!("of {host}"))
            .expect("produced");
    }
    let consumed = cluster.wait(|all| all.len() >= 12 * 11).expect("records");
    let places = |host: &str| -> BTreeSet<String> {
        let of = consumed.iter().filter(|record| record.key == host);
        of.map(|record| record.partition.clone()).collect()
    };
    assert!(
        hosts.iter().all(|host| places(host).len() == 1),
        "{consumed:?}"
    );
    let all: BTreeSet<String> = hosts.iter().flat_map(|host| places(host)).collect();
    assert!(all.len() > 1, "{all:?}");
}

/// Whoever is asked first, and whoever leads the partition: both within TLS.
#[test]
fn everything_goes_within_tls() {
    let Some(cluster) = KafkaCluster::start().expect("a cluster") else {
        return skip(&missing());
    };
    let front = Front::start(&cluster.brokers);
    let ca = front.authority.certificate();
    // Whoever is asked, the leader is another one for most of them.
    for (at, port) in front.ports.iter().enumerate() {
        let mut kafka = Kafka::new(Settings {
            servers: vec![endpoint(*port, Some(tls(&ca, None)))],
            ..settings(&cluster)
        });
        assert_eq!(kafka.deliver(&parcels(at * 700, 700)), Delivery::all(700));
    }
    let all = front.ports.len() * 700;
    let consumed = cluster
        .wait(|consumed| consumed.len() >= all)
        .expect("records");
    assert!(times(&consumed).into_keys().eq(0..all));
    // A stranger's certificate is none.
    let mut kafka = Kafka::new(Settings {
        servers: vec![endpoint(
            front.ports[0],
            Some(tls(&Front::start(&[]).authority.certificate(), None)),
        )],
        ..settings(&cluster)
    });
    let delivery = kafka.deliver(&parcels(all, 1));
    assert!(
        delivery.taken == 0 && delivery.trouble.is_some(),
        "{delivery:?}"
    );
}

/// A cluster that hangs has perhaps taken what it did not acknowledge: it gets it again, and a consumer knows it again.
#[test]
fn nothing_is_missing_after_a_cluster_that_hung() {
    let Some(cluster) = KafkaCluster::start().expect("a cluster") else {
        return skip(&missing());
    };
    let mut settings = settings(&cluster);
    for server in &mut settings.servers {
        server.patience = Duration::from_millis(300) * scale();
    }
    let mut kafka = Kafka::new(settings);
    let is_over = AtomicBool::new(false);
    let mut failures = 0;
    let hangs = thread::scope(|scope| {
        let hanger = scope.spawn(|| {
            let mut hangs = 0;
            while !is_over.load(Ordering::Relaxed) && hangs < TROUBLES {
                thread::sleep(Duration::from_millis(5 + 13 * (hangs as u64 % 7)));
                cluster.freeze().expect("stopped");
                thread::sleep(Duration::from_millis(400) * scale());
                cluster.thaw().expect("continued");
                hangs += 1;
            }
            hangs
        });
        for first in (0..COUNT).step_by(BATCH) {
            insist(&mut kafka, &parcels(first, BATCH), |_| {
                failures += 1;
                thread::sleep(Duration::from_millis(20));
            });
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, Ordering::Relaxed);
        hanger.join().expect("the hanger")
    });
    let has_all = |all: &[Consumed]| times(all).len() == COUNT;
    let consumed = cluster.wait(has_all).expect("every record");
    println!(
        "{hangs} hangs, {failures} failed deliveries, {} records consumed of {COUNT}",
        consumed.len()
    );
    assert!(times(&consumed).into_keys().eq(0..COUNT));
    assert!(consumed.len() > COUNT, "nothing was in the way");
}

/// The stand-in has its log in memory, so what it acknowledged after its consumer was last asked goes with it. All the
/// rest is there: what it did not acknowledge came again.
#[test]
fn nothing_that_was_not_acknowledged_is_missing_after_kills() {
    let Some(cluster) = KafkaCluster::start().expect("a cluster") else {
        return skip(&missing());
    };
    let mut kafka = Kafka::new(settings(&cluster));
    let cluster = Mutex::new(cluster);
    let whole = || cluster.lock().unwrap_or_else(PoisonError::into_inner);
    // Held while nothing is to be handed over.
    let gate = Mutex::new(());
    // Held while something is, and until it is counted.
    let under_way = Mutex::new(());
    let acknowledged = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let mut failures = 0;
    let in_memory = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut in_memory = Vec::new();
            while !is_over.load(Ordering::Relaxed) && in_memory.len() < TROUBLES {
                thread::sleep(Duration::from_millis(
                    20 + 31 * (in_memory.len() as u64 % 5),
                ));
                let mut cluster = whole();
                let held = gate.lock().unwrap_or_else(PoisonError::into_inner);
                let before = acknowledged.load(Ordering::Relaxed);
                let lost = |at: &usize| in_memory.iter().any(|(from, to)| (from..to).contains(&at));
                // Of those that may be lost some are there all the same, and stand for none of the others.
                let due: Vec<usize> = (0..before).filter(|at| !lost(at)).collect();
                let read = cluster.wait(|all| {
                    let times = times(all);
                    due.iter().all(|at| times.contains_key(at))
                });
                read.expect("what was acknowledged");
                drop(held);
                thread::sleep(Duration::from_micros(700 * (in_memory.len() as u64 % 6)));
                cluster.kill().expect("killed");
                // What is under way now has come to an end, or fails: then this is what the dead one had acknowledged.
                drop(under_way.lock());
                in_memory.push((before, acknowledged.load(Ordering::Relaxed)));
                cluster.restart().expect("started");
            }
            in_memory
        });
        for first in (0..COUNT).step_by(BATCH) {
            let mut left = &parcels(first, BATCH)[..];
            while !left.is_empty() {
                drop(gate.lock());
                let busy = under_way.lock();
                let delivery = kafka.deliver(left);
                acknowledged.fetch_add(delivery.taken, Ordering::Relaxed);
                drop(busy);
                left = &left[delivery.taken..];
                if delivery.trouble.is_some() {
                    failures += 1;
                    thread::sleep(Duration::from_millis(20));
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        killer.join().expect("the killer")
    });
    let cluster = whole();
    let is_excused = |at: &usize| in_memory.iter().any(|(from, to)| (from..to).contains(&at));
    let due: BTreeSet<usize> = (0..COUNT).filter(|at| !is_excused(at)).collect();
    let has_all = |all: &[Consumed]| {
        let times = times(all);
        due.iter().all(|at| times.contains_key(at))
    };
    let consumed = cluster.wait(has_all).expect("every record that is due");
    println!(
        "{} kills, {failures} failed deliveries, {} records due of {COUNT}, {} consumed",
        in_memory.len(),
        due.len(),
        consumed.len()
    );
    assert!(
        in_memory.len() > 3 && failures > 0,
        "killed {} times only",
        in_memory.len()
    );
    assert!(due.len() > COUNT / 2, "{in_memory:?}");
}

/// Soon enough after it is there again, and not before.
#[test]
fn a_cluster_that_is_away_is_told_and_waited_for() {
    let Some(mut cluster) = KafkaCluster::start().expect("a cluster") else {
        return skip(&missing());
    };
    let mut kafka = Kafka::new(settings(&cluster));
    assert_eq!(kafka.deliver(&parcels(0, 1)), Delivery::all(1));
    cluster.kill().expect("killed");
    let began = Instant::now();
    let delivery = kafka.deliver(&parcels(1, 1));
    assert!(
        delivery.taken == 0 && delivery.trouble.is_some(),
        "{delivery:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(5) * scale());
    cluster.restart().expect("started");
    insist(&mut kafka, &parcels(1, 1), |_| {
        thread::sleep(Duration::from_millis(20));
    });
    let has_it = |all: &[Consumed]| all.iter().any(|one| number(&one.value) == 1);
    cluster.wait(has_it).expect("the second record");
}
