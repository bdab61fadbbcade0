//! Where events go: the bus and its bounded readers.

pub mod block;
pub mod buffer;
pub mod bus;
pub mod chain;
pub mod deliver;
mod disk;
pub mod encode;
pub mod figures;
pub mod file;
mod gap;
mod head;
pub mod intake;
pub mod item;
pub mod line;
pub mod numbering;
pub mod pace;
mod queue;
mod replay;
pub mod selection;
mod settle;
pub mod states;
mod states_json;
pub mod stdout;
#[cfg(test)]
pub(crate) mod testing;
pub mod transport;
mod wait;

pub use block::BlockReader;
pub use bus::{Bus, Interest, Leash, Reader, ReaderStatus, Subscriber, Subscription};
pub use deliver::Lane;
pub use encode::{MAX_LINE, encode_line};
pub use figures::Figures;
pub use head::Head;
pub use intake::{Intake, Orders, Place, Shape};
pub use item::Item;
pub use line::Line;
pub use numbering::Numbering;
pub use pace::Sync;
pub use queue::Limits;
pub use selection::{Compile, Predicate, Selection};
pub use states::{ConnectionOwner, Occasion, States, Transition};
