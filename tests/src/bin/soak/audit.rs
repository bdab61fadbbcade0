//! A look at one moment: `portwatch ls` held against the ledger and against the kernel's own tables.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portwatch_tests::harness::Event;
use portwatch_tests::harness::watch::scale;

use crate::kernel_view::{self, Seen};
use crate::stream::{Told, shrink};
use crate::truth::{Listener, Mark, Truth};

/// How long until looking again must have found what no hook tells, such as the end of a unix socket.
const PATIENCE: Duration = Duration::from_secs(15);

/// The outcome of one audit.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    /// Since the start of the run.
    pub(crate) at: Duration,
    /// Listeners of ours that were open, and lines of `ls`.
    pub(crate) open: usize,
    pub(crate) listed: usize,
    /// Sockets in the kernel's tables.
    pub(crate) in_kernel: usize,
    /// Until everything agreed.
    pub(crate) took: Duration,
    /// One of those that took so long.
    pub(crate) waited_for: Option<String>,
    /// What did not, when the time was up.
    pub(crate) disagreements: Vec<String>,
}

/// Looks until all agree or the time is up.
///
/// # Errors
/// `ls` cannot be started, or the kernel's tables cannot be read. A refusal is a disagreement.
pub(crate) fn audit(
    ls: impl Fn() -> Result<Command>,
    truth: &Truth,
    except: &[u32],
) -> Result<Audit> {
    let begun = Instant::now();
    let mut waited_for = None;
    let netns = rustix::fs::stat("/proc/self/ns/net")?.st_ino;
    loop {
        let before = kernel_view::look()?;
        let answer = list(ls()?);
        let after = kernel_view::look()?;
        let (listed, mut disagreements) = match answer {
            Ok(listed) => (listed, Vec::new()),
            Err(error) => (Vec::new(), vec![format!("{error:#}")]),
        };
        if disagreements.is_empty() {
            disagreements = against_truth(truth, &listed, except);
            disagreements.extend(against_kernel(&listed, &before, &after, netns));
        }
        if disagreements.is_empty() || begun.elapsed() > PATIENCE * scale() {
            let open = truth
                .listeners()
                .iter()
                .filter(|one| one.closed.is_none())
                .count();
            return Ok(Audit {
                at: truth.now(),
                open,
                listed: listed.len(),
                in_kernel: after.len(),
                took: begun.elapsed(),
                waited_for,
                disagreements,
            });
        }
        waited_for = disagreements.pop();
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn list(mut ls: Command) -> Result<Vec<Told>> {
    let output = ls
        .args(["ls", "-o", "json"])
        .output()
        .context("cannot run portwatch ls")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ls ended with {}: {}", output.status, said.trim());
    }
    let now = Instant::now();
    let lines = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(index, line)| {
            shrink(&Event::parse(line, index, now)?, now).context("ls printed another event")
        })
        .collect()
}

/// What is open is listed, what is closed is not, and nobody of ours has anything else.
fn against_truth(truth: &Truth, listed: &[Told], except: &[u32]) -> Vec<String> {
    let by_inode: HashMap<u64, &Listener> = truth
        .listeners()
        .iter()
        .filter_map(|listener| match listener.mark {
            Mark::Inode(inode) => Some((inode, listener)),
            Mark::Token(_) => None,
        })
        .collect();
    let mut wrong = Vec::new();
    let inodes: HashSet<u64> = listed.iter().map(|told| told.inode).collect();
    for (inode, listener) in &by_inode {
        if listener.closed.is_none() && !inodes.contains(inode) {
            wrong.push(format!("open, not listed: {listener:?}"));
        }
    }
    for told in listed {
        match by_inode.get(&told.inode) {
            Some(listener) if listener.closed.is_some() => {
                wrong.push(format!("closed, still listed: {told:?}"));
            }
            Some(listener) if listener.place.is_some() && listener.place != told.place => {
                wrong.push(format!("listed with another place: {told:?}"));
            }
            Some(_) => {}
            None => {
                if told.ours && !except.contains(&told.pid) {
                    wrong.push(format!("listed, never opened: {told:?}"));
                }
            }
        }
    }
    wrong
}

