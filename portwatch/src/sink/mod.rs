//! Where events go: the bus and its bounded readers.

pub mod block;
pub mod bus;
pub mod chain;
pub mod encode;
mod gap;
pub mod item;
pub mod line;
pub mod numbering;
mod queue;
mod replay;
pub mod selection;
pub mod states;
mod states_json;
pub mod transport;
#[cfg(test)]
pub(crate) mod testing;

pub use block::BlockReader;
pub use bus::{Bus, Interest, Reader, ReaderStatus, Subscriber, Subscription};
pub use encode::{MAX_LINE, encode_line};
pub use item::Item;
pub use line::Line;
pub use numbering::Numbering;
pub use queue::Limits;
pub use selection::{Compile, Predicate, Selection};
pub use states::{ConnectionOwner, Occasion, States, Transition};
