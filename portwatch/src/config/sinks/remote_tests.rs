use std::path::Path;
use std::time::Duration;

use super::Kind;
use super::tests::{one_mistake, parsed};
use crate::render::Format;
use crate::sink::transport::http::Shape;
use crate::sink::transport::kafka::Mechanism;

#[test]
fn every_key_of_those_with_a_peer_is_taken() {
    let (sinks, mistakes) = parsed(
        "[[sink]]\ntype = \"syslog\"\naddress = \"tls://siem.example.org:6514\"\nca_file = \"/ca\"\ncert_file = \"/c\"\n\
         key_file = \"key\"\ntimeout = \"5s\"\nconfirm = false\nfacility = \"local0\"\ntag = \"pw\"\nsocket = \"/s\"\n\
         buffer_mib = 7\nwhen_full = \"drop-newest\"\n\
         [[sink]]\ntype = \"relp\"\naddress = \"tcp://[::1]:2514\"\n\
         [[sink]]\ntype = \"journald\"\nsocket = \"/j\"\ntimeout = \"1s\"\n\
         [[sink]]\ntype = \"elasticsearch\"\nurl = \"https://es:9200\"\nindex = \"soc\"\nuser = \"u\"\npassword_file = \"p\"\n\
         [[sink]]\ntype = \"splunk\"\nurl = \"https://s\"\ntoken_file = \"t\"\nindex = \"i\"\nsourcetype = \"x:y\"\nacknowledged = true\n\
         [[sink]]\ntype = \"loki\"\nurl_file = \"/u\"\nlabels = { env = \"prod\" }\ngzip = false\n\
         [[sink]]\ntype = \"otlp\"\nurl = \"http://127.0.0.1:4318\"\n\
         [[sink]]\ntype = \"http\"\nurl = \"http://10.0.0.1/x\"\ninsecure = true\nbody = \"array\"\n\
         [[sink]]\ntype = \"nats\"\nservers = [\"tls://a:4222\", \"tls://b:4222\"]\nsubject = \"x.{type}\"\nstream = \"E\"\n\
         create_stream = true\ncredentials_file = \"/c\"\n\
         [[sink]]\ntype = \"kafka\"\nservers = [\"tls://a:9093\", \"tls://b:9093\"]\ntopic = \"soc.events\"\n\
         create_topic = true\ngzip = false\nuser = \"u\"\npassword_file = \"p\"\nmechanism = \"scram-sha-256\"\n",
    );
    assert_eq!(mistakes, [""; 0]);
    let kinds: Vec<&str> = sinks.iter().map(|sink| sink.kind.as_str()).collect();
    assert_eq!(kinds, Kind::TYPES[2..]);
    for sink in &sinks {
        let takes_ecs = sink.kind.as_str() == "elasticsearch";
        let usual = if takes_ecs { Format::Ecs } else { Format::Json };
        assert_eq!(sink.format, usual, "{}", sink.name);
    }
    let Kind::Syslog(syslog) = &sinks[0].kind else {
        panic!("{sinks:?}")
    };
    let address = syslog.address.as_ref().expect("an address");
    assert_eq!(
        (address.tls, address.host.as_str(), address.port),
        (true, "siem.example.org", 6514)
    );
    assert_eq!(
        (syslog.confirm, syslog.facility, syslog.tag.as_str()),
        (false, 16, "pw")
    );
    assert_eq!(syslog.way.timeout, Duration::from_secs(5));
    assert_eq!(syslog.way.key_file.as_deref(), Some(Path::new("key")));
    assert_eq!(sinks[0].buffer.mib, 7);
    let shapes: Vec<&Shape> = sinks
        .iter()
        .filter_map(|sink| match &sink.kind {
            Kind::Http(http) => Some(&http.shape),
            _ => None,
        })
        .collect();
    assert!(matches!(shapes[0], Shape::Elasticsearch { index } if index == "soc"));
    assert!(
        matches!(shapes[1], Shape::Splunk { index: Some(index), acknowledged: true, .. } if index == "i")
    );
    assert!(matches!(shapes[2], Shape::Loki { labels } if labels.len() == 1));
    assert_eq!(shapes[4], &Shape::Array);
    let Kind::Nats(nats) = &sinks[8].kind else {
        panic!("{sinks:?}")
    };
    assert_eq!((nats.servers.len(), nats.create_stream), (2, true));
    let Kind::Kafka(kafka) = &sinks[9].kind else {
        panic!("{sinks:?}")
    };
    assert_eq!(
        (kafka.topic.as_str(), kafka.create_topic, kafka.gzip),
        ("soc.events", true, false)
    );
    assert_eq!(kafka.mechanism, Some(Mechanism::Sha256));
}

