//! `portwatch status` for a person: one glance first, then aligned detail. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::status::{
    ChannelStatus, ChecksStatus, ClientStatus, HistoryStatus, MechanismStatus, RingStatus,
    SinkStatus, Status, StormStatus,
};
use crate::event::RingName;
use crate::event::words::Word as _;
use crate::text::{escape, guard};

/// Checks in trouble that are named before they are only counted.
const NAMED_CHECKS: usize = 3;

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const BOLD: &str = "1";

/// See [`Status::human`].
pub(super) fn render(status: &Status, colour: bool) -> String {
    let mut page = Page {
        text: String::new(),
        colour,
    };
    page.headline(status);
    page.row("host", &host(status));
    page.row("daemon", &daemon(status));
    page.row("events", &events(status));
    page.row("transitions", &transitions(status));
    page.row("losses", &losses(status));
    if let Some(checks) = &status.checks {
        page.row("checks", &asked(checks));
    }
    if status.storms != StormStatus::default() {
        page.row("storms", &storms(&status.storms));
    }
    if let Some(history) = &status.history {
        page.row("history", &kept(history));
    }
    for channel in &status.alerts {
        page.row("alerts", &alerts(channel));
    }
    if let Some(metrics) = &status.metrics {
        page.row("metrics", &metrics.sentence());
    }
    for sink in &status.sinks {
        page.row("sinks", &sinks(sink));
    }
    page.mechanisms(&status.mechanisms);
    page.rings(&status.rings);
    page.clients(&status.clients);
    page.text
}

