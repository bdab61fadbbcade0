//! How many sockets are in each TCP state, kept by the transitions that the probes count. Pure.
//!
//! Trap `child_of_a_listener`: a listener does not leave LISTEN when a connection is made of it.
//! Trap `time_wait_shows_no_state`: half-open connections and TIME_WAIT pass no hook; those the kernel must be asked for.

use portwatch_common::counters::TRANSITIONS;
use portwatch_common::socket::TcpState;

/// States by number; the kernel has 12, and 0 and 13 to 15 are of nobody.
pub const STATES: usize = 16;

/// Sockets in each state, by its number.
pub type Counts = [i64; STATES];

/// The states that transitions tell everything about.
pub const TOLD: [TcpState; 8] = [
    TcpState::ESTABLISHED,
    TcpState::SYN_SENT,
    TcpState::FIN_WAIT1,
    TcpState::FIN_WAIT2,
    TcpState::CLOSE_WAIT,
    TcpState::LAST_ACK,
    TcpState::LISTEN,
    TcpState::CLOSING,
];

/// What was there when counting began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    base: Counts,
    /// By how much each may be wrong, because sockets came and went while it was taken.
    slack: [u64; STATES],
}

impl Kept {
    /// Counting begins: so many are in each state while the counters stand there.
    #[must_use]
    pub fn new(present: &Counts, transitions: &[u64; TRANSITIONS], churn: [u64; STATES]) -> Self {
        let moved = moved(transitions);
        let mut base = *present;
        for (base, moved) in base.iter_mut().zip(moved) {
            *base = base.wrapping_sub(moved);
        }
        Self { base, slack: churn }
    }

    /// Holds the count against what the kernel says; `churn` is how often sockets came into each state or left it while that
    /// was read. What that cannot explain, nor what it was when the count began, comes back, and is put right.
    pub fn compare(
        &mut self,
        present: &Counts,
        transitions: &[u64; TRANSITIONS],
        churn: &[u64; STATES],
    ) -> Vec<(TcpState, i64)> {
        let kept = self.counts(transitions);
        let mut wrong = Vec::new();
        for told in TOLD {
            let index = usize::from(told.0);
            let at = |counts: &Counts| counts.get(index).copied().unwrap_or_default();
            let by = at(present).saturating_sub(at(&kept));
            let churn = churn.get(index).copied().unwrap_or_default();
            let (Some(base), Some(slack)) = (self.base.get_mut(index), self.slack.get_mut(index))
            else {
                continue;
            };
            if by.unsigned_abs() <= churn {
                // Nothing moved, and it is right.
                if churn == 0 {
                    *slack = 0;
                }
                continue;
            }
            if by.unsigned_abs() > churn.saturating_add(*slack) {
                wrong.push((told, by));
            }
            *base = base.wrapping_add(by);
            *slack = churn;
        }
        wrong
    }

    /// How many are in each state while the counters stand there.
    #[must_use]
    pub fn counts(&self, transitions: &[u64; TRANSITIONS]) -> Counts {
        let mut counts = moved(transitions);
        for (count, base) in counts.iter_mut().zip(self.base) {
            *count = count.wrapping_add(base);
        }
        counts
    }
}

/// What the transitions have added to each state.
fn moved(transitions: &[u64; TRANSITIONS]) -> Counts {
    let mut counts = Counts::default();
    for (old, row) in transitions.as_chunks::<STATES>().0.iter().enumerate() {
        for (new, &times) in row.iter().enumerate() {
            let times = times.cast_signed();
            let is_child =
                old == usize::from(TcpState::LISTEN.0) && new == usize::from(TcpState::SYN_RECV.0);
            if let Some(left) = counts.get_mut(old).filter(|_| !is_child) {
                *left = left.wrapping_sub(times);
            }
            if let Some(entered) = counts.get_mut(new) {
                *entered = entered.wrapping_add(times);
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use portwatch_common::counters::TRANSITIONS;
    use portwatch_common::socket::TcpState;
    use proptest::prelude::*;

    use super::{Counts, Kept, STATES};

    const LISTEN: usize = 10;
    const SYN_RECV: usize = 3;
    const ESTABLISHED: usize = 1;
    const CLOSE: usize = 7;

    fn step(transitions: &mut [u64; TRANSITIONS], old: usize, new: usize) {
        transitions[old * STATES + new] += 1;
    }

    #[test]
    fn a_connection_comes_and_goes_and_its_listener_stays() {
        let mut transitions = [5; TRANSITIONS];
        let mut present = Counts::default();
        present[LISTEN] = 3;
        let kept = Kept::new(&present, &transitions, [0; STATES]);
        assert_eq!(kept.counts(&transitions), present);
        step(&mut transitions, LISTEN, SYN_RECV);
        step(&mut transitions, SYN_RECV, ESTABLISHED);
        let counts = kept.counts(&transitions);
        let of = |state: TcpState| counts[usize::from(state.0)];
        assert_eq!(of(TcpState::LISTEN), 3);
        assert_eq!(of(TcpState::SYN_RECV), 0);
        assert_eq!(of(TcpState::ESTABLISHED), 1);
        step(&mut transitions, ESTABLISHED, CLOSE);
        step(&mut transitions, LISTEN, CLOSE);
        let counts = kept.counts(&transitions);
        assert_eq!((counts[ESTABLISHED], counts[LISTEN]), (0, 2));
    }

    proptest! {
        #[test]
        fn no_walk_of_a_socket_leaves_anything_behind(walk in proptest::collection::vec(1_usize..12, 1..20)) {
            let mut transitions = [0; TRANSITIONS];
            let kept = Kept::new(&Counts::default(), &transitions, [0; STATES]);
            let mut state = CLOSE;
            for next in walk {
                if (state, next) == (LISTEN, SYN_RECV) {
                    continue;
                }
                step(&mut transitions, state, next);
                state = next;
            }
            step(&mut transitions, state, CLOSE);
            let counts = kept.counts(&transitions);
            prop_assert!(counts.iter().all(|count| *count == 0), "{counts:?}");
        }
    }

    /// Begun while thousands came: it is wrong by no more than that, which is put right when they have settled, and told to nobody.
    #[test]
    fn what_moved_when_the_count_began_is_no_difference() {
        let established = usize::from(TcpState::ESTABLISHED.0);
        let of = |count: i64| {
            let mut counts = Counts::default();
            counts[established] = count;
            counts
        };
        let churn = |count: u64| {
            let mut churn = [0; STATES];
            churn[established] = count;
            churn
        };
        let transitions = [0; TRANSITIONS];
        let mut kept = Kept::new(&of(1_000), &transitions, churn(600));
        // Less than what moves now: nothing is known.
        assert_eq!(kept.compare(&of(1_400), &transitions, &churn(500)), []);
        assert_eq!(kept.counts(&transitions), of(1_000));
        assert_eq!(kept.compare(&of(1_400), &transitions, &churn(0)), []);
        assert_eq!(kept.counts(&transitions), of(1_400));
        // From here on it is exact.
        let told = kept.compare(&of(1_401), &transitions, &churn(0));
        assert_eq!(told, [(TcpState::ESTABLISHED, 1)]);
        assert_eq!(kept.compare(&of(1_401), &transitions, &churn(0)), []);
        // More than both can explain.
        let mut kept = Kept::new(&of(1_000), &transitions, churn(600));
        let told = kept.compare(&of(2_200), &transitions, &churn(500));
        assert_eq!(told, [(TcpState::ESTABLISHED, 1_200)]);
    }
}
