//! What must listen: down after its grace time, recovered when it is back. Pure; time comes as an argument.
//!
//! An expectation is met while at least one listener is there on which its rule decides. A service that
//! restarts is gone for a moment, which is what the grace time is for. Where its rule has a check, it must answer too:
//! so many failures in a row are as bad as nothing that listens, and only an answer makes it good again. Both
//! together are one matter, which is told once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::checking::{Checking, Report, Streak, nanoseconds};
use super::rule::{Action, Rule};
use crate::check::{AT_ONCE, Asked, Check, Order, Place, TARGETS, Target, Ticket};
use crate::decode::record::SockId;
use crate::event;
use crate::time::BootNs;

/// Every `[[expect]]` rule, and whether it is met.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    all: Vec<Expectation>,
    last_ticket: Ticket,
}

#[derive(Clone, Debug)]
struct Expectation {
    rule: Arc<str>,
    grace: Duration,
    /// What listens, and where it can be asked; without a check, that is of no interest.
    present: HashMap<SockId, Option<Place>>,
    state: State,
    checking: Option<Checking>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Nothing listens since then, and nobody was told yet.
    Missing(BootNs),
    /// Nothing listens or answers since then, and that was told.
    Down(BootNs),
}

/// What became of an expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its grace time is over, or its check has failed too often.
    Down {
        /// The rule.
        rule: Arc<str>,
        /// Since when nothing listens or answers.
        since: BootNs,
        /// The check, where something listens all the same.
        check: Option<event::Check>,
    },
    /// It was told to be down, and is back.
    Recovered {
        /// The rule.
        rule: Arc<str>,
        /// Since when nothing listened or answered.
        since: BootNs,
        /// The check that was answered.
        check: Option<event::Check>,
    },
}

/// How one check goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last one was answered, or none was made yet.
    Good,
    /// So many in a row failed, the last one so.
    Failing(event::Check),
    /// It cannot be asked from here.
    Beyond(String),
}

impl Expectations {
    /// Those of these rules. Until [`Self::seen`] says otherwise, nothing listens since `now`.
    #[must_use]
    pub fn new(rules: &[Rule], now: BootNs) -> Self {
        let expected = rules.iter().filter(|rule| rule.action == Action::Expect);
        let mut all: Vec<Expectation> = expected
            .map(|rule| Expectation {
                rule: Arc::clone(&rule.name),
                grace: rule.grace,
                present: HashMap::new(),
                state: State::Missing(now),
                checking: rule.check.clone().map(Checking::new),
            })
            .collect();
        for one in &mut all {
            one.begin_elsewhere(now);
        }
        Self {
            all,
            last_ticket: Ticket::default(),
        }
    }

    /// Other rules. What there is has to be [`Self::seen`] again; what was missing or down under the same
    /// name is so since the same time, and a check that stayed the same goes on.
    pub fn reload(&mut self, rules: &[Rule], now: BootNs) {
        let before = std::mem::replace(self, Self::new(rules, now));
        self.last_ticket = before.last_ticket;
        for old in before.all {
            let Some(one) = self.all.iter_mut().find(|one| one.rule == old.rule) else {
                continue;
            };
            if old.state != State::Up && one.is_elsewhere() == old.is_elsewhere() {
                one.state = old.state;
            }
            if let (Some(checking), Some(old)) = (&mut one.checking, old.checking) {
                checking.resume(old);
            }
        }
    }

    /// Is there an expectation of this name?
    #[must_use]
    pub fn has(&self, rule: &str) -> bool {
        self.all.iter().any(|one| &*one.rule == rule)
    }

    /// The check of this rule.
    #[must_use]
    pub fn check(&self, rule: &str) -> Option<&Check> {
        let found = self.all.iter().find(|one| &*one.rule == rule)?;
        found.checking.as_ref().map(|checking| &checking.check)
    }

    /// A listener is there; `rule` is the one that decided on it, if it is an expectation, and `place` where it can be
    /// asked, if that rule has a check.
    ///
    /// A listener can come to be decided on by another rule, when another process holds it.
    pub fn seen(
        &mut self,
        sock: SockId,
        rule: Option<&str>,
        place: Option<Place>,
        now: BootNs,
    ) -> Vec<News> {
        let mut news = Vec::new();
        for one in &mut self.all {
            if rule == Some(&*one.rule) {
                news.extend(one.met(sock, place.clone(), now));
            } else {
                one.lose(sock, now);
            }
        }
        news
    }