#[test]
fn what_is_wrong_with_a_peer_is_told_at_its_place() {
    for (keys, expected) in [
        (
            "syslog\"\naddress = \"siem:514\"",
            "expected an address such as",
        ),
        (
            "syslog\"\naddress = \"tls://siem\"",
            "expected an address such as",
        ),
        (
            "syslog\"\naddress = \"tls://a b:1\"",
            "expected an address such as",
        ),
        (
            "syslog\"\naddress = \"tcp://siem:514\"",
            "say `insecure = true`",
        ),
        (
            "syslog\"\naddress = \"tls://s:1\"\ncert_file = \"/c\"",
            "go together",
        ),
        ("relp\"", "needs an `address`"),
        (
            "relp\"\naddress = \"tls://s:1\"\nconfirm = true",
            "belongs to sinks of type syslog",
        ),
        ("elasticsearch\"", "needs an address"),
        (
            "elasticsearch\"\nurl = \"https://e\"\nformat = \"cef\"",
            "takes JSON alone",
        ),
        (
            "elasticsearch\"\nurl = \"https://e\"\nindex = \"a/b\"",
            "expected an index",
        ),
        ("splunk\"\nurl = \"https://s\"", "needs its token"),
        (
            "loki\"\nurl = \"https://l\"\nlabels = { host = \"x\" }",
            "expected at most 12 labels",
        ),
        (
            "http\"\nurl = \"http://10.0.0.1/\"\ninsecure = true\ntoken_file = \"t\"",
            "a secret never goes",
        ),
        ("otlp\"\nurl = \"https://o\"\nuser = \"u\"", "go together"),
        ("nats\"", "needs its `servers`"),
        (
            "nats\"\nservers = \"tls://n:1\"\ncreate_stream = true",
            "needs the name of the `stream`",
        ),
        (
            "nats\"\nservers = \"tls://n:1\"\nsubject = \"a.>\"",
            "expected parts of letters",
        ),
        (
            "nats\"\nservers = \"tls://n:1\"\ntoken_file = \"t\"\ncredentials_file = \"c\"",
            "choose one",
        ),
        (
            "nats\"\nservers = \"tcp://n:1\"\ninsecure = true\ntoken_file = \"t\"",
            "a secret never goes",
        ),
        ("kafka\"", "needs its `servers`"),
        (
            "kafka\"\nservers = \"tls://k:1\"\ntopic = \"a/b\"",
            "expected a name of at most 249",
        ),
        (
            "kafka\"\nservers = \"tls://k:1\"\nuser = \"u\"",
            "go together",
        ),
        (
            "kafka\"\nservers = \"tls://k:1\"\nmechanism = \"plain\"",
            "give it as well",
        ),
        (
            "kafka\"\nservers = \"tls://k:1\"\nuser = \"u\"\npassword_file = \"p\"\nmechanism = \"gssapi\"",
            "expected one of plain, scram-sha-256, scram-sha-512",
        ),
        (
            "kafka\"\nservers = [\"tls://k:1\", \"tcp://127.0.0.1:1\"]",
            "all of them with tls://, or none",
        ),
        (
            "kafka\"\nservers = \"tcp://k:1\"\ninsecure = true\nuser = \"u\"\npassword_file = \"p\"",
            "a secret never goes",
        ),
    ] {
        let mistake = one_mistake(&format!("[[sink]]\ntype = \"{keys}\n"));
        assert!(mistake.contains(expected), "{keys}: {mistake}");
    }
}

#[test]
fn an_index_that_elasticsearch_refuses_is_refused_at_its_place() {
    let input = |index: &str| {
        format!("[[sink]]\ntype = \"elasticsearch\"\nurl = \"https://e\"\nindex = \"{index}\"\n")
    };
    let long = "x".repeat(256);
    for index in [
        ".", "..", "Logs", "-a", "_a", "+a", "a b", "a,b", "a#b", "a:b", "a*", "a?", "a<b", "a>b",
        "a|b", "a\\\\b", "a\\\"b", "é", &long,
    ] {
        let mistake = one_mistake(&input(index));
        assert!(
            mistake.contains("index: expected an index such as"),
            "{mistake}"
        );
        assert!(mistake.ends_with("\n            ^"), "{mistake}");
    }
    for index in [
        "logs-portwatch-default",
        ".hidden",
        "a+b_c.d-1",
        "7",
        &long[1..],
    ] {
        let (_, mistakes) = parsed(&input(index));
        assert_eq!(mistakes, [""; 0], "{index}");
    }
}
