//! Records for the tests of transports.

use uuid::Uuid;

use super::Parcel;
use crate::event::{EventType, Severity};

/// So many, with numbers for ids and lines `{"n":0}`.
pub(crate) fn parcels(count: u128) -> Vec<Parcel> {
    let parcel = |n| Parcel {
        id: Uuid::from_u128(n),
        ts_ns: 1_795_290_121_123_456_789,
        kind: EventType::ListenerOpened,
        severity: Severity::Notice,
        line: format!("{{\"n\":{n}}}").into_bytes(),
    };
    (0..count).map(parcel).collect()
}
