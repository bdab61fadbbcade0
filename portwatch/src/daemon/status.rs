//! Health, as `portwatch status` shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use portwatch_common::counters::{Counters, RINGS};
use portwatch_common::socket::TcpState;

use super::latency::Latency;
use crate::enrich::EnrichStats;
use crate::event::words::Word as _;
use crate::event::{EventType, Host, RingName, State};
use crate::interface::status::{
    ChecksStatus, CounterStatus, EnrichStatus, FirstLook, Listeners, Losses, MechanismStatus,
    ProbeCost, ProbeMisses, Rejected, RingStatus, SCHEMA, Status, StormStatus, Transition,
};
use crate::inventory::Inventory;
use crate::probe::load::Sizes;
use crate::probe::plan::Plan;
use crate::ring::skipped::Skipped;
use crate::time::{BootNs, WallClock};

/// Everything that a status is made from.
pub(super) struct Health<'a> {
    pub(super) host: &'a Arc<Host>,
    pub(super) plan: &'a Plan,
    pub(super) inventory: &'a Inventory,
    pub(super) counters: Option<Counters>,
    pub(super) received: [u64; RINGS],
    pub(super) sizes: Sizes,
    pub(super) skipped: Vec<Skipped>,
    pub(super) events: &'a BTreeMap<EventType, u64>,
    /// Events that nobody was told of, as a rule wants it.
    pub(super) ignored: u64,
    /// Records that gaps stand for, by ring.
    pub(super) lost: &'a BTreeMap<&'static str, u64>,
    pub(super) decode_errors: u64,
    pub(super) enrich: EnrichStats,
    pub(super) heartbeat: u64,
    pub(super) latency: &'a Latency,
    pub(super) costs: Vec<ProbeCost>,
    pub(super) since: BootNs,
    pub(super) first_look: Option<FirstLook>,
    pub(super) checks: Option<ChecksStatus>,
    pub(super) storms: StormStatus,
    pub(super) now: BootNs,
    pub(super) clock: WallClock,
}

/// Puts the status together; the control server adds what it knows of its clients.
pub(super) fn status(health: &Health<'_>) -> Status {
    Status {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        ready: true,
        watching_since: Some(health.clock.rfc3339(health.since)),
        watching_ms: Some(health.now.since(health.since) / 1_000_000),
        first_look: health.first_look,
        host: Arc::clone(health.host),
        mechanisms: mechanisms(health.plan),
        listeners: listeners(health.inventory),
        counters: counters(health),
        rings: rings(health),
        losses: losses(health),
        checks: health.checks.clone(),
        storms: health.storms,
        clients: Vec::new(),
        history: None,
        alerts: Vec::new(),
        sinks: Vec::new(),
        enrich: EnrichStatus {
            table: health.enrich.processes as u64,
            queue: health.enrich.queue_depth as u64,
            skipped: health.enrich.skipped,
        },
        memory_bytes: resident_anonymous(),
        heartbeat: health.heartbeat,
        latency: Some(health.latency.status()),
        probes: health.costs.clone(),
        metrics: None,
    }
}

fn mechanisms(plan: &Plan) -> Vec<MechanismStatus> {
    let choices = plan.choices.iter();
    choices
        .map(|choice| MechanismStatus {
            signal: choice.signal.as_str().to_owned(),
            mechanism: Some(choice.mechanism),
            rejected: choice
                .rejected
                .iter()
                .map(|rejected| Rejected {
                    mechanism: rejected.mechanism,
                    reason: rejected.reason.clone(),
                })
                .collect(),
            blind_to: choice.blind_to.map(str::to_owned),
        })
        .collect()
}

fn listeners(inventory: &Inventory) -> Listeners {
    let mut by_protocol = BTreeMap::new();
    for listener in inventory.iter() {
        *by_protocol
            .entry(listener.sock.protocol.word().to_owned())
            .or_insert(0) += 1;
    }
    Listeners {
        total: inventory.len() as u64,
        by_protocol,
    }
}

fn counters(health: &Health<'_>) -> CounterStatus {
    let transitions: Vec<_> = health.counters.iter().flat_map(transitions).collect();
    CounterStatus {
        ignored: health.ignored,
        events: health
            .events
            .iter()
            .map(|(kind, count)| (kind.as_str().to_owned(), *count))
            .collect(),
        transitions_total: transitions.iter().map(|transition| transition.count).sum(),
        transitions,
        udp_autobinds: health.counters.map_or(0, |counters| counters.udp_autobinds),
        process_table: health.enrich.processes as u64,
    }
}

fn transitions(counters: &Counters) -> Vec<Transition> {
    let cells = counters.transitions.iter().zip(0u8..=255);
    cells
        .filter(|(count, _)| **count > 0)
        .filter_map(|(count, cell)| {
            Some(Transition {
                old_state: state(TcpState(cell >> 4))?,
                new_state: state(TcpState(cell & 15))?,
                count: *count,
            })
        })
        .collect()
}

fn rings(health: &Health<'_>) -> Vec<RingStatus> {
    let Some(counters) = health.counters else {
        return Vec::new();
    };
    let names = [RingName::Critical, RingName::Process, RingName::Bulk];
    let sizes = [
        health.sizes.critical,
        health.sizes.process,
        health.sizes.bulk,
    ];
    names
        .into_iter()
        .zip(counters.rings)
        .zip(sizes.into_iter().zip(health.received))
        .map(|((ring, counted), (size, received))| RingStatus {
            ring,
            seen: counted.seen,
            emitted: counted.emitted,
            dropped: counted.dropped,
            filtered: counted.filtered,
            capacity_bytes: u64::from(size),
            pending_records: counted.emitted.saturating_sub(received),
        })
        .collect()
}

fn losses(health: &Health<'_>) -> Losses {
    Losses {
        gaps: health.events.get(&EventType::Gap).copied().unwrap_or(0),
        lost: health.lost.values().sum(),
        by_ring: health
            .lost
            .iter()
            .map(|(ring, lost)| ((*ring).to_owned(), *lost))
            .collect(),
        recursion_misses: health
            .skipped
            .iter()
            .map(|skipped| ProbeMisses {
                probe: skipped.probe.to_owned(),
                misses: skipped.unseen(),
            })
            .filter(|probe| probe.misses > 0)
            .collect(),
        client_missed: 0,
        decode_errors: health.decode_errors,
    }
}

/// The published name of a kernel state number.
pub(super) const fn state(state: TcpState) -> Option<State> {
    Some(match state {
        TcpState::ESTABLISHED => State::Established,
        TcpState::SYN_SENT => State::SynSent,
        TcpState::SYN_RECV => State::SynRecv,
        TcpState::FIN_WAIT1 => State::FinWait1,
        TcpState::FIN_WAIT2 => State::FinWait2,
        TcpState::TIME_WAIT => State::TimeWait,
        TcpState::CLOSE => State::Close,
        TcpState::CLOSE_WAIT => State::CloseWait,
        TcpState::LAST_ACK => State::LastAck,
        TcpState::LISTEN => State::Listen,
        TcpState::CLOSING => State::Closing,
        TcpState::NEW_SYN_RECV => State::NewSynRecv,
        _ => return None,
    })
}

/// `RssAnon` of this process.
fn resident_anonymous() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
