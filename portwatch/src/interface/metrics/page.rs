//! Which figures are told, and what each means: one page out of one status. Pure.
//!
//! Names and labels are promised to whoever has rules on them, as events are: they change only additively. Every label has
//! few values that are known beforehand, or comes from the configuration; nothing of a listener or a client is a label.

use super::exposition::{Format, Kind, Page};
use crate::event::EventType;
use crate::event::words::Word as _;
use crate::interface::status::{ChannelStatus, SinkStatus, Status};

use Kind::{Counter, Gauge, Histogram};

/// The page.
#[must_use]
pub fn page(status: &Status, format: Format) -> String {
    let mut page = Page::new(format);
    daemon(&mut page, status);
    events(&mut page, status);
    losses(&mut page, status);
    rings(&mut page, status);
    probes(&mut page, status);
    inventory(&mut page, status);
    readers(&mut page, status);
    alerts(&mut page, &status.alerts);
    sinks(&mut page, &status.sinks);
    page.finish()
}

fn daemon(page: &mut Page, status: &Status) {
    let labels = [
        ("version", status.version.as_str()),
        ("kernel", status.host.kernel.as_str()),
    ];
    page.family(
        "portwatch_build_info",
        Gauge,
        "Always 1; which portwatch on which kernel.",
    )
    .flag(&labels, true);
    page.family(
        "portwatch_ready",
        Gauge,
        "Whether the self-test passed and the first inventory is complete.",
    )
    .flag(&[], status.ready);
    let mut family = page.family(
        "portwatch_uptime_seconds",
        Gauge,
        "For how long it has been watching, suspend included.",
    );
    if let Some(ms) = status.watching_ms {
        family.nanoseconds(&[], ms.saturating_mul(1_000_000));
    }
    page.family(
        "portwatch_heartbeats",
        Counter,
        "Grows every second while the pipeline moves.",
    )
    .number(&[], status.heartbeat);
    let mut family = page.family(
        "portwatch_memory_anonymous_bytes",
        Gauge,
        "Resident anonymous memory of the daemon.",
    );
    if let Some(bytes) = status.memory_bytes {
        family.number(&[], bytes);
    }
    if let Some(metrics) = &status.metrics {
        let mut family = page.family(
            "portwatch_metrics_requests",
            Counter,
            "Requests for metrics: answered in any way, or turned away because there were too many clients or one was too slow.",
        );
        family.number(&[("result", "answered")], metrics.answered);
        family.number(&[("result", "turned-away")], metrics.turned_away);
    }
}

fn events(page: &mut Page, status: &Status) {
    let counters = &status.counters;
    let mut family = page.family(
        "portwatch_events",
        Counter,
        "Events by type; connection.state counts as portwatch_tcp_transitions instead.",
    );
    let told = EventType::ALL
        .iter()
        .filter(|kind| **kind != EventType::ConnectionState);
    for kind in told {
        let count = counters.events.get(kind.as_str()).copied();
        family.number(&[("type", kind.as_str())], count.unwrap_or(0));
    }
    page.family(
        "portwatch_ignored_events",
        Counter,
        "Events that nobody was told of, because an ignore rule decided on them.",
    )
    .number(&[], counters.ignored);
    let mut family = page.family(
        "portwatch_tcp_transitions",
        Counter,
        "TCP state changes on this host, streamed or not; pairs that never happened are absent.",
    );
    for transition in &counters.transitions {
        let labels = [
            ("old_state", transition.old_state.word()),
            ("new_state", transition.new_state.word()),
        ];
        family.number(&labels, transition.count);
    }
    page.family(
        "portwatch_udp_autobinds",
        Counter,
        "UDP sockets that got a port from the kernel without bind; they are not listeners.",
    )
    .number(&[], counters.udp_autobinds);
    let mut family = page.family(
        "portwatch_event_latency_seconds",
        Histogram,
        "From the kernel's time of a listener's event to its publication; events that were found by looking have none.",
    );
    if let Some(latency) = &status.latency {
        let buckets = latency.buckets.iter();
        let buckets = buckets.map(|bucket| (bucket.le_us, bucket.count));
        family.histogram(buckets, latency.count, latency.sum_us);
    }
}

