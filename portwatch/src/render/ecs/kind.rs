//! The four categorization fields of ECS for each type of event.

use crate::event::words::Word as _;
use crate::event::{Event, EventType, PolicyState};
use crate::render::facts::{self, Step};

/// What ECS sorts events by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
    pub(super) category: &'static [&'static str],
    pub(super) types: &'static [&'static str],
    /// The type of the event with `-` for its dots.
    pub(super) action: &'static str,
    pub(super) outcome: Option<&'static str>,
}

const NETWORK: &[&str] = &["network"];
const HOST: &[&str] = &["host"];
const START: &[&str] = &["start"];
const END: &[&str] = &["end"];
const INFO: &[&str] = &["info"];
const SUCCESS: Option<&str> = Some("success");
const FAILURE: Option<&str> = Some("failure");

impl Kind {
    /// Of this event.
    pub(super) fn of(event: &Event) -> Self {
        let row = |kind, category, types, action, outcome| Self {
            kind,
            category,
            types,
            action,
            outcome,
        };
        let of = match event.kind {
            EventType::ListenerOpened => row("event", NETWORK, START, "listener-opened", SUCCESS),
            EventType::ListenerClosed => row("event", NETWORK, END, "listener-closed", None),
            EventType::ListenerPresent => row("event", NETWORK, INFO, "listener-present", None),
            EventType::ListenerChanged => row("event", NETWORK, INFO, "listener-changed", None),
            EventType::BindFailed => row("event", NETWORK, START, "bind-failed", FAILURE),
            EventType::ConnectionState => {
                let (types, outcome) = transition(facts::step(event));
                row("event", NETWORK, types, "connection-state", outcome)
            }
            EventType::ListenerDown => row("event", NETWORK, INFO, "listener-down", None),
            EventType::ListenerRecovered => row("event", NETWORK, INFO, "listener-recovered", None),
            EventType::SensorReady => row("state", HOST, INFO, "sensor-ready", None),
            EventType::SensorDegraded => row("state", HOST, INFO, "sensor-degraded", None),
            // Data is missing, and this is the word of ECS for that.
            EventType::Gap => row("pipeline_error", HOST, INFO, "gap", None),
            EventType::GapReconciled => row("event", HOST, INFO, "gap-reconciled", None),
            EventType::StormStarted => row("event", NETWORK, START, "storm-started", None),
            EventType::StormUpdated => row("event", NETWORK, INFO, "storm-updated", None),
            EventType::StormEnded => row("event", NETWORK, END, "storm-ended", None),
            EventType::ScanDetected => row("event", NETWORK, INFO, "scan-detected", None),
            EventType::StormResponse => {
                let failed = event
                    .response
                    .as_ref()
                    .is_some_and(|done| done.error.is_some());
                let outcome = if failed { FAILURE } else { SUCCESS };
                row("event", NETWORK, INFO, "storm-response", outcome)
            }
            EventType::Heartbeat => row("metric", HOST, INFO, "heartbeat", None),
        };
        if facts::is_alert(event) {
            of.alert()
        } else {
            of
        }
    }

    /// The same as an alert; `info` is what detections allow beside the word of the network.
    fn alert(self) -> Self {
        Self {
            kind: "alert",
            category: &["intrusion_detection", "network"],
            types: match self.types {
                ["start"] => &["info", "start"],
                _ => INFO,
            },
            ..self
        }
    }
}

/// Types and outcome of a state change.
const fn transition(step: Step) -> (&'static [&'static str], Option<&'static str>) {
    match step {
        Step::Opened => (&["connection", "start"], SUCCESS),
        Step::Closed => (&["connection", "end"], None),
        Step::Failed => (&["connection", "end"], FAILURE),
        Step::Listening => (START, SUCCESS),
        Step::Silent => (END, None),
        Step::Other => (&["connection", "info"], None),
    }
}

/// How a listener is judged, as the category of the rule that did.
pub(super) fn judgement(state: PolicyState) -> &'static str {
    state.word()
}
