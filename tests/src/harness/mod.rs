//! The harness: starts portwatch and actors, reads the one and commands the others.

pub mod cgroup;
pub mod condition;
pub mod daemon;
pub mod deprived;
pub mod event;
pub mod expect;
pub mod kafka;
pub mod kind;
pub mod locate;
pub mod mail;
pub mod mail_server;
pub mod program;
pub mod receiver;
pub mod receivers;
pub mod report;
pub mod rungs;
pub mod smtp_peer;
pub mod stage;
pub mod suite;
pub mod tiny;
pub mod trigger;
pub mod watch;

pub use event::Event;
pub use kind::{Kind, Sock};
pub use rungs::{Capability, Rung, Sees};
pub use suite::{Company, Context, Outcome, Part, Scenario};
pub use trigger::Actor;
pub use watch::Watch;
