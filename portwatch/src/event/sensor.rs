//! How something was seen, what cannot be seen, and what was lost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The mechanism behind an event, or a statement about sensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sensor {
    /// Mechanism that saw it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mechanism: Option<Mechanism>,
    /// From the kernel's timestamp to the moment the line was made, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_us: Option<u64>,
    /// `sensor.*`: the signal, for example `tcp.listen`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<String>,
    /// `sensor.degraded`: why the better mechanism is not in use.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// `sensor.degraded`: what is not seen, or only later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub blind_to: Option<String>,
    /// `sensor.degraded`: what the administrator can do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// `sensor.ready`: every signal with the mechanism it got.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mechanisms: Vec<SignalMechanism>,
}

/// One signal and the mechanism it got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalMechanism {
    /// The signal, for example `tcp.listen`.
    pub signal: String,
    /// The mechanism.
    pub mechanism: Mechanism,
}

/// A mechanism: the rung of a ladder.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// BPF trampoline at function exit.
    Fexit,
    /// BPF trampoline at function entry.
    Fentry,
    /// Return probe.
    Kretprobe,
    /// Entry probe.
    Kprobe,
    /// BTF-typed raw tracepoint.
    TpBtf,
    /// Perf tracepoint.
    Tracepoint,
    /// cgroup2 hook.
    Cgroup,
    /// BPF iterator.
    Iterator,
    /// Start-up inventory.
    Snapshot,
    /// Found by looking again.
    Reconcile,
}

impl Mechanism {
    /// The name in `sensor.mechanism`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fexit => "fexit",
            Self::Fentry => "fentry",
            Self::Kretprobe => "kretprobe",
            Self::Kprobe => "kprobe",
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::Cgroup => "cgroup",
            Self::Iterator => "iterator",
            Self::Snapshot => "snapshot",
            Self::Reconcile => "reconcile",
        }
    }
}

/// Where events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RingName {
    /// The ring of listeners.
    Critical,
    /// The ring of process lifecycles.
    Process,
    /// The ring of connection states.
    Bulk,
    /// A probe did not run (recursion misses).
    Probe,
    /// A reader of this output was too slow.
    Client,
    /// On the way from the daemon to the receiver of this output.
    Sink,
}

/// Why events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapCause {
    /// The ring was full.
    RingFull,
    /// A probe saw something and did nothing with it that it counted.
    Unaccounted,
    /// A record went into the ring and never came out.
    Undelivered,
    /// The kernel's table of tracked listeners was full.
    TableFull,
    /// The kernel skipped a run of a probe (recursion misses).
    ProbeSkipped,
    /// A reader of this output was too slow.
    SlowReader,
    /// The output's buffer on disk had no more room.
    BufferFull,
    /// What was on disk was damaged, or torn when daemon or machine ended.
    Damaged,
    /// The receiver refused it for good.
    Refused,
    /// The output's disk took nothing until its sink was changed or taken away.
    Unwritten,
}

/// Events that were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// Where.
    pub ring: RingName,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<GapCause>,
    /// How many.
    pub lost: u64,
    /// No earlier than: RFC 3339.
    pub from: String,
    /// No later than: RFC 3339.
    pub to: String,
    /// The probe, for recursion misses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probe: Option<String>,
    /// Whose events they were, most first: the cgroups that filled the ring of listeners. At most 16;
    /// together they may be fewer than `lost`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cgroups: Vec<GapCgroup>,
}

/// What one cgroup lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GapCgroup {
    /// Its id: the inode of its directory below the mount of cgroup2.
    pub id: u64,
    /// Its path below the mount of cgroup2, when known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// How many events.
    pub lost: u64,
}

/// What looking again after a loss found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reconciled {
    /// Listeners that nobody had told of.
    pub found: u64,
    /// Listeners that were gone without a word.
    pub vanished: u64,
    /// Listeners whose holders or backlog had changed.
    pub changed: u64,
    /// Sockets looked at.
    pub checked: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}
