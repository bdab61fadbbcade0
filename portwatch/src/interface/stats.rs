//! What `portwatch stats` tells: how many TCP sockets are in which state, at which listener, of which process and peer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Family;
use crate::text::{escape, guard};

/// The name of this schema.
pub const SCHEMA: &str = "portwatch.stats/1";

/// Sockets by state, under the kernel's names.
pub type States = BTreeMap<String, u64>;

/// TCP at this moment. A key that is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "portwatch.stats/1")]
pub struct Stats {
    /// Always `portwatch.stats/1`.
    pub schema: String,
    /// When: RFC 3339, UTC.
    pub ts: String,
    /// Network namespace that `states` is of: the one that portwatch runs in.
    pub netns: u64,
    /// Sockets of this namespace by state, as `ss -tan` counts them; half-open connections are in `SYN_RECV`.
    pub states: States,
    /// Other namespaces.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub namespaces: Vec<SpaceStats>,
    /// Listeners, those with the most connections first; at most 400.
    pub listeners: Vec<ListenerStats>,
    /// Processes, those with the most sockets first; at most 100.
    pub processes: Vec<ProcessStats>,
    /// Far ends, those with the most sockets first; at most 50.
    pub peers: Vec<PeerStats>,
    /// Addresses that knocked at closed ports in the last hour and a half, those with the most ports first; at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub knocks: Vec<KnockStats>,
    /// What the daemon's own count by events says of all namespaces; absent without its probes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kept: Option<KeptStats>,
    /// How many rows were left out of each list; absent where none was.
    #[serde(skip_serializing_if = "CutStats::is_none", default)]
    pub cut: CutStats,
    /// What could not be looked at, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unseen: Vec<String>,
}

/// Rows that were left out, the least of each list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CutStats {
    /// Of `namespaces`.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub namespaces: u64,
    /// Of `listeners`.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub listeners: u64,
    /// Of `processes`.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub processes: u64,
    /// Of `peers`.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub peers: u64,
    /// Of `knocks`.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub knocks: u64,
}

impl CutStats {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference over"
)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpaceStats {
    /// Inode.
    pub netns: u64,
    /// Sockets by state.
    pub states: States,
}

/// A listener's port. Listeners on several addresses of one port are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerStats {
    /// Namespace.
    pub netns: u64,
    /// Address family.
    pub family: Family,
    /// Port.
    pub port: u16,
    /// Connections that are established.
    pub established: u64,
    /// Half-open connections.
    pub half_open: u64,
    /// Connections in any other state, TIME_WAIT as well.
    pub closing: u64,
    /// Connections that wait for `accept`, in the fullest queue.
    pub accept_queue: u64,
    /// How many may.
    pub backlog: u64,
    /// SYNs since the listener is watched.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub syns: Option<u64>,
    /// Connections completed since then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepted: Option<u64>,
    /// SYN-ACKs that were sent again, since then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unanswered: Option<u64>,
    /// Resets that its connections received, since then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resets: Option<u64>,
    /// Who sends the SYNs, once there are many: estimated from one in eight.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub senders: Vec<PeerStats>,
}

/// A process. A socket that several hold is counted for the one with the lowest pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessStats {
    /// Thread group id.
    pub pid: u32,
    /// Name.
    pub name: String,
    /// Its sockets by state.
    pub states: States,
    /// Connections that it began, while portwatch knew it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connects: Option<u64>,
    /// Those of them that came to nothing; estimated where there are many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<u64>,
}

/// A far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerStats {
    /// Its address.
    pub address: IpAddr,
    /// Sockets; of a sender, SYNs.
    pub count: u64,
}

/// Who knocked at ports where nothing listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnockStats {
    /// Namespace that was knocked at.
    pub netns: u64,
    /// Its address.
    pub address: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Different ports, as far as 1024 classes of them tell.
    pub ports: u32,
    /// Knocks.
    pub count: u64,
    /// Some of the ports.
    pub sample: Vec<u16>,
}

/// The count that events keep, beside what the kernel said when it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptStats {
    /// Sockets of all namespaces, in the states that events tell everything about.
    pub states: States,
    /// By how much the kernel's answer differs, beyond what changed while it was given; from here on that is put right.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub difference: BTreeMap<String, i64>,
}

