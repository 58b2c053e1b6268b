//! Answers of the API server's reviews, kept for a while and never more than so many.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Each answer is kept as long as its caller says; beyond `most` the one that ends first makes room.
pub(super) struct Cache<K, V> {
    most: usize,
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            entries: Mutex::default(),
        }
    }

    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.entries.lock();
        let (until, value) = entries.get(key)?;
        (now < *until).then(|| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V, now: Instant, keep: Duration) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.most && !entries.contains_key(&key) {
            entries.retain(|_, (until, _)| now < *until);
            if entries.len() >= self.most {
                let first = entries.iter().min_by_key(|(_, (until, _))| *until);
                if let Some(first) = first.map(|(key, _)| key.clone()) {
                    entries.remove(&first);
                }
            }
        }
        entries.insert(key, (now + keep, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_and_their_number_is_bounded() {
        let (cache, now) = (Cache::new(2), Instant::now());
        let seconds = Duration::from_secs;
        cache.put("a", 1, now, seconds(10));
        cache.put("b", 2, now, seconds(5));
        assert_eq!(cache.get(&"a", now + seconds(9)), Some(1));
        assert_eq!(cache.get(&"a", now + seconds(10)), None);
        cache.put("c", 3, now, seconds(10));
        let at = |key| cache.get(&key, now);
        assert_eq!((at("a"), at("b"), at("c")), (Some(1), None, Some(3)));
        for key in 0..1000 {
            let numbers = Cache::new(8);
            numbers.put(key, key, now, seconds(1));
        }
        let numbers = Cache::new(8);
        (0..1000).for_each(|key| numbers.put(key, key, now, seconds(1)));
        assert_eq!(numbers.entries.lock().len(), 8);
    }
}
