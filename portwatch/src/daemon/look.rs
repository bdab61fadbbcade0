//! Looking at every socket: through the iterator where there is one, else through sock_diag and `/proc`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answerable::absolute_name;
use super::approvals;
use super::draft::Surroundings;
use super::host;
use crate::baseline::{Baseline, Frame};
use crate::decode::decode_held;
use crate::decode::record::Held;
use crate::enrich::{EnrichConfig, Enricher, Waits};
use crate::event::Event;
use crate::event::message;
use crate::inventory::collect::collect;
use crate::inventory::interfaces::interfaces;
use crate::inventory::{DEFAULT_LIMIT, Inventory, Listener, MergeReason};
use crate::policy::Policy;
use crate::probe::sensors::Sensors;
use crate::time::{BootNs, WallClock};

/// How long a list waits for the next answer about its processes, and how often it asks.
const PATIENCE: Duration = Duration::from_secs(5);
const BEAT: Duration = Duration::from_millis(1);

/// What one walk of the iterator showed.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Everything that receives, a row for each descriptor.
    pub(super) held: Vec<Held>,
    /// Records that could not be understood.
    pub(super) errors: u64,
    /// There were more descriptors than one walk takes.
    pub(super) is_cut_short: bool,
}

/// One walk of the iterator; `expected` rows are made room for.
pub(super) fn walk(
    sensors: &mut Sensors,
    connections: bool,
    expected: usize,
) -> std::io::Result<Walk> {
    let mut walk = Walk {
        held: Vec::with_capacity(expected),
        ..Walk::default()
    };
    let all = sensors.inventory(connections, &mut |record| walk.take(record))?;
    walk.is_cut_short = !all;
    Ok(walk)
}

impl Walk {
    fn take(&mut self, record: &[u8]) {
        match decode_held(record) {
            Ok(held) => self.held.push(held),
            // A listener of DCCP or SMC, say, is none that is watched: it must not keep the walk from being whole, by which the
            // end of all others is found.
            Err(error) if error.is_unwatched() => {}
            Err(_) => self.errors += 1,
        }
    }
}

/// What the host looks like now.
pub(super) fn surroundings() -> Surroundings {
    Surroundings {
        host: Arc::new(host::host()),
        netns: host::network_namespace(),
        interfaces: interfaces().unwrap_or_default(),
        clock: WallClock::read(),
    }
}

/// One look at every listener without probes, as events of type `listener.present`, and a sentence for
/// everything that could not be looked at.
///
/// # Errors
/// When `/proc` cannot be read at all.
pub fn look(policy: &Policy, state_dir: &Path) -> std::io::Result<(Vec<Event>, Vec<String>)> {
    let mut collected = collect()?;
    let surroundings = surroundings();
    let baseline = approvals::read_only(state_dir, surroundings.netns);
    let baseline = baseline.unwrap_or_else(|error| {
        let sentence = format!("no listener is shown as approved: {error}");
        collected.refused.push(sentence);
        Baseline::empty(Frame::of_host(surroundings.netns))
    });
    let (mut enricher, mut answers) = Enricher::new(EnrichConfig::default());
    let mut inventory = Inventory::new(DEFAULT_LIMIT);
    let now = BootNs::now();
    inventory.merge(&collected.snapshot, MergeReason::Start);
    let mut events = Vec::new();
    let mut waiting = Vec::new();
    for listener in inventory.iter() {
        let named = absolute_name(listener, &enricher).map(|name| Listener {
            unix: Some(name),
            ..listener.clone()
        });
        let listener = named.as_ref().unwrap_or(listener);
        let mut event = surroundings.listed(listener, &mut enricher, now);
        if let Some(who) = listener.who() {
            let resolution = enricher.resolve(who, now, &surroundings.clock);
            event.process = Some(resolution.process);
            if !resolution.waits.is_over() {
                waiting.push((resolution.waits, events.len()));
            }
        }
        events.push(event);
    }
    // A person waits for a list; but what a process gives to read may never come.
    let mut last = Instant::now();
    while !waiting.is_empty() && last.elapsed() < PATIENCE {
        let Ok(answer) = answers.try_recv() else {
            enricher.relieve(BootNs::now());
            std::thread::sleep(BEAT);
            continue;
        };
        last = Instant::now();
        waiting.retain_mut(|(waits, index): &mut (Waits, usize)| {
            if waits.settle(answer.ticket())
                && let Some(process) = events
                    .get_mut(*index)
                    .and_then(|event| event.process.as_mut())
            {
                enricher.complete(&answer, process);
            }
            !waits.is_over()
        });
    }
    for (event, seq) in events.iter_mut().zip(1..) {
        event.seq = seq;
        event.id = uuid::Uuid::now_v7().to_string();
        let severity = policy.judge(event, &baseline);
        event.severity = severity.unwrap_or_else(|| message::severity(event));
        event.message = message::sentence(event);
    }
    Ok((events, collected.refused))
}
