//! What `portwatch status` tells: the health of the daemon as one published object.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{CheckProtocol, Host, Mechanism, RingName, State};
use crate::text::escape;

/// The name of this schema.
pub const SCHEMA: &str = "portwatch.status/1";

/// Is it watching, since when, how, and what was lost. A key that is not known is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "portwatch.status/1")]
pub struct Status {
    /// Always `portwatch.status/1`.
    pub schema: String,
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The self-test passed and the first inventory is complete.
    pub ready: bool,
    /// Since when it watches: RFC 3339, UTC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub watching_since: Option<String>,
    /// For how long, in milliseconds (suspend included).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub watching_ms: Option<u64>,
    /// The first inventory at the start; absent until it is complete.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_look: Option<FirstLook>,
    /// The host.
    pub host: Arc<Host>,
    /// Each signal, with the mechanism it got and those it did not get.
    pub mechanisms: Vec<MechanismStatus>,
    /// Listeners now.
    pub listeners: Listeners,
    /// What was counted since the start.
    pub counters: CounterStatus,
    /// The rings between kernel and daemon.
    pub rings: Vec<RingStatus>,
    /// Everything that was not seen or not delivered.
    pub losses: Losses,
    /// Active checks of expected services; absent when no rule has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checks: Option<ChecksStatus>,
    /// Storms and scans.
    #[serde(default)]
    pub storms: StormStatus,
    /// Who reads the stream.
    pub clients: Vec<ClientStatus>,
    /// The history on disk; absent when none is kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub history: Option<HistoryStatus>,
    /// The channels of alerts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub alerts: Vec<ChannelStatus>,
    /// The sinks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sinks: Vec<SinkStatus>,
    /// Resolution of processes.
    pub enrich: EnrichStatus,
    /// Resident anonymous memory of the daemon, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_bytes: Option<u64>,
    /// Grows every second while the pipeline moves.
    #[serde(default)]
    pub heartbeat: u64,
    /// From the kernel's time of a listener's event to its publication.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency: Option<LatencyStatus>,
    /// What the probes cost; empty unless the kernel counts it (`sysctl kernel.bpf_stats_enabled=1`).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub probes: Vec<ProbeCost>,
    /// How metrics are told; absent when they are not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metrics: Option<MetricsStatus>,
}

/// A histogram of latencies. Events that were found by looking have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyStatus {
    /// Events.
    pub count: u64,
    /// All their latencies together, in microseconds.
    pub sum_us: u64,
    /// How many took at most so long, the shortest first.
    pub buckets: Vec<LatencyBucket>,
}

/// Events up to a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyBucket {
    /// Microseconds, at most.
    pub le_us: u64,
    /// Events, those of shorter ones among them.
    pub count: u64,
}

/// What one probe has cost while the kernel counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeCost {
    /// The probe.
    pub probe: String,
    /// How often it ran.
    pub runs: u64,
    /// Processor time of all runs, in nanoseconds.
    pub run_ns: u64,
}

/// How metrics are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsStatus {
    /// Requests that got an answer, of whatever kind.
    pub answered: u64,
    /// Clients that were turned away because there were too many, or cut off because they were too slow.
    pub turned_away: u64,
    /// Why the listener is not there; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Why the last text file was not written; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub textfile_error: Option<String>,
}

/// Storms and scans since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StormStatus {
    /// Episodes that go on now.
    pub open: u64,
    /// Episodes that began.
    pub episodes: u64,
    /// Scans that were told.
    pub scans: u64,
    /// Storms that were not told, because there were too many at once.
    pub untold: u64,
    /// Listeners, processes, namespaces and sources that found no place in a table.
    pub dropped: u64,
    /// Sources of knocks at closed ports that are remembered now.
    pub sources: u64,
    /// Addresses that were not blocked, because the limit of the hour was reached.
    pub capped: u64,
    /// Listeners that have no counts now, because there are too many: storms there are seen by the counters of their
    /// namespace alone.
    #[serde(default)]
    pub without_cell: u64,
    /// Listeners, processes and namespaces that the last look did not judge, because there are too many.
    #[serde(default)]
    pub unjudged: u64,
    /// Looks that failed by a fault of portwatch, and began anew.
    #[serde(default)]
    pub failed_looks: u64,
}

/// How keeping the history goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryStatus {
    /// Events that were written since the start.
    pub written: u64,
    /// Events that could not be written.
    pub lost: u64,
    /// Why the last one could not; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// How alerts of one channel go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// Messages that wait.
    pub queued: u64,
    /// Messages that were taken since the start.
    pub delivered: u64,
    /// Messages that were refused for good.
    pub refused: u64,
    /// Messages that could not even be queued.
    pub lost: u64,
    /// Why the last attempt failed; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// How one sink does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// What it is, as the configuration has it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Events that wait, in memory and on disk.
    pub queued: u64,
    /// Bytes of its buffer on disk; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queued_bytes: Option<u64>,
    /// Events that the file, or the receiver, took since the start.
    pub delivered: u64,
    /// Events that the receiver refused for good.
    pub refused: u64,
    /// Events that it was too slow for, that found no room on disk, or that were damaged there.
    pub lost: u64,
    /// Number and hash of the last record of its chain; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head: Option<String>,
    /// What is wrong; absent while all is well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// How the active checks go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChecksStatus {
    /// Rules that have one.
    pub total: u64,
    /// Rules whose last check failed.
    pub failing: u64,
    /// The first 32 of them, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub failing_rules: Vec<CheckStatus>,
    /// Rules whose check cannot be made from here.
    pub beyond: u64,
    /// The first 32 of them, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub beyond_rules: Vec<CheckStatus>,
}

