//! What filters mean and how they complain, example by example.

use super::*;
use crate::event::EventType;
use crate::event::example::examples;

/// The types of matching examples, those of storms and scans left out.
fn matching(filter: &str) -> Vec<&'static str> {
    let mut hits = matching_all(filter);
    hits.retain(|kind| !kind.starts_with("storm.") && !kind.starts_with("scan."));
    hits
}

fn matching_all(filter: &str) -> Vec<&'static str> {
    let parsed = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    let events = examples();
    let hits = events.iter().filter(|event| parsed.matches(event));
    hits.map(|event| event.kind.as_str()).collect()
}

#[test]
fn storms_and_scans_are_chosen_by_their_fields() {
    const STORMS: [&str; 3] = ["storm.started", "storm.updated", "storm.ended"];
    assert_eq!(matching_all("storm == syn-flood and port:80"), STORMS);
    assert_eq!(matching_all("storm.kind != syn-flood"), [""; 0]);
    assert_eq!(matching_all("rate > 470"), ["storm.started"]);
    assert_eq!(
        matching_all("storm.peers.prefix =~ \"203.0.113.*\""),
        STORMS
    );
    assert_eq!(matching_all("source == 203.0.113.66"), ["scan.detected"]);
    assert_eq!(matching_all("scan:vertical"), ["scan.detected"]);
    assert_eq!(
        matching_all("response:block dry_run:false"),
        ["storm.response"]
    );
}

fn normal(filter: &str) -> String {
    Filter::parse(filter)
        .unwrap_or_else(|error| panic!("{error}"))
        .to_string()
}

fn refused(filter: &str) -> (usize, String) {
    let error = Filter::parse(filter).expect_err(filter);
    (error.column(), error.message().to_owned())
}

const HTTP: [&str; 5] = [
    "listener.opened",
    "listener.changed",
    "bind.failed",
    "listener.down",
    "listener.recovered",
];
const NGINX: [&str; 4] = [HTTP[0], HTTP[1], HTTP[3], HTTP[4]];

#[test]
fn comparisons_select() {
    assert_eq!(matching("port == 80"), HTTP);
    assert_eq!(matching("socket.port in 1..1023 and proto == tcp"), HTTP);
    assert_eq!(matching("port in (80, 443) and user == root"), NGINX);
    assert_eq!(
        matching("port in {6379}"),
        ["listener.closed", "connection.state"]
    );
    assert_eq!(
        matching("severity >= warning"),
        ["listener.down", "sensor.degraded", "gap"]
    );
    assert_eq!(matching("exposure > loopback"), HTTP);
    assert_eq!(matching("state == established"), ["connection.state"]);
    assert_eq!(matching("duration > 192449"), ["listener.closed"]);
    assert_eq!(matching("gap.from < 2026-11-21T19:41:59Z"), ["gap"]);
    assert_eq!(matching("exe_deleted == true"), [""; 0]);
}

#[test]
fn text_is_matched_whole_by_glob_or_by_part() {
    assert_eq!(matching("exe =~ \"/usr/*nginx\""), NGINX);
    assert_eq!(matching("exe =~ nginx"), [""; 0]);
    assert_eq!(matching("command contains 'daemon on'"), NGINX);
    assert_eq!(matching("args:-g"), NGINX);
    assert_eq!(
        matching("type:sensor.*"),
        ["sensor.ready", "sensor.degraded"]
    );
    assert_eq!(
        matching("container:3f2a*"),
        ["listener.closed", "connection.state"]
    );
}

#[test]
fn addresses_are_numbers_and_mapped_ones_count_as_ipv4() {
    assert_eq!(matching("address in 10.0.0.0/8"), ["connection.state"]);
    assert_eq!(matching("peer == 10.0.0.9"), ["connection.state"]);
    assert_eq!(
        matching("address in (127.0.0.0/8, ::1)"),
        ["listener.closed"]
    );
    assert_eq!(matching("addr:0.0.0.0"), HTTP);
}

#[test]
fn the_short_form_says_the_same() {
    assert_eq!(matching("tcp port:80 user:www-data"), ["bind.failed"]);
    assert_eq!(matching("port:80,443"), HTTP);
    assert_eq!(matching("port:1..100"), HTTP);
    assert_eq!(matching("listener.opened"), ["listener.opened"]);
    assert_eq!(matching("unix"), ["listener.present"]);
    assert_eq!(matching("ipv6 ESTABLISHED"), ["connection.state"]);
    assert_eq!(matching("name:ngin*,redis* tcp").len(), 6);
    assert_eq!(matching("command:\"nginx -g daemon on;\""), NGINX);
}

#[test]
fn and_binds_more_than_or_and_not_more_than_both() {
    assert_eq!(
        matching("gap or tcp port:80"),
        [HTTP.as_slice(), &["gap"]].concat()
    );
    assert_eq!(matching("not tcp"), ["listener.present"]);
    assert_eq!(matching("gap || !tcp && unix"), ["listener.present", "gap"]);
}

