//! Rules as people write them, and the mistakes that they make.

use std::path::Path;

use crate::config::Config;
use crate::config::parse::apply;
use crate::event::{EventType, Protocol, Severity};
use crate::policy::{Action, Facts, Rule};
use crate::sink::testing::event;

fn parsed(input: &str) -> (Vec<Rule>, Vec<String>) {
    let mut config = Config::default();
    let mistakes = apply(&mut config, Path::new("/etc/p/f.toml"), input);
    let mistakes = mistakes.iter().map(ToString::to_string).collect();
    (config.rules, mistakes)
}

fn rules(input: &str) -> Vec<Rule> {
    let (rules, mistakes) = parsed(input);
    assert_eq!(mistakes, [""; 0]);
    rules
}

fn one_mistake(input: &str) -> String {
    let (_, mistakes) = parsed(input);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes.concat()
}

#[test]
fn rules_keep_the_order_of_the_file() {
    let rules = rules(
        "[[deny]]\nport = 23\n[[allow]]\nname = \"web\"\nport = [80, 443]\n[[deny]]\nexe = \"/tmp/*\"\n\
         [[expect]]\nport = 22\n[[ignore]]\nport = 5353\nproto = \"udp\"\n",
    );
    let told: Vec<(Action, &str)> = rules
        .iter()
        .map(|rule| (rule.action, &*rule.name))
        .collect();
    assert_eq!(
        told,
        [
            (Action::Deny, "deny at f.toml:1"),
            (Action::Allow, "web"),
            (Action::Deny, "deny at f.toml:6"),
            (Action::Expect, "expect at f.toml:8"),
            (Action::Ignore, "ignore at f.toml:10"),
        ]
    );
}

#[test]
fn every_key_is_understood() {
    let rules = rules(
        r#"
        [[allow]]
        name = "everything there is"
        reason = "a test"
        severity = "warning"
        proto = ["tcp", "mptcp"]
        port = [22, "8000-8100", 0x50]
        address = ["10.0.0.0/8", "::1"]
        exposure = ["loopback", "private-interface"]
        netns = "host"
        path = "/run/*"
        exe = ["/usr/sbin/*", "*/nginx"]
        sha256 = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
        package = "nginx*"
        user = ["root", 33]
        unit = "nginx.service"
        container = "docker:*"
        parent = "systemd"
        match = 'name == nginx and not user == nobody'
        "#,
    );
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].severity, Some(Severity::Warning));
    assert_eq!(rules[0].reason.as_deref(), Some("a test"));
    let when = &rules[0].when;
    assert_eq!(
        when.port.as_ref().map(ToString::to_string).as_deref(),
        Some("22, 80, 8000-8100")
    );
    let protocols = when.protocol.expect("protocols");
    assert!(protocols.contains(Protocol::Mptcp) && !protocols.contains(Protocol::Udp));
    // An event of which nothing is known satisfies no condition.
    let bare = event(1, EventType::ListenerOpened);
    assert!(Facts::of(&bare, 1).is_none());
}

#[test]
fn mistakes_say_what_is_expected_and_where() {
    for (input, expected) in [
        (
            "[[allow]]\nprot = \"tcp\"",
            "f.toml:2:1: unknown key `prot` in [[allow]]; did you mean `proto`?",
        ),
        (
            "[[allow]]\nproto = \"tcpp\"",
            "`tcpp` is not known; did you mean \"tcp\"?",
        ),
        ("[[allow]]\nport = 70000", "a port from 0 to 65535"),
        ("[[allow]]\nport = \"90-80\"", "a port from 0 to 65535"),
        ("[[allow]]\nport = []", "an empty list matches nothing"),
        (
            "[[allow]]\naddress = \"10.0.0/8\"",
            "an address or a network",
        ),
        ("[[allow]]\nexe = \"nginx\"", "did you mean \"*/nginx\"?"),
        ("[[allow]]\nsha256 = \"abc\"", "64 hexadecimal digits"),
        ("[[allow]]\nuser = -1", "name or the number of a user"),
        ("[[allow]]\nnetns = 7", "\"host\" or \"other\""),
        ("[[allow]]\nmatch = \"port = 80\"", "match: column 6"),
        (
            "[[allow]]\nmatch = \" \"",
            "an empty expression matches everything",
        ),
        (
            "[[allow]]\nseverity = \"loud\"",
            "debug, info, notice, warning, critical",
        ),
        ("[[allow]]", "f.toml:1:1: this rule has no condition"),
        ("[[allow]]\nall = true\nport = 1", "exclude each other"),
        ("[[expect]]\nuser = \"root\"", "needs a `port` or a `path`"),
        (
            "[[deny]]\nproto = [\"unix\", \"packet\", \"icmp\"]\nport = 1",
            "would never match",
        ),
        ("[allow]\nport = 1", "rules are a list: write [[allow]]"),
        ("allow = [1]", "a rule is a table"),
        ("[[alow]]\nport = 1", "did you mean [[allow]]?"),
        (
            "[[allow]]\nname = \"a\"\nport = 1\n[[deny]]\nname = \"a\"\nport = 2",
            "f.toml:4:1: another rule is called `a` already",
        ),
    ] {
        let mistake = one_mistake(input);
        assert!(mistake.contains(expected), "{input}: {mistake}");
    }
}

#[test]
fn a_caret_stands_below_the_place() {
    let mistake = one_mistake(
        "[[allow]]\nname = \"\u{e9}\u{1b}\"\n  port = \"x\"\n"
            .replace('\u{1b}', "")
            .as_str(),
    );
    assert!(
        mistake.ends_with("\n      port = \"x\"\n             ^"),
        "{mistake}"
    );
}

#[test]
fn what_must_listen_has_a_grace_time() {
    let grace = |input: &str| rules(input).first().map(|rule| rule.grace.as_secs());
    assert_eq!(grace("[[expect]]\nport = 22\n"), Some(10));
    assert_eq!(grace("[[expect]]\nport = 22\ngrace = \"2m\"\n"), Some(120));
    for wrong in ["\"0s\"", "\"2d\"", "5", "\"soon\""] {
        let told = one_mistake(&format!("[[expect]]\nport = 22\ngrace = {wrong}\n"));
        assert!(told.contains("from 1s to 1d"), "{told}");
    }
    let elsewhere = one_mistake("[[allow]]\nport = 22\ngrace = \"5s\"\n");
    assert!(elsewhere.contains("belongs into [[expect]]"), "{elsewhere}");
}
