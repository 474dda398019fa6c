//! Answers that hold for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Cache<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
    limit: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: Mutex::default(),
            limit,
        }
    }

    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = entries.get(key)?;
        (*until > now).then(|| value.clone())
    }

    /// A full cache forgets what is over, and everything if nothing is: it only costs asking again.
    pub(super) fn put(&self, key: K, value: V, ttl: Duration, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.limit {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() >= self.limit {
            entries.clear();
        }
        if !ttl.is_zero() {
            entries.insert(key, (now + ttl, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_and_there_are_never_too_many() {
        let ttl = Duration::from_secs(10);
        let start = Instant::now();
        let cache = Cache::new(2);
        cache.put(1, 'a', ttl, start);
        assert_eq!(cache.get(&1, start), Some('a'));
        let later = start + ttl;
        assert_eq!(cache.get(&1, later), None);
        cache.put(2, 'b', ttl, later);
        cache.put(3, 'c', ttl, later);
        assert_eq!((cache.get(&2, later), cache.get(&3, later)), (Some('b'), Some('c')));
        cache.put(4, 'd', ttl, later);
        let all = [2, 3, 4].map(|key| cache.get(&key, later));
        assert_eq!(all, [None, None, Some('d')]);
        cache.put(5, 'e', Duration::ZERO, later);
        assert_eq!(cache.get(&5, later), None);
    }
}
