//! Whose turn it is: another order in every round, the same in every run. Pure.

/// The numbers below `count`, shuffled.
///
/// A fixed order would give each way of watching the same predecessor in every round, and what that one
/// leaves behind (sockets in TIME_WAIT, cold caches) would count as its cost.
pub(crate) fn shuffled(round: usize, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(round as u64 + 1) | 1;
    for last in (1..count).rev() {
        // xorshift64; its low bits are the weak ones, and a few ways of watching need few bits.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from((state >> 33) % (last as u64 + 1)).unwrap_or(0);
        order.swap(last, other);
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everybody_has_one_turn_in_each_round() {
        for round in 0..20 {
            let mut order = shuffled(round, 9);
            assert_eq!(order, shuffled(round, 9));
            order.sort_unstable();
            assert_eq!(order, (0..9).collect::<Vec<_>>());
        }
        assert_eq!(shuffled(3, 1), [0]);
        assert!(shuffled(3, 0).is_empty());
    }

    #[test]
    fn nobody_always_follows_the_same_other_one() {
        for who in 0..9 {
            let before: HashSet<_> = (0..15)
                .filter_map(|round| {
                    let order = shuffled(round, 9);
                    let place = order.iter().position(|&other| other == who)?;
                    order.get(place.checked_sub(1)?).copied()
                })
                .collect();
            assert!(before.len() >= 4, "{who} follows {before:?}");
        }
    }
}
