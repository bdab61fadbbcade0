//! The order of rules, what is missing, and each condition by itself.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::baseline::{Baseline, Frame};
use crate::event::{Ancestor, Container, Event, EventType, Exposure, Process, Protocol};
use crate::filter::{Filter, Network};
use crate::inventory::described;
use crate::sink::testing::{connection, event};

fn nothing_approved() -> Baseline {
    let ephemeral = 32768..=60999;
    Baseline::empty(Frame {
        netns: HOST,
        ephemeral,
    })
}

const HOST: u32 = 1;

/// nginx on 0.0.0.0:80, as an event tells it.
fn nginx() -> Event {
    let mut socket = described(&connection(), None, Exposure::AllInterfaces);
    (socket.address, socket.port) = (Some("10.1.2.3".to_owned()), Some(80));
    (socket.protocol, socket.netns) = (Protocol::Tcp, Some(HOST));
    Event {
        socket: Some(socket),
        process: Some(Process {
            pid: 812,
            name: "nginx".to_owned(),
            exe: Some("/usr/sbin/nginx".to_owned()),
            uid: Some(0),
            user: Some("root".to_owned()),
            sha256: Some("ab".repeat(32)),
            package: Some("nginx-core".to_owned()),
            unit: Some("nginx.service".to_owned()),
            container: Some(Container {
                id: "0123abcd".to_owned(),
                runtime: Some("docker".to_owned()),
            }),
            ancestors: vec![Ancestor {
                pid: 1,
                name: "systemd".to_owned(),
                exe: Some("/usr/lib/systemd/systemd".to_owned()),
            }],
            ..Process::default()
        }),
        ..event(1, EventType::ListenerOpened)
    }
}

fn patterns(texts: &[&str]) -> Patterns {
    let patterns = texts.iter().map(|text| Pattern::new((*text).to_owned()));
    Patterns::new(patterns.collect())
}

fn rule(name: &str, action: Action, when: Selector) -> Rule {
    Rule {
        name: name.into(),
        action,
        severity: None,
        when,
        grace: GRACE,
        check: None,
        reason: None,
    }
}

fn single(port: u16) -> Ports {
    Ports::new(vec![PortRange::single(port)])
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).expect(text)
}

/// A condition that holds for nginx, and one of the same kind that does not.
fn conditions() -> Vec<(&'static str, Selector, Selector)> {
    macro_rules! condition {
        ($($name:ident: $yes:expr, $no:expr;)*) => {
            vec![$((
                stringify!($name),
                Selector { $name: Some($yes), ..Selector::default() },
                Selector { $name: Some($no), ..Selector::default() },
            )),*]
        };
    }
    let network = |text| vec![Network::parse(text).expect(text)];
    condition! {
        protocol: WordSet::of([Protocol::Udp, Protocol::Tcp]), WordSet::of([Protocol::Udp]);
        port: single(80), single(81);
        exposure: WordSet::of([Exposure::AllInterfaces]), WordSet::of([Exposure::Loopback]);
        netns: Namespace::Host, Namespace::Other;
        address: network("10.0.0.0/8"), network("10.0.0.0/16");
        exe: patterns(&["/x", "/usr/sbin/*"]), patterns(&["/usr/bin/*"]);
        sha256: vec!["ab".repeat(32)], vec!["cd".repeat(32)];
        package: patterns(&["nginx-*"]), patterns(&["nginx"]);
        user: vec![User::Id(33), User::Name(Pattern::new("root".to_owned()))], vec![User::Id(33)];
        unit: patterns(&["nginx.service"]), patterns(&["apache2.service"]);
        container: patterns(&["docker:0123*"]), patterns(&["podman:*"]);
        parent: patterns(&["*/systemd"]), patterns(&["bash"]);
        expression: filter("name == nginx"), filter("not name == nginx");
    }
}

#[test]
fn each_condition_decides_by_itself() {
    let event = nginx();
    let facts = Facts::of(&event, HOST).expect("a socket");
    for (name, yes, no) in conditions() {
        assert!(yes.matches(&facts), "{name}");
        assert!(!no.matches(&facts), "{name}");
    }
}

