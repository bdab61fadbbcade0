//! From growth to judgement: what one reading says of one listener, process or namespace. Pure.

use super::episode::{Signal, Standing};
use super::peers::percent;
use super::reading::{
    ListenerKey, ListenerReading, NamespaceReading, ProcessReading, Rate, Subject,
};
use super::settings::Settings;
use super::track::{Growth, Track, per_second};
use crate::event::StormKind;

/// Over how long a flood is measured, and how long a handshake may take: what began in a span that ended so long ago must have
/// been completed by now. A little less than two beats of reading.
const SPAN_NS: u64 = 360_000_000;
const LAG_NS: u64 = 360_000_000;
/// Other rates are measured over this span at least: a little less than a second.
const SECOND_NS: u64 = 900_000_000;
/// Resets of a reset storm, in percent of the connections that begin.
const RESETS: u32 = 150;
/// Of a hundred connections of a process, so many fail in a connect storm.
const FAILS: u32 = 50;
/// Of a hundred places in an accept queue, so many are taken where it is the one that overflows.
const FULL: u32 = 90;

/// Totals of a listener.
pub(super) type Listener = Track<4>;
pub(super) const SYNS: usize = 0;
pub(super) const ACCEPTED: usize = 1;
pub(super) const UNANSWERED: usize = 2;
pub(super) const RESET: usize = 3;

/// Totals of a process.
pub(super) type Process = Track<2>;
pub(super) const CONNECTS: usize = 0;
pub(super) const FAILED: usize = 1;

/// Totals of a namespace.
pub(super) type Namespace = Track<8>;
pub(super) const COOKIES: usize = 0;
pub(super) const OVERFLOWS: usize = 1;
pub(super) const KNOCKS: usize = 2;
pub(super) const REFUSED: usize = 3;
pub(super) const RESET_CONNECTIONS: usize = 4;
pub(super) const UNQUEUED: usize = 5;
pub(super) const DROPS: usize = 6;
pub(super) const BY_COOKIE: usize = 7;

/// The totals of a reading; `unqueued` are SYNs that made no request, and were counted elsewhere.
pub(super) fn listener_totals(of: &ListenerReading, unqueued: u64) -> [Option<u64>; 4] {
    let syns = of.syns.map(|syns| syns.saturating_add(unqueued));
    [syns, of.accepted, of.unanswered, of.resets]
}

/// See [`listener_totals`].
pub(super) const fn process_totals(of: &ProcessReading) -> [Option<u64>; 2] {
    [of.connects, of.failed]
}

/// See [`listener_totals`]; `knocks` are those at closed ports that no scan explains.
pub(super) const fn namespace_totals(of: &NamespaceReading, knocks: u64) -> [Option<u64>; 8] {
    [
        of.cookies_sent,
        of.listen_overflows,
        Some(knocks),
        of.refused,
        of.reset_connections,
        of.syn_queue_full,
        of.listen_drops,
        of.cookies_received,
    ]
}

/// SYNs of a namespace that made no request, since the reading before or over a span: they found a queue full, or, with cookies off,
/// the last quarter of `tcp_max_syn_backlog`, which is for clients that are known and counts as a drop alone. What an accept
/// queue drops is none of them.
pub(super) fn without_request(track: &Namespace, at_least_ns: Option<u64>) -> Option<Growth> {
    let grown = |which| match at_least_ns {
        Some(ns) => track.lately(which, ns),
        None => track.step(which),
    };
    let full = grown(UNQUEUED)?;
    let dropped = grown(DROPS).zip(grown(OVERFLOWS));
    let dropped = dropped.map_or(0, |(all, late)| all.count.saturating_sub(late.count));
    Some(Growth {
        count: full.count.max(dropped),
        ns: full.ns,
    })
}

/// What a namespace counts of SYNs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unclaimed {
    Cookies,
    WithoutRequest,
}

/// What a namespace counts and its listeners account for: in the last second, and since the reading before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Claimed {
    pub(super) lately: u64,
    pub(super) step: u64,
}

/// Judges by settings, and by what is normal.
pub(super) struct Judge<'a> {
    pub(super) settings: &'a Settings,
    /// What a subject is used to, in this hour.
    pub(super) normal: &'a dyn Fn(Rate, Subject) -> u64,
}

