//! What is done about a storm or a scan, and never to whom. Pure: it decides, and others do.
//!
//! Sources of packets can be forged: whoever answers a flood may be made to shut out others. So nothing is done unless it is
//! configured for this kind, nothing to addresses of one's own kind, and no more than so much an hour; and what is done is
//! undone, by the kernel if need be.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::episode::Episode;
use super::peers::{ENOUGH, Prefix, Share, percent};
use super::scan::Found;
use crate::event::words::Word as _;
use crate::event::{ResponseAction, ScanShape, StormKind};
use crate::time::BootNs;

/// What scans are called where kinds of storms are named.
pub const SCAN: &str = "port-scan";

const HOUR_NS: u64 = 3_600_000_000_000;
/// What could not be done is tried again after so long, ns.
const AGAIN_NS: u64 = 30_000_000_000;
/// Addresses beyond the limit that are told apart.
const CAPPED: usize = 64;
/// Longest name of a set, of nftables.
const NAME: usize = 128;

/// Storms that come from somebody. Of the others the peers are those that this host itself connects to, or nobody in particular:
/// whoever shuts those out shuts himself out.
pub const ANSWERABLE: [StormKind; 3] = [
    StormKind::SynFlood,
    StormKind::ConnectionStorm,
    StormKind::RefusedStorm,
];

/// `[response]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Storms that are answered.
    pub storms: BTreeSet<StormKind>,
    /// Scans are.
    pub scans: bool,
    /// It is only told what would be done.
    pub dry_run: bool,
    /// Where IPv4 addresses go.
    pub ipv4_set: Option<Set>,
    /// Where IPv6 networks of 64 bits go.
    pub ipv6_set: Option<Set>,
    /// For how long.
    pub timeout: Duration,
    /// Of a hundred, so many must come from one source.
    pub share: u32,
    /// Addresses in an hour.
    pub per_hour: u32,
    /// Networks to which nothing is done.
    pub never: Vec<Prefix>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            storms: BTreeSet::new(),
            scans: false,
            dry_run: true,
            ipv4_set: None,
            ipv6_set: None,
            timeout: Duration::from_secs(600),
            share: 10,
            per_hour: 60,
            never: Vec::new(),
        }
    }
}

/// A set of nftables: family, table, name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set {
    family: &'static str,
    table: String,
    name: String,
}

impl Set {
    /// `inet filter portwatch4`. Names are of letters, digits and `_`, so that nothing of them is anything else to nft.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let family = words.next()?;
        let families = ["ip", "ip6", "inet", "netdev", "bridge"];
        let family = families.into_iter().find(|known| *known == family)?;
        let name = |word: Option<&str>| {
            let word = word?;
            let is_first = word.starts_with(|c: char| c.is_ascii_alphabetic());
            let is_rest = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            (is_first && is_rest && word.len() <= NAME).then(|| word.to_owned())
        };
        let set = Self {
            family,
            table: name(words.next())?,
            name: name(words.next())?,
        };
        words.next().is_none().then_some(set)
    }
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub action: ResponseAction,
    /// To whom; never empty.
    pub prefixes: Vec<Prefix>,
    /// By which set.
    pub set: Set,
    /// For how long.
    pub timeout: Duration,
    /// Why.
    pub cause: &'static str,
    /// The episode, unless it is a scan.
    pub episode: Option<u64>,
    /// It is not done.
    pub dry_run: bool,
}

impl Order {
    /// The scripts for `nft -f -`. Blocking is one transaction; of unblocking each part is its own, since what has run out
    /// is no longer there.
    #[must_use]
    pub fn scripts(&self) -> Vec<String> {
        let element = |prefix: &Prefix| match prefix.address {
            IpAddr::V4(address) if prefix.bits == 32 => address.to_string(),
            _ => prefix.to_string(),
        };
        let seconds = self.timeout.as_secs().max(1);
        match self.action {
            ResponseAction::Block => {
                let elements = self.prefixes.iter().map(element);
                let elements: Vec<String> = elements
                    .map(|one| format!("{one} timeout {seconds}s"))
                    .collect();
                vec![format!(
                    "add element {} {{ {} }}\n",
                    self.set,
                    elements.join(", ")
                )]
            }
            ResponseAction::Unblock => self
                .prefixes
                .iter()
                .map(|prefix| format!("delete element {} {{ {} }}\n", self.set, element(prefix)))
                .collect(),
        }
    }
}

