//! Configuration: defaults, file, checks. Without any file the program is useful.

pub mod channels;
mod checks;
pub mod diagnostic;
pub mod duration;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod keys;
pub mod load;
mod maintenance;
mod parse;
pub mod paths;
mod response;
mod rules;
pub mod sinks;
mod storm;
mod values;

pub use channels::Channel;
pub use diagnostic::{ConfigError, Diagnostic};
pub use load::{Loaded, load};
pub use paths::Paths;
pub use sinks::Sink;

use std::path::PathBuf;
use std::time::Duration;

use crate::alert::Window;
use crate::interface::metrics::listen::Endpoint;
use crate::policy::Rule;
use crate::storm::Settings;
use crate::storm::response::Terms;

/// Everything that can be configured, with its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Ring buffers between kernel and daemon.
    pub ring: Ring,
    /// The table of present listeners.
    pub inventory: Inventory,
    /// What is found out about a process.
    pub enrich: Enrich,
    /// The control socket.
    pub control: Control,
    /// Diagnostics.
    pub log: Log,
    /// The approved set of listeners.
    pub baseline: Baseline,
    /// What is kept of the past.
    pub history: History,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// The rules of the policy, those of a later file behind those of an earlier one.
    pub rules: Vec<Rule>,
    /// Where alerts go.
    pub channels: Vec<Channel>,
    /// When alerts wait.
    pub maintenance: Vec<Window>,
    /// From which numbers on something is a storm.
    pub storm: Settings,
    /// What is done about it.
    pub response: Terms,
    /// Where events go.
    pub sinks: Vec<Sink>,
    /// Signs of life in them.
    pub heartbeat: Heartbeat,
}

impl Config {
    /// The sections that another configuration has otherwise, and that a running daemon cannot change.
    #[must_use]
    pub fn fixed_that_differ(&self, other: &Self) -> Vec<String> {
        let sections = [
            ("ring", self.ring == other.ring),
            ("inventory", self.inventory == other.inventory),
            ("enrich", self.enrich == other.enrich),
            ("control", self.control == other.control),
            ("baseline", self.baseline == other.baseline),
            ("history", self.history == other.history),
            ("metrics", self.metrics == other.metrics),
            ("log", self.log == other.log),
        ];
        let differ = sections.into_iter().filter(|(_, is_same)| !is_same);
        differ.map(|(name, _)| name.to_owned()).collect()
    }
}

/// Lays a text over a configuration; the mistakes in it come back.
#[cfg(test)]
pub(crate) fn apply_text(config: &mut Config, text: &str) -> Vec<String> {
    let mistakes = parse::apply(config, std::path::Path::new("test.toml"), text);
    mistakes.iter().map(ToString::to_string).collect()
}

/// `[ring]`: sizes in KiB, powers of two (the kernel's rule). Fixed while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Listeners.
    pub critical_kib: u32,
    /// Process lifecycles.
    pub process_kib: u32,
    /// Connection states.
    pub bulk_kib: u32,
}

/// `[inventory]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Seconds between two complete comparisons with the kernel (10 to 3600).
    pub reconcile_seconds: u32,
    /// Seconds between two looks at what this kernel has no hook for, such as the closing of unix, packet
    /// and raw sockets (1 to 10).
    pub fast_seconds: u32,
}

/// `[enrich]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrich {
    /// SHA-256 of executables.
    pub hash: bool,
    /// Package that owns the executable.
    pub package: bool,
    /// How long an event may wait for these, in milliseconds (0 to 1000).
    pub wait_ms: u32,
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Group whose members may read.
    pub group: String,
    /// Clients at once (1 to 1024).
    pub max_clients: u32,
}

/// `[baseline]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// What the daemon approves without being asked.
    pub learn: Learn,
}

/// What the daemon approves without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Learn {
    /// What listens when it starts for the first time.
    #[default]
    FirstStart,
    /// Nothing.
    Off,
    /// Everything that listens within this span from its first start on.
    During(Duration),
}

/// `[history]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// How long events are kept; none when they are not.
    pub max_age: Option<Duration>,
    /// How much room they may take, in MiB (1 to 65536).
    pub max_mib: u32,
}

/// `[metrics]`: where figures are told; nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Served here.
    pub listen: Option<Endpoint>,
    /// Written into this file.
    pub textfile: Option<PathBuf>,
}

/// `[heartbeat]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Distance of two of them (1 s to a day); none for never. Without a sink there are none.
    pub every: Option<Duration>,
}

/// `[log]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// What the probes in the kernel may log.
    pub kernel: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off,
    /// What went wrong.
    Error,
    /// And what is suspicious.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            critical_kib: 8192,
            process_kib: 4096,
            bulk_kib: 8192,
        }
    }
}

impl Default for Inventory {
    fn default() -> Self {
        Self {
            reconcile_seconds: 60,
            fast_seconds: 1,
        }
    }
}

impl Default for Enrich {
    fn default() -> Self {
        Self {
            hash: true,
            package: true,
            wait_ms: 50,
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            max_age: Some(Duration::from_secs(30 * 86_400)),
            max_mib: 64,
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_secs(60)),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            group: "portwatch".to_owned(),
            max_clients: 64,
        }
    }
}
