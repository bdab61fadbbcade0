use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use super::{Http, Settings, Shape};
use crate::net::http::{Client, Url, authorization};
use crate::sink::transport::testing::parcels;
use crate::sink::transport::{Delivery, Transport as _, Trouble};

const PATIENCE: Duration = Duration::from_secs(5);

/// What it takes to answer with these, one after the other; the last one again and again. Every body comes back.
fn server(
    answers: &'static [(&'static str, &'static str)],
) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, bodies) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut answers = answers
            .iter()
            .chain(std::iter::repeat(&answers[answers.len() - 1]));
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a client"));
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let (head, text) = answers.next().expect("an answer");
            let answer = format!(
                "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            // First: whoever has the answer looks for the body.
            let body = String::from_utf8_lossy(&body).into_owned();
            let is_over = sender.send(body).is_err();
            reader.get_mut().write_all(answer.as_bytes()).expect("sent");
            if is_over {
                return;
            }
        }
    });
    (port, bodies)
}

fn http(port: u16, shape: Shape) -> Http {
    let url = Url::parse(&format!("http://127.0.0.1:{port}/s3cret-path")).expect("a URL");
    Http::new(Settings {
        client: Client::new(url, None, None, PATIENCE).expect("right"),
        shape,
        authorization: Some(authorization("Bearer", "t0ken").expect("a header")),
        gzip: false,
        host: "web1".to_owned(),
        is_json: true,
        patience: PATIENCE,
    })
}

fn elasticsearch() -> Shape {
    Shape::Elasticsearch {
        index: "soc".to_owned(),
    }
}

#[test]
fn what_was_taken_behind_a_record_that_was_not_is_not_sent_again() {
    let (port, bodies) = server(&[
        (
            "200 OK",
            r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":429}},{"create":{"status":201}},
                {"create":{"status":400,"error":{"type":"bad","reason":"t0ken"}}}]}"#,
        ),
        ("200 OK", r#"{"errors":false}"#),
    ]);
    let mut http = http(port, elasticsearch());
    let all = parcels(4);
    let first = http.deliver(&all);
    assert_eq!(first.taken, 1);
    assert!(
        matches!(first.trouble, Some(Trouble::Later(_))),
        "{first:?}"
    );
    let second = http.deliver(&all[1..]);
    assert_eq!(second.taken, 2);
    let Some(Trouble::Refused(why)) = second.trouble else {
        panic!("{:?}", second.trouble)
    };
    assert!(why.contains("400 bad") && !why.contains("t0ken"), "{why}");
    assert_eq!(http.deliver(&all[4..]), Delivery::all(0));
    let bodies: Vec<String> = bodies.try_iter().collect();
    assert_eq!(bodies.len(), 2);
    assert!(
        bodies[1].contains("{\"n\":1}") && bodies[1].lines().count() == 2,
        "{}",
        bodies[1]
    );
}

#[test]
fn the_one_that_is_refused_is_found_and_the_others_are_taken() {
    let (port, bodies) = server(&[
        ("400 Bad Request", "no"),
        ("400 Bad Request", "no"),
        ("400 Bad Request", "no"),
        ("204 No Content", ""),
    ]);
    let mut http = http(
        port,
        Shape::Loki {
            labels: BTreeMap::new(),
        },
    );
    let all = parcels(4);
    let refused = http.deliver(&all);
    assert!(
        refused.taken == 0 && matches!(refused.trouble, Some(Trouble::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(http.deliver(&all[1..]), Delivery::all(3));
    // Four, two, one; then one and two.
    assert_eq!(bodies.try_iter().count(), 5);
}

#[test]
fn a_server_that_is_busy_says_when() {
    let (port, _bodies) = server(&[("429 Too Many Requests\r\nRetry-After: 7", "s3cret-path")]);
    let delivery = http(port, Shape::Lines).deliver(&parcels(2));
    let Some(Trouble::After(why, span)) = delivery.trouble else {
        panic!("{delivery:?}")
    };
    assert_eq!((delivery.taken, span), (0, Duration::from_secs(7)));
    assert!(
        why.starts_with("http://127.0.0.1:") && !why.contains("s3cret"),
        "{why}"
    );
    // A login that is refused may be right tomorrow.
    let (port, _bodies) = server(&[("401 Unauthorized", "")]);
    let delivery = http(port, Shape::Lines).deliver(&parcels(2));
    assert!(
        matches!(delivery.trouble, Some(Trouble::Later(_))),
        "{delivery:?}"
    );
}

#[test]
fn splunk_is_asked_until_it_has_it() {
    let (port, bodies) = server(&[
        ("200 OK", r#"{"text":"Success","code":0,"ackId":3}"#),
        ("200 OK", r#"{"acks":{"3":false}}"#),
        ("200 OK", r#"{"acks":{"3":true}}"#),
    ]);
    let mut http = http(
        port,
        Shape::Splunk {
            index: None,
            sourcetype: "portwatch".to_owned(),
            acknowledged: true,
        },
    );
    assert_eq!(http.deliver(&parcels(2)), Delivery::all(2));
    let bodies: Vec<String> = bodies.try_iter().collect();
    assert_eq!(bodies[1..], [r#"{"acks":[3]}"#, r#"{"acks":[3]}"#]);
}

#[test]
fn what_splunk_refuses_for_its_configuration_waits_for_another_one() {
    let shape = || Shape::Splunk {
        index: Some("soc".to_owned()),
        sourcetype: "portwatch".to_owned(),
        acknowledged: false,
    };
    for (answer, is_later) in [
        (
            (
                "400 Bad Request",
                r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#,
            ),
            true,
        ),
        (
            (
                "400 Bad Request",
                r#"{"text":"Data channel is missing","code":10}"#,
            ),
            true,
        ),
        (
            (
                "400 Bad Request",
                r#"{"text":"Invalid data format","code":6}"#,
            ),
            false,
        ),
    ] {
        let (port, _bodies) = server(Vec::leak(vec![answer]));
        let delivery = http(port, shape()).deliver(&parcels(2));
        assert_eq!(delivery.taken, 0);
        match delivery.trouble {
            Some(Trouble::Later(why)) => assert!(is_later && why.contains("400"), "{why}"),
            Some(Trouble::Refused(why)) => assert!(!is_later, "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
