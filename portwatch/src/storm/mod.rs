//! Storms, floods and scans: what was counted becomes episodes that begin once and end once. Pure.

#[cfg(test)]
mod day;
pub mod detector;
pub mod episode;
mod habits;
mod judge;
mod kept;
mod learned;
mod mib;
pub mod peers;
pub mod reading;
pub mod response;
pub mod scan;
pub mod settings;
#[cfg(test)]
mod simulation;
mod tally;
mod track;

pub use detector::{Account, Detector, Report};
pub use episode::Episode;
pub use habits::{Setting, TEXT_MAX, parse as habits, to_text as habits_text};
pub use kept::{Counts, Kept, STATES, TOLD};
pub use learned::Habit;
pub use mib::{Mib, ephemeral_ports};
pub use peers::{Prefix, Share};
pub use reading::{
    Crossing, ListenerKey, ListenerReading, NamespaceReading, PeerReading, PortUse, ProcessReading,
    Rate, Reading, SourceReading, Subject,
};
pub use settings::Settings;
pub use tally::{AtPort, Tally, TcpSocket};
