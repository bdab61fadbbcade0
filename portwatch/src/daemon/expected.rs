//! What must listen: tells when it is down, and when it is back; has it asked whether it answers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::pipeline::Pipeline;
use crate::check::{Asked, Failure, Place};
use crate::decode::record::SockId;
use crate::enrich::Waits;
use crate::event::{Event, EventType, Policy, PolicyState, Process, Socket};
use crate::interface::status::{CheckStatus, ChecksStatus};
use crate::policy::{Expectations, Health, News, Rule};
use crate::time::BootNs;

/// Checks that a status tells of one by one, at most.
const TOLD: usize = 32;

/// The expectations, and who met them last.
#[derive(Debug)]
pub(super) struct Expected {
    expectations: Expectations,
    last: HashMap<Arc<str>, (Socket, Option<Process>)>,
    /// Rules of which it was said that what they expect cannot be asked.
    warned: HashSet<String>,
}

impl Expected {
    /// Those of these rules, not met before something is seen to meet them.
    pub(super) fn new(rules: &[Rule], now: BootNs) -> Self {
        Self {
            expectations: Expectations::new(rules, now),
            last: HashMap::new(),
            warned: HashSet::new(),
        }
    }

    /// Other rules; what is down by the same name stays down until something meets it.
    pub(super) fn reload(&mut self, rules: &[Rule], now: BootNs) {
        self.expectations.reload(rules, now);
        let expectations = &self.expectations;
        self.last.retain(|rule, _| expectations.has(rule));
        self.warned.clear();
    }

    /// Where a listener can be asked what this rule's check asks; `None` where it has none.
    fn place(&mut self, rule: &str, socket: &Socket, netns: u32) -> Option<Place> {
        let check = self.expectations.check(rule)?;
        let place = Place::of(socket, check.protocol, netns);
        if let Place::Beyond(why) = place {
            self.warn(rule, why);
        }
        Some(place)
    }

    /// Once for each rule, until there are others.
    fn warn(&mut self, rule: &str, why: &str) {
        if self.warned.insert(rule.to_owned()) {
            tracing::warn!(
                rule,
                "what is expected cannot be asked whether it answers: {why}"
            );
        }
    }

    /// The checks, as a status tells of them; nothing where no rule has one.
    pub(super) fn checks(&self) -> Option<ChecksStatus> {
        let mut status = ChecksStatus::default();
        for (rule, check, health) in self.expectations.health() {
            status.total += 1;
            let mut told = CheckStatus {
                rule: rule.to_owned(),
                protocol: check.protocol,
                error: None,
                failures: None,
            };
            let list = match health {
                Health::Good => continue,
                Health::Failing(check) => {
                    (told.error, told.failures) = (check.error, check.failures);
                    status.failing += 1;
                    &mut status.failing_rules
                }
                Health::Beyond(why) => {
                    told.error = Some(why);
                    status.beyond += 1;
                    &mut status.beyond_rules
                }
            };
            if list.len() < TOLD {
                list.push(told);
            }
        }
        (status.total > 0).then_some(status)
    }

    /// When [`Pipeline::tell_down`] has something to tell or to ask next.
    pub(super) fn next_due(&self) -> Option<BootNs> {
        self.expectations.next_due()
    }
}

impl Pipeline {
    /// Takes note of a judged event of a listener; what it made good comes back, to be told next.
    pub(super) fn expect(&mut self, event: &Event, sock: SockId, at: BootNs) -> Vec<Event> {
        let news = match event.kind {
            EventType::ListenerClosed => {
                self.expected.expectations.gone(sock, at);
                return Vec::new();
            }
            EventType::ListenerOpened | EventType::ListenerPresent | EventType::ListenerChanged => {
                let policy = event.policy.as_ref();
                let rule = policy
                    .filter(|policy| policy.state == PolicyState::Expected)
                    .map(|policy| policy.rule.as_str());
                let mut place = None;
                if let (Some(rule), Some(socket)) = (rule, &event.socket) {
                    let met = (socket.clone(), event.process.clone());
                    self.expected.last.insert(rule.into(), met);
                    place = self.expected.place(rule, socket, self.surroundings.netns);
                }
                self.expected.expectations.seen(sock, rule, place, at)
            }
            _ => return Vec::new(),
        };
        news.into_iter()
            .map(|one| {
                let mut told = self.news(&one, at);
                told.sensor.clone_from(&event.sensor);
                told
            })
            .collect()
    }

    /// Tells what is down since its grace time, and asks what is to be asked.
    pub(super) fn tell_down(&mut self, now: BootNs) {
        for one in self.expected.expectations.due(now) {
            let event = self.news(&one, now);
            self.push(event, now, None, Waits::default());
        }
        for order in self.expected.expectations.checks(now) {
            let ticket = order.ticket;
            if let Err(error) = self.checker.order(order) {
                let result = Err(Failure::Unmade(error.to_string()));
                self.asked(&Asked { ticket, result });
            }
        }
    }

    /// What became of a check.
    pub(super) fn asked(&mut self, outcome: &Asked) {
        if let Err(Failure::Unmade(error)) = &outcome.result {
            let rule = self.expected.expectations.asking(outcome.ticket);
            if let Some(rule) = rule.map(str::to_owned) {
                self.expected.warn(&rule, error);
            }
        }
        let now = BootNs::now();
        if let Some(news) = self.expected.expectations.outcome(outcome) {
            let event = self.news(&news, now);
            self.push(event, now, None, Waits::default());
        }
    }

    fn news(&self, news: &News, now: BootNs) -> Event {
        let (kind, rule, since, check) = match news {
            News::Down { rule, since, check } => (EventType::ListenerDown, rule, since, check),
            News::Recovered { rule, since, check } => {
                (EventType::ListenerRecovered, rule, since, check)
            }
        };
        let mut event = self.surroundings.event(kind, now);
        if let Some((socket, process)) = self.expected.last.get(rule) {
            event.socket = Some(socket.clone());
            event.process.clone_from(process);
        }
        event.policy = Some(Policy {
            state: PolicyState::Expected,
            rule: rule.to_string(),
        });
        event.check.clone_from(check);
        event.duration_ms = Some(now.since(*since) / 1_000_000);
        event
    }

    /// How much it matters that what this rule expects is down.
    pub(super) fn severity_of_down(&self, event: &Event) -> Option<crate::event::Severity> {
        if event.kind != EventType::ListenerDown {
            return None;
        }
        let name = &event.policy.as_ref()?.rule;
        let rule = self
            .policy
            .rules()
            .iter()
            .find(|rule| *rule.name == **name)?;
        rule.severity
    }
}