/// One check that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckStatus {
    /// The rule.
    pub rule: String,
    /// The protocol.
    pub protocol: CheckProtocol,
    /// What went wrong the last time, or why it cannot be made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// How many times in a row it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failures: Option<u32>,
}

/// How long the first inventory took, in microseconds since it began. Executables are hashed and packages
/// looked up after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirstLook {
    /// Sockets that it found at descriptors.
    pub sockets: u64,
    /// Until every listener that a descriptor refers to was known, with its owners.
    pub owners_us: u64,
    /// Until those without a descriptor were known too: the kernel's own, and those in flight.
    pub complete_us: u64,
}

/// One signal's mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MechanismStatus {
    /// The signal, for example `tcp.listen`.
    pub signal: String,
    /// The mechanism in use; absent when the kernel permits none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mechanism: Option<Mechanism>,
    /// Better mechanisms that were refused, best first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub rejected: Vec<Rejected>,
    /// What the mechanism in use does not see, or only later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub blind_to: Option<String>,
}

/// A mechanism that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    /// Which.
    pub mechanism: Mechanism,
    /// Why.
    pub reason: String,
}

/// Listeners now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listeners {
    /// All.
    pub total: u64,
    /// By `socket.protocol`.
    pub by_protocol: BTreeMap<String, u64>,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CounterStatus {
    /// Events by `type`.
    pub events: BTreeMap<String, u64>,
    /// Events that nobody was told of, because an `[[ignore]]` rule decided on them.
    #[serde(default)]
    pub ignored: u64,
    /// TCP state changes, streamed or not.
    pub transitions_total: u64,
    /// The same by kind; pairs that never happened are absent.
    pub transitions: Vec<Transition>,
    /// UDP sockets that never called bind and got a port from the kernel: counted, not listeners.
    pub udp_autobinds: u64,
    /// Processes remembered now.
    pub process_table: u64,
}

/// How often one TCP state followed another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// State before.
    pub old_state: State,
    /// State after.
    pub new_state: State,
    /// How often.
    pub count: u64,
}

/// One ring: `seen = emitted + dropped + filtered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RingStatus {
    /// Which.
    pub ring: RingName,
    /// Records the probes wanted to send.
    pub seen: u64,
    /// Records that were submitted.
    pub emitted: u64,
    /// Records that found the ring full.
    pub dropped: u64,
    /// Records held back on purpose.
    pub filtered: u64,
    /// Size, in bytes.
    pub capacity_bytes: u64,
    /// Records that wait to be read.
    pub pending_records: u64,
}

/// Everything that was not seen or not delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Losses {
    /// `gap` events in the daemon's stream.
    pub gaps: u64,
    /// Records that they stand for.
    pub lost: u64,
    /// The same by `gap.ring`; where nothing was lost is absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub by_ring: BTreeMap<String, u64>,
    /// Probe runs that the kernel skipped; probes without one are absent.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub recursion_misses: Vec<ProbeMisses>,
    /// Lines that clients were too slow for.
    pub client_missed: u64,
    /// Records that could not be decoded.
    pub decode_errors: u64,
}

/// One probe's skipped runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeMisses {
    /// The probe.
    pub probe: String,
    /// How often it did not run.
    pub misses: u64,
}

/// One client of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientStatus {
    /// User id.
    pub uid: u32,
    /// Process id, when it is visible to the daemon.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Gets `connection.state`.
    pub states: bool,
    /// Lines written to it.
    pub delivered: u64,
    /// Lines it was too slow for.
    pub missed: u64,
    /// Lines that wait for it.
    pub queued: u64,
}

/// Resolution of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrichStatus {
    /// Executables whose hash and package are remembered.
    pub table: u64,
    /// Executables that wait to be looked at.
    pub queue: u64,
    /// Look-ups that were left out because too many waited.
    pub skipped: u64,
}

impl MetricsStatus {
    /// For a person.
    pub(super) fn sentence(&self) -> String {
        let Self {
            answered,
            turned_away,
            error,
            textfile_error,
        } = self;
        let mut text = format!("{answered} requests answered, {turned_away} turned away");
        for error in [error, textfile_error].into_iter().flatten() {
            text.push_str("; ");
            text.push_str(&escape(error.as_bytes()));
        }
        text
    }
}

impl Status {
    /// For a person: aligned, the verdict in the first line, ANSI colours if asked for. Ends with a newline.
    #[must_use]
    pub fn human(&self, colour: bool) -> String {
        super::human::render(self, colour)
    }

    /// Records lost between kernel and daemon, lines lost between daemon and clients, probe runs skipped.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        let losses = &self.losses;
        let skipped: u64 = losses
            .recursion_misses
            .iter()
            .map(|probe| probe.misses)
            .fold(0, u64::saturating_add);
        losses
            .lost
            .saturating_add(losses.client_missed)
            .saturating_add(skipped)
            .saturating_add(losses.decode_errors)
    }
}
