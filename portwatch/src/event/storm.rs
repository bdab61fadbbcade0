//! An episode of a storm, a scan, and what was done about them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of storm.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum StormKind {
    /// SYNs arrive at a listener, and the connections are not completed.
    SynFlood,
    /// Far more connections are completed at a listener than it is used to.
    ConnectionStorm,
    /// A process opens far more connections than it should, or most of them fail.
    ConnectStorm,
    /// More connections are reset than begin.
    ResetStorm,
    /// Many connections to ports where nothing listens are refused.
    RefusedStorm,
    /// A process does not close what its peers have closed: its sockets pile up in `CLOSE_WAIT`.
    CloseWaitLeak,
    /// Local ports towards one peer run out: they are in use, or in `TIME_WAIT`.
    TimeWaitPressure,
    /// A listener does not accept fast enough: connections find its queue full, and are dropped.
    AcceptQueueOverflow,
}

/// An episode of a storm. It begins once and ends once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Storm {
    /// What kind.
    pub kind: StormKind,
    /// Number of the episode, from 1 in each run of the daemon; the same in all events of one episode.
    pub episode: u64,
    /// What it is about, the same whenever it happens again: a listener, an executable, or a network namespace.
    pub key: String,
    /// Network namespace (inode).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub netns: Option<u32>,
    /// What is counted: of `syn-flood` half-open connections, of `accept-queue-overflow` dropped ones; per second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<u64>,
    /// What there is now, of kinds that are a level: sockets in `CLOSE_WAIT`, local ports that are taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub level: Option<u64>,
    /// The highest `rate` or `level` of the episode so far.
    pub peak: u64,
    /// The `rate` or `level` from which on this is a storm.
    pub threshold: u64,
    /// How many in the episode so far; of a level the highest.
    pub total: u64,
    /// Connections that were completed meanwhile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub completed: Option<u64>,
    /// Of a hundred connections that began, so many were not completed (`syn-flood`), failed (`connect-storm`), or
    /// were reset (`reset-storm`, where it may be more than a hundred).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ratio: Option<u32>,
    /// Half-open connections now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub half_open: Option<u32>,
    /// Connections that wait for `accept` now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_queue: Option<u32>,
    /// How many may wait.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_queue_max: Option<u32>,
    /// SYN cookies that the namespace sent meanwhile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cookies_sent: Option<u64>,
    /// Whom most of it comes from, or goes to, the most frequent first: at most 10 single ones, then the prefixes that
    /// hold a tenth of them together.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub peers: Vec<StormPeer>,
    /// What to do next, in a sentence.
    pub advice: String,
    /// `storm.ended`: why, where it is another reason than that it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// Where some of a storm comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StormPeer {
    /// In CIDR form: `203.0.113.7/32`, `2001:db8::/64`, `198.51.100.0/24`.
    pub prefix: String,
    /// How many.
    pub count: u64,
    /// Of a hundred that were counted by peer, so many.
    pub share: u32,
}

/// How a scan goes about it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ScanShape {
    /// One source, many ports.
    Vertical,
    /// Many sources, one port.
    Distributed,
    /// One source, one port, in several network namespaces.
    Horizontal,
}

/// Somebody tries which ports answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scan {
    /// How.
    pub shape: ScanShape,
    /// Who; nobody in particular where it is distributed. The first address of a network of 64 bits where several addresses of it share a
    /// vertical scan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// How many sources: 1, or of a distributed scan and of one by a network as many as were told apart.
    pub sources: u32,
    /// Network namespace that was knocked at (inode), the first of them.
    pub netns: u32,
    /// How many namespaces.
    pub namespaces: u32,
    /// `tcp` or `udp`.
    pub protocol: super::Protocol,
    /// Different ports at which nothing listens.
    pub ports: u32,
    /// Knocks.
    pub knocks: u64,
    /// Some of the ports, in rising order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sample: Vec<u16>,
    /// The first knock: RFC 3339.
    pub first: String,
    /// The last knock: RFC 3339.
    pub last: String,
    /// What to do next, in a sentence.
    pub advice: String,
}

/// What is done about a storm or a scan.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ResponseAction {
    /// Addresses go into a set of the packet filter.
    Block,
    /// They are taken out of it.
    Unblock,
}

/// What was done about a storm or a scan, because the configuration says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// What.
    pub action: ResponseAction,
    /// Nothing was done: this is what would have been.
    pub dry_run: bool,
    /// Which prefixes.
    pub prefixes: Vec<String>,
    /// The set of the packet filter: family, table and name.
    pub set: String,
    /// For how long, in seconds; after that the kernel takes them out by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_s: Option<u64>,
    /// Why: the kind of storm, or `port-scan`.
    pub cause: String,
    /// The episode of the storm.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub episode: Option<u64>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}
