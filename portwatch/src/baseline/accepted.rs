//! Listeners that somebody has reviewed and accepted: one at a time, with a reason, for as long as was said.

use std::fmt;

use jiff::Timestamp;

use super::identity::Identity;
use crate::event::Event;
use crate::filter::Filter;

/// A reviewed rule. It decides where no rule of the configuration does, before the baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its number, by which it can be taken back.
    pub id: i64,
    /// What it accepts.
    pub what: What,
    /// Why.
    pub reason: Option<String>,
    /// Until when; for ever without.
    pub expires: Option<Timestamp>,
}

/// What is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The listener of an event, and whatever is the same to an administrator.
    Listener(Identity),
    /// Everything that matches.
    Matching(Filter),
}

impl Accepted {
    /// Does it accept the listener of this event, whose identity is that?
    #[must_use]
    pub fn admits(&self, event: &Event, identity: Option<&Identity>) -> bool {
        match &self.what {
            What::Listener(accepted) => identity == Some(accepted),
            What::Matching(filter) => filter.matches(event),
        }
    }

    /// Is its time over?
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// As events name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("accepted {}", self.id)
    }
}

/// `accepted 3: 0.0.0.0:4444/tcp by /usr/bin/nc, until 2026-11-29T10:00:00Z: load test`.
impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match &self.what {
            What::Listener(one) if one.exe.is_empty() => write!(f, "{one} by the kernel")?,
            What::Listener(one) => write!(f, "{one} by {}", one.exe)?,
            What::Matching(filter) => write!(f, "{filter}")?,
        }
        if let Some(end) = self.expires {
            write!(f, ", until {end:.0}")?;
        }
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Accepted, What};
    use crate::baseline::{Frame, Identity};
    use crate::event::EventType;
    use crate::filter::Filter;
    use crate::sink::testing::listener;

    fn accepted(what: What) -> Accepted {
        Accepted {
            id: 3,
            what,
            reason: Some("load test".to_owned()),
            expires: Timestamp::from_second(1_800_000_000).ok(),
        }
    }

    #[test]
    fn a_listener_is_accepted_by_what_it_is_and_not_by_its_pid() {
        let frame = Frame {
            netns: 1,
            ephemeral: 32768..=60999,
        };
        let event = listener(EventType::ListenerOpened, 4444, 812, "/usr/bin/nc");
        let identity = Identity::of(&event, &frame).expect("known");
        let rule = accepted(What::Listener(identity.clone()));
        let again = listener(EventType::ListenerOpened, 4444, 99, "/usr/bin/nc");
        assert!(rule.admits(&again, Identity::of(&again, &frame).as_ref()));
        let other = listener(EventType::ListenerOpened, 4444, 99, "/tmp/nc");
        assert!(!rule.admits(&other, Identity::of(&other, &frame).as_ref()));
        assert!(!rule.admits(&other, None));
        assert_eq!(
            rule.to_string(),
            "accepted 3: 0.0.0.0:4444/tcp by /usr/bin/nc, until 2027-01-15T08:00:00Z: load test"
        );
    }

    #[test]
    fn an_expression_accepts_what_it_matches() {
        let filter = Filter::parse("tcp port:4000..5000").expect("a filter");
        let rule = accepted(What::Matching(filter));
        let inside = listener(EventType::ListenerOpened, 4444, 7, "/usr/bin/nc");
        let outside = listener(EventType::ListenerOpened, 80, 7, "/usr/bin/nc");
        assert!(rule.admits(&inside, None) && !rule.admits(&outside, None));
        let end = rule.expires.expect("one");
        assert!(rule.is_over(end) && !rule.is_over(end - jiff::SignedDuration::from_secs(1)));
    }
}