/// The text so far. Writing to a `String` cannot fail, so that results of `write!` are dropped.
struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn headline(&mut self, status: &Status) {
        let verdict = if status.ready {
            self.paint(GREEN, "watching")
        } else {
            self.paint(YELLOW, "starting")
        };
        let since = match (&status.watching_since, status.watching_ms) {
            (Some(since), Some(ms)) => format!(" since {} ({})", seconds(since), span(ms)),
            (Some(since), None) => format!(" since {}", seconds(since)),
            _ => String::new(),
        };
        let lost = status.lost_total();
        let lost = self.paint(if lost == 0 { GREEN } else { RED }, &format!("{lost} lost"));
        let listeners = count(status.listeners.total, "listener");
        let _ = writeln!(self.text, "{verdict}{since} · {listeners} · {lost}");
        let detail = counts(&status.listeners.by_protocol);
        if !detail.is_empty() {
            self.row("listeners", &detail);
        }
    }

    fn row(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "  {name:<12} {value}");
    }

    fn section(&mut self, title: &str) {
        let title = self.paint(BOLD, title);
        let _ = writeln!(self.text, "\n{title}");
    }

    fn mechanisms(&mut self, all: &[MechanismStatus]) {
        if all.is_empty() {
            return;
        }
        self.section("mechanisms");
        let width = all.iter().map(|one| one.signal.len()).max().unwrap_or(0);
        for one in all {
            // Padded before it is painted: escape sequences have no width.
            let name = one.mechanism.map_or("none", |mechanism| mechanism.as_str());
            let shown = format!("{name:<10}");
            let shown = match one.mechanism {
                None => self.paint(RED, &shown),
                Some(_) => shown,
            };
            let line = format!("  {:<width$}  {shown}", escape(one.signal.as_bytes()));
            let _ = writeln!(self.text, "{}", line.trim_end());
        }
        self.refused(all);
    }

    /// Each reason once, with the signals that it concerns.
    fn refused(&mut self, all: &[MechanismStatus]) {
        let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for one in all {
            for rejected in &one.rejected {
                let reason = (rejected.mechanism.as_str(), rejected.reason.as_str());
                reasons.entry(reason).or_default().push(&one.signal);
            }
        }
        if reasons.is_empty() {
            return;
        }
        self.section("passed over");
        for ((mechanism, reason), signals) in reasons {
            let (reason, signals) = (escape(reason.as_bytes()), signals.join(", "));
            let _ = writeln!(self.text, "  {mechanism}: {reason}");
            let _ = writeln!(self.text, "    {}", escape(signals.as_bytes()));
        }
    }

    fn rings(&mut self, all: &[RingStatus]) {
        if all.is_empty() {
            return;
        }
        self.section("rings");
        let _ = writeln!(
            self.text,
            "  {:<9} {:>14} {:>14} {:>10} {:>12} {:>10}",
            "", "seen", "emitted", "dropped", "filtered", "waiting"
        );
        for ring in all {
            let name = match ring.ring {
                RingName::Critical => "critical",
                RingName::Process => "process",
                RingName::Bulk => "bulk",
                RingName::Probe => "probe",
                RingName::Client => "client",
                RingName::Sink => "sink",
            };
            let dropped = format!("{:>10}", ring.dropped);
            let dropped = match ring.dropped {
                0 => dropped,
                _ => self.paint(RED, &dropped),
            };
            let _ = writeln!(
                self.text,
                "  {name:<9} {:>14} {:>14} {dropped} {:>12} {:>10}",
                ring.seen, ring.emitted, ring.filtered, ring.pending_records
            );
        }
    }

    fn clients(&mut self, all: &[ClientStatus]) {
        if all.is_empty() {
            return;
        }
        self.section("clients");
        for client in all {
            let pid = client
                .pid
                .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let states = if client.states { " with states" } else { "" };
            let _ = writeln!(
                self.text,
                "  uid {:<6} pid {pid:<8} {} delivered, {} missed, {} waiting{states}",
                client.uid, client.delivered, client.missed, client.queued
            );
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn alerts(channel: &ChannelStatus) -> String {
    let ChannelStatus {
        name,
        queued,
        delivered,
        refused,
        lost,
        error,
    } = channel;
    let counts = format!(
        "{name}: {delivered} delivered, {queued} wait, {refused} refused, {lost} not queued"
    );
    match error {
        Some(error) => format!("{counts}; {}", escape(error.as_bytes())),
        None => counts,
    }
}

/// `5, 1 failing: web (http: no answer within 5 s)`.
fn asked(checks: &ChecksStatus) -> String {
    let mut text = format!("{}", checks.total);
    let parts = [
        (checks.failing, "failing", &checks.failing_rules),
        (checks.beyond, "out of reach", &checks.beyond_rules),
    ];
    for (number, word, rules) in parts {
        if number == 0 {
            continue;
        }
        let named = rules.iter().take(NAMED_CHECKS).map(|one| {
            let error = one.error.as_deref().unwrap_or("no reason");
            let said = format!("{} ({}: {error})", one.rule, one.protocol.word());
            guard(&said).into_owned()
        });
        let named: Vec<String> = named.collect();
        let _ = write!(text, ", {number} {word}: {}", named.join(", "));
        if number > named.len() as u64 {
            let _ = write!(text, " and {} more", number - named.len() as u64);
        }
    }
    text
}

fn storms(storms: &StormStatus) -> String {
    let StormStatus {
        open,
        episodes,
        scans,
        untold,
        dropped,
        sources,
        capped,
        without_cell,
        unjudged,
        failed_looks,
    } = storms;
    let mut text = format!(
        "{open} go on, {} and {} since the start, {} of knocks",
        count(*episodes, "episode"),
        count(*scans, "scan"),
        count(*sources, "source")
    );
    for (number, what) in [
        (untold, "not told"),
        (dropped, "without a place"),
        (capped, "not blocked"),
        (without_cell, "listeners without counts"),
        (unjudged, "subjects too many to be judged"),
        (failed_looks, "looks failed"),
    ] {
        if *number > 0 {
            let _ = write!(text, ", {number} {what}");
        }
    }
    text
}

fn sinks(sink: &SinkStatus) -> String {
    let SinkStatus {
        name,
        kind,
        queued,
        queued_bytes: _,
        delivered,
        refused,
        lost,
        head,
        error,
    } = sink;
    let mut text = format!(
        "{name} ({kind}): {delivered} delivered, {queued} wait, {refused} refused, {lost} lost"
    );
    if let Some((number, hash)) = head.as_deref().and_then(|head| head.split_once(':')) {
        let _ = write!(
            text,
            ", chain at {number} {}…",
            hash.get(..12).unwrap_or_default()
        );
    }
    if let Some(error) = error {
        let _ = write!(text, "; {}", escape(error.as_bytes()));
    }
    text
}

fn kept(history: &HistoryStatus) -> String {
    let HistoryStatus {
        written,
        lost,
        error,
    } = history;
    match error {
        Some(error) => format!("not kept now: {error}; {written} events written, {lost} not"),
        None => format!("{written} events written, {lost} not"),
    }
}

fn host(status: &Status) -> String {
    let host = &status.host;
    format!(
        "{}, kernel {}",
        escape(host.name.as_bytes()),
        escape(host.kernel.as_bytes())
    )
}

fn daemon(status: &Status) -> String {
    let memory = status
        .memory_bytes
        .map_or_else(String::new, |bytes| format!(", {:.1} MiB", mib(bytes)));
    let enrich = &status.enrich;
    format!(
        "portwatch {}, pid {}{memory}, {} processes and {} executables known, {} waiting, {} skipped",
        escape(status.version.as_bytes()),
        status.pid,
        status.counters.process_table,
        enrich.table,
        enrich.queue,
        enrich.skipped
    )
}

fn events(status: &Status) -> String {
    let counts = counts(&status.counters.events);
    if counts.is_empty() {
        "none yet".to_owned()
    } else {
        counts
    }
}

fn transitions(status: &Status) -> String {
    let counters = &status.counters;
    format!(
        "{} TCP state changes, {} UDP autobinds",
        counters.transitions_total, counters.udp_autobinds
    )
}

fn losses(status: &Status) -> String {
    let losses = &status.losses;
    let mut text = format!(
        "{} in {}, {} not delivered to slow clients, {}",
        count(losses.lost, "record"),
        count(losses.gaps, "gap"),
        losses.client_missed,
        count(losses.decode_errors, "decode error")
    );
    for probe in &losses.recursion_misses {
        let name = escape(probe.probe.as_bytes());
        let _ = write!(text, ", {name} skipped {}", probe.misses);
    }
    text
}

fn counts(map: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = map
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{} {count}", escape(name.as_bytes())))
        .collect();
    parts.join(", ")
}

fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The two largest units of a duration: `3 d 4 h`, `5 min 2 s`.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {rest} s")
    } else {
        format!("{rest} s")
    }
}

