//! Maps by numbers that the kernel hands out: addresses of sockets, inodes, ports of a namespace.
//!
//! A look asks these maps a dozen questions for each socket, and the general hash of the standard
//! library, made for keys of any length, would take most of the time. The seed differs in each run, so
//! that nobody can choose ports that all fall into one place.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

/// A map by such a number.
pub(super) type NumberMap<K, V> = HashMap<K, V, Seed>;
/// A set of such numbers.
pub(super) type NumberSet<K> = HashSet<K, Seed>;

/// An odd number without a pattern: the golden ratio's fraction.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where hashing begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix(self.0)
    }
}

/// Multiplies, and folds the upper half of the product back in: each bit of a number reaches both the
/// place and the tag of its entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(MULTIPLIER);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::{NumberSet, Seed};

    /// The fullest of 1024 places that 16 times as many numbers fall into.
    fn fullest(seed: Seed, shift: u32, numbers: impl Iterator<Item = u64>) -> usize {
        let mut places = vec![0; 1024];
        for number in numbers {
            let hash = seed.hash_one(number);
            places[(hash >> shift) as usize % 1024] += 1;
        }
        places.into_iter().max().expect("places")
    }

    #[test]
    fn what_a_kernel_hands_out_is_spread() {
        let count = 16 * 1024;
        for seed in [Seed(0), Seed(u64::MAX), Seed::default()] {
            for step in [1, 64, 1088, 4096, 1 << 20] {
                let addresses = (0..count).map(|n| 0xffff_8880_0000_0000 + n * step);
                // Sixteen each on average; the chance of sixty in one by accident is nil.
                assert!(fullest(seed, 0, addresses.clone()) < 60, "{seed:?} {step}");
                assert!(fullest(seed, 54, addresses) < 60, "{seed:?} {step}");
            }
        }
    }

    #[test]
    fn parts_of_a_key_count_each() {
        let mut keys = NumberSet::default();
        for netns in 0..100_u32 {
            for port in 0..100_u16 {
                assert!(keys.insert((netns, port)));
            }
        }
        let seed = Seed::default();
        assert_ne!(seed.hash_one((1_u32, 2_u16)), seed.hash_one((2_u32, 1_u16)));
    }
}
