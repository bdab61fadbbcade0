//! Every configuration key: its section, its name, what it takes and where it goes. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::values::{number, set, truth};
use super::{Config, Learn, LogLevel};
use super::{duration, response, storm};
use crate::interface::metrics::listen::Endpoint;
use crate::interface::metrics::textfile;

/// Longest span of learning.
const LEARN_MAX: Duration = Duration::from_secs(30 * 86_400);

/// How long events may be kept: a minute to ten years.
const AGES: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(3650 * 86_400);

/// Distance of two heartbeats: a second to a day.
const BEATS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// A key that may stand in a file.
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    /// Checks the value and puts it in its place, or says what is expected.
    pub(super) apply: fn(&mut Config, &DeValue<'_>) -> Result<(), String>,
}

pub(super) const fn key(
    section: &'static str,
    name: &'static str,
    apply: fn(&mut Config, &DeValue<'_>) -> Result<(), String>,
) -> Key {
    Key {
        section,
        name,
        apply,
    }
}

/// Every key.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(storm::KEYS).chain(response::KEYS)
}

const KEYS: &[Key] = &[
    key("ring", "critical_kib", |config, value| {
        set(&mut config.ring.critical_kib, ring_size(value))
    }),
    key("ring", "process_kib", |config, value| {
        set(&mut config.ring.process_kib, ring_size(value))
    }),
    key("ring", "bulk_kib", |config, value| {
        set(&mut config.ring.bulk_kib, ring_size(value))
    }),
    key("inventory", "reconcile_seconds", |config, value| {
        set(
            &mut config.inventory.reconcile_seconds,
            number(value, 10..=3600),
        )
    }),
    key("inventory", "fast_seconds", |config, value| {
        set(&mut config.inventory.fast_seconds, number(value, 1..=10))
    }),
    key("enrich", "hash", |config, value| {
        set(&mut config.enrich.hash, truth(value))
    }),
    key("enrich", "package", |config, value| {
        set(&mut config.enrich.package, truth(value))
    }),
    key("enrich", "wait_ms", |config, value| {
        set(&mut config.enrich.wait_ms, number(value, 0..=1000))
    }),
    key("control", "group", |config, value| {
        set(&mut config.control.group, group(value))
    }),
    key("control", "max_clients", |config, value| {
        set(&mut config.control.max_clients, number(value, 1..=1024))
    }),
    key("baseline", "learn", |config, value| {
        set(&mut config.baseline.learn, learn(value))
    }),
    key("history", "max_age", |config, value| {
        set(&mut config.history.max_age, max_age(value))
    }),
    key("history", "max_mib", |config, value| {
        set(&mut config.history.max_mib, number(value, 1..=65_536))
    }),
    key("metrics", "listen", |config, value| {
        set(&mut config.metrics.listen, place(value, Endpoint::parse))
    }),
    key("metrics", "textfile", |config, value| {
        set(&mut config.metrics.textfile, place(value, textfile::parse))
    }),
    key("heartbeat", "every", |config, value| {
        set(&mut config.heartbeat.every, beat(value))
    }),
    key("log", "kernel", |config, value| {
        set(&mut config.log.kernel, log_level(value))
    }),
];

/// KiB, from 64 (a page on every architecture) to 1 GiB, a power of two as the kernel demands.
fn ring_size(value: &DeValue<'_>) -> Result<u32, String> {
    let expected = "expected a size in KiB that is a power of two from 64 to 1048576";
    let size = number(value, 64..=1 << 20).map_err(|_| expected.to_owned())?;
    if size.is_power_of_two() {
        return Ok(size);
    }
    Err(format!("{expected}, such as {}", size.next_power_of_two()))
}

/// A place that is read from a text, or "off".
fn place<T>(value: &DeValue<'_>, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    match value.as_str() {
        Some("off") => Ok(None),
        // What is no text is as wrong as an empty one.
        text => read(text.unwrap_or_default()).map(Some),
    }
}

/// A name that `groupadd` would take.
fn group(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .filter(|name| {
            (1..=32).contains(&name.len())
                && !name.starts_with('-')
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        })
        .map(str::to_owned)
        .ok_or_else(|| "expected the name of a group in quotes".to_owned())
}

/// A word, or a span of time.
fn learn(value: &DeValue<'_>) -> Result<Learn, String> {
    let during = |text| {
        let span = duration::parse(text).ok()?;
        (!span.is_zero() && span <= LEARN_MAX).then_some(Learn::During(span))
    };
    match value.as_str() {
        Some("first-start") => Some(Learn::FirstStart),
        Some("off") => Some(Learn::Off),
        Some(text) => during(text),
        None => None,
    }
    .ok_or_else(|| {
        "expected \"first-start\", \"off\", or a span of time of at most 30 days such as \"1h\""
            .to_owned()
    })
}

/// A span of time, or nothing at all.
fn max_age(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
    let kept = |text| {
        let span = duration::parse(text).ok()?;
        AGES.contains(&span).then_some(Some(span))
    };
    match value.as_str() {
        Some("off") => Some(None),
        Some(text) => kept(text),
        None => None,
    }
    .ok_or_else(|| {
        "expected a span of time from 1m to 3650d such as \"30d\", or \"off\"".to_owned()
    })
}

/// A span of time, or nothing at all.
fn beat(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
    let span = |text| {
        let span = duration::parse(text).ok()?;
        BEATS.contains(&span).then_some(Some(span))
    };
    match value.as_str() {
        Some("off") => Some(None),
        Some(text) => span(text),
        None => None,
    }
    .ok_or_else(|| "expected a span of time from 1s to 1d such as \"60s\", or \"off\"".to_owned())
}

fn log_level(value: &DeValue<'_>) -> Result<LogLevel, String> {
    match value.as_str() {
        Some("off") => Ok(LogLevel::Off),
        Some("error") => Ok(LogLevel::Error),
        Some("warn") => Ok(LogLevel::Warn),
        Some("info") => Ok(LogLevel::Info),
        Some("debug") => Ok(LogLevel::Debug),
        _ => Err(r#"expected "off", "error", "warn", "info" or "debug""#.to_owned()),
    }
}
