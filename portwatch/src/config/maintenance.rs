//! `[[maintenance]]`: when alerts wait. Pure.

use jiff::civil::{DateTime, Time, Weekday};
use toml::de::{DeTable, DeValue};

use super::parse::{Mistakes, nearest};
use super::values::{each, expression, name, string};
use crate::alert::Window;
use crate::alert::maintenance::When;
use crate::filter::Filter;
use crate::text::escape;

/// What the list is called.
pub(super) const LIST: &str = "maintenance";

const KEYS: [&str; 5] = ["name", "days", "from", "to", "match"];

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A begin or an end, as it is written.
#[derive(Clone, Copy)]
enum Moment {
    Daily(Time),
    Once(DateTime),
}

/// What has been read of a window so far.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    days: Option<Vec<Weekday>>,
    from: Option<Moment>,
    to: Option<Moment>,
    filter: Option<Filter>,
}

/// Puts every window of a document behind `windows`, in the order of their places.
pub(super) fn read(document: &DeTable<'_>, windows: &mut Vec<Window>, mistakes: &mut Mistakes) {
    let Some((place, value)) = document.get_key_value(LIST) else {
        return;
    };
    let wrong = || "`maintenance` is a list: write [[maintenance]] and its keys below".to_owned();
    let DeValue::Array(listed) = value.get_ref() else {
        mistakes.push((place.span().start, wrong()));
        return;
    };
    for one in listed {
        let at = one.span().start;
        match one.get_ref() {
            DeValue::Table(table) => windows.extend(window(at, table, mistakes)),
            _ => mistakes.push((at, wrong())),
        }
    }
}

fn window(at: usize, table: &DeTable<'_>, mistakes: &mut Mistakes) -> Option<Window> {
    let mut draft = Draft::default();
    let before = mistakes.len();
    for (key, value) in table {
        let key_name = key.get_ref().as_ref();
        if !KEYS.contains(&key_name) {
            mistakes.push((key.span().start, unknown(key_name)));
        } else if let Err(expected) = draft.set(key_name, value.get_ref()) {
            mistakes.push((value.span().start, format!("{key_name}: {expected}")));
        }
    }
    // What is missing only confuses where something is wrong already.
    if mistakes.len() > before {
        return None;
    }
    let finished = draft.finish();
    finished
        .map_err(|message| mistakes.push((at, message.to_owned())))
        .ok()
}

impl Draft {
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        match key {
            "name" => self.name = Some(name(value)?.to_string()),
            "days" => self.days = Some(each(value, day)?),
            "from" => self.from = Some(moment(value)?),
            "to" => self.to = Some(moment(value)?),
            _ => self.filter = expression(value)?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Window, &'static str> {
        let when = match (self.from, self.to, self.days) {
            (Some(Moment::Daily(from)), Some(Moment::Daily(to)), days) => {
                if from == to {
                    return Err("`from` and `to` are the same time: the window would have no end");
                }
                let every = || DAYS.map(|(_, day)| day).to_vec();
                let days = days.unwrap_or_else(every);
                When::Weekly { days, from, to }
            }
            (Some(Moment::Once(_)), Some(Moment::Once(_)), Some(_)) => {
                return Err("`days` goes with times of the day, not with dates");
            }
            (Some(Moment::Once(from)), Some(Moment::Once(to)), None) => {
                if from >= to {
                    return Err("the window ends before it begins: `to` must be later than `from`");
                }
                When::Once { from, to }
            }
            (Some(_), Some(_), _) => {
                return Err("`from` and `to` are both times of the day, or both have a date");
            }
            _ => return Err("a maintenance needs `from` and `to`"),
        };
        Ok(Window {
            name: self.name.unwrap_or_else(|| LIST.to_owned()),
            when,
            filter: self.filter,
        })
    }
}

fn day(value: &DeValue<'_>) -> Result<Weekday, String> {
    let text = string(value)?;
    let known = DAYS.iter().find(|(word, _)| *word == text);
    known.map(|(_, day)| *day).ok_or_else(|| {
        let words = DAYS.map(|(word, _)| word);
        format!("expected one of {}", words.join(", "))
    })
}

