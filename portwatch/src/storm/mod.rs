//! Storms, floods and scans: what was counted becomes episodes that begin once and end once. Pure.

mod kept;
mod mib;
pub mod reading;
mod tally;

pub use kept::{Counts, Kept, STATES, TOLD};
pub use mib::{Mib, ephemeral_ports};
pub use reading::{
    Crossing, ListenerKey, ListenerReading, NamespaceReading, PeerReading, ProcessReading, Rate,
    Reading, SourceReading, Subject,
};
pub use tally::{AtPort, Tally, TcpSocket};