#[test]
fn what_is_not_known_satisfies_nothing() {
    let mut event = nginx();
    event.process = None;
    let socket = event.socket.as_mut().expect("a socket");
    (socket.address, socket.port, socket.exposure, socket.netns) = (None, None, None, None);
    let facts = Facts::of(&event, HOST).expect("a socket");
    for (name, yes, no) in conditions().into_iter().skip(1) {
        assert!(!yes.matches(&facts) && !no.matches(&facts), "{name}");
    }
    // What was never a file has the name that its maker liked.
    let mut event = nginx();
    let process = event.process.as_mut().expect("a process");
    process.exe_memfd = Some(true);
    let facts = Facts::of(&event, HOST).expect("a socket");
    assert!(
        !Selector {
            exe: Some(patterns(&["*"])),
            ..Selector::default()
        }
        .matches(&facts)
    );
}

#[test]
fn unix_names_are_paths_or_begin_with_an_at() {
    let mut event = nginx();
    let socket = event.socket.as_mut().expect("a socket");
    socket.path = Some("/run/app/sock".to_owned());
    let when = |text| Selector {
        path: Some(patterns(&[text])),
        ..Selector::default()
    };
    assert!(when("/run/*").matches(&Facts::of(&event, HOST).expect("a socket")));
    let socket = event.socket.as_mut().expect("a socket");
    (socket.path, socket.abstract_name) = (None, Some("app".to_owned()));
    let facts = Facts::of(&event, HOST).expect("a socket");
    assert!(when("@app").matches(&facts) && !when("app").matches(&facts));
}

#[test]
fn the_event_names_the_state_and_the_rule() {
    let port = |port| Selector {
        port: Some(single(port)),
        ..Selector::default()
    };
    let mut denied = rule("no web here", Action::Deny, port(80));
    denied.severity = Some(Severity::Warning);
    let policy = Policy::new(vec![rule("ssh", Action::Expect, port(22)), denied]);
    let mut event = nginx();
    assert_eq!(
        policy.judge(&mut event, &nothing_approved()),
        Some(Severity::Warning)
    );
    let judged = event.policy.clone().expect("judged");
    assert_eq!(
        (judged.state, judged.rule.as_str()),
        (PolicyState::Denied, "no web here")
    );

    let mut event = nginx();
    assert_eq!(
        Policy::default().judge(&mut event, &nothing_approved()),
        None
    );
    let judged = event.policy.clone().expect("judged");
    assert_eq!(
        (judged.state, judged.rule.as_str()),
        (PolicyState::New, DEFAULT)
    );

    let mut refused = Event {
        kind: EventType::BindFailed,
        ..nginx()
    };
    assert_eq!(policy.judge(&mut refused, &nothing_approved()), None);
    assert_eq!(refused.policy, None);
}

#[test]
fn sets_of_words_hold_every_word() {
    use crate::event::words::Word;
    fn fits<W: Word>() {
        for word in W::ALL {
            assert!(WordSet::of([*word]).contains(*word));
            let others = W::ALL.iter().filter(|other| other.place() != word.place());
            assert!(!WordSet::of(others.copied()).contains(*word));
        }
    }
    fits::<Protocol>();
    fits::<Exposure>();
}

#[test]
fn what_is_ignored_is_known_by_the_rule_that_decided() {
    let of = |user: &str| Selector {
        user: Some(vec![User::Name(Pattern::new(user.to_owned()))]),
        ..Selector::default()
    };
    for (user, is_ignored) in [("root", true), ("www-data", false)] {
        let policy = Policy::new(vec![
            rule("quiet", Action::Ignore, of(user)),
            rule("may", Action::Allow, of("root")),
        ]);
        let mut event = nginx();
        assert!(!policy.ignores(&event), "not judged yet");
        policy.judge(&mut event, &nothing_approved());
        assert_eq!(policy.ignores(&event), is_ignored, "{:?}", event.policy);
    }
}

