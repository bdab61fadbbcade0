//! One episode: when it begins, what is counted in it, and when it ends. Pure.

use std::time::Duration;

use super::peers::{Before, ENOUGH, Share, percent, shares};
use super::reading::{PeerReading, Subject};
use crate::event::StormKind;
use crate::time::BootNs;

/// An episode of which nothing can be seen any more is over.
const STALE_NS: u64 = 60_000_000_000;

/// So many times the threshold is large.
const LARGE: u64 = 4;

/// How a number stands to its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is a storm.
    Over,
    /// Neither: an episode goes on, and none begins.
    Between,
    /// Quiet.
    Under,
    /// This kernel does not tell, or not this time.
    Unknown,
}

/// What one reading says of one subject and kind.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub(super) kind: StormKind,
    pub(super) subject: Subject,
    pub(super) standing: Standing,
    /// A second, or the level.
    pub(super) value: u64,
    pub(super) threshold: u64,
    /// Since the reading before: what is counted, what was completed, and what that is a part of.
    pub(super) grown: u64,
    pub(super) completed: Option<u64>,
    pub(super) begun: Option<u64>,
    pub(super) cookies: Option<u64>,
    pub(super) half_open: Option<u32>,
    pub(super) accept_queue: Option<(u32, u32)>,
}

impl Signal {
    /// Nothing is known.
    pub(super) const fn unknown(kind: StormKind, subject: Subject) -> Self {
        Self {
            kind,
            subject,
            standing: Standing::Unknown,
            value: 0,
            threshold: 0,
            grown: 0,
            completed: None,
            begun: None,
            cookies: None,
            half_open: None,
            accept_queue: None,
        }
    }

    /// Is it several times what makes a storm?
    pub(super) const fn is_large(&self) -> bool {
        self.value / LARGE >= self.threshold
    }

    /// Over from the threshold on, quiet below half of it.
    pub(super) const fn stands(mut self, value: u64, threshold: u64) -> Self {
        self.value = value;
        self.threshold = threshold;
        self.standing = if value >= threshold {
            Standing::Over
        } else if value < threshold.div_ceil(2) {
            Standing::Under
        } else {
            Standing::Between
        };
        self
    }
}

/// An episode, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Its number, from 1.
    pub number: u64,
    /// What kind.
    pub kind: StormKind,
    /// What it is about.
    pub subject: Subject,
    /// When what became a storm was seen first.
    pub began: BootNs,
    /// Up to when this tells: of one that has ended, when it became quiet.
    pub at: BootNs,
    /// A second, or the level, now.
    pub value: u64,
    /// The highest of it.
    pub peak: u64,
    /// From which on it is a storm.
    pub threshold: u64,
    /// How many in all; of a level the highest.
    pub total: u64,
    /// What was completed meanwhile.
    pub completed: Option<u64>,
    /// What the total is a part of.
    pub begun: Option<u64>,
    /// SYN cookies of the namespace.
    pub cookies: Option<u64>,
    /// Half-open connections now.
    pub half_open: Option<u32>,
    /// Those that wait for `accept` now, and how many may.
    pub accept_queue: Option<(u32, u32)>,
    /// Where it comes from or goes to: since it began, or since the last calm while that is too little to go by.
    pub peers: Vec<Share>,
    /// The same, strictly since it began: whoever was busy before it is not taken for its source.
    pub senders: Vec<Share>,
}

/// Is this kind told by its level, and not by a rate?
#[must_use]
pub const fn is_level(kind: StormKind) -> bool {
    matches!(kind, StormKind::CloseWaitLeak | StormKind::TimeWaitPressure)
}

impl Episode {
    fn new(signal: &Signal, at: BootNs) -> Self {
        Self {
            number: 0,
            kind: signal.kind,
            subject: signal.subject,
            began: at,
            at,
            value: 0,
            peak: 0,
            threshold: signal.threshold,
            total: 0,
            completed: None,
            begun: None,
            cookies: None,
            half_open: None,
            accept_queue: None,
            peers: Vec::new(),
            senders: Vec::new(),
        }
    }

    /// How long it has been going on, in milliseconds.
    #[must_use]
    pub const fn duration_ms(&self) -> u64 {
        self.at.since(self.began) / 1_000_000
    }