fn losses(page: &mut Page, status: &Status) {
    let losses = &status.losses;
    let mut family = page.family(
        "portwatch_losses",
        Counter,
        "What was not seen or not delivered, by place: a ring (critical, process, bulk), probe (runs that the kernel skipped), decode, reader (lines that clients were too slow for), history.",
    );
    for ring in ["critical", "process", "bulk", "probe"] {
        let lost = losses.by_ring.get(ring).copied().unwrap_or(0);
        family.number(&[("place", ring)], lost);
    }
    family.number(&[("place", "decode")], losses.decode_errors);
    family.number(&[("place", "reader")], losses.client_missed);
    if let Some(history) = &status.history {
        family.number(&[("place", "history")], history.lost);
    }
    page.family(
        "portwatch_enrich_skipped",
        Counter,
        "Look-ups of hashes and packages that were left out because too many waited.",
    )
    .number(&[], status.enrich.skipped);
}

fn rings(page: &mut Page, status: &Status) {
    let mut family = page.family(
        "portwatch_ring_records",
        Counter,
        "Records that probes wanted to send, by what became of them: emitted, dropped (the ring was full) or filtered.",
    );
    for ring in &status.rings {
        let name = ring.ring.word();
        for (outcome, count) in [
            ("emitted", ring.emitted),
            ("dropped", ring.dropped),
            ("filtered", ring.filtered),
        ] {
            family.number(&[("ring", name), ("outcome", outcome)], count);
        }
    }
    let mut family = page.family(
        "portwatch_ring_pending_records",
        Gauge,
        "Records that wait to be read.",
    );
    for ring in &status.rings {
        family.number(&[("ring", ring.ring.word())], ring.pending_records);
    }
    let mut family = page.family("portwatch_ring_capacity_bytes", Gauge, "Size of a ring.");
    for ring in &status.rings {
        family.number(&[("ring", ring.ring.word())], ring.capacity_bytes);
    }
}

fn probes(page: &mut Page, status: &Status) {
    let mut family = page.family(
        "portwatch_signal_mechanism_info",
        Gauge,
        "Always 1; the mechanism in use for each signal. reconcile means that only looking again shows it.",
    );
    for signal in &status.mechanisms {
        let mechanism = signal.mechanism.map_or("none", |one| one.word());
        let labels = [("signal", signal.signal.as_str()), ("mechanism", mechanism)];
        family.flag(&labels, true);
    }
    let mut family = page.family(
        "portwatch_signal_rejected_mechanisms",
        Gauge,
        "How many better mechanisms this kernel refused for a signal.",
    );
    for signal in &status.mechanisms {
        let rejected = signal.rejected.len() as u64;
        family.number(&[("signal", signal.signal.as_str())], rejected);
    }
    let mut family = page.family(
        "portwatch_probe_skipped_runs",
        Gauge,
        "Runs of a probe that the kernel skipped; one that is under way may be counted for a moment. Probes without any are absent.",
    );
    for probe in &status.losses.recursion_misses {
        family.number(&[("probe", probe.probe.as_str())], probe.misses);
    }
    let why = if status.probes.is_empty() {
        " Absent now: the kernel counts it only with sysctl kernel.bpf_stats_enabled=1."
    } else {
        " Counted with sysctl kernel.bpf_stats_enabled=1 alone."
    };
    let mut family = page.family(
        "portwatch_probe_runs",
        Counter,
        &format!("How often a probe ran.{why}"),
    );
    for cost in &status.probes {
        family.number(&[("probe", cost.probe.as_str())], cost.runs);
    }
    let mut family = page.family(
        "portwatch_probe_run_seconds",
        Counter,
        &format!("Processor time of all runs of a probe.{why}"),
    );
    for cost in &status.probes {
        family.nanoseconds(&[("probe", cost.probe.as_str())], cost.run_ns);
    }
}

