//! Words that an option takes, and what they stand for.

use clap::ValueEnum;

use crate::event::Mechanism;
use crate::render::Format;

/// A stream of events, for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    /// For people
    Human,
    /// For programs: JSON, everything that is known
    Json,
    /// For Elasticsearch: JSON by Elastic Common Schema
    Ecs,
    /// For security lakes: JSON by Open Cybersecurity Schema Framework
    Ocsf,
    /// For older collectors: Common Event Format
    Cef,
    /// For older collectors: syslog with structured data
    Rfc5424,
}

/// A report for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Human,
    /// For programs: JSON
    Json,
}

/// A list for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// For people
    Table,
    /// For programs: JSON, one listener a line
    Json,
    /// For Elasticsearch: JSON by Elastic Common Schema
    Ecs,
    /// For security lakes: JSON by Open Cybersecurity Schema Framework
    Ocsf,
    /// For older collectors: Common Event Format
    Cef,
    /// For older collectors: syslog with structured data
    Rfc5424,
}

/// How much the kernel side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum KernelLog {
    /// Nothing
    Off,
    /// Errors
    Error,
    /// Also what looks wrong
    Warn,
    /// Also what is done
    Info,
    /// Also why
    Debug,
    /// Everything
    Trace,
}

/// A rung of the ladder of mechanisms, to be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Rung {
    /// BPF trampoline at function exit
    Fexit,
    /// Return probe
    Kretprobe,
    /// cgroup2 hook
    Cgroup,
    /// BTF-typed raw tracepoint
    TpBtf,
    /// Perf tracepoint
    Tracepoint,
    /// Only looking again from time to time
    Reconcile,
}

impl Stream {
    /// How programs are told; `None` for people.
    #[must_use]
    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Human => None,
            Self::Json => Some(Format::Json),
            Self::Ecs => Some(Format::Ecs),
            Self::Ocsf => Some(Format::Ocsf),
            Self::Cef => Some(Format::Cef),
            Self::Rfc5424 => Some(Format::Rfc5424),
        }
    }
}

impl Listing {
    /// How programs are told; `None` for people.
    #[must_use]
    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Table => None,
            Self::Json => Some(Format::Json),
            Self::Ecs => Some(Format::Ecs),
            Self::Ocsf => Some(Format::Ocsf),
            Self::Cef => Some(Format::Cef),
            Self::Rfc5424 => Some(Format::Rfc5424),
        }
    }
}

impl KernelLog {
    /// The level as the probes know it: 0 off to 5 trace.
    #[must_use]
    pub const fn level(self) -> u8 {
        self as u8
    }
}

impl Rung {
    /// The mechanism that it is.
    #[must_use]
    pub const fn mechanism(self) -> Mechanism {
        match self {
            Self::Fexit => Mechanism::Fexit,
            Self::Kretprobe => Mechanism::Kretprobe,
            Self::Cgroup => Mechanism::Cgroup,
            Self::TpBtf => Mechanism::TpBtf,
            Self::Tracepoint => Mechanism::Tracepoint,
            Self::Reconcile => Mechanism::Reconcile,
        }
    }
}