proptest! {
    /// The first rule whose conditions all hold decides, whatever comes behind it.
    #[test]
    fn the_first_match_decides(
        picked in proptest::collection::vec((proptest::collection::vec((0_usize..13, any::<bool>()), 0..4), 0_usize..4), 0..8),
    ) {
        let known = conditions();
        let actions = [Action::Allow, Action::Deny, Action::Ignore, Action::Expect];
        let mut rules = Vec::new();
        let mut wanted = None;
        for (index, (parts, action)) in picked.iter().enumerate() {
            let mut when = Selector::default();
            let mut holds = true;
            for (part, yes) in parts {
                let (name, on, off) = &known[*part];
                let source = if *yes { on } else { off };
                macro_rules! take { ($($field:ident),*) => { match *name { $(stringify!($field) => when.$field = source.$field.clone(),)* _ => unreachable!() } } }
                take!(protocol, port, exposure, netns, address, exe, sha256, package, user, unit, container, parent, expression);
            }
            for (name, _, off) in &known {
                macro_rules! is_off { ($($field:ident),*) => { match *name { $(stringify!($field) => when.$field.is_some() && when.$field == off.$field,)* _ => unreachable!() } } }
                let off = is_off!(protocol, port, exposure, netns, address, exe, sha256, package, user, unit, container, parent, expression);
                holds &= !off;
            }
            let name: Arc<str> = format!("rule {index}").into();
            if holds && wanted.is_none() {
                wanted = Some((Arc::clone(&name), actions[*action]));
            }
            rules.push(rule(&name, actions[*action], when));
        }
        let event = nginx();
        let decision = Policy::new(rules).decide(&Facts::of(&event, HOST).expect("a socket"));
        match wanted {
            Some((name, action)) => {
                prop_assert_eq!(decision.rule, name);
                prop_assert_eq!(decision.state, action.state());
            }
            None => prop_assert_eq!(decision.state, PolicyState::New),
        }
    }
}

proptest! {
    /// Rules about the same few ports, protocols and programs, with and without a guard in front.
    #[test]
    fn a_guard_refuses_nothing_that_matches(
        rules in proptest::collection::vec(
            (
                proptest::option::of(proptest::collection::vec((78_u16..83, 0_u16..3), 1..3)),
                proptest::option::of(proptest::collection::vec(0_usize..6, 1..3)),
                proptest::option::of(proptest::collection::vec(0_usize..10, 1..4)),
            ),
            0..8,
        ),
        port in proptest::option::of(77_u16..86),
        exe in proptest::option::of(0_usize..6),
        protocol in 0_usize..10,
    ) {
        use crate::event::words::Word as _;
        let texts = ["/usr/sbin/nginx", "/usr/sbin/*", "*/nginx", "/usr/bin/x", "/u", "/opt/*/x"];
        let rules = rules.into_iter().enumerate().map(|(index, (ports, exes, protocols))| {
            let ports = ports.map(|ranges| {
                let range = |(from, length)| PortRange { from, to: from + length };
                Ports::new(ranges.into_iter().map(range).collect())
            });
            let when = Selector {
                port: ports,
                exe: exes.map(|exes| patterns(&exes.iter().map(|at| texts[*at]).collect::<Vec<_>>())),
                protocol: protocols.map(|all| WordSet::of(all.into_iter().map(|at| Protocol::ALL[at]))),
                ..Selector::default()
            };
            rule(&format!("{index}"), Action::Allow, when)
        });
        let policy = Policy::new(rules.collect());
        let mut event = nginx();
        let socket = event.socket.as_mut().expect("a socket");
        (socket.port, socket.protocol) = (port, Protocol::ALL[protocol]);
        event.process.as_mut().expect("a process").exe = exe.map(|at| texts[at].to_owned());
        let facts = Facts::of(&event, HOST).expect("a socket");
        let in_full = policy.rules().iter().find(|rule| rule.when.matches(&facts));
        prop_assert_eq!(policy.first_match(&facts), in_full);
    }
}
