//! Spans of time as people write them: `10m`, `90s`, `1h30m`, `2d`, `500ms`. Pure.

use std::time::Duration;

/// Reads numbers with units, added up.
///
/// # Errors
/// It is none, or nothing at all: says what one looks like.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{}` is not a span of time; write for example 90s, 10m, 1h30m or 2d",
            text.escape_debug()
        )
    };
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        let end = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let ms = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit_ms));
        let step = Duration::from_millis(ms.ok_or_else(wrong)?);
        total = total.checked_add(step).ok_or_else(wrong)?;
        rest = after;
    }
    if total.is_zero() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        let none = [
            "",
            "10",
            "m",
            "1x",
            "-1s",
            "0s",
            "99999999999999999d",
            "1 h",
        ];
        for text in none {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
