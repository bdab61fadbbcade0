//! Values of keys that rules and channels have in common, and those of sinks: what a TOML value must be, and what it becomes. Pure.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Time;
use toml::Spanned;
use toml::de::DeValue;

use super::duration;
use super::parse::nearest;
use crate::event::words::Word;
use crate::filter::Filter;
use crate::text::escape;

/// Longest name of a rule or a channel, in characters.
const MAX_NAME: usize = 64;

/// A key: checks the value and puts it in its place, or says what is expected.
pub(super) type Apply<T> = fn(&mut T, &DeValue<'_>) -> Result<(), String>;

pub(super) fn names<T>(keys: &[(&'static str, Apply<T>)]) -> Vec<&'static str> {
    keys.iter().map(|(name, _)| *name).collect()
}

pub(super) fn take<T>(
    keys: &[(&'static str, Apply<T>)],
    to: &mut T,
    key: &str,
    value: &DeValue<'_>,
) -> Option<Result<(), String>> {
    let (_, apply) = keys.iter().find(|(name, _)| *name == key)?;
    Some(apply(to, value))
}

pub(super) fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// One value, or a list of some.
pub(super) fn each<'v, T>(
    value: &'v DeValue<'v>,
    read: impl Fn(&'v DeValue<'v>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    match value {
        DeValue::Array(values) if values.is_empty() => {
            Err("an empty list matches nothing: leave the key out".to_owned())
        }
        DeValue::Array(values) => values.iter().map(Spanned::get_ref).map(read).collect(),
        one => Ok(vec![read(one)?]),
    }
}

pub(super) fn string(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| "expected a text in quotes".to_owned())
}

pub(super) fn name(value: &DeValue<'_>) -> Result<Arc<str>, String> {
    let name = string(value)?;
    let is_plain = !name.chars().any(char::is_control) && name.chars().count() <= MAX_NAME;
    if is_plain {
        Ok(name.into())
    } else {
        Err(format!(
            "expected a name of at most {MAX_NAME} characters, none of them a control character"
        ))
    }
}

pub(super) fn truth(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| "expected true or false".to_owned())
}

pub(super) fn word<W: Word>(value: &DeValue<'_>) -> Result<W, String> {
    let words: Vec<(&str, W)> = W::ALL.iter().map(|word| (word.word(), *word)).collect();
    word_of(value, &words)
}

/// One of these words, and what it stands for.
pub(super) fn word_of<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, String> {
    let names = || words.iter().map(|(name, _)| *name);
    let expected = || format!("expected one of {}", names().collect::<Vec<_>>().join(", "));
    let text = value.as_str().ok_or_else(expected)?;
    let found = words.iter().find(|(name, _)| *name == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let shown = escape(text.as_bytes());
        match nearest(text, names()) {
            Some(nearest) => format!("`{shown}` is not known; did you mean \"{nearest}\"?"),
            None => format!("`{shown}` is not known; {}", expected()),
        }
    })
}

pub(super) fn number(value: &DeValue<'_>, range: RangeInclusive<u32>) -> Result<u32, String> {
    value
        .as_integer()
        .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "expected a whole number from {} to {}",
                range.start(),
                range.end()
            )
        })
}

pub(super) fn expression(value: &DeValue<'_>) -> Result<Option<Filter>, String> {
    let filter = Filter::parse(&string(value)?)
        .map_err(|error| format!("column {}: {}", error.column(), error.message()))?;
    if filter.matches_all() {
        return Err("an empty expression matches everything: leave the key out".to_owned());
    }
    Ok(Some(filter))
}

/// `07:00` or `07:00:30`, by the clock of the host.
pub(super) fn time_of_day(value: &DeValue<'_>) -> Result<Time, String> {
    let time = value.as_str().and_then(|text| text.parse().ok());
    time.ok_or_else(|| r#"expected a time of the day in quotes, such as "07:00""#.to_owned())
}

/// It becomes the name of a folder.
pub(super) fn plain_name(value: &DeValue<'_>) -> Result<String, String> {
    let name = name(value)?;
    let is_plain = !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    match is_plain {
        true => Ok(name.to_string()),
        false => Err("expected a name of letters, digits, `-`, `_` and `.`".to_owned()),
    }
}

pub(super) fn span(value: &DeValue<'_>, least: u64, most: u64) -> Result<Duration, String> {
    let span = value.as_str().and_then(|text| match text {
        "0s" => Some(Duration::ZERO),
        text => duration::parse(text).ok(),
    });
    let range = Duration::from_secs(least)..=Duration::from_secs(most);
    span.filter(|span| range.contains(span))
        .ok_or_else(|| format!("expected a span of time of {least} s to {most} s, such as \"1h\""))
}

pub(super) fn absolute(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = PathBuf::from(string(value)?);
    match path.is_absolute() {
        true => Ok(path),
        false => Err("expected an absolute path".to_owned()),
    }
}

/// Secrets are never in the configuration itself.
pub(super) fn secret_file(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let text = string(value)?;
    let is_credential = Path::new(&text).components().count() == 1 && !text.starts_with('.');
    match is_credential || text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(
            "expected an absolute path, or the name of a credential of the systemd unit".to_owned(),
        ),
    }
}