impl Judge<'_> {
    /// Never below the floor.
    pub(super) fn adaptive(&self, floor: u32, rate: Rate, subject: Subject) -> u64 {
        let normal = if self.settings.learn {
            (self.normal)(rate, subject)
        } else {
            0
        };
        let factor = u64::from(self.settings.factor);
        u64::from(floor).max(normal.saturating_mul(factor))
    }

    pub(super) fn syn_flood(
        &self,
        track: &Listener,
        reading: &ListenerReading,
        namespace: Option<&Namespace>,
        was_full: bool,
    ) -> Signal {
        let unknown = Signal::unknown(StormKind::SynFlood, Subject::Listener(reading.key));
        let threshold = u64::from(self.settings.syn_flood_rate);
        let (rate, ratio) = if reading.syns.is_some() {
            let Some(found) = track.unended(SYNS, ACCEPTED, SPAN_NS, LAG_NS) else {
                return unknown;
            };
            // What a full accept queue drops is not the fault of who sends.
            let is_roomy = !was_full && reading.accept_queue.is_some();
            let dropped = namespace.and_then(|of| of.lately(OVERFLOWS, SPAN_NS + LAG_NS));
            let dropped = dropped.filter(|_| !is_roomy).map_or(0, |grown| grown.count);
            let unended = found.unended.saturating_sub(dropped);
            let grown = Growth {
                count: unended,
                ns: found.ns,
            };
            (grown.rate(), Some(percent(unended, found.began)))
        } else {
            let Some(unanswered) = track.lately(UNANSWERED, SPAN_NS) else {
                return unknown;
            };
            let accepted = track.lately(ACCEPTED, SPAN_NS);
            let ratio = accepted.map(|accepted| {
                percent(
                    unanswered.count,
                    unanswered.count.saturating_add(accepted.count),
                )
            });
            (unanswered.rate(), ratio)
        };
        let step = |which| track.step(which).map(|grown| grown.count);
        let signal = Signal {
            begun: step(SYNS),
            completed: step(ACCEPTED),
            grown: match (step(SYNS), step(ACCEPTED)) {
                (Some(syns), accepted) => syns.saturating_sub(accepted.unwrap_or(0)),
                (None, _) => step(UNANSWERED).unwrap_or(0),
            },
            cookies: namespace
                .and_then(|of| of.step(COOKIES))
                .map(|grown| grown.count),
            half_open: reading.half_open,
            accept_queue: reading.accept_queue,
            ..unknown.stands(rate, threshold)
        };
        self.by_ratio(signal, ratio)
    }

    /// A flood leaves a good part of all SYNs open: it does not begin with less than that, and with less than half of it, it ends.
    fn by_ratio(&self, mut signal: Signal, ratio: Option<u32>) -> Signal {
        let wanted = self.settings.syn_flood_ratio;
        match ratio {
            Some(ratio) if ratio < wanted / 2 => signal.standing = Standing::Under,
            Some(ratio) if ratio < wanted && signal.standing == Standing::Over => {
                signal.standing = Standing::Between;
            }
            _ => {}
        }
        signal
    }

    /// SYNs that a namespace counts and no listener, over a span and since the reading before: its cookies, or those that made
    /// no request; less the cookies that came back.
    pub(super) fn unclaimed(&self, track: &Namespace, netns: u32, by: Unclaimed) -> Signal {
        let unknown = Signal::unknown(StormKind::SynFlood, Subject::Namespace(netns));
        let (sent, step) = match by {
            Unclaimed::Cookies => (track.lately(COOKIES, SECOND_NS), track.step(COOKIES)),
            Unclaimed::WithoutRequest => (
                without_request(track, Some(SECOND_NS)),
                without_request(track, None),
            ),
        };
        let (Some(sent), Some(completed)) = (sent, track.lately(BY_COOKIE, SECOND_NS)) else {
            return unknown;
        };
        let unended = Growth {
            count: sent.count.saturating_sub(per(sent.ns, completed)),
            ns: sent.ns,
        };
        let signal = Signal {
            grown: step.map_or(0, |grown| grown.count).min(unended.count),
            cookies: track.step(COOKIES).map(|grown| grown.count),
            ..unknown.stands(unended.rate(), self.settings.syn_flood_rate.into())
        };
        self.by_ratio(signal, Some(percent(unended.count, sent.count)))
    }

    /// Does a namespace deserve a closer look, some of whose SYNs are no listener's? As for a listener, those that a cookie has
    /// completed are none: with cookies always sent, every connection comes by one.
    pub(super) fn is_suspect_without_request(&self, track: &Namespace) -> bool {
        let Some(sent) = without_request(track, None) else {
            return false;
        };
        let completed = track.step(BY_COOKIE).map_or(0, |grown| grown.count);
        self.is_worth_a_look(self.open_rate(sent, completed))
    }

    /// Does this listener deserve a closer look? More arrives than is completed, since it was read last, and that is no small
    /// part of it: on a busy one some are always under way.
    pub(super) fn is_suspect(&self, track: &Listener) -> bool {
        let step = |which| track.step(which);
        let open = step(SYNS).map_or(0, |syns| {
            let accepted = step(ACCEPTED).map_or(0, |accepted| accepted.count);
            self.open_rate(syns, accepted)
        });
        let unanswered = step(UNANSWERED).map_or(0, Growth::rate);
        self.is_worth_a_look(open.max(unanswered))
    }

    /// Of these SYNs, how many a second are open; none where they are a small part.
    fn open_rate(&self, syns: Growth, completed: u64) -> u64 {
        let open = syns.count.saturating_sub(completed);
        match percent(open, syns.count) >= self.settings.syn_flood_ratio / 2 {
            true => per_second(open, syns.ns),
            false => 0,
        }
    }

    /// Is it half of a flood?
    fn is_worth_a_look(&self, rate: u64) -> bool {
        rate >= u64::from(self.settings.syn_flood_rate).div_ceil(2)
    }

    pub(super) fn connection_storm(&self, track: &Listener, reading: &ListenerReading) -> Signal {
        let subject = Subject::Listener(reading.key);
        let unknown = Signal::unknown(StormKind::ConnectionStorm, subject);
        let Some(accepted) = track.lately(ACCEPTED, SECOND_NS) else {
            return unknown;
        };
        let floor = self.settings.connection_storm_rate;
        let step = track.step(ACCEPTED).map(|grown| grown.count);
        Signal {
            grown: step.unwrap_or(0),
            completed: step,
            accept_queue: reading.accept_queue,
            half_open: reading.half_open,
            ..unknown.stands(accepted.rate(), self.adaptive(floor, Rate::Accept, subject))
        }
    }

    pub(super) fn listener_resets(&self, track: &Listener, key: ListenerKey) -> Signal {
        let unknown = Signal::unknown(StormKind::ResetStorm, Subject::Listener(key));
        let (resets, begun) = (
            track.lately(RESET, SECOND_NS),
            track.lately(ACCEPTED, SECOND_NS),
        );
        let step = |which| track.step(which).map(|grown| grown.count);
        self.resets(unknown, resets, begun, (step(RESET), step(ACCEPTED)))
    }

    /// Resets beyond those of listeners; `begun` is what began in the namespace, on either side.
    pub(super) fn namespace_resets(
        &self,
        track: &Namespace,
        netns: u32,
        begun: Option<Growth>,
        claimed: Claimed,
    ) -> Signal {
        let unknown = Signal::unknown(StormKind::ResetStorm, Subject::Namespace(netns));
        let most = track
            .lately(RESET_CONNECTIONS, SECOND_NS)
            .map(|grown| Growth {
                count: grown.count.saturating_sub(claimed.lately),
                ns: grown.ns,
            });
        let step = track
            .step(RESET_CONNECTIONS)
            .map(|grown| grown.count.saturating_sub(claimed.step));
        self.resets(unknown, most, begun, (step, None))
    }

    fn resets(
        &self,
        unknown: Signal,
        resets: Option<Growth>,
        begun: Option<Growth>,
        (grown, begun_step): (Option<u64>, Option<u64>),
    ) -> Signal {
        // Clients that end each connection with a reset are rude, and no storm.
        let (Some(resets), Some(begun)) = (resets, begun) else {
            return unknown;
        };
        let threshold = u64::from(self.settings.reset_storm_rate);
        let mut signal = Signal {
            grown: grown.unwrap_or(0),
            begun: begun_step,
            ..unknown.stands(resets.rate(), threshold)
        };
        if percent(resets.rate(), begun.rate()) < RESETS && signal.standing == Standing::Over {
            signal.standing = Standing::Under;
        }
        signal
    }

    pub(super) fn connect_storm(&self, track: &Process, reading: &ProcessReading) -> Signal {
        let subject = Subject::Process(reading.pid, reading.start);
        let unknown = Signal::unknown(StormKind::ConnectStorm, subject);
        let Some(connects) = track.lately(CONNECTS, SECOND_NS) else {
            return unknown;
        };
        let step = |which| track.step(which).map(|grown| grown.count);
        if let Some(failed) = track.lately(FAILED, SECOND_NS)
            && percent(failed.count, connects.count) >= FAILS
            && failed.rate() >= u64::from(self.settings.connect_storm_failed).div_ceil(2)
        {
            return Signal {
                grown: step(FAILED).unwrap_or(0),
                begun: step(CONNECTS),
                ..unknown.stands(failed.rate(), self.settings.connect_storm_failed.into())
            };
        }
        let floor = self.settings.connect_storm_rate;
        Signal {
            grown: step(CONNECTS).unwrap_or(0),
            ..unknown.stands(
                connects.rate(),
                self.adaptive(floor, Rate::Connect, subject),
            )
        }
    }

    /// `before` is how many there were at the reading before: where some are closed, it is no leak.
    pub(super) fn close_wait(&self, reading: &ProcessReading, before: Option<u32>) -> Signal {
        let subject = Subject::Process(reading.pid, reading.start);
        let unknown = Signal::unknown(StormKind::CloseWaitLeak, subject);
        let Some(now) = reading.close_wait else {
            return unknown;
        };
        let mut signal = unknown.stands(now.into(), self.settings.close_wait_sockets.into());
        let falls = before.is_some_and(|before| now < before);
        if falls && signal.standing == Standing::Over {
            signal.standing = Standing::Between;
        }
        signal
    }

    /// What this host was refused, or what it refused, whichever is more.
    pub(super) fn refused(&self, track: &Namespace, netns: u32) -> Signal {
        let subject = Subject::Namespace(netns);
        let unknown = Signal::unknown(StormKind::RefusedStorm, subject);
        let lately = |which| track.lately(which, SECOND_NS);
        let counted = |which| lately(which).map_or(0, |grown: Growth| grown.count);
        // On loopback both are the same refusals, read at different moments: one of them is followed, or the total grows by
        // whichever happened to be read later.
        let refused = counted(REFUSED);
        let is_knocked = counted(KNOCKS) > refused.saturating_add(refused / 4);
        let which = match is_knocked || lately(REFUSED).is_none() {
            true => KNOCKS,
            false => REFUSED,
        };
        let Some(refused) = lately(which) else {
            return unknown;
        };
        let step = track.step(which);
        let floor = self.settings.refused_storm_rate;
        let threshold = self.adaptive(floor, Rate::Reset, subject);
        Signal {
            grown: step.map_or(0, |grown| grown.count),
            ..unknown.stands(refused.rate(), threshold)
        }
    }

    pub(super) fn time_wait(&self, reading: &NamespaceReading) -> Signal {
        let subject = Subject::Namespace(reading.netns);
        let unknown = Signal::unknown(StormKind::TimeWaitPressure, subject);
        let Some(ports) = reading.ephemeral_ports.filter(|ports| *ports > 0) else {
            return unknown;
        };
        let threshold = u64::from(ports) * u64::from(self.settings.time_wait_percent) / 100;
        match (reading.busiest, reading.time_wait) {
            (Some(busiest), _) => unknown.stands(busiest.taken.into(), threshold),
            // All of them together are too few.
            (None, Some(all)) if u64::from(all) < threshold / 2 => {
                unknown.stands(all.into(), threshold)
            }
            (None, _) => unknown,
        }
    }

    /// Where connections are dropped for want of `accept`, in this namespace.
    pub(super) fn overflow(&self, track: &Namespace, subject: Subject) -> Signal {
        let unknown = Signal::unknown(StormKind::AcceptQueueOverflow, subject);
        let Some(dropped) = track.lately(OVERFLOWS, SECOND_NS) else {
            return unknown;
        };
        Signal {
            grown: track.step(OVERFLOWS).map_or(0, |grown| grown.count),
            ..unknown.stands(dropped.rate(), self.settings.accept_queue_rate.into())
        }
    }
}

/// Are the queues of half-open connections full? SYNs then make no request: they are answered by cookies, or dropped.
pub(super) fn is_crowded(reading: &ListenerReading) -> bool {
    let queue = reading.half_open.zip(reading.backlog);
    queue.is_some_and(|(now, most)| now >= most)
}

/// Is this the listener whose queue overflows? One that did so before is believed as long as half of it is full.
pub(super) fn is_full(reading: &ListenerReading, was_before: bool) -> bool {
    reading.accept_queue.is_some_and(|(now, most)| {
        percent(now.into(), most.into()) >= if was_before { FULL / 2 } else { FULL }
    })
}

/// So much of it as falls to a span of that length.
fn per(ns: u64, grown: Growth) -> u64 {
    let part = u128::from(grown.count) * u128::from(ns) / u128::from(grown.ns.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}