impl Stats {
    /// For a person.
    #[must_use]
    pub fn human(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "TCP sockets {}", self.total());
        for (state, count) in &self.states {
            let _ = writeln!(text, "  {state:<12} {count}");
        }
        for space in &self.namespaces {
            let states: Vec<_> = space
                .states
                .iter()
                .map(|(state, count)| format!("{state} {count}"))
                .collect();
            let _ = writeln!(text, "  namespace {}: {}", space.netns, states.join(", "));
        }
        more(&mut text, self.cut.namespaces);
        if !self.listeners.is_empty() {
            let _ = writeln!(
                text,
                "\nListeners  {:>11} {:>9} {:>8} {:>12} {:>10} {:>10} {:>10}",
                "ESTABLISHED", "HALF-OPEN", "CLOSING", "QUEUE", "SYNS", "ACCEPTED", "UNANSWERED"
            );
        }
        for one in &self.listeners {
            let family = if one.family == Family::Ipv6 { "6" } else { "4" };
            let known =
                |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |n| n.to_string());
            let _ = write!(
                text,
                "  {:<8} {:>11} {:>9} {:>8} {:>12} {:>10} {:>10} {:>10}",
                format!("{}/{family}", one.port),
                one.established,
                one.half_open,
                one.closing,
                format!("{}/{}", one.accept_queue, one.backlog),
                known(one.syns),
                known(one.accepted),
                known(one.unanswered),
            );
            if one.netns != self.netns {
                let _ = write!(text, "  namespace {}", one.netns);
            }
            text.push('\n');
        }
        more(&mut text, self.cut.listeners);
        let cut = self.cut;
        section(
            &mut text,
            "Processes",
            (&self.processes, cut.processes),
            |one| {
                let states: Vec<_> = one
                    .states
                    .iter()
                    .map(|(state, count)| format!("{state} {count}"))
                    .collect();
                let name = guard(&escape(one.name.as_bytes())).into_owned();
                format!("{} ({}): {}", name, one.pid, states.join(", "))
            },
        );
        section(&mut text, "Peers", (&self.peers, cut.peers), |one| {
            format!("{:<39} {}", one.address.to_string(), one.count)
        });
        section(
            &mut text,
            "Knocks at closed ports",
            (&self.knocks, cut.knocks),
            |one| {
                format!(
                    "{:<39} {} ports of {}, {} times",
                    one.address.to_string(),
                    one.ports,
                    guard(&one.protocol),
                    one.count
                )
            },
        );
        if let Some(kept) = self
            .kept
            .as_ref()
            .filter(|kept| !kept.difference.is_empty())
        {
            let apart: Vec<_> = kept
                .difference
                .iter()
                .map(|(state, by)| format!("{state} {by:+}"))
                .collect();
            let _ = writeln!(
                text,
                "\nThe count by events was wrong and is put right: {}",
                apart.join(", ")
            );
        }
        for sentence in &self.unseen {
            let _ = writeln!(text, "\nNot seen: {}", escape(sentence.as_bytes()));
        }
        text
    }

    fn total(&self) -> u64 {
        self.states.values().sum()
    }
}

fn section<T>(
    text: &mut String,
    title: &str,
    (all, cut): (&[T], u64),
    line: impl Fn(&T) -> String,
) {
    if all.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for one in all {
        let _ = writeln!(text, "  {}", line(one));
    }
    more(text, cut);
}

fn more(text: &mut String, cut: u64) {
    if cut > 0 {
        let _ = writeln!(text, "  … and {cut} more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Stats {
        Stats {
            schema: SCHEMA.to_owned(),
            ts: "2026-11-30T07:00:00Z".to_owned(),
            netns: 1,
            states: [("ESTABLISHED".to_owned(), 2), ("LISTEN".to_owned(), 1)].into(),
            listeners: vec![ListenerStats {
                netns: 1,
                family: Family::Ipv4,
                port: 80,
                established: 1,
                half_open: 7,
                closing: 0,
                accept_queue: 3,
                backlog: 128,
                syns: Some(9),
                accepted: None,
                unanswered: None,
                resets: None,
                senders: Vec::new(),
            }],
            processes: vec![ProcessStats {
                pid: 7,
                name: "a\x1b[2Jb".to_owned(),
                states: [("ESTABLISHED".to_owned(), 1)].into(),
                connects: None,
                failed: None,
            }],
            kept: Some(KeptStats {
                states: States::new(),
                difference: [("CLOSE_WAIT".to_owned(), -2)].into(),
            }),
            ..Stats::default()
        }
    }

    #[test]
    fn a_page_has_every_part_and_no_control_characters() {
        let page = example().human();
        for part in [
            "TCP sockets 3",
            "  LISTEN       1",
            "80/4",
            "3/128",
            "(7): ESTABLISHED 1",
            "CLOSE_WAIT -2",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn what_was_left_out_is_counted() {
        let mut stats = example();
        assert!(!stats.human().contains("more"));
        stats.cut.listeners = 12;
        stats.cut.processes = 3;
        let page = stats.human();
        let listeners = page.find("  … and 12 more\n").expect("of listeners");
        let processes = page.find("  … and 3 more\n").expect("of processes");
        let title = page.find("\nProcesses\n").expect("a title");
        assert!(listeners < title && title < processes, "{page}");
        let json = serde_json::to_string(&stats).expect("JSON");
        assert!(
            json.contains(r#""cut":{"listeners":12,"processes":3}"#),
            "{json}"
        );
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let json = serde_json::to_string(&example()).expect("JSON");
        assert!(json.starts_with(r#"{"schema":"portwatch.stats/1","#));
        assert!(
            !json.contains("null") && !json.contains("accepted") && !json.contains("cut"),
            "{json}"
        );
        let back: Stats = serde_json::from_str(&json).expect("read back");
        assert_eq!(back, example());
    }
}
