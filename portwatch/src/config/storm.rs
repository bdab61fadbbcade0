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

/// A key by the name of the setting that it is, what reads its value, and between which bounds.
macro_rules! setting {
    ($name:ident, $read:ident $(, $bounds:expr)?) => {
        key("storm", stringify!($name), |config, value| {
            set(&mut config.storm.$name, $read(value $(, $bounds)?))
        })
    };
}

pub(super) const KEYS: &[Key] = &[
    key("storm", "off", |config, value| {
        off(&mut config.storm, value)
    }),
    setting!(calm, span, SECOND..=HOUR),
    setting!(beat, span, SECOND * 5..=HOUR),
    setting!(learn, truth),
    setting!(factor, number, 2..=1_000),
    setting!(syn_flood_rate, number, RATE),
    setting!(syn_flood_ratio, number, PERCENT),
    setting!(connection_storm_rate, number, RATE),
    setting!(connect_storm_rate, number, RATE),
    setting!(connect_storm_failed, number, RATE),
    setting!(reset_storm_rate, number, RATE),
    setting!(refused_storm_rate, number, RATE),
    setting!(close_wait_sockets, number, 32..=10_000_000),
    setting!(close_wait_for, span, SECOND..=HOUR),
    setting!(time_wait_percent, number, PERCENT),
    setting!(accept_queue_rate, number, RATE),
    setting!(scan_ports, number, 2..=90),
    setting!(scan_window, span, SECOND * 60..=HOUR * 168),
    setting!(scan_sources, number, 2..=2_000),
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

    /// Each key goes where it belongs: set alone, it changes the settings, and no other one changes them in the same way.
    #[test]
    fn every_key_sets_its_own_threshold() {
        let mut seen = Vec::new();
        for key in super::KEYS {
            let value = match key.name {
                "off" => "[\"port-scan\"]",
                "learn" => "false",
                "calm" | "beat" | "close_wait_for" | "scan_window" => "\"77s\"",
                _ => "77",
            };
            let mut config = Config::default();
            let text = format!("[storm]\n{} = {value}\n", key.name);
            assert_eq!(apply_text(&mut config, &text), [""; 0], "{text}");
            assert_ne!(config.storm, Config::default().storm, "{text}");
            assert!(!seen.contains(&config.storm), "{text}");
            seen.push(config.storm);
        }
        assert_eq!(seen.len(), 19);
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