    /// A listener is there no more.
    pub fn gone(&mut self, sock: SockId, at: BootNs) {
        for one in &mut self.all {
            one.lose(sock, at);
        }
    }

    /// Those whose grace time is over by now.
    pub fn due(&mut self, now: BootNs) -> Vec<News> {
        self.all.iter_mut().filter_map(|one| one.due(now)).collect()
    }

    /// The checks that are due by now, the longest due ones first, and only so many that no more than [`AT_ONCE`]
    /// are under way. Each of them must have its [`Self::outcome`].
    pub fn checks(&mut self, now: BootNs) -> Vec<Order> {
        let mut room = AT_ONCE.saturating_sub(self.under_way());
        let mut due: Vec<&mut Expectation> = self.all.iter_mut().collect();
        due.retain(|one| one.check_due().is_some_and(|due| due <= now));
        due.sort_by_key(|one| one.check_due());
        let mut orders = Vec::new();
        for one in due {
            if room == 0 {
                break;
            }
            let ticket = Ticket(self.last_ticket.0 + 1);
            if let Some(order) = one.order(ticket, now) {
                self.last_ticket = ticket;
                orders.push(order);
                room -= 1;
            }
        }
        orders
    }

    /// What became of a check.
    pub fn outcome(&mut self, outcome: &Asked) -> Option<News> {
        self.all.iter_mut().find_map(|one| one.outcome(outcome))?
    }

    /// The rule whose check this is, as long as it is under way.
    #[must_use]
    pub fn asking(&self, ticket: Ticket) -> Option<&str> {
        let is_it = |one: &&Expectation| {
            let checking = one.checking.as_ref();
            checking.is_some_and(|checking| checking.is_of(ticket))
        };
        self.all.iter().find(is_it).map(|one| &*one.rule)
    }

    /// When [`Self::due`] or [`Self::checks`] has something next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNs> {
        let has_room = self.under_way() < AT_ONCE;
        let checks = self.all.iter().filter_map(Expectation::check_due);
        let deadlines = self.all.iter().filter_map(Expectation::deadline);
        deadlines.chain(checks.filter(|_| has_room)).min()
    }

    /// The rules that are told to be down.
    pub fn down(&self) -> impl Iterator<Item = &str> {
        let is_down = |one: &&Expectation| matches!(one.state, State::Down(_));
        self.all.iter().filter(is_down).map(|one| &*one.rule)
    }

    /// Every rule that has a check, and how that goes.
    pub fn health(&self) -> impl Iterator<Item = (&str, &Check, Health)> {
        self.all.iter().filter_map(|one| {
            let checking = one.checking.as_ref()?;
            Some((&*one.rule, &checking.check, one.health(checking)))
        })
    }

    fn under_way(&self) -> usize {
        let checks = self.all.iter().filter_map(|one| one.checking.as_ref());
        checks.filter(|checking| checking.is_under_way()).count()
    }
}

impl Expectation {
    /// A service of another host, of which no listener is seen.
    fn is_elsewhere(&self) -> bool {
        let checking = self.checking.as_ref();
        checking.is_some_and(|checking| checking.check.host.is_some())
    }

    fn begin_elsewhere(&mut self, now: BootNs) {
        if self.is_elsewhere() {
            self.state = State::Up;
            if let Some(checking) = &mut self.checking {
                checking.begin(&self.rule, false, now);
            }
        }
    }

    fn met(&mut self, sock: SockId, place: Option<Place>, now: BootNs) -> Option<News> {
        self.present.insert(sock, place);
        let is_down = matches!(self.state, State::Down(_));
        if self.can_be_asked() {
            if !is_down {
                self.state = State::Up;
            }
            if let Some(checking) = &mut self.checking {
                checking.begin(&self.rule, is_down, now);
            }
            return None;
        }
        if let Some(checking) = &mut self.checking {
            checking.stop();
        }
        self.recover(None)
    }

    fn recover(&mut self, check: Option<event::Check>) -> Option<News> {
        match std::mem::replace(&mut self.state, State::Up) {
            State::Down(since) => Some(News::Recovered {
                rule: Arc::clone(&self.rule),
                since,
                check,
            }),
            State::Up | State::Missing(_) => None,
        }
    }

