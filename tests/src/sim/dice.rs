//! Randomness of a simulated world: one seed, always the same throws. No entropy from outside.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::ops::RangeInclusive;

/// A seeded source of choices.
#[derive(Clone, Debug)]
pub struct Dice(Pcg64Mcg);

impl Dice {
    /// The dice of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Other dice, which these decide: what they throw does not depend on how often these are used later.
    pub fn fork(&mut self) -> Self {
        Self::new(self.0.next_u64())
    }

    /// A number of the range.
    pub fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        match (high - low).checked_add(1) {
            Some(span) => low + self.0.next_u64() % span,
            None => self.0.next_u64(),
        }
    }

    /// A number of the range, for sizes and indexes.
    pub fn size(&mut self, range: RangeInclusive<usize>) -> usize {
        self.range(*range.start() as u64..=*range.end() as u64) as usize
    }

    /// A number from 1 to `max`, small ones as likely as large ones: first its length in bits, then its bits.
    pub fn any_size(&mut self, max: usize) -> usize {
        let bits = self.size(0..=max.max(1).ilog2() as usize);
        self.size(1 << bits..=((2 << bits) - 1).min(max.max(1)))
    }

    /// True `per_mille` times out of a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.range(0..=999) < per_mille
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, these: &'a [T]) -> &'a T {
        &these[self.size(0..=these.len() - 1)]
    }

    /// Random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A key, for a machine that hashes what strangers choose.
    pub fn key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        self.0.fill_bytes(&mut key);
        key
    }

    /// The generator itself, as a machine is handed it.
    pub fn rng(&mut self) -> &mut dyn Rng {
        &mut self.0
    }
}
