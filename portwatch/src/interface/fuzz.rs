//! The control protocol in both directions: any bytes as a request, and any bytes as an answer.

use super::client::{ClientError, Piece};
use super::feed::Feed;
use super::protocol::{CODE_USAGE, MAX_REQUEST, Reply, Request, to_line};
use super::status::Status;
use crate::event::Event;
use crate::fuzzing::assert_plain;
use crate::sink::{MAX_LINE, Numbering, encode_line};

/// The property of the target `control`.
pub fn control(bytes: &[u8]) {
    let request = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    if request.len() < MAX_REQUEST {
        as_request(request);
    }
    as_answer(bytes);
    as_stream(bytes);
}

fn as_request(line: &[u8]) {
    match Request::parse(line) {
        Ok(request) => {
            let written = to_line(&request).unwrap_or_default();
            assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(Request::parse(&written), Ok(request));
        }
        Err(fault) => {
            assert_eq!(fault.code, CODE_USAGE);
            assert_plain(&fault.message);
            let refusal = to_line(&Reply::fault(fault.clone())).unwrap_or_default();
            let heard = Feed::of(&refusal[..]).next_data();
            assert!(matches!(heard, Err(ClientError::Refused(heard)) if heard == fault));
        }
    }
}

/// As `tail --states` reads: blocks, and lines between them.
fn as_stream(bytes: &[u8]) {
    let mut feed = Feed::of(bytes);
    let (mut lines, mut out) = (String::new(), Vec::new());
    loop {
        match feed.take(&mut lines) {
            Ok(Some(Piece::States(states))) => {
                let mut numbering = Numbering::default();
                numbering.go_on_with(states.first_seq());
                for index in 0..states.count() {
                    out.clear();
                    numbering.append_state(&states, index, &mut out);
                    assert!(out.len() <= MAX_LINE && out.ends_with(b"\n"));
                }
            }
            Ok(Some(Piece::Lines)) => assert!(lines.ends_with('\n')),
            Ok(Some(Piece::End)) => return,
            Ok(None) => match feed.fill() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return assert_plain(&error.to_string()),
            },
            Err(error) => return assert_plain(&error.to_string()),
        }
    }
}

fn as_answer(bytes: &[u8]) {
    let mut lines = Feed::of(bytes);
    // Each turn takes a line, so there are no more turns than lines.
    for _ in bytes.split(|byte| *byte == b'\n') {
        match lines.next_data() {
            Ok(Some(line)) => as_data(&line),
            Ok(None) => return,
            Err(error) => {
                assert_plain(&error.to_string());
                return;
            }
        }
    }
    assert!(matches!(lines.next_data(), Err(ClientError::Lost)));
}

fn as_data(line: &str) {
    assert!(!line.contains('\n'));
    if let Ok(event) = serde_json::from_str::<Event>(line) {
        let again = encode_line(&event);
        assert!(again.len() <= MAX_LINE && again.ends_with(b"\n"));
        let again: Result<Event, _> = serde_json::from_slice(&again);
        let was_short = line.len() < MAX_LINE / 8;
        assert!(again.is_ok_and(|again| again == event || !was_short));
        crate::daemon::fuzz::assert_shown_plain(&event);
    }
    if let Ok(status) = serde_json::from_str::<Status>(line) {
        status.human(false).lines().for_each(assert_plain);
    }
}

/// Requests, answers, and what is neither.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::protocol::{Fault, Verb};
    use crate::sink::Item;

    let request = Request {
        filter: Some("tcp port:80".to_owned()),
        states: true,
        since_ms: Some(600_000),
        ..Request::new(Verb::Tail)
    };
    let line = |value: &Reply| to_line(value).expect("JSON");
    let mut answer = Vec::new();
    for event in crate::event::example::examples().iter().take(3) {
        answer.extend(encode_line(event));
    }
    answer.extend(line(&Reply::end()));
    let status = to_line(&super::human::tests::status()).expect("JSON");
    let mut blocks = Vec::new();
    for first in [1, 40] {
        if let Item::States(states) = crate::sink::testing::states(first, 3) {
            Numbering::default().append_blocks(&states, |_| true, &mut blocks);
        }
    }
    let later = br#"{"ok":true,"novelty":[1],"replay_from":"2026-11-21T19:42:01Z"}"#;
    vec![
        ("tail", to_line(&request).expect("JSON")),
        ("list", to_line(&Request::new(Verb::List)).expect("JSON")),
        ("status", [status, line(&Reply::end())].concat()),
        ("events", answer),
        ("blocks", blocks),
        (
            "refusal",
            line(&Reply::fault(Fault::usage("no\u{1b}[2J".to_owned()))),
        ),
        ("accepted", line(&Reply::accepted(None))),
        ("later", later.to_vec()),
        ("version", br#"{"portwatch":2,"request":"dance"}"#.to_vec()),
        ("half", br#"{"schema":"portwatch.event/1","#.to_vec()),
    ]
}
