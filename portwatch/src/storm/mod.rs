//! Storms, floods and scans: what was counted becomes episodes that begin once and end once. Pure.

pub mod reading;

pub use reading::{
    Crossing, ListenerKey, ListenerReading, NamespaceReading, PeerReading, ProcessReading, Rate,
    Reading, SourceReading, Subject,
};
