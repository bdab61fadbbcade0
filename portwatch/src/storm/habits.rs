//! What was learned, as a text that outlives the daemon. Pure.
//!
//! ```text
//! portwatch habits 1
//! boot 4f7a…
//! at 1764496800
//! accept listener home 4 80 13 0 0 0 …      rate, subject, its namespace, hour seen last, and a rate for each of 24 hours
//! reset namespace home 13 0 0 0 …
//! end 2
//! ```
//!
//! The namespace of the host is `home`: it is the same after a boot, and others are not. Processes are not in it: no other one
//! will have their pid and start. A text that is wrong anywhere is not believed at all.

use std::fmt::Write as _;

use super::learned::{Habit, MOST};
use super::reading::{ListenerKey, Rate, Subject};

const TITLE: &str = "portwatch habits 1";
const DAY_S: u64 = 86_400;
/// More than any rate that a host can have.
const RATE_MAX: f32 = 1e9;
/// A longer text is none of ours, bytes.
pub const TEXT_MAX: u64 = 1 << 20;

/// Where and when something was learned, or is to be known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The network namespace of the host.
    pub home: u32,
    /// The boot, where it has an id: other namespaces are those of the same boot alone.
    pub boot: Option<String>,
    /// Seconds since 1970.
    pub at: u64,
}

/// Writes them down.
#[must_use]
pub fn to_text(habits: impl Iterator<Item = Habit>, setting: &Setting) -> String {
    let mut text = format!("{TITLE}\nboot {}\nat {}\n", boot(setting), setting.at);
    let mut lines: Vec<String> = habits.filter_map(|one| line(&one, setting.home)).collect();
    lines.sort();
    lines.truncate(MOST);
    for line in &lines {
        text.push_str(line);
    }
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "end {}", lines.len());
    text
}

fn boot(setting: &Setting) -> &str {
    let is_word = |id: &&String| !id.is_empty() && !id.contains(char::is_whitespace);
    setting.boot.as_ref().filter(is_word).map_or("-", |id| id)
}

fn line(habit: &Habit, home: u32) -> Option<String> {
    let space = |netns: u32| match netns == home {
        true => "home".to_owned(),
        false => netns.to_string(),
    };
    let subject = match habit.subject {
        Subject::Listener(key) => {
            let family = if key.is_v6 { 6 } else { 4 };
            format!("listener {} {family} {}", space(key.netns), key.port)
        }
        Subject::Namespace(netns) => format!("namespace {}", space(netns)),
        Subject::Process(..) | Subject::Source(..) => return None,
    };
    let mut line = format!("{} {subject} {}", word(habit.rate)?, habit.hour);
    for rate in habit.rates {
        // A tenth of a connection is exact enough, and short.
        let tenths = (f64::from(rate.min(RATE_MAX)) * 10.0).round();
        let _ = write!(line, " {}", tenths / 10.0);
    }
    line.push('\n');
    Some(line)
}

/// Those of a listener and of a namespace that are learned.
const fn word(rate: Rate) -> Option<&'static str> {
    match rate {
        Rate::Accept => Some("accept"),
        Rate::Reset => Some("reset"),
        Rate::Syn | Rate::Unanswered | Rate::Connect | Rate::Ports => None,
    }
}

/// Reads them back, as they are in this setting: a tenth less for each day between.
///
/// # Errors
/// Which line is wrong, and why.
pub fn parse(text: &str, setting: &Setting) -> Result<Vec<Habit>, String> {
    let mut lines = text.lines().zip(1_u32..);
    let mut header = |start: &str| match lines.next() {
        Some((line, _)) if line.starts_with(start) => Ok(line.split_at(start.len()).1),
        _ => Err(format!("there is no line `{start}` at its begin")),
    };
    header(TITLE)?;
    let is_same_boot = header("boot ")? == boot(setting) && setting.boot.is_some();
    let at: u64 = header("at ")?.parse().map_err(|_| "line 3: when?")?;
    let days = u32::try_from(setting.at.saturating_sub(at) / DAY_S).unwrap_or(u32::MAX);
    let mut habits = Vec::new();
    let mut count = 0_usize;
    for (line, number) in lines {
        if let Some(told) = line.strip_prefix("end ") {
            return match told.parse() == Ok(count) {
                true => Ok(habits),
                false => Err(format!("line {number}: it should be the end of {count}")),
            };
        }
        count += 1;
        let wrong = || format!("line {number} is no habit");
        let (habit, is_home) = read(line, setting.home).ok_or_else(wrong)?;
        if count > MOST {
            return Err(format!("line {number}: more than {MOST}"));
        }
        if is_home || is_same_boot {
            habits.push(habit.after(days));
        }
    }
    Err("its end is missing".to_owned())
}

