//! When to look again unasked, and when a look can be left out because nothing can have changed. The
//! decision is pure but for the links of `/proc` that answer whether a listener is still held.
//!
//! A look walks every descriptor of the host. On a small host that costs a few hundred microseconds and
//! is done on every fast beat; on a large one it is done as seldom as its cost asks for, and between
//! looks only those listeners are asked after whose end no hook tells.

use std::time::Duration;

use super::pipeline::Pipeline;
use crate::decode::record::SockId;
use crate::event::Mechanism;
use crate::inventory::{Listener, MergeReason, still_holds};
use crate::probe::plan::{Plan, Signal};
use crate::time::BootNs;

/// Holders change without a hook; this many fast beats apart they are looked at even where nothing else
/// needs it, and however much a look costs.
const CALM: u64 = 5;
/// Time between looks, in units of what the last one cost: looking takes a twentieth of a percent.
const IDLE: u64 = 2_000;
/// The same where forks and exits of holders ask for looks: two percent.
const BUSY: u64 = 50;
/// From a holder's end to the look at what it held: closing its descriptors comes after its end is told.
const HINT_NS: u64 = 10_000_000;
/// Listeners asked after one by one, at most; for more of them a walk costs no more.
const MAX_ASKED: usize = 256;

/// What only looking tells on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unseen {
    /// Listeners that begin.
    Openings,
    /// Listeners that end.
    Closings,
    /// Neither.
    Nothing,
}

/// When looks are due.
#[derive(Debug)]
pub(super) struct Glances {
    /// The fast beat, in nanoseconds.
    fast: u64,
    unseen: Unseen,
    due: BootNs,
    /// Before this, no hint leads to a look.
    quiet_until: BootNs,
}

impl Glances {
    /// By what the plan leaves unseen.
    pub(super) fn new(fast: Duration, plan: &Plan) -> Self {
        Self {
            fast: u64::try_from(fast.as_nanos()).unwrap_or(u64::MAX),
            unseen: unseen(plan),
            due: BootNs(0),
            quiet_until: BootNs(0),
        }
    }

    /// A look ended; it cost `cost_ns` nanoseconds of processor time.
    pub(super) fn looked(&mut self, ended: BootNs, cost_ns: u64) {
        let calm = self.fast.saturating_mul(CALM);
        let pause = match self.unseen {
            Unseen::Openings => self.fast,
            Unseen::Closings => cost_ns.saturating_mul(IDLE).clamp(self.fast, calm),
            Unseen::Nothing => calm,
        };
        // A beat may come a little early.
        let pause = pause - self.fast / 4;
        self.due = BootNs(ended.0.saturating_add(pause));
        let quiet = cost_ns.saturating_mul(BUSY).min(self.fast);
        self.quiet_until = BootNs(ended.0.saturating_add(quiet));
    }

    fn is_due(&self, now: BootNs) -> bool {
        self.due <= now
    }

    /// When to look because of something at `at` that may have changed what is held.
    pub(super) fn after(&self, at: BootNs) -> BootNs {
        self.not_before(BootNs(at.0.saturating_add(HINT_NS)))
    }

    /// When to look at the earliest of those times that cost allows.
    pub(super) fn not_before(&self, at: BootNs) -> BootNs {
        at.max(self.quiet_until)
    }
}

impl Pipeline {
    /// A fast beat.
    pub(super) fn glance(&mut self) {
        if self.glances.is_due(BootNs::now()) || !self.are_still_held() {
            self.look_again(MergeReason::Glance);
        }
    }

    /// Is every listener whose end no hook tells held where the last look saw it?
    fn are_still_held(&self) -> bool {
        self.unhooked.len() <= MAX_ASKED
            && self
                .unhooked
                .iter()
                .filter_map(|&id| self.inventory.get(id))
                .all(is_still_held)
    }

    /// The listeners whose end no hook tells.
    pub(super) fn without_hook(&self) -> Vec<SockId> {
        self.inventory
            .iter()
            .filter(|listener| !self.closing_is_told(listener.sock.protocol))
            .map(Listener::id)
            .collect()
    }
}

/// One holder is enough. Of a listener that nobody holds, only a whole look can tell more.
fn is_still_held(listener: &Listener) -> bool {
    let Some(inode) = listener.sock.inode else {
        return false;
    };
    let mut owners = listener.owners.iter();
    listener.owners.is_empty()
        || owners.any(|owner| owner.fd.is_some_and(|fd| still_holds(owner.pid, fd, inode)))
}

