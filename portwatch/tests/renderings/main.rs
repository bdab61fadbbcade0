//! Every event in every rendering, judged by the published definitions of each model and by our own schema.
//!
//! The definitions of ECS and OCSF are not part of this repository: see `published.rs`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where its ground gives way"
)]

mod arbitrary;
mod compatibility;
mod ecs;
mod hostile;
mod json_schema;
mod ocsf;
mod published;

use portwatch::event::Event;
use portwatch::event::example::{examples, variants};

/// What is pinned in docs/schema/golden.
fn pinned() -> Vec<Event> {
    [examples(), variants()].concat()
}