/// `02:00`, or `2026-12-24T22:00`.
fn moment(value: &DeValue<'_>) -> Result<Moment, String> {
    let text = string(value)?;
    let once = text.parse().map(Moment::Once);
    match text.contains('-') {
        true => once,
        false => text.parse().map(Moment::Daily),
    }
    .map_err(|_| "expected a time such as \"02:00\" or \"2026-12-24T22:00\"".to_owned())
}

fn unknown(key: &str) -> String {
    let shown = escape(key.as_bytes());
    match nearest(key, KEYS.into_iter()) {
        Some(nearest) => {
            format!("unknown key `{shown}` in [[maintenance]]; did you mean `{nearest}`?")
        }
        None => format!(
            "unknown key `{shown}` in [[maintenance]]; it has {}",
            KEYS.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::civil::{Weekday, date, time};

    use super::When;
    use crate::alert::Window;
    use crate::config::Config;
    use crate::config::parse::apply;

    fn parsed(input: &str) -> (Vec<Window>, Vec<String>) {
        let mut config = Config::default();
        let mistakes = apply(&mut config, Path::new("f.toml"), input);
        let mistakes = mistakes.iter().map(ToString::to_string).collect();
        (config.maintenance, mistakes)
    }

    #[test]
    fn nights_and_single_days_are_taken() {
        let (windows, mistakes) = parsed(
            "[[maintenance]]\nname = \"patches\"\ndays = [\"sun\"]\nfrom = \"23:00\"\nto = \"02:00\"\nmatch = \"tcp\"\n\
             [[maintenance]]\nfrom = \"2026-12-24T22:00\"\nto = \"2026-12-25T04:00\"\n\
             [[maintenance]]\nfrom = \"02:00\"\nto = \"03:00\"\n",
        );
        assert_eq!(mistakes, [""; 0]);
        let sunday = When::Weekly {
            days: vec![Weekday::Sunday],
            from: time(23, 0, 0, 0),
            to: time(2, 0, 0, 0),
        };
        assert_eq!(windows[0].when, sunday);
        assert_eq!(windows[0].name, "patches");
        assert!(windows[0].filter.is_some());
        let once = When::Once {
            from: date(2026, 12, 24).at(22, 0, 0, 0),
            to: date(2026, 12, 25).at(4, 0, 0, 0),
        };
        assert_eq!(windows[1].when, once);
        assert!(matches!(&windows[2].when, When::Weekly { days, .. } if days.len() == 7));
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        for (input, expected) in [
            (
                "[[maintenance]]\nfrom = \"02:00\"\n",
                "f.toml:1:1: a maintenance needs",
            ),
            (
                "[[maintenance]]\nfrom = \"2 o'clock\"\n",
                "f.toml:2:8: from: expected a time",
            ),
            ("[[maintenance]]\nfrm = \"02:00\"\n", "did you mean `from`?"),
            ("[[maintenance]]\ndays = \"someday\"\n", "one of mon, tue"),
            (
                "[[maintenance]]\nfrom = \"02:00\"\nto = \"02:00\"\n",
                "no end",
            ),
            (
                "[[maintenance]]\nfrom = \"02:00\"\nto = \"2026-12-24T22:00\"\n",
                "both times of the day",
            ),
            (
                "[[maintenance]]\nfrom = \"2026-12-25T22:00\"\nto = \"2026-12-24T22:00\"\n",
                "ends before it begins",
            ),
            ("[maintenance]\nfrom = \"02:00\"\n", "write [[maintenance]]"),
            ("[[maintenence]]\n", "did you mean [[maintenance]]?"),
        ] {
            let (windows, mistakes) = parsed(input);
            assert_eq!(
                (windows.len(), mistakes.len()),
                (0, 1),
                "{input}: {mistakes:?}"
            );
            assert!(mistakes[0].contains(expected), "{mistakes:?}");
        }
    }
}
