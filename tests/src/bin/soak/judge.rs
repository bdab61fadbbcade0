//! Holds what was told against what happened. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::stream::{Kind, Told};
use crate::truth::{Listener, Mark};

/// Counts for one kind of player.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) opened: u64,
    pub(crate) told_opened: u64,
    pub(crate) closed: u64,
    pub(crate) told_closed: u64,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// Never told to be open.
    Missed,
    /// Told, but found by looking again, not seen opening.
    FoundLate,
    /// Told twice.
    Doubled,
    /// Another process or program, or another address.
    Misattributed,
    /// Its end was never told.
    ClosingMissed,
    /// One of these three, at a time of which a gap says that events were lost.
    Lost,
    /// Told to be closed while it was open.
    ClosedWhileOpen,
    /// Told of a process of ours that opened nothing there.
    Unexpected,
}

/// The result.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) rows: BTreeMap<&'static str, Row>,
    /// Each fault, with the listener in words.
    pub(crate) faults: Vec<(Fault, String)>,
}

/// Around the times of a gap: the ledger's clock is not the kernel's.
const MARGIN: Duration = Duration::from_secs(2);

/// Compares. Times are since the start of the run. `except` are this program, whose looks for free ports
/// open sockets too, and the daemon with its own.
pub(crate) fn judge(
    truth: &[Listener],
    told: &[Told],
    gaps: &[(Duration, Duration)],
    except: &[u32],
) -> Judgement {
    let by_inode = group(told, |told| (told.inode != 0).then_some(told.inode));
    let tokens: HashSet<&str> = truth
        .iter()
        .filter_map(|listener| match &listener.mark {
            Mark::Token(token) => Some(token.as_str()),
            Mark::Inode(_) => None,
        })
        .collect();
    let by_token = group(told, |told| {
        let openings = told.kind != Kind::Closed && tokens.contains(told.token.as_str());
        openings.then_some(told.token.as_str())
    });
    let mut judgement = Judgement::default();
    let mut known: HashSet<u64> = HashSet::new();
    for listener in truth {
        let inodes: Vec<u64> = match &listener.mark {
            Mark::Inode(inode) => vec![*inode],
            Mark::Token(token) => {
                let openings = by_token.get(token.as_str()).into_iter().flatten();
                let mut inodes: Vec<u64> = openings.map(|told| told.inode).collect();
                inodes.dedup();
                inodes
            }
        };
        known.extend(&inodes);
        let about = inodes.iter().filter_map(|inode| by_inode.get(inode));
        let about: Vec<&Told> = about.flatten().copied().collect();
        let row = judgement.rows.entry(listener.player).or_default();
        for fault in life(listener, &about, row) {
            let fault = excuse(fault, listener, gaps);
            judgement.faults.push((fault, describe(listener, &about)));
        }
    }
    for stray in told.iter().filter(|told| told.kind != Kind::Closed) {
        if stray.ours && !except.contains(&stray.pid) && !known.contains(&stray.inode) {
            judgement
                .faults
                .push((Fault::Unexpected, format!("{stray:?}")));
        }
    }
    judgement
}

/// One listener and everything that was told about it.
fn life(listener: &Listener, about: &[&Told], row: &mut Row) -> Vec<Fault> {
    let of = |kind: Kind| about.iter().filter(move |told| told.kind == kind);
    let (opened, present, closed) = (
        of(Kind::Opened).count(),
        of(Kind::Present).count(),
        of(Kind::Closed).count(),
    );
    let mut faults = Vec::new();
    row.opened += 1;
    row.told_opened += u64::from(opened > 0);
    if opened + present == 0 {
        faults.push(Fault::Missed);
    } else if opened == 0 {
        faults.push(Fault::FoundLate);
    }
    if opened + present > 1 || closed > 1 {
        faults.push(Fault::Doubled);
    }
    if about.iter().any(|told| !is_right(listener, told)) {
        faults.push(Fault::Misattributed);
    }
    if let Some((begun, _)) = listener.closed {
        row.closed += 1;
        row.told_closed += u64::from(closed > 0);
        if opened + present > 0 && closed == 0 {
            faults.push(Fault::ClosingMissed);
        }
        if of(Kind::Closed).any(|told| told.at < begun) {
            faults.push(Fault::ClosedWhileOpen);
        }
    } else if closed > 0 {
        faults.push(Fault::ClosedWhileOpen);
    }
    faults
}

/// What is missing in a gap was told to be lost.
fn excuse(fault: Fault, listener: &Listener, gaps: &[(Duration, Duration)]) -> Fault {
    let (from, to) = match (fault, listener.closed) {
        (Fault::Missed | Fault::FoundLate, _) => listener.opened,
        (Fault::ClosingMissed, Some(times)) => times,
        _ => return fault,
    };
    let is_lost = gaps
        .iter()
        .any(|gap| gap.0 <= to + MARGIN && from <= gap.1 + MARGIN);
    if is_lost { Fault::Lost } else { fault }
}

/// Who and where. A closing tells of the socket only: its last holder may be another process.
fn is_right(listener: &Listener, told: &Told) -> bool {
    let place = match (&listener.place, &told.place) {
        (Some(is), Some(told)) => is == told,
        (Some(_), None) => false,
        (None, _) => true,
    };
    let who = told.kind == Kind::Closed || (told.pid == listener.pid && told.exe == listener.exe);
    place && who && told.protocol == listener.protocol
}

fn describe(listener: &Listener, about: &[&Told]) -> String {
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let closed = listener
        .closed
        .map_or_else(|| "open".to_owned(), |(_, over)| seconds(over));
    format!(
        "{} pid {} {} {} {:?}, opened {}, closed {closed}; told: {about:?}",
        listener.player,
        listener.pid,
        listener.protocol,
        listener.place.as_deref().unwrap_or("-"),
        listener.mark,
        seconds(listener.opened.1),
    )
}

fn group<'a, K: std::hash::Hash + Eq>(
    told: &'a [Told],
    key: impl Fn(&'a Told) -> Option<K>,
) -> HashMap<K, Vec<&'a Told>> {
    let mut groups: HashMap<K, Vec<&Told>> = HashMap::new();
    for one in told {
        if let Some(key) = key(one) {
            groups.entry(key).or_default().push(one);
        }
    }
    groups
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
