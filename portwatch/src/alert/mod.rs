//! From events to messages that wake people: what is an incident, which of them go together, how many messages
//! there may be (all pure), and the queue on disk from which channels deliver.

pub mod alertmanager;
pub mod batch;
pub mod carrier;
pub mod email;
pub mod exec;
pub mod incident;
pub mod journald;
mod lines;
pub mod maintenance;
pub mod memory;
pub mod message;
pub mod put_off;
pub mod reminders;
pub mod report;
pub mod route;
pub mod signature;
pub mod slack;
mod smtp;
pub mod spool;
#[cfg(test)]
mod storm_tests;
pub mod syslog;
pub mod template;
pub mod webhook;

pub use batch::{Batch, Limits};
pub use carrier::{Carrier, Refusal};
pub use incident::{Incidents, Key, Notice, Open, Phase};
pub use maintenance::{Held, Window};
pub use memory::{Memory, Remembered};
pub use message::{Entry, Message};
pub use put_off::PutOff;
pub use route::{Now, Route, Terms};
pub use spool::{Bounds, Spool};
