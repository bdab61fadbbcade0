//! Values of keys that rules and channels have in common: what a TOML value must be, and what it becomes. Pure.

use std::sync::Arc;

use jiff::civil::Time;
use toml::Spanned;
use toml::de::DeValue;

use super::parse::nearest;
use crate::event::words::Word;
use crate::filter::Filter;
use crate::text::escape;

/// Longest name of a rule or a channel, in characters.
const MAX_NAME: usize = 64;

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
    let expected = || format!("expected one of {}", W::WORDS.join(", "));
    let text = value.as_str().ok_or_else(expected)?;
    let found = W::ALL.iter().find(|word| word.word() == text).copied();
    found.ok_or_else(|| {
        let shown = escape(text.as_bytes());
        match nearest(text, W::WORDS.iter().copied()) {
            Some(nearest) => format!("`{shown}` is not known; did you mean \"{nearest}\"?"),
            None => format!("`{shown}` is not known; {}", expected()),
        }
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
