//! What must listen: tells when it is down, and when it is back.

use std::collections::HashMap;
use std::sync::Arc;

use super::pipeline::Pipeline;
use crate::decode::record::SockId;
use crate::enrich::Waits;
use crate::event::{Event, EventType, Policy, PolicyState, Process, Socket};
use crate::policy::{Expectations, News, Rule};
use crate::time::BootNs;

/// The expectations, and who met them last.
#[derive(Debug)]
pub(super) struct Expected {
    expectations: Expectations,
    last: HashMap<Arc<str>, (Socket, Option<Process>)>,
}

impl Expected {
    /// Those of these rules, not met before something is seen to meet them.
    pub(super) fn new(rules: &[Rule], now: BootNs) -> Self {
        Self {
            expectations: Expectations::new(rules, now),
            last: HashMap::new(),
        }
    }

    /// Other rules; what is down by the same name stays down until something meets it.
    pub(super) fn reload(&mut self, rules: &[Rule], now: BootNs) {
        self.expectations.reload(rules, now);
        let expectations = &self.expectations;
        self.last.retain(|rule, _| expectations.has(rule));
    }

    /// When [`Pipeline::tell_down`] has something to tell next.
    pub(super) fn next_due(&self) -> Option<BootNs> {
        self.expectations.next_due()
    }
}

impl Pipeline {
    /// Takes note of a judged event of a listener; what it made good comes back, to be told next.
    pub(super) fn expect(&mut self, event: &Event, sock: SockId, at: BootNs) -> Vec<Event> {
        let expectations = &mut self.expected.expectations;
        let news = match event.kind {
            EventType::ListenerClosed => {
                expectations.gone(sock, at);
                return Vec::new();
            }
            EventType::ListenerOpened | EventType::ListenerPresent | EventType::ListenerChanged => {
                let policy = event.policy.as_ref();
                let rule = policy
                    .filter(|policy| policy.state == PolicyState::Expected)
                    .map(|policy| policy.rule.as_str());
                if let (Some(rule), Some(socket)) = (rule, &event.socket) {
                    let met = (socket.clone(), event.process.clone());
                    self.expected.last.insert(rule.into(), met);
                }
                expectations.seen(sock, rule, at)
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

    /// Tells what is down since its grace time.
    pub(super) fn tell_down(&mut self, now: BootNs) {
        for one in self.expected.expectations.due(now) {
            let event = self.news(&one, now);
            self.push(event, now, None, Waits::default());
        }
    }

    fn news(&self, news: &News, now: BootNs) -> Event {
        let (kind, rule, since) = match news {
            News::Down { rule, since } => (EventType::ListenerDown, rule, since),
            News::Recovered { rule, since } => (EventType::ListenerRecovered, rule, since),
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
