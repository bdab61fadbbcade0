//! `[response]`: what is done about storms and scans, and to whom never. Pure.

use std::time::Duration;

use toml::de::DeValue;

use super::keys::{Key, key};
use super::storm::{kinds, span};
use super::values::{number, set, truth};
use crate::event::words::Word as _;
use crate::storm::Prefix;
use crate::storm::response::{ANSWERABLE, SCAN, Set, Terms};

/// Networks that are never blocked, at most.
const MOST: usize = 256;

pub(super) const KEYS: &[Key] = &[
    key("response", "on", |config, value| {
        on(&mut config.response, value)
    }),
    key("response", "dry_run", |config, value| {
        set(&mut config.response.dry_run, truth(value))
    }),
    key("response", "ipv4_set", |config, value| {
        set(&mut config.response.ipv4_set, name(value))
    }),
    key("response", "ipv6_set", |config, value| {
        set(&mut config.response.ipv6_set, name(value))
    }),
    key("response", "timeout", |config, value| {
        let times = Duration::from_secs(10)..=Duration::from_secs(86_400);
        set(&mut config.response.timeout, span(value, times))
    }),
    key("response", "share", |config, value| {
        set(&mut config.response.share, number(value, 1..=100))
    }),
    key("response", "per_hour", |config, value| {
        set(&mut config.response.per_hour, number(value, 1..=10_000))
    }),
    key("response", "never", |config, value| {
        set(&mut config.response.never, networks(value))
    }),
];

fn on(terms: &mut Terms, value: &DeValue<'_>) -> Result<(), String> {
    let kinds = kinds(value)?;
    let other = kinds.storms.iter().find(|kind| !ANSWERABLE.contains(kind));
    if let Some(other) = other {
        let words: Vec<&str> = ANSWERABLE.iter().map(|kind| kind.word()).collect();
        return Err(format!(
            "nobody in particular is the source of a {}; expected some of {}, {SCAN}",
            other.word(),
            words.join(", ")
        ));
    }
    terms.storms = kinds.storms;
    terms.scans = kinds.has_scans;
    Ok(())
}

fn name(value: &DeValue<'_>) -> Result<Option<Set>, String> {
    let set = value.as_str().and_then(|text| match text {
        "none" => Some(None),
        text => Set::parse(text).map(Some),
    });
    set.ok_or_else(|| {
        "expected a set of nftables as \"FAMILY TABLE NAME\", such as \"inet filter portwatch4\", or \"none\"".to_owned()
    })
}

fn networks(value: &DeValue<'_>) -> Result<Vec<Prefix>, String> {
    let expected = || {
        format!(
            "expected a list of at most {MOST} addresses or networks, such as \"198.51.100.0/24\""
        )
    };
    let list = value.as_array().filter(|list| list.len() <= MOST);
    let network =
        |item: &toml::Spanned<DeValue<'_>>| item.get_ref().as_str().and_then(Prefix::parse);
    list.ok_or_else(expected)?
        .iter()
        .map(|item| network(item).ok_or_else(expected))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, apply_text};

    #[test]
    fn nothing_is_done_unless_it_is_configured() {
        let terms = Config::default().response;
        assert!(terms.storms.is_empty() && !terms.scans && terms.dry_run);
        assert_eq!((terms.ipv4_set, terms.ipv6_set), (None, None));
    }

    #[test]
    fn sets_and_networks_are_taken_and_mistakes_told() {
        let mut config = Config::default();
        let text = "[response]\non = [\"port-scan\"]\nipv4_set = \"inet filter bad4\"\nnever = [\"198.51.100.0/24\", \"2001:db8::1\"]\n";
        assert_eq!(apply_text(&mut config, text), [""; 0]);
        assert!(config.response.scans);
        assert_eq!(config.response.never.len(), 2);
        for (text, expected) in [
            (
                "[response]\nipv4_set = \"filter; flush ruleset\"\n",
                "expected a set of nftables",
            ),
            (
                "[response]\nnever = [\"198.51.100.0/33\"]\n",
                "expected a list",
            ),
            (
                "[response]\non = [\"connect-storm\"]\n",
                "nobody in particular is the source of a connect-storm",
            ),
            (
                "[response]\non = \"syn-flood\"\n",
                "expected a list of kinds",
            ),
        ] {
            let mistakes = apply_text(&mut Config::default(), text);
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].contains(expected), "{mistakes:?}");
        }
    }
}