/// Compared by place for inet sockets: a multipath socket has another inode than the TCP socket that
/// listens for it. What came or went between the two looks is nobody's fault.
fn against_kernel(listed: &[Told], before: &[Seen], after: &[Seen], netns: u64) -> Vec<String> {
    let key = |seen: &Seen| match seen.protocol {
        "unix" => format!("unix {}", seen.inode),
        protocol => format!("{protocol} {}", seen.place),
    };
    let (before, after): (HashSet<String>, HashSet<String>) = (
        before.iter().map(key).collect(),
        after.iter().map(key).collect(),
    );
    let mut ours = HashSet::new();
    let mut wrong = Vec::new();
    for told in listed.iter().filter(|told| told.netns == netns) {
        let place = told.place.as_deref().unwrap_or_default();
        let key = match told.protocol.as_str() {
            "unix" => format!("unix {}", told.inode),
            "mptcp" => format!("tcp {place}"),
            protocol => format!("{protocol} {place}"),
        };
        let is_comparable = matches!(told.protocol.as_str(), "tcp" | "mptcp" | "udp");
        if is_comparable && !before.contains(&key) && !after.contains(&key) {
            wrong.push(format!("listed, not in the kernel's table: {told:?}"));
        }
        ours.insert(key);
    }
    // The kernel's UDP tables hold clients too, of which portwatch does not tell.
    let lasting = before
        .intersection(&after)
        .filter(|key| !key.starts_with("udp"));
    for key in lasting.filter(|key| !ours.contains(*key)) {
        wrong.push(format!("in the kernel's table, not listed: {key}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Kind;

    fn seen(protocol: &'static str, place: &str, inode: u64) -> Seen {
        Seen {
            protocol,
            place: place.to_owned(),
            inode,
        }
    }

    fn told(protocol: &str, place: &str, inode: u64) -> Told {
        Told {
            kind: Kind::Present,
            at: Duration::ZERO,
            inode,
            pid: 10,
            exe: String::new(),
            protocol: protocol.to_owned(),
            place: Some(place.to_owned()),
            token: String::new(),
            netns: 1,
            ours: true,
        }
    }

    #[test]
    fn what_only_one_side_has_is_told() {
        let kernel = [
            seen("tcp", "127.0.0.1:80", 5),
            seen("unix", "/x", 6),
            seen("udp", "0.0.0.0:68", 7),
        ];
        let listed = [told("mptcp", "127.0.0.1:80", 50), told("unix", "/x", 6)];
        assert!(against_kernel(&listed, &kernel, &kernel, 1).is_empty());
        assert_eq!(against_kernel(&[], &kernel, &kernel, 1).len(), 2);
        assert_eq!(against_kernel(&[], &kernel, &[], 1).len(), 0);
        assert_eq!(against_kernel(&listed, &[], &[], 1).len(), 1);
        assert_eq!(against_kernel(&listed, &[], &[], 2).len(), 0);
    }

    #[test]
    fn the_ledger_is_compared_in_both_directions() {
        let mut truth = Truth::new(Instant::now());
        let open = |truth: &mut Truth, inode| {
            let place = Some("127.0.0.1:80".to_owned());
            truth.open(
                Duration::ZERO,
                "test",
                (10, "/bin/x"),
                ("tcp", place),
                Mark::Inode(inode),
            )
        };
        let first = open(&mut truth, 1);
        open(&mut truth, 2);
        let listed = [
            told("tcp", "127.0.0.1:80", 1),
            told("tcp", "127.0.0.1:80", 2),
        ];
        assert!(against_truth(&truth, &listed, &[]).is_empty());
        assert_eq!(against_truth(&truth, &listed[..1], &[]).len(), 1);
        truth.close(first, Duration::ZERO);
        assert_eq!(against_truth(&truth, &listed, &[]).len(), 1);
        let more = [
            told("tcp", "127.0.0.1:80", 2),
            told("tcp", "127.0.0.1:9", 3),
        ];
        assert_eq!(against_truth(&truth, &more, &[]).len(), 1);
        assert!(against_truth(&truth, &more, &[10]).is_empty());
    }
}