/// RFC 3339 without its fraction.
fn seconds(timestamp: &str) -> String {
    match timestamp.split_once('.') {
        Some((whole, _)) => escape(format!("{whole}Z").as_bytes()),
        None => escape(timestamp.as_bytes()),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one digit after the point"
)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::{CheckProtocol, Mechanism, State};
    use crate::interface::status::{
        CheckStatus, CounterStatus, EnrichStatus, Listeners, Losses, ProbeMisses, Rejected, SCHEMA,
        Transition,
    };
    use crate::sink::testing;

    pub(in crate::interface) fn status() -> Status {
        Status {
            schema: SCHEMA.to_owned(),
            version: "0.1.0".to_owned(),
            pid: 812,
            ready: true,
            watching_since: Some("2026-11-18T15:42:01.123456789Z".to_owned()),
            watching_ms: Some((3 * 24 + 4) * 3_600_000 + 59_000),
            first_look: None,
            host: testing::host(),
            mechanisms: vec![
                MechanismStatus {
                    signal: "tcp.listen".to_owned(),
                    mechanism: Some(Mechanism::TpBtf),
                    rejected: vec![Rejected {
                        mechanism: Mechanism::Fexit,
                        reason: "EPERM".to_owned(),
                    }],
                    blind_to: Some("what was not accepted".to_owned()),
                },
                MechanismStatus {
                    signal: "unix.bind".to_owned(),
                    mechanism: None,
                    rejected: vec![],
                    blind_to: None,
                },
            ],
            listeners: Listeners {
                total: 12,
                by_protocol: [("tcp".to_owned(), 8), ("udp".to_owned(), 4)].into(),
            },
            counters: CounterStatus {
                events: [("listener.opened".to_owned(), 3)].into(),
                ignored: 0,
                transitions_total: 40,
                transitions: vec![Transition {
                    old_state: State::Close,
                    new_state: State::SynSent,
                    count: 40,
                }],
                udp_autobinds: 2,
                process_table: 200,
            },
            rings: vec![RingStatus {
                ring: RingName::Critical,
                seen: 100,
                emitted: 100,
                dropped: 0,
                filtered: 0,
                capacity_bytes: 8 << 20,
                pending_records: 7,
            }],
            losses: Losses::default(),
            checks: None,
            storms: StormStatus::default(),
            clients: vec![],
            history: None,
            alerts: Vec::new(),
            sinks: Vec::new(),
            enrich: EnrichStatus::default(),
            memory_bytes: Some(7 << 20),
            heartbeat: 0,
            latency: None,
            probes: Vec::new(),
            metrics: None,
        }
    }

    #[test]
    fn one_glance_says_it_all() {
        let text = status().human(false);
        assert_eq!(
            text.lines().next(),
            Some("watching since 2026-11-18T15:42:01Z (3 d 4 h) · 12 listeners · 0 lost")
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn trouble_shows() {
        let mut status = status();
        status.ready = false;
        status.losses.lost = 3;
        status.losses.recursion_misses = vec![ProbeMisses {
            probe: "set_state".to_owned(),
            misses: 4,
        }];
        let text = status.human(true);
        assert!(text.starts_with("\x1b[33mstarting\x1b[0m"));
        assert!(text.contains("\x1b[31m7 lost\x1b[0m"), "{text}");
        assert!(text.contains("set_state skipped 4"));
    }

    #[test]
    fn checks_in_trouble_are_named() {
        let mut status = status();
        let one = |rule: &str| CheckStatus {
            rule: rule.to_owned(),
            protocol: CheckProtocol::Http,
            error: Some("it said: \x1b".to_owned()),
            failures: Some(2),
        };
        status.checks = Some(ChecksStatus {
            total: 9,
            failing: 5,
            failing_rules: ["a", "b", "c", "d"].map(one).to_vec(),
            ..ChecksStatus::default()
        });
        let text = status.human(false);
        let expected = r"checks       9, 5 failing: a (http: it said: \x1b), b (http: it said: \x1b), c (http: it said: \x1b) and 2 more";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn no_text_of_the_daemon_moves_the_cursor() {
        let mut status = status();
        status.mechanisms[0].rejected[0].reason = "\x1b[2Jgone\nforged".to_owned();
        let text = status.human(false);
        assert!(text.contains(r"\x1b[2Jgone\x0aforged"));
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn spans_have_two_units() {
        assert_eq!(span(59_999), "59 s");
        assert_eq!(span(62_000), "1 min 2 s");
        assert_eq!(span(3_600_000 * 5), "5 h 0 min");
    }

    #[test]
    fn status_survives_the_wire() {
        let json = serde_json::to_string(&status()).expect("JSON");
        assert!(!json.contains("null"));
        let back: Status = serde_json::from_str(&json).expect("Status");
        assert_eq!(back, status());
    }
}
