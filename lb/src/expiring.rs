//! A bounded map whose entries end a fixed time after their last use. Knows nothing of what it holds.
//!
//! Entries are chained in the order of their last use. All live equally long, so that the oldest is always
//! the next to expire: every operation is O(1), and freeing looks at nothing that stays.

use slab::Slab;
use srs_proxy_core::time::{Duration, Time};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// No entry, in a chain.
const NONE: usize = usize::MAX;
/// How many expired entries an insertion frees: more than it adds, so that the dead never pile up.
const FREED_BY_INSERT: usize = 2;

/// The table is full of entries that are alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

#[derive(Debug)]
pub(crate) struct Expiring<K, V> {
    life: Duration,
    limit: usize,
    index: HashMap<K, usize>,
    entries: Slab<Entry<K, V>>,
    oldest: usize,
    newest: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    used: Time,
    older: usize,
    newer: usize,
}

impl<K: Clone + Eq + Hash, V> Expiring<K, V> {
    /// A table of at most `limit` entries that live for `life` after their last use.
    pub(crate) fn new(life: Duration, limit: usize) -> Self {
        Self { life, limit, index: HashMap::new(), entries: Slab::new(), oldest: NONE, newest: NONE }
    }

    /// The value of `key`, which is thereby used.
    pub(crate) fn get<Q>(&mut self, now: Time, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let at = *self.index.get(key)?;
        if self.has_expired(now, at) {
            self.remove(at);
            return None;
        }
        self.unlink(at);
        self.link_newest(at);
        let entry = self.entries.get_mut(at)?;
        entry.used = now;
        Some(&mut entry.value)
    }

