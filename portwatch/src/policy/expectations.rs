//! What must listen: down after its grace time, recovered when it is back. Pure; time comes as an argument.
//!
//! An expectation is met while at least one listener is there on which its rule decides. A service that
//! restarts is gone for a moment, which is what the grace time is for.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::rule::{Action, Rule};
use crate::decode::record::SockId;
use crate::time::BootNs;

/// Every `[[expect]]` rule, and whether it is met.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    all: Vec<Expectation>,
}

#[derive(Clone, Debug)]
struct Expectation {
    rule: Arc<str>,
    grace: Duration,
    present: HashSet<SockId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Nothing listens since then, and nobody was told yet.
    Missing(BootNs),
    /// Nothing listens since then, and that was told.
    Down(BootNs),
}

/// What became of an expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its grace time is over.
    Down {
        /// The rule.
        rule: Arc<str>,
        /// Since when nothing listens.
        since: BootNs,
    },
    /// It was told to be down, and is back.
    Recovered {
        /// The rule.
        rule: Arc<str>,
        /// Since when nothing listened.
        since: BootNs,
    },
}

impl Expectations {
    /// Those of these rules. Until [`Self::seen`] says otherwise, nothing listens since `now`.
    #[must_use]
    pub fn new(rules: &[Rule], now: BootNs) -> Self {
        let expected = rules.iter().filter(|rule| rule.action == Action::Expect);
        Self {
            all: expected
                .map(|rule| Expectation {
                    rule: Arc::clone(&rule.name),
                    grace: rule.grace,
                    present: HashSet::new(),
                    state: State::Missing(now),
                })
                .collect(),
        }
    }

    /// Other rules. What there is has to be [`Self::seen`] again; what was missing or down under the same
    /// name is so since the same time.
    pub fn reload(&mut self, rules: &[Rule], now: BootNs) {
        let before = std::mem::replace(self, Self::new(rules, now)).all;
        for one in &mut self.all {
            let same = before.iter().find(|before| before.rule == one.rule);
            if let Some(same) = same.filter(|same| same.state != State::Up) {
                one.state = same.state;
            }
        }
    }

    /// Is there an expectation of this name?
    #[must_use]
    pub fn has(&self, rule: &str) -> bool {
        self.all.iter().any(|one| &*one.rule == rule)
    }