/// A network that was ordered to be blocked.
#[derive(Debug)]
struct Blocked {
    until: BootNs,
    /// The episode with which it ends; without one, its time alone does.
    episode: Option<u64>,
    set: Set,
    /// It was only told.
    dry_run: bool,
}

/// What was blocked within the last hour.
#[derive(Debug)]
struct Recent {
    prefix: Prefix,
    /// When first.
    at: BootNs,
    /// It was let in since, because its episode was over.
    was_let_in: bool,
    /// It could not be blocked, and is not tried again before.
    not_before: BootNs,
}

/// Decides, and remembers what was ordered.
#[derive(Debug, Default)]
pub struct Responder {
    terms: Terms,
    blocked: HashMap<Prefix, Blocked>,
    /// What was blocked within the last hour, each once.
    recent: VecDeque<Recent>,
    /// Addresses that the limit kept from being blocked.
    pub capped: u64,
    /// The last ones of them, and when.
    capped_lately: VecDeque<(Prefix, BootNs)>,
}

impl Responder {
    /// By these terms.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            ..Self::default()
        }
    }

    /// Other terms from now on. What is blocked stays until its time is over, or its episode; what was only told to be is
    /// not blocked.
    pub fn configure(&mut self, terms: Terms) {
        if terms.dry_run != self.terms.dry_run {
            self.blocked.retain(|_, one| !one.dry_run);
        }
        self.terms = terms;
    }

    /// What was ordered could not be done: it is not blocked, and may be ordered again, but not with the next look.
    pub fn failed(&mut self, order: &Order, now: BootNs) {
        if order.action == ResponseAction::Block {
            self.blocked
                .retain(|prefix, _| !order.prefixes.contains(prefix));
            let recent = self.recent.iter_mut();
            for one in recent.filter(|one| order.prefixes.contains(&one.prefix)) {
                one.not_before = BootNs(now.0.saturating_add(AGAIN_NS));
            }
        }
    }

    /// Is anything ever done?
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.terms.scans || !self.terms.storms.is_empty()
    }

    /// An episode goes on; `own` are the addresses of this host. It may be asked at each look: whoever has not sent enough to
    /// be known may have at the next one.
    pub fn storm(&mut self, episode: &Episode, own: &[IpAddr], now: BootNs) -> Vec<Order> {
        let is_answered = self.terms.storms.contains(&episode.kind);
        if !is_answered || !ANSWERABLE.contains(&episode.kind) {
            return Vec::new();
        }
        let is_single = |share: &&Share| share.prefix.is_single();
        let share = self.terms.share;
        let worst = episode.senders.iter().filter(is_single);
        // Only the most frequent ones are told: whoever is most of those may be next to nothing of the storm.
        let all = episode.begun.unwrap_or(0).max(episode.total);
        let is_much = |peer: &&Share| peer.percent >= share && percent(peer.count, all) >= share;
        let worst = worst.filter(is_much).filter(|peer| peer.count >= ENOUGH);
        // Whoever sends no more SYNs than are completed may be one of those who complete them: a proxy, not the flood.
        let completed = match episode.kind {
            StormKind::SynFlood => episode.completed.unwrap_or(0),
            _ => 0,
        };
        // His number is estimated from samples, and the other one is exact.
        let worst = worst.filter(|peer| peer.count > completed.saturating_mul(2));
        let worst: Vec<Prefix> = worst.map(|peer| peer.prefix).collect();
        self.block(&worst, own, episode.kind.word(), Some(episode.number), now)
    }

    /// Somebody scans.
    pub fn scan(&mut self, found: &Found, own: &[IpAddr], now: BootNs) -> Vec<Order> {
        let source = found.source.filter(|_| found.shape == ScanShape::Vertical);
        match source {
            Some(source) if self.terms.scans => {
                self.block(&[Prefix::single(source)], own, SCAN, None, now)
            }
            _ => Vec::new(),
        }
    }

    /// An episode is over: what it had blocked is unblocked.
    pub fn over(&mut self, kind: StormKind, episode: u64, now: BootNs) -> Vec<Order> {
        let is_mine = |one: &Blocked| one.episode == Some(episode) && one.until > now;
        let mine = self.blocked.extract_if(|_, one| is_mine(one));
        let mut mine: Vec<(Prefix, Set, bool)> = mine
            .map(|(prefix, one)| (prefix, one.set, one.dry_run))
            .collect();
        mine.sort_by_key(|(prefix, ..)| *prefix);
        for one in &mut self.recent {
            let is_mine =
                |(prefix, _, dry_run): &(Prefix, Set, bool)| *prefix == one.prefix && !dry_run;
            one.was_let_in |= mine.iter().any(is_mine);
        }
        self.orders(ResponseAction::Unblock, mine, kind.word(), Some(episode))
    }

    fn block(
        &mut self,
        prefixes: &[Prefix],
        own: &[IpAddr],
        cause: &'static str,
        episode: Option<u64>,
        now: BootNs,
    ) -> Vec<Order> {
        self.blocked.retain(|_, one| one.until > now);
        let is_old = |one: &Recent| now.since(one.at) >= HOUR_NS;
        while self.recent.front().is_some_and(is_old) {
            self.recent.pop_front();
        }
        let timeout = u64::try_from(self.terms.timeout.as_nanos()).unwrap_or(u64::MAX);
        let most = usize::try_from(self.terms.per_hour).unwrap_or(usize::MAX);
        let mut fresh = Vec::new();
        for &prefix in prefixes {
            let set = match prefix.address {
                IpAddr::V4(_) => &self.terms.ipv4_set,
                IpAddr::V6(_) => &self.terms.ipv6_set,
            };
            let Some(set) = set.clone() else { continue };
            if self.blocked.contains_key(&prefix) || !self.may(prefix, own) {
                continue;
            }
            // A flood that is shut out is calm, and its episode over: whoever comes again when he is let in stays out until
            // his time is over, or the two would take turns.
            let known = self.recent.iter().find(|one| one.prefix == prefix);
            let comes_again = known.is_some_and(|one| one.was_let_in);
            if known.is_some_and(|one| one.not_before > now) {
                continue;
            }
            if known.is_none() {
                if self.recent.len() >= most {
                    self.cap(prefix, now);
                    continue;
                }
                self.recent.push_back(Recent {
                    prefix,
                    at: now,
                    was_let_in: false,
                    not_before: now,
                });
            }
            let until = BootNs(now.0.saturating_add(timeout));
            let dry_run = self.terms.dry_run;
            fresh.push((prefix, set.clone(), dry_run));
            let blocked = Blocked {
                until,
                episode: episode.filter(|_| !comes_again),
                set,
                dry_run,
            };
            self.blocked.insert(prefix, blocked);
        }
        self.orders(ResponseAction::Block, fresh, cause, episode)
    }

    /// The limit keeps it from being blocked: counted once an hour, though it is asked again at each look.
    fn cap(&mut self, prefix: Prefix, now: BootNs) {
        self.capped_lately
            .retain(|(_, at)| now.since(*at) < HOUR_NS);
        if self.capped_lately.iter().any(|(known, _)| *known == prefix) {
            return;
        }
        self.capped += 1;
        if self.capped_lately.len() >= CAPPED {
            self.capped_lately.pop_front();
        }
        self.capped_lately.push_back((prefix, now));
    }

    /// One for each set.
    fn orders(
        &self,
        action: ResponseAction,
        all: Vec<(Prefix, Set, bool)>,
        cause: &'static str,
        episode: Option<u64>,
    ) -> Vec<Order> {
        let mut orders: Vec<Order> = Vec::new();
        for (prefix, set, dry_run) in all {
            let is_its = |order: &&mut Order| order.set == set && order.dry_run == dry_run;
            match orders.iter_mut().find(is_its) {
                Some(order) => order.prefixes.push(prefix),
                None => orders.push(Order {
                    action,
                    prefixes: vec![prefix],
                    set,
                    timeout: self.terms.timeout,
                    cause,
                    episode,
                    dry_run,
                }),
            }
        }
        orders
    }

    fn may(&self, prefix: Prefix, own: &[IpAddr]) -> bool {
        let is_own = own.iter().any(|own| prefix.contains(own.to_canonical()));
        let is_named = self.terms.never.iter().any(|never| never.overlaps(&prefix));
        !is_own && !is_named && !is_of_inside(prefix)
    }
}

/// Networks that are nobody's on the Internet, or everybody's: whoever shuts them out shuts himself out.
fn is_of_inside(prefix: Prefix) -> bool {
    const INSIDE: [&str; 21] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "2002::/16",
    ];
    let mut inside = INSIDE.iter().filter_map(|text| Prefix::parse(text));
    inside.any(|inside| inside.overlaps(&prefix))
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