    /// The value of `key`, which is not thereby used, nor looked at whether it has expired.
    pub(crate) fn peek_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let at = *self.index.get(key)?;
        self.entries.get_mut(at).map(|entry| &mut entry.value)
    }

    /// Puts `value` under `key`, in place of what was there.
    pub(crate) fn insert(&mut self, now: Time, key: K, value: V) -> Result<(), Full> {
        if let Some(old) = self.get(now, &key) {
            *old = value;
            return Ok(());
        }
        self.expire(now, FREED_BY_INSERT);
        if self.entries.len() >= self.limit {
            return Err(Full);
        }
        let entry = Entry { key: key.clone(), value, used: now, older: NONE, newer: NONE };
        let at = self.entries.insert(entry);
        self.index.insert(key, at);
        self.link_newest(at);
        Ok(())
    }

    /// Frees what is under `key`, before its time.
    pub(crate) fn forget<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(at) = self.index.get(key).copied() {
            self.remove(at);
        }
    }

    /// Frees up to `most` expired entries, and all memory when none is left.
    pub(crate) fn expire(&mut self, now: Time, most: usize) {
        for _ in 0..most {
            if self.oldest == NONE || !self.has_expired(now, self.oldest) {
                break;
            }
            self.remove(self.oldest);
        }
        if self.entries.is_empty() {
            *self = Self::new(self.life, self.limit);
        }
    }

    /// All that is alive, in no particular order; none of it is thereby used.
    pub(crate) fn iter(&self, now: Time) -> impl Iterator<Item = (&K, &V)> {
        let alive = self.entries.iter().filter(move |(at, _)| !self.has_expired(now, *at));
        alive.map(|(_, entry)| (&entry.key, &entry.value))
    }

    /// All that is alive, and for how long it is if it is not used.
    pub(crate) fn lives(&self, now: Time) -> impl Iterator<Item = (&V, Duration)> {
        let lives = self
            .entries
            .iter()
            .map(move |(_, entry)| (&entry.value, self.life.saturating_sub(now.since(entry.used))));
        lives.filter(|(_, left)| !left.is_zero())
    }

    fn has_expired(&self, now: Time, at: usize) -> bool {
        self.entries.get(at).is_some_and(|entry| now.since(entry.used) >= self.life)
    }

    fn remove(&mut self, at: usize) {
        self.unlink(at);
        if let Some(entry) = self.entries.try_remove(at) {
            self.index.remove(&entry.key);
        }
    }

    fn unlink(&mut self, at: usize) {
        let Some((older, newer)) = self.entries.get(at).map(|entry| (entry.older, entry.newer)) else {
            return;
        };
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, at: usize) {
        let older = std::mem::replace(&mut self.newest, at);
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
        if let Some(entry) = self.entries.get_mut(at) {
            (entry.older, entry.newer) = (older, NONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg32;

    const LIFE: Duration = Duration::from_secs(120);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    impl<K: Clone + Eq + Hash, V> Expiring<K, V> {
        /// The chain holds every entry once, oldest first, both ways.
        fn check(&self) {
            let (mut last, mut next, mut count) = (NONE, self.oldest, 0);
            while let Some(entry) = self.entries.get(next) {
                assert_eq!(entry.older, last);
                assert_eq!(self.index.get(&entry.key), Some(&next));
                assert!(self.entries.get(last).is_none_or(|older| older.used <= entry.used));
                (last, next, count) = (next, entry.newer, count + 1);
            }
            assert_eq!((next, last), (NONE, self.newest));
            assert_eq!((count, self.index.len()), (self.entries.len(), self.entries.len()));
        }
    }

    #[test]
    fn an_entry_lives_for_its_life_after_the_last_use() {
        let mut table = Expiring::new(LIFE, 10);
        table.insert(at(0), "a", 1).unwrap();
        assert_eq!(table.get(at(119), "a"), Some(&mut 1));
        assert_eq!(table.get(at(238), "a"), Some(&mut 1));
        assert_eq!(table.get(at(358), "a"), None);
        assert!(table.entries.is_empty());
        table.check();
    }

    #[test]
    fn insertion_replaces_and_counts_as_use() {
        let mut table = Expiring::new(LIFE, 1);
        table.insert(at(0), "a", 1).unwrap();
        table.insert(at(100), "a", 2).unwrap();
        assert_eq!(table.get(at(200), "a"), Some(&mut 2));
    }

    #[test]
    fn a_full_table_takes_new_entries_only_for_expired_ones() {
        let mut table = Expiring::new(LIFE, 2);
        table.insert(at(0), "a", 1).unwrap();
        table.insert(at(10), "b", 2).unwrap();
        assert_eq!(table.insert(at(119), "c", 3), Err(Full));
        table.insert(at(120), "c", 3).unwrap();
        assert_eq!(table.get(at(121), "a"), None);
        assert_eq!(table.get(at(121), "b"), Some(&mut 2));
        table.check();
    }

    #[test]
    fn expiry_frees_the_oldest_first_and_no_more_than_asked() {
        let mut table = Expiring::new(LIFE, 100);
        for n in 0..10 {
            table.insert(at(n), n, n).unwrap();
        }
        table.get(at(10), &0);
        table.expire(at(125), 3);
        assert_eq!(table.entries.len(), 7);
        table.expire(at(125), 100);
        let mut left: Vec<_> = table.iter(at(125)).map(|(key, _)| *key).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 6, 7, 8, 9]);
        assert_eq!(table.lives(at(129)).collect::<Vec<_>>(), [(&0, Duration::from_secs(1))]);
        table.check();
    }

    #[test]
    fn an_empty_table_holds_no_memory() {
        let mut table = Expiring::new(LIFE, 100_000);
        for n in 0..10_000 {
            table.insert(at(0), n, n).unwrap();
        }
        table.expire(at(120), usize::MAX);
        assert_eq!((table.index.capacity(), table.entries.capacity()), (0, 0));
    }

    #[test]
    fn a_long_random_life_keeps_the_chain_whole_and_agrees_with_a_plain_map() {
        for seed in 0..50 {
            let mut rng = Pcg32::seed_from_u64(seed);
            let (mut table, mut plain) = (Expiring::new(LIFE, 20), HashMap::new());
            let mut now = at(0);
            for step in 0..500_u32 {
                now = now + Duration::from_secs(u64::from(rng.next_u32() % 20));
                plain.retain(|_, (_, used)| now.since(*used) < LIFE);
                let key = rng.next_u32() % 30;
                match rng.next_u32() % 4 {
                    0 => assert_eq!(
                        table.get(now, &key).copied(),
                        plain.get_mut(&key).map(|(value, used)| {
                            *used = now;
                            *value
                        }),
                        "seed {seed}"
                    ),
                    1 => table.expire(now, 5),
                    _ => match table.insert(now, key, step) {
                        Ok(()) => drop(plain.insert(key, (step, now))),
                        Err(Full) => assert!(!plain.contains_key(&key) && table.entries.len() == 20),
                    },
                }
                table.check();
                assert_eq!(table.iter(now).count(), plain.len(), "seed {seed}");
            }
        }
    }
}
