//! Any text as a configuration file: every mistake has its place, and what is taken is in range.

use std::path::Path;

use super::parse::apply;
use super::{Config, Diagnostic};
use crate::fuzzing::assert_plain;

/// The property of the target `config`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = Path::new("f.toml");
    let mut config = Config::default();
    let mistakes = apply(&mut config, file, text);
    mistakes
        .iter()
        .for_each(|mistake| assert_told(mistake, text));
    let places: Vec<_> = mistakes
        .iter()
        .map(|mistake| {
            mistake
                .place
                .as_ref()
                .map(|place| (place.line, place.column))
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_in_range(&config);

    // Rules, channels and sinks are added up, all else is replaced.
    let mut again = Config {
        rules: Vec::new(),
        channels: Vec::new(),
        sinks: Vec::new(),
        ..config.clone()
    };
    assert_eq!(apply(&mut again, file, text), mistakes);
    assert_eq!(
        again, config,
        "the same file a second time changes something"
    );
}

fn assert_told(mistake: &Diagnostic, text: &str) {
    let shown = mistake.to_string();
    assert!(shown.starts_with("f.toml:"), "{shown}");
    shown.lines().for_each(assert_plain);
    // The sentence alone, or with the line and the caret below it.
    assert!([1, 3].contains(&shown.lines().count()), "{shown}");
    assert!(!mistake.message.is_empty());
    let place = mistake.place.as_ref();
    assert!(place.is_some_and(|place| place.line >= 1 && place.line <= text.split('\n').count()));
}

fn assert_in_range(config: &Config) {
    let ring = &config.ring;
    for size in [ring.critical_kib, ring.process_kib, ring.bulk_kib] {
        assert!(size.is_power_of_two() && (64..=1 << 20).contains(&size));
    }
    assert!((10..=3600).contains(&config.inventory.reconcile_seconds));
    assert!((1..=10).contains(&config.inventory.fast_seconds));
    assert!(config.enrich.wait_ms <= 1000);
    assert!((1..=1024).contains(&config.control.max_clients));
    assert!((1..=32).contains(&config.control.group.len()));
    assert_plain(&config.control.group);
    for rule in &config.rules {
        assert_plain(&rule.name);
        if let Some(check) = &rule.check {
            assert!(check.failures >= 1 && !check.every.is_zero());
            assert!(check.timeout <= check.every);
            [&check.name, &check.path]
                .into_iter()
                .flatten()
                .for_each(|text| assert_plain(text));
        }
    }
    for channel in &config.channels {
        // It is the name of a folder.
        assert_plain(&channel.name);
        assert!(!channel.name.contains('/') && !channel.name.starts_with('.'));
    }
}

/// The shipped file, and mistakes of each kind.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let values = "[ring]\ncritical_kib = 0x4000\nprocess_kib=64\n[inventory]\nfast_seconds = 1\n\
        [enrich]\nhash = false\nwait_ms = 0\n[control]\ngroup = 'adm'\nmax_clients = 1_024\n[log]\nkernel = \"debug\"\n";
    let mistakes = "x = 1\nring = 1\n[rings]\n[ring]\ncritical_kb = 1\nhash = true\nbulk_kib = 100\n\
        [log]\nkernel = 1979-05-27\n\"\\u001b\" = [1, {a.b = 2}]\n";
    let rules = "[[deny]]\nport = [22, '8000-8100', 0x50]\nproto = 'tcp'\n[[allow]]\nname = 'web'\n\
        address = ['10.0.0.0/8', '::1']\nexposure = 'loopback'\nnetns = 'host'\npath = '/run/*'\nexe = '/usr/*'\n\
        user = ['root', 33]\nunit = 'a.service'\ncontainer = 'docker:*'\nparent = 'systemd'\npackage = 'a'\n\
        match = 'not name == a'\nseverity = 'critical'\nreason = 'b'\n[[expect]]\nport = 1\ncheck = 'https'\ncheck_every = '10s'\n\
        check_timeout = '500ms'\ncheck_failures = 2\ncheck_host = 'mx.example'\ncheck_name = 'a'\ncheck_path = '/up'\n\
        [[ignore]]\nall = true\n[[deny]]\nprt = 1\nname = 'web'\nsha256 = 'ab'\n";
    let channels = "[[email]]\nto = ['a@b.c', 'D <d@e.f>']\nserver = ['mx:25', '[::1]']\nsubject = '$HOST $$'\n\
        [[webhook]]\nurl = 'https://a.b/c?d'\nformat = 'slack'\nsecret_file = 's'\ntimeout = '5s'\n\
        [[webhook]]\nname = 'x'\nurl = 'http://[::1]:9093/api/v2/alerts'\nformat = 'alertmanager'\n\
        [exec]\ncommand = ['/bin/a', \"\\u001b\", '']\nuser = 'b'\n[syslog]\nfacility = 'local7'\ntag = 'a/b'\n\
        [journald]\nsocket = '/a'\nseverity = 'critical'\nwindow = '1m'\n";
    vec![
        ("channels", channels.into()),
        ("rules", rules.into()),
        (
            "shipped",
            include_bytes!("../../../etc/portwatch.toml").to_vec(),
        ),
        ("values", values.into()),
        ("mistakes", mistakes.into()),
        (
            "broken",
            "[ring\nbulk_kib = = 3\n[log]\nkernel = \"\"\"\n".into(),
        ),
    ]
}