/// One line, and whether it is of the host's own namespace.
fn read(line: &str, home: u32) -> Option<(Habit, bool)> {
    let mut words = line.split(' ');
    let rate = match words.next()? {
        "accept" => Rate::Accept,
        "reset" => Rate::Reset,
        _ => return None,
    };
    let kind = words.next()?;
    let space = words.next()?;
    let is_home = space == "home";
    let netns = match is_home {
        true => home,
        false => space.parse().ok()?,
    };
    let subject = match kind {
        "listener" => Subject::Listener(ListenerKey {
            netns,
            is_v6: match words.next()? {
                "4" => false,
                "6" => true,
                _ => return None,
            },
            port: words.next()?.parse().ok()?,
        }),
        "namespace" => Subject::Namespace(netns),
        _ => return None,
    };
    let hour: u8 = words.next()?.parse().ok().filter(|hour| *hour < 24)?;
    let mut rates = [0.0_f32; 24];
    for rate in &mut rates {
        let told: f32 = words.next()?.parse().ok()?;
        *rate = (0.0..=RATE_MAX).contains(&told).then_some(told)?;
    }
    let habit = Habit {
        rate,
        subject,
        rates,
        hour,
    };
    words.next().is_none().then_some((habit, is_home))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: u32 = 4_026_531_840;

    fn setting() -> Setting {
        Setting {
            home: HOME,
            boot: Some("4f7a".to_owned()),
            at: 1_764_496_800,
        }
    }

    fn habit(netns: u32, port: u16, rate: f32) -> Habit {
        Habit {
            rate: Rate::Accept,
            subject: Subject::Listener(ListenerKey {
                netns,
                is_v6: false,
                port,
            }),
            rates: [rate; 24],
            hour: 13,
        }
    }

    #[test]
    fn the_host_is_known_again_after_a_boot_and_others_are_not() {
        let habits = [habit(HOME, 80, 500.0), habit(9, 80, 70.0)];
        let text = to_text(habits.clone().into_iter(), &setting());
        let read = parse(&text, &setting()).expect("its own text");
        assert_eq!(read.len(), 2);
        let later = Setting {
            home: HOME + 7,
            boot: Some("other".to_owned()),
            ..setting()
        };
        let read = parse(&text, &later).expect("its own text");
        assert_eq!(read, [habit(HOME + 7, 80, 500.0)]);
        let nameless = Setting {
            boot: None,
            ..setting()
        };
        let text = to_text(habits.into_iter(), &nameless);
        assert_eq!(parse(&text, &nameless).map(|read| read.len()), Ok(1));
    }

    #[test]
    fn days_in_which_nobody_looked_fade_it() {
        let text = to_text(std::iter::once(habit(HOME, 80, 1_000.0)), &setting());
        let later = Setting {
            at: setting().at + 10 * DAY_S,
            ..setting()
        };
        let read = parse(&text, &later).expect("its own text");
        assert!((read[0].rates[0] - 348.7).abs() < 1.0, "{read:?}");
        // A clock that was wrong makes nobody richer.
        let before = Setting { at: 0, ..setting() };
        assert_eq!(parse(&text, &before), Ok(vec![habit(HOME, 80, 1_000.0)]));
    }

    #[test]
    fn whatever_is_wrong_anywhere_is_told_and_nothing_believed() {
        let text = to_text((1..5).map(|port| habit(HOME, port, 7.5)), &setting());
        assert!(parse(&text, &setting()).is_ok());
        let cut = &text[..text.len() - 9];
        for wrong in [
            "",
            cut,
            &text.replace("habits 1", "habits 2"),
            &text.replace("7.5", "NaN"),
            &text.replace("7.5", "-1"),
            &text.replace("7.5", "1e30"),
            &text.replace(" 13 ", " 24 "),
            &text.replace("end 4", "end 3"),
            &text.replacen("accept", "syn", 1),
            &text.replacen("home", "home home", 1),
        ] {
            assert!(parse(wrong, &setting()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            all in prop::collection::vec((any::<u32>(), any::<bool>(), any::<u16>(), 0_u8..24, prop::array::uniform24(0_u32..10_000_000)), 0..20)
        ) {
            let habits = all.into_iter().map(|(netns, is_v6, port, hour, rates)| Habit {
                rate: if is_v6 { Rate::Reset } else { Rate::Accept },
                subject: match port % 3 {
                    0 => Subject::Namespace(netns),
                    _ => Subject::Listener(ListenerKey { netns, is_v6, port }),
                },
                rates: rates.map(|rate| rate as f32),
                hour,
            });
            let habits: Vec<Habit> = habits.collect();
            let text = to_text(habits.clone().into_iter(), &setting());
            prop_assert!((text.len() as u64) < TEXT_MAX);
            let read = parse(&text, &setting()).expect("its own text");
            prop_assert_eq!(read.len(), habits.len());
            prop_assert!(habits.iter().all(|one| read.contains(one)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", lines in prop::collection::vec("accept listener home 4 [0-9]{1,6}( [0-9.e-]{1,4}){20,30}", 0..4)) {
            let _ = parse(&text, &setting());
            let lines = lines.join("\n");
            let _ = parse(&format!("{TITLE}\nboot -\nat 1\n{lines}\nend 1\n"), &setting());
        }
    }
}
