//! The `policy` object of an event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a listener is judged, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// The judgement.
    pub state: PolicyState,
    /// The rule that decided: its name, or `default` where none did.
    pub rule: String,
}

/// How a listener is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyState {
    /// Nobody knows it: neither a rule nor the baseline.
    New,
    /// It is of the approved set.
    Baseline,
    /// A rule allows it.
    Allowed,
    /// A rule denies it.
    Denied,
    /// A rule says that it must listen.
    Expected,
}
