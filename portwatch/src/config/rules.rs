//! The rules of a policy: `[[allow]]`, `[[deny]]`, `[[ignore]]` and `[[expect]]`, in the order in which they stand.
//! Pure.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::parse::{Mistakes, nearest};
use super::values::{each, expression, name, set, string, truth, word};
use super::{checks, duration};
use crate::event::words::Word;
use crate::event::{Exposure, Protocol};
use crate::filter::Network;
use crate::policy::{
    Action, GRACE, Namespace, Pattern, Patterns, PortRange, Ports, Rule, Selector, User, WordSet,
};
use crate::text::escape;

/// How long a grace time may be. Shorter than the first, a start could not be told from an end.
const GRACES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// What a list of rules may be called.
pub(super) const LISTS: [(&str, Action); 4] = [
    ("allow", Action::Allow),
    ("deny", Action::Deny),
    ("ignore", Action::Ignore),
    ("expect", Action::Expect),
];

/// A rule while it is read.
struct Draft {
    rule: Rule,
    is_for_all: bool,
    has_grace: bool,
    check: checks::Draft,
}

/// A key of a rule: checks the value and puts it in its place, or says what is expected.
type Apply = fn(&mut Draft, &DeValue<'_>) -> Result<(), String>;

const KEYS: &[(&str, Apply)] = &[
    ("name", |draft, value| {
        set(&mut draft.rule.name, name(value))
    }),
    ("reason", |draft, value| {
        set(&mut draft.rule.reason, string(value).map(Some))
    }),
    ("severity", |draft, value| {
        set(&mut draft.rule.severity, word(value).map(Some))
    }),
    ("grace", |draft, value| {
        draft.has_grace = true;
        set(&mut draft.rule.grace, grace(value))
    }),
    ("all", |draft, value| {
        set(&mut draft.is_for_all, truth(value))
    }),
    ("proto", |draft, value| {
        set(&mut draft.rule.when.protocol, words(value))
    }),
    ("port", |draft, value| {
        set(&mut draft.rule.when.port, ports(value))
    }),
    ("address", |draft, value| {
        set(&mut draft.rule.when.address, networks(value))
    }),
    ("exposure", |draft, value| {
        set(&mut draft.rule.when.exposure, words::<Exposure>(value))
    }),
    ("netns", |draft, value| {
        set(&mut draft.rule.when.netns, namespace(value))
    }),
    ("path", |draft, value| {
        set(&mut draft.rule.when.path, patterns(value))
    }),
    ("exe", |draft, value| {
        set(&mut draft.rule.when.exe, executables(value))
    }),
    ("sha256", |draft, value| {
        set(&mut draft.rule.when.sha256, hashes(value))
    }),
    ("package", |draft, value| {
        set(&mut draft.rule.when.package, patterns(value))
    }),
    ("user", |draft, value| {
        set(&mut draft.rule.when.user, users(value))
    }),
    ("unit", |draft, value| {
        set(&mut draft.rule.when.unit, patterns(value))
    }),
    ("container", |draft, value| {
        set(&mut draft.rule.when.container, patterns(value))
    }),
    ("parent", |draft, value| {
        set(&mut draft.rule.when.parent, patterns(value))
    }),
    ("match", |draft, value| {
        set(&mut draft.rule.when.expression, expression(value))
    }),
];

/// Rules of one kind, as they stand in a document; nothing when the name is none of theirs.
pub(super) fn action(name: &str) -> Option<Action> {
    let found = LISTS.iter().find(|(list, _)| *list == name);
    found.map(|(_, action)| *action)
}

/// Puts every rule of a document behind `rules`, in the order of their places.
pub(super) fn read(
    file: &Path,
    input: &str,
    document: &DeTable<'_>,
    rules: &mut Vec<Rule>,
    mistakes: &mut Mistakes,
) {
    let mut tables = Vec::new();
    for (list, value) in document {
        let Some(action) = action(list.get_ref()) else {
            continue;
        };
        let DeValue::Array(listed) = value.get_ref() else {
            let message = format!("rules are a list: write [[{0}]]", list.get_ref());
            mistakes.push((list.span().start, message));
            continue;
        };
        for rule in listed {
            match rule.get_ref() {
                DeValue::Table(table) => tables.push((rule.span().start, action, table)),
                _ => {
                    let message = format!(
                        "a rule is a table: write [[{}]] and its keys below",
                        list.get_ref()
                    );
                    mistakes.push((rule.span().start, message));
                }
            }
        }
    }
    tables.sort_by_key(|(at, ..)| *at);
    for (at, action, table) in tables {
        let line = 1 + input.get(..at).unwrap_or_default().matches('\n').count();
        let file = file.file_name().unwrap_or_default().as_encoded_bytes();
        let name = format!("{} at {}:{line}", list(action), escape(file));
        let rule = one(action, &name, at, table, mistakes);
        // A decision names its rule: two of one name could not be told apart.
        if rules.iter().any(|other| other.name == rule.name) {
            let shown = escape(rule.name.as_bytes());
            mistakes.push((at, format!("another rule is called `{shown}` already")));
        }
        rules.push(rule);
    }
}

fn one(
    action: Action,
    name: &str,
    at: usize,
    table: &DeTable<'_>,
    mistakes: &mut Mistakes,
) -> Rule {
    let mut draft = Draft {
        rule: Rule {
            name: name.into(),
            action,
            severity: None,
            when: Selector::default(),
            grace: GRACE,
            check: None,
            reason: None,
        },
        is_for_all: false,
        has_grace: false,
        check: checks::Draft::default(),
    };
    let before = mistakes.len();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let rules = KEYS.iter().find(|(known, _)| *known == name);
        let checks = checks::KEYS.iter().find(|(known, _)| *known == name);
        let applied = match (rules, checks) {
            (Some((_, apply)), _) => apply(&mut draft, value.get_ref()),
            (None, Some((_, apply))) => apply(&mut draft.check, value.get_ref()),
            (None, None) => {
                mistakes.push((key.span().start, unknown(action, name)));
                continue;
            }
        };
        if let Err(expected) = applied {
            mistakes.push((value.span().start, format!("{name}: {expected}")));
        }
    }
    // What is missing only confuses where something is wrong already.
    if mistakes.len() == before {
        check(&draft, at, mistakes);
    }
    if mistakes.len() == before {
        match draft.check.finish(&draft.rule, draft.has_grace) {
            Ok(check) => draft.rule.check = check,
            Err((key, message)) => {
                let place = table
                    .keys()
                    .find(|found| Some(found.get_ref().as_ref()) == key);
                mistakes.push((place.map_or(at, |found| found.span().start), message));
            }
        }
    }
    draft.rule
}

