//! What the tests send.

/// Bytes whose order shows.
pub(crate) fn film(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8) ^ ((i >> 8) as u8).wrapping_mul(31) ^ seed).collect()
}
