//! `[storm]`: thresholds of storms and scans. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::duration;
use super::keys::{Key, key};
use super::values::{number, set, truth};
use crate::event::StormKind;
use crate::event::words::Word as _;
use crate::storm::Settings;
use crate::storm::response::SCAN;

/// Rates a second that make sense.
const RATE: RangeInclusive<u32> = 1..=100_000_000;
const PERCENT: RangeInclusive<u32> = 1..=100;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) const KEYS: &[Key] = &[
    key("storm", "off", |config, value| {
        off(&mut config.storm, value)
    }),
    key("storm", "calm", |config, value| {
        set(&mut config.storm.calm, span(value, SECOND..=HOUR))
    }),
    key("storm", "beat", |config, value| {
        let beats = Duration::from_secs(5)..=HOUR;
        set(&mut config.storm.beat, span(value, beats))
    }),
    key("storm", "learn", |config, value| {
        set(&mut config.storm.learn, truth(value))
    }),
    key("storm", "factor", |config, value| {
        set(&mut config.storm.factor, number(value, 2..=1_000))
    }),
    key("storm", "syn_flood_rate", |config, value| {
        set(&mut config.storm.syn_flood_rate, number(value, RATE))
    }),
    key("storm", "syn_flood_ratio", |config, value| {
        set(&mut config.storm.syn_flood_ratio, number(value, PERCENT))
    }),
    key("storm", "connection_storm_rate", |config, value| {
        set(&mut config.storm.connection_storm_rate, number(value, RATE))
    }),
    key("storm", "connect_storm_rate", |config, value| {
        set(&mut config.storm.connect_storm_rate, number(value, RATE))
    }),
    key("storm", "connect_storm_failed", |config, value| {
        set(&mut config.storm.connect_storm_failed, number(value, RATE))
    }),
    key("storm", "reset_storm_rate", |config, value| {
        set(&mut config.storm.reset_storm_rate, number(value, RATE))
    }),
    key("storm", "refused_storm_rate", |config, value| {
        set(&mut config.storm.refused_storm_rate, number(value, RATE))
    }),
    key("storm", "close_wait_sockets", |config, value| {
        let sockets = 32..=10_000_000;
        set(&mut config.storm.close_wait_sockets, number(value, sockets))
    }),
    key("storm", "close_wait_for", |config, value| {
        set(&mut config.storm.close_wait_for, span(value, SECOND..=HOUR))
    }),
    key("storm", "time_wait_percent", |config, value| {
        set(&mut config.storm.time_wait_percent, number(value, PERCENT))
    }),
    key("storm", "accept_queue_rate", |config, value| {
        set(&mut config.storm.accept_queue_rate, number(value, RATE))
    }),
    key("storm", "scan_ports", |config, value| {
        set(&mut config.storm.scan_ports, number(value, 2..=90))
    }),
    key("storm", "scan_window", |config, value| {
        let windows = Duration::from_secs(60)..=HOUR * 24 * 7;
        set(&mut config.storm.scan_window, span(value, windows))
    }),
    key("storm", "scan_sources", |config, value| {
        set(&mut config.storm.scan_sources, number(value, 2..=2_000))
    }),
];

/// A span of time within bounds.
pub(super) fn span(
    value: &DeValue<'_>,
    range: RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let span = value.as_str().and_then(|text| duration::parse(text).ok());
    span.filter(|span| range.contains(span)).ok_or_else(|| {
        format!(
            "expected a span of time from {}s to {}s such as \"30s\"",
            range.start().as_secs(),
            range.end().as_secs()
        )
    })
}

/// Kinds of storms, and of scans the one that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) storms: std::collections::BTreeSet<StormKind>,
    pub(super) has_scans: bool,
}

/// A list of kinds by name.
pub(super) fn kinds(value: &DeValue<'_>) -> Result<Kinds, String> {
    let expected = || {
        let all = StormKind::WORDS.join(", ");
        format!("expected a list of kinds in quotes: {all}, {SCAN}")
    };
    let mut kinds = Kinds::default();
    for item in value.as_array().ok_or_else(expected)? {
        let name = item.get_ref().as_str().ok_or_else(expected)?;
        match StormKind::ALL.iter().find(|kind| kind.word() == name) {
            Some(kind) => {
                kinds.storms.insert(*kind);
            }
            None if name == SCAN => kinds.has_scans = true,
            None => return Err(expected()),
        }
    }
    Ok(kinds)
}

fn off(settings: &mut Settings, value: &DeValue<'_>) -> Result<(), String> {
    let kinds = kinds(value)?;
    settings.off = kinds.storms;
    settings.is_scan_off = kinds.has_scans;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, apply_text};
    use crate::event::StormKind;

    #[test]
    fn thresholds_are_taken() {
        let mut config = Config::default();
        let text = "[storm]\noff = [\"reset-storm\", \"port-scan\"]\nsyn_flood_rate = 200\ncalm = \"20s\"\nlearn = false\n";
        assert_eq!(apply_text(&mut config, text), [""; 0]);
        assert!(config.storm.off.contains(&StormKind::ResetStorm));
        assert!(config.storm.is_scan_off && !config.storm.learn);
        assert_eq!(config.storm.syn_flood_rate, 200);
        assert_eq!(config.storm.calm.as_secs(), 20);
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        for (text, expected) in [
            (
                "[storm]\noff = [\"flood\"]\n",
                "test.toml:2:7: storm.off: expected a list of kinds",
            ),
            (
                "[storm]\nsyn_flood_rate = 0\n",
                "expected a whole number from 1",
            ),
            ("[storm]\ncalm = \"1d\"\n", "from 1s to 3600s"),
            (
                "[storm]\nsyn_flood_rat = 1\n",
                "did you mean `syn_flood_rat",
            ),
        ] {
            let mistakes = apply_text(&mut Config::default(), text);
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].contains(expected), "{mistakes:?}");
        }
    }
}