/// What no single key can tell.
fn check(draft: &Draft, at: usize, mistakes: &mut Mistakes) {
    let Draft {
        rule,
        is_for_all,
        has_grace,
        ..
    } = draft;
    let mut wrong = |message: &str| mistakes.push((at, message.to_owned()));
    if rule.when.is_empty() && !is_for_all {
        wrong(
            "this rule has no condition and would decide on every listener; write `all = true` if that is meant",
        );
    }
    if !rule.when.is_empty() && *is_for_all {
        wrong("`all` and conditions exclude each other");
    }
    if *has_grace && rule.action != Action::Expect {
        wrong("`grace` is for what must listen: it belongs into [[expect]]");
    }
    if rule.when.port.is_some() && rule.when.protocol.as_ref().is_some_and(has_no_port) {
        wrong("`proto` names only what has no port: with `port`, this rule would never match");
    }
    let names_one = rule.when.port.is_some() || rule.when.path.is_some();
    if rule.action == Action::Expect && !names_one {
        wrong("what must listen needs a `port` or a `path`");
    }
}

fn has_no_port(protocols: &WordSet<Protocol>) -> bool {
    let mut named = Protocol::ALL.iter().filter(|one| protocols.contains(**one));
    named.all(|one| !one.has_ports())
}

fn grace(value: &DeValue<'_>) -> Result<Duration, String> {
    let span = value.as_str().and_then(|text| duration::parse(text).ok());
    span.filter(|span| GRACES.contains(span))
        .ok_or_else(|| "expected a span of time from 1s to 1d, such as \"30s\"".to_owned())
}