#[test]
fn what_is_absent_satisfies_nothing() {
    assert_eq!(
        matching("port == 80 or port != 80 or not port == 80").len(),
        7
    );
    assert_eq!(matching("not (container:x and pid:1)").len(), 7);
    assert_eq!(matching("unresolved contains gone"), ["bind.failed"]);
}

#[test]
fn lists_match_by_any_and_differ_by_all() {
    assert_eq!(matching("owner == dockerd"), ["listener.present"]);
    assert_eq!(matching("owner != dockerd"), ["listener.changed"]);
    assert_eq!(matching("owners.pid not in (640, 7)"), ["listener.changed"]);
}

#[test]
fn no_terms_match_everything() {
    assert_eq!(matching_all("  ").len(), EventType::ALL.len());
    assert!(Filter::parse_args(&[]).expect("no filter").matches_all());
}

#[test]
fn the_normal_form_is_the_long_form() {
    for (written, expected) in [
        (
            "tcp port:8080 user:www-data",
            "proto == tcp and port == 8080 and user == www-data",
        ),
        ("port:80,443", "port in (80, 443)"),
        ("port:1..2", "port in 1..2"),
        (
            "(udp or tcp) and not (port:1 or port:2)",
            "(proto == udp or proto == tcp) and not (port == 1 or port == 2)",
        ),
        ("name:a*,b", "name =~ \"a*\" or name == b"),
        ("exe == '/x\ty'", "exe == \"/x\\x09y\""),
        ("address:10.1.2.3/8", "address in 10.0.0.0/8"),
        ("pid not in {1,2}", "pid not in (1, 2)"),
    ] {
        assert_eq!(normal(written), expected);
    }
}

#[test]
fn words_from_a_shell_are_one_filter() {
    let parse = |args: &[&str]| {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        Filter::parse_args(&args).map(|filter| filter.to_string())
    };
    let spaced = Ok("exe == \"/opt/my app\" and proto == tcp".to_owned());
    assert_eq!(parse(&["exe", "==", "/opt/my app", "tcp"]), spaced);
    assert_eq!(parse(&["exe == \"/opt/my app\"", "tcp"]), spaced);
    assert_eq!(parse(&["error", "==", ""]), Ok("error == \"\"".to_owned()));
    assert_eq!(
        parse(&["tcp", "port:1"]),
        Ok("proto == tcp and port == 1".to_owned())
    );
}

#[test]
fn faults_name_the_place_and_the_remedy() {
    for (filter, column, part) in [
        (
            "tcp prt:80",
            5,
            "`prt` is not a field; did you mean `port`?",
        ),
        ("htpp", 1, "is not a protocol"),
        ("tpc", 1, "did you mean `tcp`?"),
        ("port", 1, "`port` is a field; write `port:…`"),
        (
            "port == http",
            9,
            "`port` is a whole number from 0 to 65535, not `http`",
        ),
        ("port:99999", 6, "65535"),
        ("proto == tpc", 10, "did you mean `tcp`?"),
        ("name < a", 8, "no order"),
        ("port =~ 8*", 9, "for text"),
        ("address == 10.0.0.0/8", 12, "`in`"),
        ("port in 9..1", 9, "write 1..9"),
        ("(tcp", 1, "never closed"),
        ("tcp)", 4, "nothing is open"),
        ("port in (1, 2}", 14, "`)`"),
        ("tcp and", 8, "ends where a term"),
        ("tcp or or udp", 8, "before `or`"),
        ("port == ", 8, "a value should follow"),
        ("port == (1, 2)", 9, "lists go with `in`"),
        ("user: root", 1, "at once"),
        ("\"x\"", 1, "needs a field"),
        ("name == \"x", 9, "no closing quote"),
        ("tcp, udp", 4, "does not belong here"),
    ] {
        let (at, message) = refused(filter);
        assert!(message.contains(part), "{filter}: {message}");
        assert_eq!(at, column, "{filter}: {message}");
    }
}

#[test]
fn an_error_prints_its_place() {
    let error = Filter::parse("tcp prt:80").expect_err("no such field");
    assert_eq!(
        error.to_string(),
        "filter, column 5: `prt` is not a field; did you mean `port`?\n  tcp prt:80\n      ^^^"
    );
}

#[test]
fn the_deepest_filter_parses_back_from_its_normal_form() {
    let deep = |levels| format!("{}exe:/a*,/b*", "not ".repeat(levels));
    let deepest = Filter::parse(&deep(MAX_DEPTH - 1)).expect("a filter");
    assert_eq!(Filter::parse(&deepest.to_string()), Ok(deepest));
    assert!(refused(&deep(MAX_DEPTH)).1.contains("64 levels"));
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = |levels| format!("{}tcp{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Filter::parse(&deep(MAX_DEPTH)).is_ok());
    assert!(refused(&deep(MAX_DEPTH + 1)).1.contains("64 levels"));
    assert!(
        refused(&format!("{} tcp", "not ".repeat(2_000)))
            .1
            .contains("64 levels")
    );
    let long = "tcp ".repeat(MAX_BYTES / 4);
    assert!(Filter::parse(&long).is_ok());
    assert!(refused(&(long + "x")).1.contains("8193 bytes"));
}
