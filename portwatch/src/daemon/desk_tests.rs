//! What the desk puts into queues, over restarts, maintenances and new configurations. Nothing is delivered: the
//! server is a closed port.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Alerting, Desk, FOLDER};
use crate::alert::{Message, Spool};
use crate::baseline::Frame;
use crate::config::Config;
use crate::daemon::alerts;
use crate::event::{Event, EventType, Policy, PolicyState, Severity};
use crate::interface::server::Query;
use crate::sink::{Bus, Limits, Line, testing};

const MAIL: &str =
    "[email]\nto = \"ops@example.org\"\nserver = \"127.0.0.1:9\"\nwindow = \"1ms\"\n";

fn config(text: &str) -> Config {
    let mut config = Config::default();
    let mistakes = crate::config::apply_text(&mut config, text);
    assert_eq!(mistakes, [""; 0]);
    config
}

fn desk(state: &Path, text: &str) -> Desk {
    Desk::open(alerting(state, text)).expect("a desk")
}

fn alerting(state: &Path, text: &str) -> Alerting {
    let config = config(text);
    Alerting {
        channels: config.channels,
        windows: config.maintenance,
        state_dir: state.to_owned(),
        host: "web1".to_owned(),
        frame: Frame {
            netns: 1,
            ephemeral: 32768..=60999,
        },
    }
}

fn event(kind: EventType, port: u16) -> Arc<Event> {
    let mut event = testing::listener(kind, port, 7, "/usr/bin/nc");
    if let Some(socket) = &mut event.socket {
        socket.inode = Some(u64::from(port));
    }
    event.severity = Severity::Notice;
    event.message = format!("nc and {port}");
    event.policy = Some(Policy {
        state: PolicyState::New,
        rule: "default".to_owned(),
    });
    Arc::new(event)
}

/// Shows the desk these events, and lets it work until nothing waits but memory.
async fn see(desk: &mut Desk, events: &[Arc<Event>]) {
    for event in events {
        desk.observe(event, &super::now());
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    desk.work().await;
}

async fn start(state: &Path, text: &str, present: &[Arc<Event>]) -> Desk {
    let mut desk = desk(state, text);
    see(&mut desk, present).await;
    let ready = Arc::new(testing::event(1, EventType::SensorReady));
    see(&mut desk, &[ready]).await;
    desk
}

/// What was queued, as sentences; it is not there any more afterwards.
fn told(state: &Path, channel: &str) -> Vec<String> {
    let queue = state.join(FOLDER).join(channel);
    let spool = Spool::open(&queue, super::Bounds::default()).expect("a queue");
    let mut told = Vec::new();
    while let Some(message) = spool.first(|_| true).expect("read") {
        let Message { id, entries, .. } = message;
        told.extend(entries.iter().map(crate::alert::Entry::sentence));
        spool.done(id).expect("done");
    }
    told
}

#[tokio::test]
async fn one_message_for_a_begin_and_one_for_its_end_and_none_for_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let state = dir.path();
    let mut first = start(state, MAIL, &[event(EventType::ListenerPresent, 80)]).await;
    assert_eq!(told(state, "email"), [""; 0], "what was there is no news");
    see(&mut first, &[event(EventType::ListenerOpened, 4444)]).await;
    assert_eq!(told(state, "email"), ["nc and 4444"]);
    first.close().await;

    let present = [80, 4444].map(|port| event(EventType::ListenerPresent, port));
    let mut second = start(state, MAIL, &present).await;
    assert_eq!(told(state, "email"), [""; 0]);
    see(&mut second, &[event(EventType::ListenerClosed, 4444)]).await;
    see(&mut second, &[event(EventType::ListenerClosed, 80)]).await;
    assert_eq!(told(state, "email"), ["nc and 4444"], "80 was never told");
}

#[tokio::test]
async fn what_ended_while_nobody_watched_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let state = dir.path();
    let mut first = start(state, MAIL, &[]).await;
    see(&mut first, &[event(EventType::ListenerOpened, 4444)]).await;
    first.close().await;
    told(state, "email");
    start(state, MAIL, &[]).await;
    assert_eq!(
        told(state, "email"),
        ["nc and 4444: it ended while portwatch did not run"]
    );
}

