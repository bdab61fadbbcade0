//! Whose SYNs were they that made no request? Pure.
//!
//! Where SYNs are counted by the requests that they make, those that find a queue full, and all of them where cookies are always
//! sent, are counted by their namespace alone. They are taken for those of the one listener that they can be for: the one
//! whose queue is full, or that is flooded already, or the only one that there is. Where there are several, they are the
//! namespace's.

use std::collections::HashMap;

use super::Detector;
use crate::event::StormKind;
use crate::storm::judge::{Namespace, without_request};
use crate::storm::reading::{ListenerKey, ListenerReading, Reading, Subject};
use crate::time::BootNs;

/// Of each namespace, whose they are.
#[derive(Debug, Default)]
pub(super) struct Claims {
    of: HashMap<u32, Option<ListenerKey>>,
}

impl Claims {
    /// So many more of them are this listener's, between these two readings. What a namespace tells that was missing from one
    /// of them is of another span, and would look like a flood.
    pub(super) fn growth(
        &self,
        key: ListenerKey,
        namespaces: &HashMap<u32, Namespace>,
        (before, at): (BootNs, BootNs),
    ) -> u64 {
        let is_its = self.of.get(&key.netns) == Some(&Some(key));
        let namespace = namespaces.get(&key.netns).filter(|_| is_its);
        let fresh = namespace.filter(|track| track.last() == Some(at));
        let step = fresh.and_then(|track| without_request(track, None));
        let step = step.filter(|grown| grown.ns == at.since(before));
        step.map_or(0, |grown| grown.count)
    }

    /// Are those of this namespace nobody's?
    pub(super) fn are_open(&self, netns: u32) -> bool {
        self.of.get(&netns).is_some_and(Option::is_none)
    }
}

/// What speaks for a listener, the weightier later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Present,
    Flooded,
    Crowded,
}

impl Detector {
    /// Nobody's where every SYN is counted with its listener.
    pub(super) fn claims(&self, reading: &Reading) -> Claims {
        if !reading.sees_requests {
            return Claims::default();
        }
        let mut best: HashMap<u32, (Reason, Option<ListenerKey>)> = HashMap::new();
        for one in &reading.listeners {
            let reason = self.reason(one);
            // Whoever has no cell has nothing that they could be added to.
            let claim = (reason, one.syns.map(|_| one.key));
            best.entry(one.key.netns)
                .and_modify(|held| {
                    if reason > held.0 {
                        *held = claim;
                    } else if reason == held.0 {
                        held.1 = None;
                    }
                })
                .or_insert(claim);
        }
        let of = best.into_iter().map(|(netns, (_, key))| (netns, key));
        Claims { of: of.collect() }
    }

    fn reason(&self, one: &ListenerReading) -> Reason {
        let flood = (StormKind::SynFlood, Subject::Listener(one.key));
        let is_crowded = self
            .listeners
            .get(&one.key)
            .is_some_and(|heard| heard.is_crowded);
        if is_crowded {
            Reason::Crowded
        } else if self.candidates.contains_key(&flood) {
            Reason::Flooded
        } else {
            Reason::Present
        }
    }
}
