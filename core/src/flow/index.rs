//! A hashed index that gives back the memory a crowd has left. Knows nothing of what it holds.

use super::Keyed;
use core::borrow::Borrow;
use core::hash::Hash;
use hashbrown::HashMap;

/// Room that is worth no shrinking: a few KB.
const FEW: usize = 64;

/// A map whose room is at most a small multiple of what is in it. Each way is O(1) on average.
#[derive(Debug)]
pub(crate) struct Index<K> {
    map: HashMap<K, usize, Keyed>,
    /// The most that it has had room for since it was moved. (What the map calls its capacity is less, the more was
    /// taken out.)
    room: usize,
}

impl<K: Eq + Hash> Index<K> {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self { map: HashMap::with_hasher(keyed), room: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.map.get(key).copied()
    }

    /// Puts `value` under `key`; what was there.
    pub(crate) fn insert(&mut self, key: K, value: usize) -> Option<usize> {
        let old = self.map.insert(key, value);
        self.room = self.room.max(self.len());
        old
    }

    /// Takes out what is under `key`.
    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let value = self.map.remove(key)?;
        // To twice of what is needed, so that half of it must go, or as much come, before it is moved again.
        if self.room > FEW && self.len() < self.room / 4 {
            self.room = self.len() * 2;
            self.map.shrink_to(self.room);
        }
        Some(value)
    }

    /// Every value.
    pub(crate) fn values(&self) -> impl Iterator<Item = usize> + '_ {
        self.map.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_goes_with_what_is_in_it() {
        let mut index = Index::new(Keyed::new([7; 16]));
        for n in 0..10_000_u32 {
            index.insert(n, n as usize);
        }
        let full = index.map.allocation_size();
        let mut moves = 0;
        for n in 0..9990 {
            let before = index.map.allocation_size();
            assert_eq!(index.remove(&n), Some(n as usize));
            moves += usize::from(index.map.allocation_size() != before);
            let room = index.map.allocation_size() / (full / 10_000);
            assert!(room <= 16 * index.len().max(FEW), "room for {room} of {}", index.len());
        }
        assert!(moves <= 10, "moved {moves} times");
        assert!(index.map.allocation_size() * 50 < full);
        assert_eq!((index.len(), index.get(&9999), index.get(&1)), (10, Some(9999), None));
    }
}
