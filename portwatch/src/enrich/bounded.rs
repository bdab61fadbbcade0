//! A map that forgets: two generations, so that what is used stays and nothing is ever scanned.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `limit` entries. When the young generation holds half of that, it becomes the old one
/// and what was old and not asked for since is dropped.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Bounded<K, V> {
    /// An empty map of at most `limit` entries (2 at least).
    pub(super) fn new(limit: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (limit / 2).max(1),
        }
    }

    /// What is kept for `key`; being asked for keeps it longer.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Keeps `value` for `key` in place of what was there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Bounded;

    #[test]
    fn the_limit_holds_and_what_is_used_stays() {
        let mut cache = Bounded::new(8);
        cache.insert(0, 'a');
        for n in 1..100 {
            cache.insert(n, 'x');
            assert_eq!(cache.get(&0), Some(&'a'), "used at every step, lost at {n}");
            assert!(cache.len() <= 8);
        }
        assert_eq!(cache.get(&50), None);
        cache.clear();
        assert_eq!(cache.get(&0), None);
    }

    #[test]
    fn a_new_value_replaces_the_old_one_in_either_generation() {
        let mut cache = Bounded::new(2);
        cache.insert(1, 'a');
        cache.insert(2, 'b');
        cache.insert(1, 'c');
        assert_eq!(cache.get(&1), Some(&'c'));
        assert_eq!(cache.len(), 2);
    }
}
