//! Hashing that strangers cannot foresee: they choose the names and addresses that are hashed.

use core::hash::{BuildHasher, Hash};
use rand_core::Rng;
use siphasher::sip::SipHasher13;

/// SipHash-1-3 with a secret key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keyed(u64, u64);

impl Keyed {
    /// A new key.
    pub(crate) fn draw(rng: &mut dyn Rng) -> Self {
        Self(rng.next_u64(), rng.next_u64())
    }

    /// The hash of a value.
    pub(crate) fn hash(self, value: &(impl Hash + ?Sized)) -> u64 {
        self.hash_one(value)
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