/// Killed between an incident and its message: the next run tells it.
#[tokio::test]
async fn what_waits_is_not_forgotten() {
    let dir = tempfile::tempdir().expect("dir");
    let state = dir.path();
    let patient = MAIL.replace("1ms", "1h");
    let mut first = start(state, &patient, &[]).await;
    see(&mut first, &[event(EventType::ListenerOpened, 4444)]).await;
    see(&mut first, &[event(EventType::ListenerClosed, 4444)]).await;
    first.close().await;
    assert_eq!(told(state, "email"), [""; 0]);
    start(state, MAIL, &[]).await;
    let [sentence] = told(state, "email").try_into().expect("one");
    assert!(
        sentence.starts_with("nc and 4444; over after"),
        "{sentence}"
    );
}

/// More at once than the queue to the desk holds: what it missed is asked for.
#[tokio::test]
async fn what_did_not_fit_into_the_queue_is_told_all_the_same() {
    let dir = tempfile::tempdir().expect("dir");
    let short = Limits {
        lines: 4,
        bytes: 1 << 20,
    };
    let bus = Bus::new(short, short);
    let running = alerts::start(alerting(dir.path(), MAIL), &bus).expect("running");
    bus.publish(&Line::new(Arc::new(testing::event(
        1,
        EventType::SensorReady,
    ))));
    tokio::task::yield_now().await;
    let opened: Vec<_> = (4001..=4010)
        .map(|port| event(EventType::ListenerOpened, port))
        .collect();
    for event in &opened {
        bus.publish(&Line::new(Arc::clone(event)));
    }
    let (queries, mut asked) = mpsc::channel(1);
    running.pipeline.set(queries).expect("set once");
    let question = tokio::time::timeout(Duration::from_secs(5), asked.recv());
    let Some(Query::List(answer)) = question.await.expect("it asks") else {
        panic!("another question");
    };
    answer.send(opened).expect("waiting");
    tokio::time::sleep(Duration::from_millis(20)).await;
    bus.close();
    running.task.await.expect("ended");
    let told = told(dir.path(), "email");
    for port in 4001..=4010 {
        let sentence = format!("nc and {port}");
        let times = told.iter().filter(|told| **told == sentence).count();
        assert_eq!(times, 1, "{sentence}: {told:?}");
    }
}

#[tokio::test]
async fn in_a_maintenance_nothing_is_told_and_after_it_what_is_left() {
    let dir = tempfile::tempdir().expect("dir");
    let state = dir.path();
    let always = "[[maintenance]]\nfrom = \"2000-01-01T00:00\"\nto = \"2100-01-01T00:00\"\nmatch = \"not port == 99\"\n";
    let mut desk = start(state, &format!("{MAIL}{always}"), &[]).await;
    let opened = [4444, 5555, 99].map(|port| event(EventType::ListenerOpened, port));
    see(&mut desk, &opened).await;
    see(&mut desk, &[event(EventType::ListenerClosed, 4444)]).await;
    assert_eq!(told(state, "email"), ["nc and 99"]);
    desk.close().await;
    let present = [5555, 99].map(|port| event(EventType::ListenerPresent, port));
    start(state, MAIL, &present).await;
    assert_eq!(told(state, "email"), ["nc and 5555"]);
}

#[tokio::test]
async fn a_new_configuration_is_taken_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("dir");
    let state = dir.path();
    let mut desk = start(state, "", &[]).await;
    assert!(!desk.is_needed());
    let wrong = config(&format!(
        "{}[[email]]\nname = \"b\"\nto = \"a@b.c\"\nserver = \"mx\"\nca_file = \"/nowhere/ca.pem\"\n",
        MAIL.replace("[email]", "[[email]]")
    ));
    let why = desk
        .apply(wrong.channels, vec![])
        .expect_err("no such file");
    assert!(why.contains("/nowhere/ca.pem"), "{why}");
    assert!(!desk.is_needed());

    desk.apply(config(MAIL).channels, vec![]).expect("right");
    see(&mut desk, &[event(EventType::ListenerOpened, 4444)]).await;
    assert_eq!(told(state, "email"), ["nc and 4444"]);
    desk.apply(vec![], vec![]).expect("right");
    assert!(!desk.is_needed() && desk.courses().status().is_empty());
}