    fn lose(&mut self, sock: SockId, at: BootNs) {
        if self.present.remove(&sock).is_none() {
            return;
        }
        if self.present.is_empty() && self.state == State::Up {
            self.state = State::Missing(at);
        }
        if !self.can_be_asked()
            && let Some(checking) = &mut self.checking
        {
            checking.stop();
        }
    }

    /// Something listens that cannot be asked, and so must be taken for good.
    fn is_beyond(&self) -> bool {
        !self.present.is_empty() && !self.can_be_asked()
    }

    fn deadline(&self) -> Option<BootNs> {
        match self.state {
            State::Missing(since) => Some(BootNs(since.0.saturating_add(nanoseconds(self.grace)))),
            // What was asked has gone, and what cannot be is left.
            State::Down(since) if self.is_beyond() => Some(since),
            State::Up | State::Down(_) => None,
        }
    }

    fn due(&mut self, now: BootNs) -> Option<News> {
        if self.deadline()? > now {
            return None;
        }
        if self.is_beyond() {
            return self.recover(None);
        }
        let State::Missing(since) = self.state else {
            return None;
        };
        self.state = State::Down(since);
        Some(News::Down {
            rule: Arc::clone(&self.rule),
            since,
            check: None,
        })
    }

    fn can_be_asked(&self) -> bool {
        self.checking.is_some() && (self.is_elsewhere() || self.places().next().is_some())
    }

    fn places(&self) -> impl Iterator<Item = &Target> {
        self.present.values().filter_map(|place| match place {
            Some(Place::At(target)) => Some(target),
            Some(Place::Beyond(_)) | None => None,
        })
    }

    fn check_due(&self) -> Option<BootNs> {
        self.checking.as_ref()?.due()
    }

    fn order(&mut self, ticket: Ticket, now: BootNs) -> Option<Order> {
        let remote = self.checking.as_ref()?.check.host.as_ref();
        let targets = match remote {
            Some(remote) => vec![remote.target()],
            None => {
                // Workers share an address; one question is enough for them.
                let mut targets: Vec<Target> = self.places().cloned().collect();
                targets.sort_unstable();
                targets.dedup();
                targets.truncate(TARGETS);
                targets
            }
        };
        let checking = self.checking.as_mut()?;
        let Some(first) = targets.first() else {
            checking.stop();
            return None;
        };
        checking.made(ticket, first.clone(), now);
        Some(Order {
            ticket,
            check: checking.check.clone(),
            targets,
        })
    }

    /// `None` when it is none of this expectation's.
    fn outcome(&mut self, outcome: &Asked) -> Option<Option<News>> {
        let checking = self.checking.as_mut()?;
        let protocol = checking.check.protocol;
        Some(match checking.outcome(outcome)? {
            Report::Nothing => None,
            Report::Answered(target) => self.recover(Some(event::Check {
                protocol,
                target: target.to_string(),
                error: None,
                failures: None,
            })),
            Report::Unanswered => {
                let streak = checking.streak()?;
                let since = streak.since;
                let check = failing(&checking.check, streak);
                if self.state != State::Up {
                    return Some(None);
                }
                self.state = State::Down(since);
                Some(News::Down {
                    rule: Arc::clone(&self.rule),
                    since,
                    check: Some(check),
                })
            }
        })
    }

    fn health(&self, checking: &Checking) -> Health {
        if let Some(streak) = checking.streak() {
            return Health::Failing(failing(&checking.check, streak));
        }
        if let Some(why) = checking.unmade() {
            return Health::Beyond(why.to_owned());
        }
        let beyond = self.present.values().find_map(|place| match place {
            Some(Place::Beyond(why)) => Some(*why),
            Some(Place::At(_)) | None => None,
        });
        match beyond {
            Some(why) if !self.can_be_asked() => Health::Beyond(why.to_owned()),
            _ => Health::Good,
        }
    }
}

fn failing(check: &Check, streak: &Streak) -> event::Check {
    event::Check {
        protocol: check.protocol,
        target: streak.target.to_string(),
        error: Some(streak.error.to_string()),
        failures: Some(streak.failures),
    }
}

#[cfg(test)]
#[path = "expectations_tests.rs"]
mod tests;
