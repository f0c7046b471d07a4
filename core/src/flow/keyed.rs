//! Hashing that strangers cannot foresee: they choose the names and addresses that are hashed.

use core::hash::{BuildHasher, Hash};
use siphasher::sip::SipHasher13;

/// SipHash-1-3 with a secret key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed([u8; 16]);

impl Keyed {
    pub(crate) const fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// The hash of a value.
    pub(crate) fn hash(self, value: &(impl Hash + ?Sized)) -> u64 {
        self.hash_one(value)
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}
