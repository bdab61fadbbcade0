//! From which numbers on something is a storm.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reading::Subject;
use crate::event::StormKind;

/// `[storm]`: thresholds of each kind, and how long an episode takes to begin and to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Kinds that are not looked for.
    pub off: BTreeSet<StormKind>,
    /// Scans are not looked for.
    pub is_scan_off: bool,
    /// An episode is over when it was quiet for so long.
    pub calm: Duration,
    /// How often an episode that goes on is told of.
    pub beat: Duration,
    /// Thresholds of what a host may be used to rise with what it is used to.
    pub learn: bool,
    /// How many times the rate that it is used to.
    pub factor: u32,
    /// Half-open connections a second at one listener.
    pub syn_flood_rate: u32,
    /// Of a hundred SYNs, so many must not be completed.
    pub syn_flood_ratio: u32,
    /// Completed connections a second at one listener.
    pub connection_storm_rate: u32,
    /// Connections that a process opens, a second.
    pub connect_storm_rate: u32,
    /// Connections of a process that fail, a second, where most fail.
    pub connect_storm_failed: u32,
    /// Resets a second.
    pub reset_storm_rate: u32,
    /// Refused connections a second in one namespace.
    pub refused_storm_rate: u32,
    /// Sockets of a process in `CLOSE_WAIT`.
    pub close_wait_sockets: u32,
    /// For how long none of them is closed.
    pub close_wait_for: Duration,
    /// Of a hundred ephemeral ports, so many are taken towards one peer.
    pub time_wait_percent: u32,
    /// Connections a second that find the accept queue full.
    pub accept_queue_rate: u32,
    /// Different closed ports that one source knocks at.
    pub scan_ports: u32,
    /// Within what time.
    pub scan_window: Duration,
    /// Different sources that knock at one closed port within ten minutes.
    pub scan_sources: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            off: BTreeSet::new(),
            is_scan_off: false,
            calm: Duration::from_secs(10),
            beat: Duration::from_secs(30),
            learn: true,
            factor: 4,
            syn_flood_rate: 60,
            syn_flood_ratio: 20,
            connection_storm_rate: 30_000,
            connect_storm_rate: 30_000,
            connect_storm_failed: 50,
            reset_storm_rate: 500,
            refused_storm_rate: 100,
            close_wait_sockets: 100,
            close_wait_for: Duration::from_secs(30),
            time_wait_percent: 80,
            accept_queue_rate: 10,
            scan_ports: 20,
            scan_window: Duration::from_secs(24 * 3600),
            scan_sources: 100,
        }
    }
}

impl Settings {
    /// How long it must be over the threshold before it is told: short pulses are no storm.
    pub(super) const fn hold(&self, kind: StormKind, subject: Subject, is_large: bool) -> Duration {
        match (kind, subject) {
            // Its rate is measured over a span already, which lets handshakes take their time. Clients that come all at once
            // from far away need more of it; a flood as large as those is seen early enough to wait for a third look.
            (StormKind::SynFlood, Subject::Listener(_)) if is_large => Duration::from_millis(350),
            (StormKind::SynFlood, Subject::Listener(_)) => Duration::from_millis(150),
            (kind, _) => self.hold_of(kind),
        }
    }

    const fn hold_of(&self, kind: StormKind) -> Duration {
        match kind {
            StormKind::SynFlood
            | StormKind::ConnectionStorm
            | StormKind::ConnectStorm
            | StormKind::RefusedStorm
            | StormKind::TimeWaitPressure => Duration::from_secs(2),
            StormKind::ResetStorm | StormKind::AcceptQueueOverflow => Duration::from_secs(3),
            StormKind::CloseWaitLeak => self.close_wait_for,
        }
    }
}
