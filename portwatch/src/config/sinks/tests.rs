use std::path::Path;
use std::time::Duration;

use super::{Kind, Sink, known};
use crate::config::Config;
use crate::config::parse::apply;
use crate::render::Format;
use crate::sink::Sync;

pub(super) fn parsed(input: &str) -> (Vec<Sink>, Vec<String>) {
    let mut config = Config::default();
    let mistakes = apply(&mut config, Path::new("f.toml"), input);
    let mistakes = mistakes.iter().map(ToString::to_string).collect();
    (config.sinks, mistakes)
}

pub(super) fn one_mistake(input: &str) -> String {
    let (_, mistakes) = parsed(input);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    mistakes.concat()
}

#[test]
fn every_type_is_a_kind_under_its_name_without_a_key_twice() {
    for name in Kind::TYPES {
        let kind = Kind::of(name).expect(name);
        assert_eq!(kind.as_str(), name);
        let mut keys = known(&kind);
        keys.sort_unstable();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all, "{name}: {keys:?}");
    }
}

#[test]
fn every_key_is_taken_and_a_type_is_enough_for_standard_output() {
    let (sinks, mistakes) = parsed(
        "[[sink]]\ntype = \"stdout\"\n[[sink]]\ntype = \"file\"\nname = \"soc\"\nmatch = \"port == 22\"\n\
         format = \"ecs\"\nstates = true\nsync = \"5s\"\npath = \"/var/log/x.jsonl\"\nrotate_mib = 0\n\
         rotate_every = \"1d\"\nkeep = 3\nkeep_age = \"7d\"\ncompress = false\nchain = true\n",
    );
    assert_eq!(mistakes, [""; 0]);
    let [stdout, file] = &sinks[..] else {
        panic!("{sinks:?}");
    };
    assert_eq!(
        (stdout.name.as_str(), &stdout.kind),
        ("stdout", &Kind::Stdout)
    );
    assert_eq!((stdout.format, stdout.states), (Format::Json, false));
    assert_eq!((file.name.as_str(), file.format), ("soc", Format::Ecs));
    assert!(file.states && file.filter.is_some());
    assert_eq!(file.sync, Sync::Within(Duration::from_secs(5)));
    let Kind::File(file) = &file.kind else {
        panic!("{file:?}");
    };
    assert_eq!(file.path, Path::new("/var/log/x.jsonl"));
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    assert_eq!((file.rotate_mib, file.rotate_every), (0, days(1)));
    assert_eq!((file.keep, file.keep_age), (3, days(7)));
    assert!(!file.compress && file.chain);
}

#[test]
fn what_is_wrong_is_told_at_its_place() {
    let file = "[[sink]]\ntype = \"file\"\npath = \"/a\"\n";
    for (input, expected) in [
        ("[[sink]]\n", "f.toml:1:1: a sink needs its `type`"),
        ("sink = 1\n", "write [[sink]]"),
        ("[sink]\n", "write [[sink]]"),
        ("[[sinks]]\n", "did you mean [[sink]]?"),
        (
            "[[sink]]\ntype = \"fille\"\n",
            "f.toml:2:8: type: `fille` is not known; did you mean \"file\"?",
        ),
        ("[[sink]]\ntype = \"file\"\n", "needs a `path`"),
        (
            "[[sink]]\ntype = \"file\"\npath = \"a\"\n",
            "f.toml:3:8: path: expected an absolute path",
        ),
        (
            "[[sink]]\ntype = \"stdout\"\npath = \"/a\"\n",
            "belongs to sinks of type file",
        ),
        (
            "[[sink]]\ntype = \"stdout\"\nsync = \"1s\"\n",
            "belongs to sinks of type file",
        ),
        (
            "[[sink]]\ntype = \"stdout\"\nformt = \"ecs\"\n",
            "did you mean `format`?",
        ),
        (
            "[[sink]]\ntype = \"stdout\"\nzebra = 1\n",
            "it has name, type, match, format, states",
        ),
        (
            "[[sink]]\ntype = \"stdout\"\nformat = \"xml\"\n",
            "expected one of json, ecs, ocsf, cef, rfc5424",
        ),
        (
            "[[sink]]\ntype = \"stdout\"\nmatch = \"port ==\"\n",
            "f.toml:3:9: match: column",
        ),
        (
            &format!("{file}sync = \"2h\"\n"),
            "expected \"always\", \"never\"",
        ),
        (
            &format!("{file}rotate_every = \"1s\"\n"),
            "from 1m to 3650d",
        ),
        (&format!("{file}keep = -1\n"), "from 0 to 10000"),
        (&format!("{file}{file}"), "another sink is called `file`"),
        (
            &format!("{file}{file}name = \"b\"\n"),
            "the sink `file` writes to the same place",
        ),
    ] {
        let mistake = one_mistake(input);
        assert!(mistake.contains(expected), "{input}: {mistake}");
    }
}
