//! Against a broker that does what a test likes; `tests/sinks/kafka.rs` has those of others.

use std::time::Instant;

use proptest::prelude::*;

use self::broker::{Act, Broker, Script};
use super::{Kafka, Login, Mechanism, RECORDS, Settings};
use crate::sink::transport::testing::parcels;
use crate::sink::transport::{Delivery, Transport as _, Trouble};

pub(crate) mod broker;

fn settings(broker: &Broker) -> Settings {
    Settings {
        servers: vec![broker.endpoint()],
        topic: "portwatch".to_owned(),
        create: false,
        key: "host".to_owned(),
        gzip: false,
        login: None,
        is_anywhere: false,
    }
}

fn kafka(script: Script) -> (Broker, Kafka) {
    let broker = Broker::start(script);
    let settings = settings(&broker);
    (broker, Kafka::new(settings))
}

fn acts(acts: &[Act]) -> Script {
    Script {
        acts: acts.to_vec(),
        ..Script::default()
    }
}

fn later(delivery: Delivery, taken: usize) -> String {
    assert_eq!(delivery.taken, taken);
    match delivery.trouble {
        Some(Trouble::Later(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_batch_goes_on_where_the_one_before_ended() {
    let (broker, mut kafka) = kafka(Script::default());
    assert_eq!(kafka.deliver(&parcels(2_500)), Delivery::all(2_500));
    assert_eq!(kafka.deliver(&parcels(3)), Delivery::all(3));
    let came = broker.came();
    let counts: Vec<(i32, usize)> = came.iter().map(|one| (one.sequence, one.count)).collect();
    assert_eq!(counts, [(0, 1024), (1024, 1024), (2048, 452), (2500, 3)]);
    assert!(
        came.iter()
            .all(|one| one.producer == came[0].producer && one.producer >= 0)
    );
    assert_eq!(kafka.deliver(&[]), Delivery::all(0));
}

#[test]
fn a_batch_whose_answer_was_lost_comes_again_as_it_was() {
    let (broker, mut kafka) = kafka(acts(&[Act::Say(0), Act::Vanish]));
    assert_eq!(kafka.deliver(&parcels(5)), Delivery::all(5));
    // The connection was kept, so another attempt is made at once.
    assert_eq!(kafka.deliver(&parcels(9)), Delivery::all(9));
    let came = broker.came();
    assert_eq!((came.len(), came[2].sequence), (3, 5));
    assert_eq!(came[1].bytes, came[2].bytes);
    let (broker, mut kafka) = self::kafka(acts(&[Act::Vanish, Act::Vanish]));
    let all = parcels(40);
    for count in [9, 12] {
        let why = later(kafka.deliver(&all[..count]), 0);
        assert!(why.contains("hung up"), "{why}");
    }
    assert_eq!(kafka.deliver(&all), Delivery::all(40));
    let came = broker.came();
    assert_eq!([&came[1].bytes, &came[2].bytes], [&came[0].bytes; 2]);
    assert_eq!((came[3].sequence, came[3].count), (9, 31));
}

#[test]
fn what_is_not_the_same_any_more_is_counted_anew() {
    let (broker, mut kafka) = kafka(acts(&[Act::Vanish]));
    let all = parcels(10);
    later(kafka.deliver(&all[..5]), 0);
    assert_eq!(kafka.deliver(&all[1..]), Delivery::all(9));
    let came = broker.came();
    assert_ne!(came[0].producer, came[1].producer);
    assert_eq!(came[1].sequence, 0);
}

#[test]
fn a_broker_that_counts_for_nobody_is_given_records_without_numbers() {
    for producer in [None, Some(31)] {
        let (broker, mut kafka) = kafka(Script {
            producer,
            ..Script::default()
        });
        assert_eq!(kafka.deliver(&parcels(2_000)), Delivery::all(2_000));
        assert!(broker.came().iter().all(|one| one.producer == -1));
    }
}

#[test]
fn an_error_is_what_kafka_means_by_it() {
    for (code, batches, outcome) in [
        // Another leader is looked for at once.
        (6, 2, Ok(3)),
        // It has them already.
        (46, 1, Ok(3)),
        // It forgot the count.
        (59, 2, Ok(3)),
        // It takes no records of that time, but of now.
        (32, 2, Ok(3)),
        (19, 1, Err("NOT_ENOUGH_REPLICAS (19)")),
        (29, 1, Err("TOPIC_AUTHORIZATION_FAILED (29)")),
        (76, 1, Err("say `gzip = false`")),
        (999, 1, Err("an error (999)")),
    ] {
        let (broker, mut kafka) = kafka(acts(&[Act::Say(code)]));
        let delivery = kafka.deliver(&parcels(3));
        match outcome {
            Ok(taken) => assert_eq!(delivery, Delivery::all(taken), "{code}"),
            Err(expected) => {
                let why = later(delivery, 0);
                assert!(why.contains(expected), "{why}");
                assert_eq!(kafka.deliver(&parcels(3)), Delivery::all(3), "{code}");
            }
        }
        assert!(
            broker.came().len() >= batches,
            "{code}: {}",
            broker.came().len()
        );
    }
    // Nor of now: nothing is given up, since a clock may be set.
    let (broker, mut kafka) = kafka(acts(&[Act::Say(32), Act::Say(32)]));
    assert!(later(kafka.deliver(&parcels(3)), 0).contains("INVALID_TIMESTAMP"));
    assert_eq!(kafka.deliver(&parcels(3)), Delivery::all(3));
    assert_eq!(broker.came().len(), 3);
    // One that goes on is not asked for ever.
    let (broker, mut kafka) = self::kafka(acts(&[Act::Say(6); 9]));
    assert!(later(kafka.deliver(&parcels(3)), 0).contains("NOT_LEADER"));
    assert_eq!(broker.came().len(), 2);
}

#[test]
fn the_one_record_that_is_never_taken_is_found() {
    let (broker, mut kafka) = kafka(acts(&[Act::Most(100); 60]));
    assert_eq!(kafka.deliver(&parcels(1_000)), Delivery::all(1_000));
    // What was too much took no numbers, so those that were taken have all of them.
    let mut next = 0;
    for batch in broker.came().iter().filter(|batch| batch.count <= 100) {
        assert_eq!(usize::try_from(batch.sequence), Ok(next));
        next += batch.count;
    }
    assert_eq!(next, 1_000);
    let (_broker, mut kafka) = self::kafka(acts(&[Act::Say(10); 3]));
    let refused = kafka.deliver(&parcels(4));
    assert_eq!(refused.taken, 0);
    assert!(
        matches!(&refused.trouble, Some(Trouble::Refused(why)) if why.contains("MESSAGE_TOO_LARGE")),
        "{refused:?}"
    );
    assert_eq!(kafka.most, RECORDS);
    assert_eq!(kafka.deliver(&parcels(4)[1..]), Delivery::all(3));
}

#[test]
fn a_broker_that_is_busy_is_left_alone_for_a_while() {
    let (_broker, mut kafka) = kafka(acts(&[Act::Throttle(150)]));
    assert_eq!(kafka.deliver(&parcels(1)), Delivery::all(1));
    let began = Instant::now();
    assert_eq!(kafka.deliver(&parcels(1)), Delivery::all(1));
    assert!(began.elapsed().as_millis() >= 150);
}

#[test]
fn who_logs_in_is_let_in_and_who_cannot_is_told_why() {
    let broker = Broker::start(Script {
        login: Some("PLAIN"),
        ..Script::default()
    });
    let with = |login: Option<(Mechanism, &str)>| {
        let login = login.map(|(mechanism, password)| Login {
            mechanism,
            user: "ops".to_owned(),
            password: password.to_owned(),
        });
        Kafka::new(Settings {
            login,
            ..settings(&broker)
        })
        .deliver(&parcels(1))
    };
    assert_eq!(with(Some((Mechanism::Plain, "hunter2"))), Delivery::all(1));
    let why = later(with(Some((Mechanism::Plain, "hunter3"))), 0);
    assert!(
        why.ends_with("SASL_AUTHENTICATION_FAILED (58): who?"),
        "{why}"
    );
    let why = later(with(Some((Mechanism::Sha512, "hunter2"))), 0);
    assert!(
        why.contains("no login by SCRAM-SHA-512: it offers PLAIN"),
        "{why}"
    );
    assert!(later(with(None), 0).contains("hung up"));
}

#[test]
fn nobody_is_sent_to_other_hosts_without_tls() {
    let script = Script {
        leader: Some(("192.0.2.1", 9092)),
        ..Script::default()
    };
    let (_broker, mut kafka) = kafka(script);
    let why = later(kafka.deliver(&parcels(1)), 0);
    assert!(why.contains("sends us to 192.0.2.1:9092"), "{why}");
}

#[test]
fn a_topic_that_is_not_there_is_told_and_another_server_is_asked() {
    let without = Broker::start(Script {
        topic: 3,
        ..Script::default()
    });
    let with = Broker::start(Script::default());
    let mut kafka = Kafka::new(settings(&without));
    let why = later(kafka.deliver(&parcels(1)), 0);
    assert!(why.contains("say `create_topic = true`"), "{why}");
    let mut kafka = Kafka::new(Settings {
        servers: vec![without.endpoint(), with.endpoint()],
        ..settings(&without)
    });
    assert_eq!(kafka.deliver(&parcels(1)), Delivery::all(1));
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Say(0)),
        2 => Just(Act::Vanish),
        2 => (1_usize..40).prop_map(Act::Most),
        1 => prop_oneof![Just(6_i16), Just(7), Just(20), Just(-1)].prop_map(Act::Say),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a broker does: in the end it has everything, and, as it knows repetitions, has it once.
    #[test]
    fn a_broker_that_knows_repetitions_has_each_record_once(
        acts in proptest::collection::vec(any_act(), 0..14),
        pieces in proptest::collection::vec(1_usize..90, 1..5),
    ) {
        let count: usize = pieces.iter().sum();
        let (broker, mut kafka) = kafka(Script { acts: acts.clone(), ..Script::default() });
        let all = parcels(count as u128);
        let mut done = 0;
        let mut upto = 0;
        for piece in pieces {
            upto += piece;
            let mut attempts = 0;
            while done < upto {
                let delivery = kafka.deliver(&all[done..upto]);
                prop_assert!(!matches!(delivery.trouble, Some(Trouble::Refused(_))));
                done += delivery.taken;
                attempts += 1;
                prop_assert!(attempts < 40, "{acts:?}");
            }
        }
        let came = broker.came();
        let sum: usize = came.iter().filter(|one| one.is_taken).map(|one| one.count).sum();
        prop_assert_eq!(sum, count);
    }
}
