//! portwatch: says at once which process opened which listening socket, and how exposed it is.
//!
//! Data flows one way: kernel → `ring` → `decode` → `enrich` → `inventory` → (policy, storm) →
//! (alert, sink) → `interface`. ARCHITECTURE.md has the map.

pub mod alert;
pub mod baseline;
pub mod check;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod enrich;
pub mod event;
pub mod filter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod history;
pub mod interface;
pub mod inventory;
pub mod kernel;
mod memory;
pub mod net;
pub mod policy;
pub mod probe;
pub mod render;
pub mod ring;
pub mod sink;
pub mod storm;
pub mod text;
pub mod time;
mod whole_file;
