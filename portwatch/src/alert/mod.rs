//! From events to messages that wake people: what is an incident, which of them go together, how many messages
//! there may be (all pure), and the queue on disk from which channels deliver.

pub mod batch;
pub mod email;
pub mod incident;
pub mod maintenance;
pub mod memory;
pub mod message;
pub mod reminders;
pub mod route;
pub mod spool;
pub mod template;

pub use batch::{Batch, Limits};
pub use incident::{Incidents, Key, Notice, Open, Phase};
pub use maintenance::{Held, Window};
pub use memory::{Memory, Remembered};
pub use message::{Entry, Message};
pub use route::{Now, Route, Terms};
pub use spool::{Bounds, Spool};
