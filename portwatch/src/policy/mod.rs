//! Judging listeners: rules in order, the first that matches decides. Pure.
//!
//! A listener that no rule and no baseline knows is *new*. Conditions look at what an event says of socket
//! and process, never at a pid; what an event does not say satisfies no condition, so a rule can only decide
//! on what is known.

mod checking;
mod expectations;
mod facts;
mod guard;
mod patterns;
mod ports;
mod rule;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use expectations::{Expectations, Health, News};
pub use facts::Facts;
pub use patterns::{Pattern, Patterns};
pub use ports::{PortRange, Ports};
pub use rule::{Action, GRACE, Namespace, Rule, Selector, User, WordSet};

use self::guard::{Guard, Hints};
use crate::baseline::{Baseline, Known};
use crate::event::{self, Event, EventType, PolicyState, Severity};

/// Name of the decision where no rule and no baseline knows a listener.
pub const DEFAULT: &str = "default";
/// Name of the decision where no rule knows a listener, and the baseline does.
pub const BASELINE: &str = "baseline";

/// Every rule, in the order in which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    /// One for each rule.
    guards: Vec<Guard>,
}

/// What was decided about one listener, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How the listener is judged.
    pub state: PolicyState,
    /// The rule that decided, or [`DEFAULT`].
    pub rule: Arc<str>,
    /// How much it matters, where the rule says so.
    pub severity: Option<Severity>,
}

impl Policy {
    /// These rules, in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let guard = |rule: &Rule| match rule.is_elsewhere() {
            // No listener of this host is what another one must have.
            true => Guard::CLOSED,
            false => Guard::of(&rule.when),
        };
        let guards = rules.iter().map(guard).collect();
        Self { rules, guards }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule that certainly matches.
    #[must_use]
    pub fn first_match(&self, facts: &Facts<'_>) -> Option<&Rule> {
        let hints = Hints::of(facts);
        let guarded = self.guards.iter().zip(&self.rules);
        guarded
            .filter(|(guard, _)| guard.admits(&hints))
            .map(|(_, rule)| rule)
            .find(|rule| rule.when.matches(facts))
    }

    /// Writes into an event how its listener is judged; the severity comes back, where the rule that decided has one.
    /// Rules decide before the baseline does. Events that are about no listener stay as they are.
    pub fn judge(&self, event: &mut Event, baseline: &Baseline) -> Option<Severity> {
        if !is_of_a_listener(event.kind) {
            return None;
        }
        let facts = Facts::of(event, baseline.frame().netns)?;
        let decision = match self.first_match(&facts) {
            Some(rule) => Decision::of(rule),
            None => baseline.knows(event).map_or_else(Decision::none, known),
        };
        event.policy = Some(event::Policy {
            state: decision.state,
            rule: decision.rule.to_string(),
        });
        decision.severity
    }

    /// Did a rule that wants to hear nothing decide on this event?
    #[must_use]
    pub fn ignores(&self, event: &Event) -> bool {
        event.policy.as_ref().is_some_and(|policy| {
            let ignoring = self
                .rules
                .iter()
                .filter(|rule| rule.action == Action::Ignore);
            policy.state == PolicyState::Allowed
                && ignoring.into_iter().any(|rule| *rule.name == *policy.rule)
        })
    }

    /// Judges a listener by the rules alone.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        self.first_match(facts)
            .map_or_else(Decision::none, Decision::of)
    }
}

impl Decision {
    fn of(rule: &Rule) -> Self {
        Self {
            state: rule.action.state(),
            rule: Arc::clone(&rule.name),
            severity: rule.severity,
        }
    }

    fn none() -> Self {
        Self {
            state: PolicyState::New,
            rule: DEFAULT.into(),
            severity: None,
        }
    }
}

fn known(known: Known<'_>) -> Decision {
    let (state, rule) = match known {
        Known::Accepted(one) => (PolicyState::Allowed, one.name().into()),
        Known::Approved => (PolicyState::Baseline, BASELINE.into()),
    };
    Decision {
        state,
        rule,
        severity: None,
    }
}

/// A refused bind made no listener, and a connection is none.
const fn is_of_a_listener(kind: EventType) -> bool {
    match kind {
        EventType::ListenerOpened
        | EventType::ListenerClosed
        | EventType::ListenerPresent
        | EventType::ListenerChanged => true,
        EventType::BindFailed
        | EventType::ConnectionState
        | EventType::ListenerDown
        | EventType::ListenerRecovered
        | EventType::SensorReady
        | EventType::SensorDegraded
        | EventType::Gap
        | EventType::GapReconciled
        | EventType::StormStarted
        | EventType::StormUpdated
        | EventType::StormEnded
        | EventType::ScanDetected
        | EventType::StormResponse
        | EventType::Heartbeat => false,
    }
}