    /// The total, of a hundred that began.
    #[must_use]
    pub fn ratio(&self) -> Option<u32> {
        self.begun.map(|begun| percent(self.total, begun))
    }

    fn add(&mut self, signal: &Signal, at: BootNs) {
        let sum = |sum: Option<u64>, more: Option<u64>| match (sum, more) {
            (Some(sum), more) => Some(sum.saturating_add(more.unwrap_or(0))),
            (None, more) => more,
        };
        self.at = at;
        self.value = signal.value;
        self.peak = self.peak.max(signal.value);
        self.threshold = signal.threshold;
        self.total = if is_level(self.kind) {
            self.peak
        } else {
            self.total.saturating_add(signal.grown)
        };
        self.completed = sum(self.completed, signal.completed);
        self.begun = sum(self.begun, signal.begun);
        self.cookies = sum(self.cookies, signal.cookies);
        self.half_open = signal.half_open.or(self.half_open);
        self.accept_queue = signal.accept_queue.or(self.accept_queue);
    }
}

/// What became of it with one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing to tell.
    Nothing,
    /// It begins.
    Starts,
    /// It goes on, and it is time to say so.
    GoesOn,
    /// It is over.
    Ends,
    /// Nothing of it can be seen any more.
    IsLost,
    /// What might have become an episode did not.
    Fades,
}

/// How an episode begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) hold: Duration,
    pub(super) calm: Duration,
    pub(super) beat: Duration,
}

/// Something that may become an episode, or is one.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) episode: Episode,
    /// What its peers had sent before it, once they were read.
    before: Option<Before>,
    pub(super) is_open: bool,
    /// There were too many episodes already.
    pub(super) was_refused: bool,
    quiet_since: Option<BootNs>,
    /// When anything was known of it last.
    known: BootNs,
    told: BootNs,
}

impl Candidate {
    /// It was over its threshold for the first time; that is what its peers stand at.
    pub(super) fn new(signal: &Signal, at: BootNs, peers: &[PeerReading]) -> Self {
        Self {
            episode: Episode::new(signal, at),
            before: (!peers.is_empty()).then(|| Before::of(peers)),
            is_open: false,
            was_refused: false,
            quiet_since: None,
            known: at,
            told: at,
        }
    }

    /// Takes what its peers stand at.
    pub(super) fn take_peers(&mut self, peers: &[PeerReading]) {
        let before = self.before.get_or_insert_with(|| Before::of(peers));
        let since = before.until(peers);
        let sent = since.iter().map(|peer| peer.count);
        let is_enough = sent.fold(0, u64::saturating_add) >= ENOUGH;
        self.episode.senders = shares(&since);
        self.episode.peers = match is_enough {
            true => self.episode.senders.clone(),
            false => shares(peers),
        };
    }

    /// Takes what a reading says. `may_open` is false when there are too many already.
    pub(super) fn take(
        &mut self,
        signal: &Signal,
        at: BootNs,
        terms: Terms,
        may_open: bool,
    ) -> Turn {
        if signal.standing == Standing::Unknown {
            return match at.since(self.known) >= STALE_NS {
                true if self.is_open => {
                    self.episode.at = at;
                    Turn::IsLost
                }
                true => Turn::Fades,
                false => Turn::Nothing,
            };
        }
        self.known = at;
        self.episode.add(signal, at);
        if !self.is_open {
            return match signal.standing {
                Standing::Over if lasts(self.episode.began, at, terms.hold) => {
                    if !may_open {
                        self.was_refused = true;
                        return Turn::Nothing;
                    }
                    self.is_open = true;
                    self.told = at;
                    Turn::Starts
                }
                Standing::Over => Turn::Nothing,
                Standing::Between | Standing::Under | Standing::Unknown => Turn::Fades,
            };
        }
        if signal.standing == Standing::Under {
            let since = *self.quiet_since.get_or_insert(at);
            if lasts(since, at, terms.calm) {
                // It lasted until it became quiet.
                self.episode.at = since;
                return Turn::Ends;
            }
        } else {
            self.quiet_since = None;
        }
        if lasts(self.told, at, terms.beat) {
            self.told = at;
            return Turn::GoesOn;
        }
        Turn::Nothing
    }
}

fn lasts(since: BootNs, at: BootNs, span: Duration) -> bool {
    u128::from(at.since(since)) >= span.as_nanos()
}
