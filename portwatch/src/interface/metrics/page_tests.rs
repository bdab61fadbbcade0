//! The page against the status that it is made of, and against its documentation.

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
    status.sinks = vec![SinkStatus {
        name: "siem".to_owned(),
        kind: "nats".to_owned(),
        queued: 5,
        queued_bytes: None,
        delivered: 6,
        refused: 7,
        lost: 8,
        head: None,
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
        ("portwatch_sink_queued_events", "siem", 5.0),
        ("portwatch_sink_events_total", "lost", 8.0),
        ("portwatch_sink_failing", "siem", 1.0),
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
    let help =
        "# HELP portwatch_probe_runs_total How often a probe ran. Absent now: the kernel counts it";
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