fn inventory(page: &mut Page, status: &Status) {
    let mut family = page.family(
        "portwatch_listeners",
        Gauge,
        "Listeners now; protocols without one are absent.",
    );
    for (protocol, count) in &status.listeners.by_protocol {
        family.number(&[("protocol", protocol.as_str())], *count);
    }
    page.family(
        "portwatch_process_table_entries",
        Gauge,
        "Processes that are remembered, living and dead.",
    )
    .number(&[], status.counters.process_table);
    page.family(
        "portwatch_enrich_queue_length",
        Gauge,
        "Executables that wait for their hash or package.",
    )
    .number(&[], status.enrich.queue);
    if let Some(checks) = &status.checks {
        let mut family = page.family(
            "portwatch_checks",
            Gauge,
            "Expected services with an active check, by how the last one went; beyond cannot be made from here.",
        );
        let fine = checks.total.saturating_sub(checks.failing + checks.beyond);
        for (state, count) in [
            ("answered", fine),
            ("failing", checks.failing),
            ("beyond", checks.beyond),
        ] {
            family.number(&[("state", state)], count);
        }
    }
}

fn readers(page: &mut Page, status: &Status) {
    page.family(
        "portwatch_clients",
        Gauge,
        "Clients that read the stream over the control socket.",
    )
    .number(&[], status.clients.len() as u64);
    let queued = status.clients.iter().map(|client| client.queued);
    page.family(
        "portwatch_client_queued_lines",
        Gauge,
        "Lines that wait for clients, all together.",
    )
    .number(&[], queued.fold(0, u64::saturating_add));
    if let Some(history) = &status.history {
        page.family(
            "portwatch_history_written_events",
            Counter,
            "Events that the history has taken.",
        )
        .number(&[], history.written);
        page.family(
            "portwatch_history_failing",
            Gauge,
            "Whether the history cannot be written now.",
        )
        .flag(&[], history.error.is_some());
    }
}

fn sinks(page: &mut Page, sinks: &[SinkStatus]) {
    if sinks.is_empty() {
        return;
    }
    let mut family = page.family(
        "portwatch_sink_queued_events",
        Gauge,
        "Events that wait for a sink, in memory and on disk.",
    );
    for sink in sinks {
        family.number(&[("sink", sink.name.as_str())], sink.queued);
    }
    let mut family = page.family(
        "portwatch_sink_events",
        Counter,
        "Events by what became of them: delivered, refused for good, or lost (no room, too slow, damaged on disk).",
    );
    for sink in sinks {
        for (outcome, count) in [
            ("delivered", sink.delivered),
            ("refused", sink.refused),
            ("lost", sink.lost),
        ] {
            let labels = [("sink", sink.name.as_str()), ("outcome", outcome)];
            family.number(&labels, count);
        }
    }
    let mut family = page.family(
        "portwatch_sink_failing",
        Gauge,
        "Whether something is wrong with a sink.",
    );
    for sink in sinks {
        let labels = [("sink", sink.name.as_str())];
        family.flag(&labels, sink.error.is_some());
    }
}

fn alerts(page: &mut Page, channels: &[ChannelStatus]) {
    if channels.is_empty() {
        return;
    }
    let mut family = page.family(
        "portwatch_alert_queued_messages",
        Gauge,
        "Messages that wait for a channel.",
    );
    for channel in channels {
        family.number(&[("channel", channel.name.as_str())], channel.queued);
    }
    let mut family = page.family(
        "portwatch_alert_messages",
        Counter,
        "Messages by what became of them: delivered, refused for good, or lost (not even queued).",
    );
    for channel in channels {
        for (outcome, count) in [
            ("delivered", channel.delivered),
            ("refused", channel.refused),
            ("lost", channel.lost),
        ] {
            let labels = [("channel", channel.name.as_str()), ("outcome", outcome)];
            family.number(&labels, count);
        }
    }
    let mut family = page.family(
        "portwatch_alert_failing",
        Gauge,
        "Whether the last attempt of a channel failed.",
    );
    for channel in channels {
        let labels = [("channel", channel.name.as_str())];
        family.flag(&labels, channel.error.is_some());
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
pub(super) mod tests;
