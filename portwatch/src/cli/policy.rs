//! `portwatch policy test`: what the rules of now would have said of the listeners of the past.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use super::args::{self, PolicyCommand};
use super::exit::Exit;
use super::failure::{Failure, note};
use super::history::{before_now, cannot_read};
use super::print;
use crate::baseline::Baseline;
use crate::config::{self, Paths};
use crate::daemon;
use crate::event::words::Word as _;
use crate::event::{Event, EventType, Policy as Judged, message};
use crate::history;
use crate::policy::Policy;
use crate::text::guard;

/// Different changes of judgement that are told one by one.
const MAX_TOLD: usize = 10_000;

pub(super) fn run(policy: &args::Policy, paths: &Paths) -> Result<Exit, Failure> {
    match &policy.command {
        PolicyCommand::Test(wanted) => test(wanted, paths),
    }
}

fn test(wanted: &args::PolicyTest, paths: &Paths) -> Result<Exit, Failure> {
    let mut rules = config::load(paths)?.config.rules;
    if let Some(name) = &wanted.rule {
        rules = vec![super::matches::rule(rules, name)?];
    }
    let policy = Policy::new(rules);
    let since = wanted.since.map(before_now).transpose()?;
    let baseline = daemon::baseline(&paths.state_dir, daemon::host_network_namespace())?;
    let mut trial = Trial::default();
    let folder = history::folder(&paths.state_dir);
    let read = history::read(&folder, since, |past| {
        trial.add(past.event, &policy, &baseline);
        ControlFlow::<()>::Continue(())
    });
    // Nothing breaks off.
    let _ = read.map_err(|error| cannot_read(&error, paths))?;
    if trial.untold > 0 {
        note(format_args!("{} more changes are not shown", trial.untold));
    }
    print(trial.told(&policy).as_bytes())
}

/// What came out so far.
#[derive(Debug, Default)]
struct Trial {
    listeners: u64,
    by_rule: BTreeMap<String, u64>,
    changes: BTreeMap<String, Change>,
    untold: u64,
}

/// A judgement that would be another, and how often.
#[derive(Debug)]
struct Change {
    count: u64,
    last: String,
}

impl Trial {
    /// Each listener counts once: when it opened, or was found.
    fn add(&mut self, mut event: Event, policy: &Policy, baseline: &Baseline) {
        let begins = [EventType::ListenerOpened, EventType::ListenerPresent];
        if !begins.contains(&event.kind) {
            return;
        }
        let before = event.policy.take();
        policy.judge(&mut event, baseline);
        let Some(after) = &event.policy else { return };
        self.listeners += 1;
        *self.by_rule.entry(after.rule.clone()).or_default() += 1;
        let Some(before) = before.filter(|before| before != after) else {
            return;
        };
        let program = event.process.as_ref().map_or("the kernel", |process| {
            process.exe.as_deref().unwrap_or(&process.name)
        });
        let place = message::socket_of(&event);
        let line = format!("{place} by {program}: {}, was {}", say(after), say(&before));
        if self.changes.len() >= MAX_TOLD && !self.changes.contains_key(&line) {
            self.untold += 1;
            return;
        }
        let change = self.changes.entry(line).or_insert_with(|| Change {
            count: 0,
            last: String::new(),
        });
        change.count += 1;
        change.last.clone_from(&event.ts);
    }

    /// Every change, then how much each rule decides, also those that decide nothing.
    fn told(&self, policy: &Policy) -> String {
        let mut text = String::new();
        for (line, Change { count, last }) in &self.changes {
            let times = if *count == 1 { "once" } else { "times, last" };
            let count = match count {
                1 => String::new(),
                count => format!("{count} "),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} ({count}{times} at {last})", guard(line));
        }
        let changed: u64 = self.changes.values().map(|change| change.count).sum();
        let _ = writeln!(
            text,
            "{} listeners of the history, {} judged otherwise than then",
            self.listeners,
            changed + self.untold
        );
        let mut counts = self.by_rule.clone();
        for rule in policy.rules() {
            counts.entry(rule.name.to_string()).or_default();
        }
        for (rule, count) in counts {
            let _ = writeln!(text, "{count:>10}  {}", guard(&rule));
        }
        text
    }
}

fn say(judged: &Judged) -> String {
    format!("{} ({})", judged.state.word(), judged.rule)
}

#[cfg(test)]
mod tests {
    use super::Trial;
    use crate::baseline::{Baseline, Frame};
    use crate::event::{Event, EventType, Policy as Judged, PolicyState};
    use crate::policy::{Action, GRACE, Policy, PortRange, Ports, Rule, Selector};
    use crate::sink::testing::listener;

    fn past(kind: EventType, port: u16) -> Event {
        let mut event = listener(kind, port, 7, "/usr/bin/nc");
        event.policy = Some(Judged {
            state: PolicyState::New,
            rule: "default".to_owned(),
        });
        event
    }

    #[test]
    fn what_would_be_judged_otherwise_is_told_once_with_its_count() {
        let rule = |name: &str, port| Rule {
            name: name.into(),
            action: Action::Deny,
            severity: None,
            when: Selector {
                port: Some(Ports::new(vec![PortRange::single(port)])),
                ..Selector::default()
            },
            grace: GRACE,
            check: None,
            reason: None,
        };
        let policy = Policy::new(vec![rule("no back doors", 4444), rule("no mail", 25)]);
        let baseline = Baseline::empty(Frame {
            netns: 1,
            ephemeral: 32768..=60999,
        });
        let mut trial = Trial::default();
        for (kind, port) in [
            (EventType::ListenerOpened, 4444),
            (EventType::ListenerClosed, 4444),
            (EventType::ListenerPresent, 4444),
            (EventType::ListenerOpened, 80),
        ] {
            trial.add(past(kind, port), &policy, &baseline);
        }
        let ts = past(EventType::ListenerOpened, 1).ts;
        assert_eq!(
            trial.told(&policy),
            format!(
                "0.0.0.0:4444/tcp by /usr/bin/nc: denied (no back doors), was new (default) (2 times, last at {ts})\n\
                 3 listeners of the history, 2 judged otherwise than then\n         1  default\n         2  no back doors\n         0  no mail\n"
            )
        );
    }
}