    /// A listener is there; `rule` is the one that decided on it, if it is an expectation.
    ///
    /// A listener can come to be decided on by another rule, when another process holds it.
    pub fn seen(&mut self, sock: SockId, rule: Option<&str>, now: BootNs) -> Vec<News> {
        let mut news = Vec::new();
        for one in &mut self.all {
            if rule == Some(&*one.rule) {
                one.present.insert(sock);
                news.extend(one.met());
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

    /// When [`Self::due`] has something next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootNs> {
        self.all.iter().filter_map(Expectation::deadline).min()
    }

    /// The rules that are told to be down.
    pub fn down(&self) -> impl Iterator<Item = &str> {
        let is_down = |one: &&Expectation| matches!(one.state, State::Down(_));
        self.all.iter().filter(is_down).map(|one| &*one.rule)
    }
}

impl Expectation {
    fn met(&mut self) -> Option<News> {
        match std::mem::replace(&mut self.state, State::Up) {
            State::Down(since) => Some(News::Recovered {
                rule: Arc::clone(&self.rule),
                since,
            }),
            State::Up | State::Missing(_) => None,
        }
    }

    fn lose(&mut self, sock: SockId, at: BootNs) {
        if self.present.remove(&sock) && self.present.is_empty() {
            self.state = State::Missing(at);
        }
    }

    fn deadline(&self) -> Option<BootNs> {
        let grace = u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX);
        match self.state {
            State::Missing(since) => Some(BootNs(since.0.saturating_add(grace))),
            State::Up | State::Down(_) => None,
        }
    }

    fn due(&mut self, now: BootNs) -> Option<News> {
        let State::Missing(since) = self.state else {
            return None;
        };
        if self.deadline()? > now {
            return None;
        }
        self.state = State::Down(since);
        Some(News::Down {
            rule: Arc::clone(&self.rule),
            since,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::rule::{Action, Rule, Selector};
    use super::{Expectations, News};
    use crate::decode::record::SockId;
    use crate::time::BootNs;

    const SECOND: u64 = 1_000_000_000;

    fn expected(name: &str) -> Rule {
        Rule {
            action: Action::Expect,
            name: name.into(),
            when: Selector::default(),
            severity: None,
            grace: Duration::from_secs(5),
            reason: None,
        }
    }

    fn expectations(names: &[&str]) -> Expectations {
        let rules: Vec<Rule> = names.iter().map(|name| expected(name)).collect();
        Expectations::new(&rules, BootNs(0))
    }

    fn down(rule: &str, since: u64) -> News {
        News::Down {
            rule: rule.into(),
            since: BootNs(since),
        }
    }

    #[test]
    fn what_is_not_there_at_the_start_is_down_after_its_grace() {
        let mut all = expectations(&["ssh", "web"]);
        assert!(all.seen(SockId(1), Some("ssh"), BootNs(SECOND)).is_empty());
        assert_eq!(all.next_due(), Some(BootNs(5 * SECOND)));
        assert!(all.due(BootNs(5 * SECOND - 1)).is_empty());
        assert_eq!(all.due(BootNs(5 * SECOND)), [down("web", 0)]);
        assert_eq!(all.next_due(), None);
        assert_eq!(all.down().collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn a_restart_within_the_grace_is_silent() {
        let mut all = expectations(&["web"]);
        all.seen(SockId(1), Some("web"), BootNs(0));
        all.gone(SockId(1), BootNs(SECOND));
        assert!(all.due(BootNs(3 * SECOND)).is_empty());
        assert!(
            all.seen(SockId(2), Some("web"), BootNs(3 * SECOND))
                .is_empty()
        );
        assert!(all.due(BootNs(99 * SECOND)).is_empty());
    }

    #[test]
    fn both_ways_are_told_once_with_the_time_between() {
        let mut all = expectations(&["web"]);
        all.seen(SockId(1), Some("web"), BootNs(0));
        all.gone(SockId(1), BootNs(10 * SECOND));
        assert_eq!(all.due(BootNs(20 * SECOND)), [down("web", 10 * SECOND)]);
        assert!(all.due(BootNs(30 * SECOND)).is_empty());
        let back = all.seen(SockId(2), Some("web"), BootNs(40 * SECOND));
        let since = BootNs(10 * SECOND);
        assert_eq!(
            back,
            [News::Recovered {
                rule: "web".into(),
                since
            }]
        );
        assert!(
            all.seen(SockId(3), Some("web"), BootNs(41 * SECOND))
                .is_empty()
        );
    }

    #[test]
    fn other_rules_keep_what_is_down_and_begin_anew_with_the_rest() {
        let mut all = expectations(&["ssh", "web"]);
        all.seen(SockId(1), Some("ssh"), BootNs(0));
        assert_eq!(all.due(BootNs(5 * SECOND)), [down("web", 0)]);
        let rules = ["ssh", "web", "mail"].map(expected);
        all.reload(&rules, BootNs(6 * SECOND));
        all.seen(SockId(1), Some("ssh"), BootNs(6 * SECOND));
        assert_eq!(all.due(BootNs(11 * SECOND)), [down("mail", 6 * SECOND)]);
        let back = all.seen(SockId(2), Some("web"), BootNs(12 * SECOND));
        let (rule, since) = ("web".into(), BootNs(0));
        assert_eq!(back, [News::Recovered { rule, since }]);
        assert!(all.has("mail") && !all.has("dns"));
    }

    /// Workers and address families: one of several that goes is none that is missing.
    #[test]
    fn one_of_several_is_enough() {
        let mut all = expectations(&["web"]);
        all.seen(SockId(1), Some("web"), BootNs(0));
        all.seen(SockId(2), Some("web"), BootNs(0));
        all.gone(SockId(1), BootNs(SECOND));
        assert_eq!(all.next_due(), None);
        all.gone(SockId(2), BootNs(2 * SECOND));
        assert_eq!(all.next_due(), Some(BootNs(7 * SECOND)));
    }

    #[test]
    fn a_listener_that_another_rule_decides_on_now_is_none_of_ours() {
        let mut all = expectations(&["web"]);
        all.seen(SockId(1), Some("web"), BootNs(0));
        all.seen(SockId(1), None, BootNs(SECOND));
        assert_eq!(all.due(BootNs(9 * SECOND)), [down("web", SECOND)]);
    }

    proptest! {
        /// Down and recovered alternate, and at the end it is down exactly if nothing listens for long enough.
        #[test]
        fn transitions_alternate(steps in prop::collection::vec((0u64..4, any::<bool>(), 0u64..8), 0..60)) {
            let mut all = expectations(&["web"]);
            let (mut now, mut is_down) = (0, false);
            let mut present = std::collections::HashSet::new();
            for (sock, opens, pause) in steps {
                now += pause * SECOND;
                let mut news = all.due(BootNs(now));
                if opens {
                    present.insert(sock);
                    news.extend(all.seen(SockId(sock), Some("web"), BootNs(now)));
                } else {
                    present.remove(&sock);
                    all.gone(SockId(sock), BootNs(now));
                }
                for one in news {
                    let goes_down = matches!(one, News::Down { .. });
                    prop_assert_ne!(goes_down, is_down);
                    is_down = goes_down;
                }
                prop_assert!(!is_down || present.is_empty());
            }
            all.due(BootNs(now + 5 * SECOND));
            prop_assert_eq!(all.down().count() == 1, present.is_empty());
        }
    }
}
