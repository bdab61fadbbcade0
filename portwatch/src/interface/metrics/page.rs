//! Which figures are told, and what each means: one page out of one status. Pure.
//!
//! Names and labels are promised to whoever has rules on them, as events are: they change only additively. Every label has
//! few values that are known beforehand, or comes from the configuration; nothing of a listener or a client is a label.

use super::exposition::{Format, Kind, Page};
use crate::event::EventType;
use crate::event::words::Word as _;
use crate::interface::status::{ChannelStatus, Status};

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
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::super::exposition::tests::parse;
    use super::*;
    use crate::interface::human::tests::status;
    use crate::interface::status::{
        ChecksStatus, ClientStatus, HistoryStatus, LatencyBucket, LatencyStatus, MetricsStatus,
        ProbeCost, ProbeMisses,
    };

    /// A status in which everything is there.
    pub(in crate::interface::metrics) fn full() -> Status {
        let mut status = status();
        status.heartbeat = 274_000;
        status.losses.lost = 5;
        status.losses.by_ring = [("critical".to_owned(), 3), ("probe".to_owned(), 2)].into();
        status.losses.client_missed = 9;
        status.losses.recursion_misses = vec![ProbeMisses {
            probe: "tcp_state_tp_btf".to_owned(),
            misses: 2,
        }];
        status.latency = Some(LatencyStatus {
            count: 3,
            sum_us: 1_234,
            buckets: vec![LatencyBucket {
                le_us: 100,
                count: 2,
            }],
        });
        status.probes = vec![ProbeCost {
            probe: "tcp_state_tp_btf".to_owned(),
            runs: 1_000,
            run_ns: 33_000,
        }];
        status.metrics = Some(MetricsStatus {
            answered: 4,
            turned_away: 1,
            ..MetricsStatus::default()
        });
        status.checks = Some(ChecksStatus {
            total: 4,
            failing: 1,
            ..ChecksStatus::default()
        });
        status.clients = [3, 4]
            .map(|queued| ClientStatus {
                uid: 0,
                pid: None,
                states: false,
                delivered: 10,
                missed: 9,
                queued,
            })
            .to_vec();
        status.history = Some(HistoryStatus {
            written: 40,
            lost: 1,
            error: None,
        });
        status.alerts = vec![ChannelStatus {
            name: "email".to_owned(),
            queued: 1,
            delivered: 2,
            refused: 3,
            lost: 4,
            error: Some("no".to_owned()),
        }];
        status
    }

    /// The one sample of this name with this label.
    fn value(page: &str, name: &str, label: &str) -> f64 {
        let found: Vec<f64> = parse(page)
            .into_iter()
            .filter(|(is, labels, _)| {
                is == name && (label.is_empty() || labels.iter().any(|(_, value)| value == label))
            })
            .map(|(_, _, value)| value)
            .collect();
        assert_eq!(found.len(), 1, "{name} {label}");
        found[0]
    }

    #[test]
    fn the_page_says_what_the_status_says() {
        let page = page(&full(), Format::Text);
        for (name, label, expected) in [
            ("portwatch_ready", "", 1.0),
            ("portwatch_heartbeats_total", "", 274_000.0),
            ("portwatch_uptime_seconds", "", 273_659.0),
            ("portwatch_events_total", "listener.opened", 3.0),
            ("portwatch_events_total", "listener.closed", 0.0),
            ("portwatch_losses_total", "critical", 3.0),
            ("portwatch_losses_total", "bulk", 0.0),
            ("portwatch_losses_total", "reader", 9.0),
            ("portwatch_losses_total", "history", 1.0),
            ("portwatch_ring_records_total", "emitted", 100.0),
            ("portwatch_ring_pending_records", "critical", 7.0),
            ("portwatch_signal_mechanism_info", "tcp.listen", 1.0),
            ("portwatch_signal_mechanism_info", "none", 1.0),
            ("portwatch_signal_rejected_mechanisms", "tcp.listen", 1.0),
            ("portwatch_event_latency_seconds_bucket", "0.0001", 2.0),
            ("portwatch_event_latency_seconds_bucket", "+Inf", 3.0),
            ("portwatch_event_latency_seconds_sum", "", 0.001_234),
            ("portwatch_probe_runs_total", "", 1_000.0),
            ("portwatch_probe_run_seconds_total", "", 0.000_033),
            ("portwatch_listeners", "tcp", 8.0),
            ("portwatch_checks", "answered", 3.0),
            ("portwatch_client_queued_lines", "", 7.0),
            ("portwatch_alert_messages_total", "refused", 3.0),
            ("portwatch_alert_failing", "email", 1.0),
            ("portwatch_metrics_requests_total", "turned-away", 1.0),
        ] {
            assert!(
                (value(&page, name, label) - expected).abs() < 1e-9,
                "{name} {label}"
            );
        }
    }

    #[test]
    fn what_is_not_known_is_absent_and_the_help_says_why() {
        let page = page(&status(), Format::Text);
        let names: BTreeSet<String> = parse(&page).into_iter().map(|(name, ..)| name).collect();
        for absent in [
            "portwatch_probe_runs_total",
            "portwatch_checks",
            "portwatch_alert_messages_total",
            "portwatch_event_latency_seconds_count",
        ] {
            assert!(!names.contains(absent), "{absent}");
        }
        let help = "# HELP portwatch_probe_runs_total How often a probe ran. Absent now: the kernel counts it";
        assert!(page.contains(help), "{page}");
    }

    #[test]
    fn every_family_is_documented_and_nothing_else() {
        let page = page(&full(), Format::Text);
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let told: BTreeSet<String> = types
            .map(|line| {
                let (name, kind) = line.split_once(' ').expect("a type");
                format!("| `{name}` | {kind} |")
            })
            .collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let document = std::fs::read_to_string(path).expect("docs/metrics.md");
        let rows = document
            .lines()
            .filter(|line| line.starts_with("| `portwatch_"));
        let documented: BTreeSet<String> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                format!("| {} | {} |", cells[1], cells[2])
            })
            .collect();
        assert_eq!(told, documented);
    }
}
