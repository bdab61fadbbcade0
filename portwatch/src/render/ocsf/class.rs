//! The class and activity of OCSF for each type of event.

use super::Coded;
use crate::event::words::Word as _;
use crate::event::{Event, EventType};
use crate::render::facts::{self, Step};

/// What OCSF sorts events by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// 4001: something happens to a socket.
    Network(Activity, Option<Outcome>),
    /// 2004: somebody has to act, or no longer.
    Finding(Life),
    /// 6002: portwatch begins to watch, or has mended a gap.
    Lifecycle(Activity),
    /// 6008: portwatch sees less than it should.
    Error,
}

/// What was done, and in our words where OCSF has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// One that OCSF has.
    Known(Coded),
    /// Another one.
    Other(&'static str),
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
}

/// Where a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Created,
    Updated,
    Closed,
}

const OPEN: Activity = Activity::Known(Coded(1, "Open"));
const CLOSE: Activity = Activity::Known(Coded(2, "Close"));
const FAIL: Activity = Activity::Known(Coded(4, "Fail"));
const LISTEN: Activity = Activity::Known(Coded(7, "Listen"));
const START: Activity = Activity::Known(Coded(3, "Start"));

impl Class {
    /// Of this event.
    pub(super) fn of(event: &Event) -> Self {
        if facts::is_alert(event) && event.kind != EventType::StormUpdated {
            return Self::Finding(Life::Created);
        }
        match event.kind {
            EventType::ListenerOpened => Self::Network(LISTEN, Some(Outcome::Success)),
            EventType::ListenerPresent => Self::Network(LISTEN, None),
            EventType::ListenerClosed => Self::Network(CLOSE, None),
            EventType::ListenerChanged => Self::Network(Activity::Other("Change"), None),
            EventType::BindFailed => Self::Network(FAIL, Some(Outcome::Failure)),
            EventType::ConnectionState => transition(event),
            // Down is an alert already.
            EventType::ListenerDown => Self::Finding(Life::Created),
            EventType::ListenerRecovered => Self::Finding(Life::Closed),
            EventType::SensorReady => Self::Lifecycle(START),
            EventType::GapReconciled => Self::Lifecycle(Activity::Other("Reconcile")),
            EventType::Heartbeat => Self::Lifecycle(Activity::Other("Heartbeat")),
            EventType::SensorDegraded | EventType::Gap => Self::Error,
            EventType::StormStarted | EventType::ScanDetected => Self::Finding(Life::Created),
            EventType::StormUpdated | EventType::StormResponse => Self::Finding(Life::Updated),
            EventType::StormEnded => Self::Finding(Life::Closed),
        }
    }

    pub(super) const fn is_network(self) -> bool {
        matches!(self, Self::Network(..))
    }

    pub(super) const fn is_finding(self) -> bool {
        matches!(self, Self::Finding(_))
    }

    pub(super) const fn is_lifecycle(self) -> bool {
        matches!(self, Self::Lifecycle(_))
    }

    pub(super) const fn uid(self) -> u32 {
        match self {
            Self::Network(..) => 4001,
            Self::Finding(_) => 2004,
            Self::Lifecycle(_) => 6002,
            Self::Error => 6008,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Network(..) => "Network Activity",
            Self::Finding(_) => "Detection Finding",
            Self::Lifecycle(_) => "Application Lifecycle",
            Self::Error => "Application Error",
        }
    }

    pub(super) const fn category(self) -> Coded {
        match self {
            Self::Network(..) => Coded(4, "Network Activity"),
            Self::Finding(_) => Coded(2, "Findings"),
            Self::Lifecycle(_) | Self::Error => Coded(6, "Application Activity"),
        }
    }

    pub(super) const fn activity(self) -> Coded {
        match self {
            Self::Network(activity, _) | Self::Lifecycle(activity) => match activity {
                Activity::Known(coded) => coded,
                Activity::Other(name) => Coded(99, name),
            },
            Self::Finding(Life::Created) => Coded(1, "Create"),
            Self::Finding(Life::Updated) => Coded(2, "Update"),
            Self::Finding(Life::Closed) => Coded(3, "Close"),
            Self::Error => Coded(1, "General Error"),
        }
    }

    /// `Network Activity: Listen`; what OCSF has no word for is `Other` here.
    pub(super) fn type_name(self) -> String {
        let Coded(id, name) = self.activity();
        let name = if id == 99 { "Other" } else { name };
        format!("{}: {name}", self.name())
    }

    pub(super) const fn status(self) -> Option<Coded> {
        match self {
            Self::Network(_, outcome) => match outcome {
                Some(Outcome::Success) => Some(Coded(1, "Success")),
                Some(Outcome::Failure) => Some(Coded(2, "Failure")),
                None => None,
            },
            Self::Finding(Life::Created) => Some(Coded(1, "New")),
            Self::Finding(Life::Updated) => Some(Coded(2, "In Progress")),
            Self::Finding(Life::Closed) => Some(Coded(4, "Resolved")),
            Self::Lifecycle(_) => Some(Coded(1, "Success")),
            Self::Error => Some(Coded(2, "Failure")),
        }
    }
}

/// What a state change is; on the way from one to the other it is the name of the new state.
fn transition(event: &Event) -> Class {
    let (activity, outcome) = match facts::step(event) {
        Step::Opened => (OPEN, Some(Outcome::Success)),
        Step::Closed | Step::Silent => (CLOSE, None),
        Step::Failed => (FAIL, Some(Outcome::Failure)),
        Step::Listening => (LISTEN, Some(Outcome::Success)),
        Step::Other => {
            let state = event.new_state.map_or("State change", |state| state.word());
            (Activity::Other(state), None)
        }
    };
    Class::Network(activity, outcome)
}