fn list(action: Action) -> &'static str {
    let found = LISTS.iter().find(|(_, known)| *known == action);
    found.map_or("rule", |(list, _)| list)
}

fn unknown(action: Action, name: &str) -> String {
    let (shown, list) = (escape(name.as_bytes()), list(action));
    let rules = KEYS.iter().map(|(key, _)| *key);
    let known = || {
        rules
            .clone()
            .chain(checks::KEYS.iter().map(|(key, _)| *key))
    };
    match nearest(name, known()) {
        Some(nearest) => format!("unknown key `{shown}` in [[{list}]]; did you mean `{nearest}`?"),
        None => {
            let known: Vec<&str> = known().collect();
            format!(
                "unknown key `{shown}` in [[{list}]]; it has {}",
                known.join(", ")
            )
        }
    }
}

fn words<W: Word>(value: &DeValue<'_>) -> Result<Option<WordSet<W>>, String> {
    Ok(Some(WordSet::of(each(value, word::<W>)?)))
}

fn ports(value: &DeValue<'_>) -> Result<Option<Ports>, String> {
    let read = |value: &DeValue<'_>| {
        let single = value.as_integer().and_then(|number| {
            u16::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(PortRange::single)
        });
        single
            .or_else(|| PortRange::parse(value.as_str()?))
            .ok_or_else(|| {
                "expected a port from 0 to 65535, or a range such as \"8000-8100\"".to_owned()
            })
    };
    Ok(Some(Ports::new(each(value, read)?)))
}

fn networks(value: &DeValue<'_>) -> Result<Option<Vec<Network>>, String> {
    let read = |value: &DeValue<'_>| {
        value
            .as_str()
            .and_then(Network::parse)
            .ok_or_else(|| "expected an address or a network, such as \"10.0.0.0/8\"".to_owned())
    };
    Ok(Some(each(value, read)?))
}

fn namespace(value: &DeValue<'_>) -> Result<Option<Namespace>, String> {
    match value.as_str() {
        Some("host") => Ok(Some(Namespace::Host)),
        Some("other") => Ok(Some(Namespace::Other)),
        _ => Err(r#"expected "host" or "other""#.to_owned()),
    }
}

fn patterns(value: &DeValue<'_>) -> Result<Option<Patterns>, String> {
    let read = |value: &DeValue<'_>| string(value).map(Pattern::new);
    Ok(Some(Patterns::new(each(value, read)?)))
}

/// A name alone would match no executable: events have absolute paths.
fn executables(value: &DeValue<'_>) -> Result<Option<Patterns>, String> {
    let read = |value: &DeValue<'_>| {
        let text = string(value)?;
        if text.starts_with('/') || text.starts_with('*') {
            Ok(Pattern::new(text))
        } else {
            let shown = escape(text.as_bytes());
            Err(format!(
                "an executable is an absolute path: did you mean \"*/{shown}\"?"
            ))
        }
    };
    Ok(Some(Patterns::new(each(value, read)?)))
}

fn hashes(value: &DeValue<'_>) -> Result<Option<Vec<String>>, String> {
    let read = |value: &DeValue<'_>| {
        let hash = value.as_str().map(str::to_ascii_lowercase);
        let is_hash =
            |hash: &String| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        hash.filter(is_hash)
            .ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
    };
    Ok(Some(each(value, read)?))
}

fn users(value: &DeValue<'_>) -> Result<Option<Vec<User>>, String> {
    let read = |value: &DeValue<'_>| match value.as_integer() {
        Some(number) => u32::from_str_radix(number.as_str(), number.radix())
            .map(User::Id)
            .map_err(|_| "expected the name or the number of a user".to_owned()),
        None => string(value).map(Pattern::new).map(User::Name),
    };
    Ok(Some(each(value, read)?))
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