fn unseen(plan: &Plan) -> Unseen {
    let by_looking =
        |choice: &&crate::probe::plan::Choice| choice.mechanism == Mechanism::Reconcile;
    let mut unseen = Unseen::Nothing;
    for choice in plan.choices.iter().filter(by_looking) {
        match choice.signal {
            Signal::ProcessExec
            | Signal::ProcessFork
            | Signal::ProcessExit
            | Signal::Inventory
            | Signal::BindFailed => {}
            signal if signal.is_of_storms() => {}
            Signal::TcpState
            | Signal::UdpClose
            | Signal::UnixClose
            | Signal::PacketClose
            | Signal::RawClose => unseen = Unseen::Closings,
            _ => return Unseen::Openings,
        }
    }
    unseen
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::{Glances, Unseen, is_still_held, unseen};
    use crate::event::{Mechanism, Owner};
    use crate::inventory::Listener;
    use crate::inventory::fixture::unix_stream;
    use crate::kernel::features::Features;
    use crate::probe::plan::{Rung, plan};
    use crate::time::BootNs;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    fn glances(unseen: Unseen) -> Glances {
        Glances {
            fast: SECOND,
            unseen,
            due: BootNs(0),
            quiet_until: BootNs(0),
        }
    }

    /// Whole fast beats from a look of this cost to the next one.
    fn beats(unseen: Unseen, cost_ns: u64) -> u64 {
        let mut glances = glances(unseen);
        assert!(glances.is_due(BootNs(1)), "the first one is due at once");
        let ended = 100 * SECOND;
        glances.looked(BootNs(ended), cost_ns);
        (1..100)
            .find(|beat| glances.is_due(BootNs(ended + beat * SECOND - 1)))
            .expect("a look in the end")
    }

    #[test]
    fn cheap_looks_are_taken_on_every_beat_and_dear_ones_seldom() {
        assert_eq!(beats(Unseen::Closings, MS / 2), 1);
        assert_eq!(beats(Unseen::Closings, 3 * MS / 2), 3);
        assert_eq!(beats(Unseen::Closings, 40 * MS), 5);
        assert_eq!(beats(Unseen::Nothing, MS / 2), 5);
        assert_eq!(beats(Unseen::Openings, 40 * MS), 1);
    }

    #[test]
    fn hints_wait_for_a_closing_to_be_done_and_cannot_keep_it_busy() {
        let mut glances = glances(Unseen::Closings);
        assert_eq!(glances.after(BootNs(7)), BootNs(7 + 10 * MS));
        glances.looked(BootNs(SECOND), MS);
        assert_eq!(glances.after(BootNs(SECOND)), BootNs(SECOND + 50 * MS));
        let later = BootNs(2 * SECOND);
        assert_eq!(glances.after(later), BootNs(2 * SECOND + 10 * MS));
        glances.looked(BootNs(SECOND), 900 * MS);
        assert_eq!(glances.after(BootNs(SECOND)), later, "a beat at most");
    }

    #[test]
    fn the_plan_says_what_is_unseen() {
        let everything = Features::everything();
        let best = plan(&everything, None).expect("a plan");
        assert_eq!(unseen(&best), Unseen::Nothing);
        let none = plan(&everything, Some(Rung::of(Mechanism::Reconcile))).expect("a plan");
        assert_eq!(unseen(&none), Unseen::Openings);
        let closings = best.demote_program("unix_close_fentry", "a test");
        let closings = closings.demote_program("unix_close_kprobe", "a test");
        assert_eq!(unseen(&closings), Unseen::Closings);
        let glances = Glances::new(Duration::from_secs(2), &closings);
        assert_eq!(
            (glances.fast, glances.unseen),
            (2 * SECOND, Unseen::Closings)
        );
    }

    #[test]
    fn a_listener_is_held_until_its_last_descriptor_is_closed() {
        let dir = tempfile::tempdir().expect("dir");
        let socket = UnixListener::bind(dir.path().join("s")).expect("bound");
        let owner = |fd: Option<u32>| Owner {
            pid: std::process::id(),
            name: "test".to_owned(),
            fd,
        };
        let fd = u32::try_from(socket.as_raw_fd()).expect("a descriptor");
        let link = format!("/proc/self/fd/{fd}");
        let mut sock = unix_stream(1, 1);
        sock.inode = Some(std::fs::metadata(link).expect("a link").ino());
        let mut listener = Listener {
            sock,
            unix: None,
            opener: None,
            holder: None,
            process: None,
            owners: vec![owner(None), owner(Some(u32::MAX)), owner(Some(fd))],
            opened_at: None,
            first_seen: BootNs(1),
            mechanism: Mechanism::Snapshot,
        };
        assert!(is_still_held(&listener), "one of the holders is enough");
        drop(socket);
        assert!(!is_still_held(&listener));
        listener.owners.truncate(1);
        assert!(!is_still_held(&listener), "where it is held is not known");
        listener.owners.clear();
        assert!(is_still_held(&listener), "nobody holds it, as before");
    }
}
