//! Every Sigma rule fires on the events that it is about, and on no other.

use std::collections::{BTreeMap, BTreeSet};

use portwatch::event::Protocol;
use portwatch::event::fields::FIELDS;
use portwatch::event::misuse;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::sigma::{matches, most};
use crate::{events, shipped};

/// Rules, and the `seq` of the events that each fires on. Pinned ones of variants begin at 1001, those by hand at 2001.
const FIRE: [(&str, &[u64]); 13] = [
    ("deleted_executable_listens", &[1001, 2006]),
    ("denied_by_policy", &[1001]),
    ("expected_listener_down", &[7, 1011]),
    ("interpreter_listens", &[2003, 2004]),
    ("memory_executable_listens", &[1002]),
    ("misused_port_listens", &[1002, 2003]),
    ("packet_socket_opened", &[1004]),
    ("scan", &[16, 1023]),
    ("sensor_degraded", &[10, 1014]),
    ("sensor_gap", &[11, 1013, 2010]),
    ("storm", &[13, 1018, 1019, 1020, 1021]),
    ("temporary_folder_listens", &[1001]),
    ("web_user_listens", &[1001, 2004]),
];

fn documents(name: &str) -> Vec<Yaml> {
    let path = shipped("sigma").join(format!("{name}.yml"));
    let text = std::fs::read_to_string(path).expect(name);
    YamlLoader::load_from_str(&text).expect("YAML")
}

fn names() -> BTreeSet<String> {
    let files = std::fs::read_dir(shipped("sigma")).expect("a folder");
    let stem = |file: std::fs::DirEntry| file.path().file_stem()?.to_str().map(str::to_owned);
    files
        .map(|file| stem(file.expect("a file")).expect("a name"))
        .collect()
}

#[test]
fn every_rule_fires_on_its_events_and_on_no_other() {
    let events = events();
    let fired = |rule: &Yaml| -> Vec<u64> {
        let found = events.iter().filter(|event| matches(rule, event));
        found
            .map(|event| event["seq"].as_u64().expect("seq"))
            .collect()
    };
    let mut known: BTreeSet<String> = BTreeSet::from(["bind_refused_burst".to_owned()]);
    for (name, expected) in FIRE {
        let [rule] = &documents(name)[..] else {
            panic!("{name} has one document");
        };
        assert_eq!(fired(rule), expected, "{name}");
        known.insert(name.to_owned());
    }
    assert_eq!(names(), known);
}

#[test]
fn refused_binds_are_counted_by_program_and_time() {
    let [base, rule] = &documents("bind_refused_burst")[..] else {
        panic!("a rule and its correlation");
    };
    assert_eq!(rule["correlation"]["rules"][0], base["name"]);
    let gte = rule["correlation"]["condition"]["gte"]
        .as_i64()
        .expect("gte");
    let least = usize::try_from(gte).expect("a count");
    let refused = |nth: usize, apart: usize, name: &str| -> Value {
        let all = events();
        let mut event = all
            .into_iter()
            .find(|event| event["type"] == "bind.failed")
            .expect("one");
        let second = nth * apart;
        event["ts"] = format!("2026-11-21T19:{:02}:{:02}.5Z", second / 60, second % 60).into();
        event["process"]["name"] = name.into();
        event
    };
    let burst: Vec<Value> = (0..least).map(|nth| refused(nth, 2, "a")).collect();
    assert!(most(rule, base, &burst) >= least);
    let slow: Vec<Value> = (0..least).map(|nth| refused(nth, 60, "a")).collect();
    assert!(most(rule, base, &slow) < least, "one a minute is none");
    let names = ["a", "b"];
    let two: Vec<Value> = (0..least)
        .map(|nth| refused(nth, 2, names[nth % 2]))
        .collect();
    assert!(
        most(rule, base, &two) < least,
        "two programs, half of it each"
    );
    assert!(most(rule, base, &events()) < least);
}

#[test]
fn rules_are_complete_and_say_what_we_say() {
    let mut ids = BTreeSet::new();
    let fields: BTreeSet<&str> = FIELDS.iter().map(|field| field.name).collect();
    let levels = ["informational", "low", "medium", "high", "critical"];
    for name in names() {
        for rule in documents(&name) {
            for key in ["title", "id", "status", "description", "date", "level"] {
                assert!(rule[key].as_str().is_some(), "{name}: {key}");
            }
            let id = rule["id"].as_str().expect("an id").to_owned();
            assert!(
                uuid::Uuid::parse_str(&id).is_ok() && ids.insert(id),
                "{name}"
            );
            assert!(levels.contains(&rule["level"].as_str().unwrap_or_default()));
            if rule["correlation"].is_badvalue() {
                assert_eq!(rule["logsource"]["product"].as_str(), Some("portwatch"));
                for field in named(&rule["detection"]) {
                    assert!(fields.contains(&*field), "{name}: no field {field}");
                }
            }
        }
    }
}

/// The fields that selections name, without their modifiers.
fn named(of: &Yaml) -> BTreeSet<String> {
    let maps = match of {
        Yaml::Hash(map) => map.iter().collect::<Vec<_>>(),
        Yaml::Array(items) => return items.iter().flat_map(named).collect(),
        _ => return BTreeSet::new(),
    };
    let mut found = BTreeSet::new();
    for (key, value) in maps {
        let key = key.as_str().expect("a name");
        let is_field = key == "type" || key.contains('.');
        if is_field {
            found.insert(key.split('|').next().unwrap_or_default().to_owned());
        } else {
            found.extend(named(value));
        }
    }
    found
}

#[test]
fn ports_of_the_rule_are_those_of_the_table() {
    let rule = &documents("misused_port_listens")[0];
    let mut ports: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for (selection, protocol) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)] {
        let listed = rule["detection"][selection]["socket.port"]
            .as_vec()
            .expect("ports");
        for port in listed {
            let port = u16::try_from(port.as_i64().expect("a number")).expect("a port");
            assert!(
                misuse::of(port, protocol).next().is_some(),
                "{port}/{selection}"
            );
            ports.entry(selection).or_default().push(port);
        }
        assert!(ports[selection].is_sorted());
    }
    for row in misuse::TABLE {
        let selection = match row.transport {
            misuse::Transport::Tcp => "tcp",
            misuse::Transport::Udp => "udp",
        };
        let port = row.port;
        assert!(ports[selection].contains(&port), "{port}/{selection}");
    }
}
