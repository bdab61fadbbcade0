//! Does what listens answer? A hung service still listens, so an expected one can be asked in its own protocol.
//!
//! What is said and how an answer is judged is pure (`exchange`, `dialogue`, `dns`), and so is where a listener is
//! reached (`target`). `ask` does the input and output of one check, `checker` does many of them on a thread
//! of its own. When a check is due and what its outcomes mean is for `policy` to say.

mod ask;
mod channel;
pub mod checker;
mod dialogue;
mod dns;
mod exchange;
mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod target;

use std::time::Duration;

pub use checker::Checker;
pub use failure::Failure;
pub(crate) use target::transports;
pub use target::{Place, Target, Transport};

use crate::event::CheckProtocol;

/// Checks that are made at the same time, at most.
pub const AT_ONCE: usize = 16;

/// Addresses of one service that are asked in one check, at most. One that answers is enough.
pub const TARGETS: usize = 4;

/// How an expected service is asked whether it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// In which protocol.
    pub protocol: CheckProtocol,
    /// From the beginning of one check to that of the next.
    pub every: Duration,
    /// How long one check may take, from the connection to the last answer.
    pub timeout: Duration,
    /// How many in a row must fail before it is told; at least 1.
    pub failures: u32,
    /// A service of another host: no listener of this one belongs to it.
    pub host: Option<Remote>,
    /// The name that is asked for: server name in TLS, `Host` in HTTP. Without it that of the host, or the address.
    pub name: Option<String>,
    /// The page that is asked for in HTTP.
    pub path: Option<String>,
}

/// A service of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Name or address of the host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is reached.
    pub transport: Transport,
}

/// Names one check that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A check to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub ticket: Ticket,
    /// What to ask.
    pub check: Check,
    /// Where; one that answers is enough.
    pub targets: Vec<Target>,
}

/// An order that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The order.
    pub ticket: Ticket,
    /// The target that answered; otherwise what went wrong with the first one.
    pub result: Result<Target, Failure>,
}

/// Is this protocol spoken within TLS?
#[must_use]
pub const fn is_within_tls(protocol: CheckProtocol) -> bool {
    matches!(
        protocol,
        CheckProtocol::Tls
            | CheckProtocol::Https
            | CheckProtocol::Smtps
            | CheckProtocol::Imaps
            | CheckProtocol::Pop3s
    )
}
