//! `portwatch alert test`: a real message through each channel, and the real answer.

use jiff::Timestamp;
use uuid::Uuid;

use super::args::{self, AlertCommand};
use super::exit::Exit;
use super::failure::{Failure, note};
use super::print;
use crate::alert::{Entry, Key, Message, Phase};
use crate::config::{self, Channel, Paths};
use crate::daemon;
use crate::event::{EventType, Severity};
use crate::text::guard;

pub(super) fn run(alert: &args::Alert, paths: &Paths) -> Result<Exit, Failure> {
    match &alert.command {
        AlertCommand::Test { channel } => test(channel.as_deref(), paths),
    }
}

fn test(wanted: Option<&str>, paths: &Paths) -> Result<Exit, Failure> {
    let channels = config::load(paths)?.config.channels;
    let chosen = choose(&channels, wanted)?;
    let message = message();
    let mut has_failed = None;
    for channel in chosen {
        match daemon::send_once(channel, &message) {
            Ok(answer) => {
                let line = format!("{}: taken by {}\n", channel.name, guard(&answer));
                print(line.as_bytes())?;
            }
            Err(why) => {
                note(format_args!("{}: not taken: {why}", channel.name));
                has_failed = Some(channel.name.clone());
            }
        }
    }
    match has_failed {
        None => Ok(Exit::Ok),
        Some(name) => Err(Failure::new(
            Exit::Unavailable,
            format_args!("the channel {name} does not work"),
        )),
    }
}

fn choose<'a>(channels: &'a [Channel], wanted: Option<&str>) -> Result<Vec<&'a Channel>, Failure> {
    let chosen: Vec<&Channel> = channels
        .iter()
        .filter(|channel| wanted.is_none_or(|name| channel.name == name))
        .collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let names: Vec<&str> = channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    let sentence = match (wanted, names.as_slice()) {
        (_, []) => {
            "no channel is configured: an [email] section with `to` and `server` is one, [webhook], [exec], [syslog] and [journald] are others".to_owned()
        }
        (wanted, names) => format!(
            "there is no channel `{}`; there are {}",
            wanted.unwrap_or_default(),
            names.join(", ")
        ),
    };
    Err(Failure::new(Exit::Usage, sentence))
}

fn message() -> Message {
    let mut event = daemon::bare_event(EventType::SensorReady);
    "this is a test: alerts of this host reach you".clone_into(&mut event.message);
    Message {
        id: Uuid::now_v7(),
        ts: Timestamp::now().to_string(),
        host: event.host.name.clone(),
        severity: Severity::Notice,
        entries: vec![Entry {
            key: Key::named("test"),
            phase: Phase::Once,
            since: event.ts.clone(),
            severity: Severity::Notice,
            event,
            ended_after_ms: None,
            again: 0,
        }],
        more: Vec::new(),
        silent_until: None,
    }
}
