//! Checks as people write them, and the mistakes that they make.

use std::path::Path;
use std::time::Duration;

use crate::check::{Check, Remote, Transport};
use crate::config::Config;
use crate::config::parse::apply;
use crate::event::CheckProtocol;

fn parsed(input: &str) -> (Config, Vec<String>) {
    let mut config = Config::default();
    let mistakes = apply(&mut config, Path::new("/etc/p/f.toml"), input);
    let mistakes = mistakes.iter().map(ToString::to_string).collect();
    (config, mistakes)
}

fn check(keys: &str) -> Check {
    let (config, mistakes) = parsed(&format!("[[expect]]\n{keys}\n"));
    assert_eq!(mistakes, [""; 0], "{keys}");
    config.rules[0].check.clone().expect("a check")
}

fn mistake(input: &str) -> String {
    let (_, mistakes) = parsed(input);
    assert_eq!(mistakes.len(), 1, "{input}: {mistakes:?}");
    mistakes.concat()
}

#[test]
fn what_is_not_said_has_a_default() {
    assert_eq!(
        check("port = 25\ncheck = \"smtp\""),
        Check {
            protocol: CheckProtocol::Smtp,
            every: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            failures: 3,
            host: None,
            name: None,
            path: None,
        }
    );
    let hasty = check("port = 25\ncheck = \"smtp\"\ncheck_every = \"2s\"");
    assert_eq!(hasty.timeout, Duration::from_secs(2));
}

#[test]
fn every_key_is_understood() {
    let all = check(
        "port = 443\nproto = \"tcp\"\ncheck = \"https\"\ncheck_every = \"1m\"\ncheck_timeout = \"500ms\"\n\
         check_failures = 5\ncheck_host = \"www.example.org\"\ncheck_name = \"example.org\"\ncheck_path = \"/up?x=1\"",
    );
    assert_eq!(
        all,
        Check {
            protocol: CheckProtocol::Https,
            every: Duration::from_secs(60),
            timeout: Duration::from_millis(500),
            failures: 5,
            host: Some(Remote {
                host: "www.example.org".to_owned(),
                port: 443,
                transport: Transport::Tcp
            }),
            name: Some("example.org".to_owned()),
            path: Some("/up?x=1".to_owned()),
        }
    );
    let transport = |keys: &str| {
        let keys = format!("port = 53\ncheck = \"dns\"\ncheck_host = \"::1\"\n{keys}");
        check(&keys).host.expect("remote").transport
    };
    assert_eq!(transport(""), Transport::Udp);
    assert_eq!(transport("proto = \"udp\""), Transport::Udp);
    assert_eq!(transport("proto = \"tcp\""), Transport::Tcp);
}

#[test]
fn mistakes_have_their_places() {
    for (input, expected) in [
        (
            "[[expect]]\nport = 25\ncheck = \"smpt\"",
            "f.toml:3:9: check: `smpt` is not known; expected one of connect, tls, ssh, smtp,",
        ),
        (
            "[[expect]]\nport = 25\nchek = \"smtp\"",
            "f.toml:3:1: unknown key `chek` in [[expect]]; did you mean `check`?",
        ),
        (
            "[[expect]]\nport = 25\ncheck_every = \"1m\"",
            "f.toml:3:1: this says how a check is made",
        ),
        (
            "[[expect]]\nport = 25\ncheck = \"smtp\"\ncheck_every = \"0s\"",
            "f.toml:4:15: check_every: expected a span of time from 1s to 1d",
        ),
        (
            "[[expect]]\nport = 25\ncheck = \"smtp\"\ncheck_timeout = \"2m\"",
            "from 100ms to 1m",
        ),
        (
            "[[expect]]\nport = 25\ncheck = \"smtp\"\ncheck_every = \"5s\"\ncheck_timeout = \"6s\"",
            "f.toml:5:1: a check must be over before the next one",
        ),
        (
            "[[expect]]\nport = 25\ncheck = \"smtp\"\ncheck_failures = 0",
            "a whole number from 1 to 100",
        ),
        (
            "[[expect]]\nport = 25\ncheck = \"smtp\"\ncheck_host = \"a b\"",
            "f.toml:4:14: check_host: expected the name or the address",
        ),
        (
            "[[expect]]\nport = 80\ncheck = \"http\"\ncheck_path = \"/a\\r\\nX: y\"",
            "check_path: expected a path that begins with `/`",
        ),
        (
            "[[expect]]\nport = 25\ncheck = \"smtp\"\ncheck_path = \"/\"",
            "f.toml:4:1: only http and https ask for a path",
        ),
        (
            "[[expect]]\nport = 25\ncheck = \"smtp\"\ncheck_name = \"a\"",
            "only http and what is within TLS",
        ),
        (
            "[[expect]]\nport = 25\nproto = \"udp\"\ncheck = \"smtp\"",
            "f.toml:4:1: smtp is spoken over tcp, mptcp, unix, and `proto` is none of these",
        ),
        (
            "[[expect]]\npath = \"/run/x\"\ncheck = \"dns\"",
            "dns is not spoken over unix sockets",
        ),
        (
            "[[expect]]\nport = 25\nnetns = \"other\"\ncheck = \"smtp\"",
            "f.toml:4:1: checks are made in the network namespace of the host",
        ),
        (
            "[[allow]]\nport = 25\ncheck = \"smtp\"",
            "f.toml:3:1: `check` is for what must listen: it belongs into [[expect]]",
        ),
        (
            "[[expect]]\nport = [25, 26]\ncheck = \"smtp\"\ncheck_host = \"mx\"",
            "f.toml:4:1: a service of another host needs a `port`, and only one",
        ),
        (
            "[[expect]]\nport = 25\nuser = \"root\"\ncheck = \"smtp\"\ncheck_host = \"mx\"",
            "f.toml:5:1: this rule is about another host",
        ),
        (
            "[[expect]]\nport = 25\ngrace = \"5s\"\ncheck = \"smtp\"\ncheck_host = \"mx\"",
            "f.toml:3:1: `grace` is for what listens on this host; of mx,",
        ),
    ] {
        let told = mistake(input);
        assert!(told.contains(expected), "{input}: {told}");
    }
}
