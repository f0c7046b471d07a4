//! The RTMP handshake (RTMP 1.0 §5.2), simple and with digests. Knows nothing of what follows.
//!
//! ```text
//!   client                     server          C0, S0: version, 1 byte (3)
//!     ├── C0 C1 ─────────────────▶│            C1, S1: time 4, version 4 (zero: simple), random 1528
//!     │◀───────────── S0 S1 S2 ───┤            C2, S2: the other side's C1 or S1 echoed
//!     ├── C2 ────────────────────▶│
//! ```
//!
//! Flash players, librtmp and ffmpeg put a non-zero version and an HMAC-SHA256 digest into C1 and may want one
//! back. That form was never specified; it is described in many servers' sources in the same way.

use alloc::vec::Vec;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of C1, C2, S1 and S2 each.
pub const PACKET: usize = 1536;

/// Bytes of C0 and C1.
pub const HELLO: usize = 1 + PACKET;

/// Bytes of S0, S1 and S2.
pub const REPLY: usize = 1 + 2 * PACKET;

const VERSION: u8 = 3;
const DIGEST: usize = 32;
const PLAYER: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER: &[u8] = b"Genuine Adobe Flash Media Server 001";
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

/// Where the four bytes stand whose sum gives the digest's place. Two layouts are in use.
const LAYOUTS: [usize; 2] = [772, 8];

/// The bytes are not an RTMP handshake: the version is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotRtmp;

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    // HMAC takes keys of any length, so this cannot fail; a zero digest matches nothing.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else { return [0; DIGEST] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A packet around the digest that the layout puts into it: before, digest, after.
fn split(packet: &[u8; PACKET], layout: usize) -> Option<(&[u8], &[u8], &[u8])> {
    let sum: usize = packet.get(layout..layout + 4)?.iter().map(|byte| usize::from(*byte)).sum();
    let (before, rest) = packet.split_at_checked(layout + 4 + sum % 728)?;
    let (digest, after) = rest.split_at_checked(DIGEST)?;
    Some((before, digest, after))
}

/// The digest of C1 and its layout, if there is a right one.
fn client_digest(c1: &[u8; PACKET]) -> Option<([u8; DIGEST], usize)> {
    LAYOUTS.iter().find_map(|&layout| {
        let (before, digest, after) = split(c1, layout)?;
        let right = hmac(PLAYER, &[before, after]);
        (right == digest).then_some((right, layout))
    })
}

fn random_packet(rng: &mut dyn rand_core::Rng) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    if let Some(random) = packet.get_mut(8..) {
        rng.fill_bytes(random);
    }
    packet
}

/// S0, S1 and S2 for a client's C0 and C1.
///
/// # Errors
/// [`NotRtmp`]: C0 is not a version from 3 to 31 (§5.2.2).
pub fn reply(hello: &[u8; HELLO], rng: &mut dyn rand_core::Rng) -> Result<Vec<u8>, NotRtmp> {
    let (c0, c1) = hello.split_first_chunk::<1>().ok_or(NotRtmp)?;
    let c1: &[u8; PACKET] = c1.try_into().map_err(|_| NotRtmp)?;
    if !(VERSION..=31).contains(&c0[0]) {
        return Err(NotRtmp);
    }
    let mut s1 = random_packet(rng);
    let mut s2 = *c1;
    // A zero version field says that the client does without digests.
    let digest = if c1.get(4..8) == Some(&[0; 4]) { None } else { client_digest(c1) };
    if let Some((c1_digest, layout)) = digest {
        if let Some(version) = s1.get_mut(4..8) {
            version.copy_from_slice(&[4, 5, 0, 1]);
        }
        let signed =
            split(&s1, layout).map(|(before, _, after)| (before.len(), hmac(SERVER, &[before, after])));
        if let Some((at, digest)) = signed
            && let Some(place) = s1.get_mut(at..at + DIGEST)
        {
            place.copy_from_slice(&digest);
        }
        s2 = random_packet(rng);
        let key = hmac(&[SERVER, &KEY_TAIL].concat(), &[&c1_digest]);
        if let Some((body, tail)) = s2.split_last_chunk_mut::<DIGEST>() {
            *tail = hmac(&key, &[body]);
        }
    }
    Ok([&[VERSION][..], &s1, &s2].concat())
}

/// C0 and C1, simple.
pub fn hello(rng: &mut dyn rand_core::Rng) -> Vec<u8> {
    [&[VERSION][..], &random_packet(rng)].concat()
}

/// C2 for a server's S0, S1 and S2.
///
/// # Errors
/// [`NotRtmp`]: S0 is not version 3.
pub fn acknowledge(reply: &[u8; REPLY]) -> Result<Vec<u8>, NotRtmp> {
    match reply.split_first() {
        Some((&VERSION, rest)) => Ok(rest.get(..PACKET).ok_or(NotRtmp)?.to_vec()),
        _ => Err(NotRtmp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::TryRng;

    struct Counter(u8);

    impl TryRng for Counter {
        type Error = core::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            rand_core::utils::next_word_via_fill(self)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            rand_core::utils::next_word_via_fill(self)
        }
        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
            for byte in dst {
                self.0 = self.0.wrapping_mul(5).wrapping_add(1);
                *byte = self.0;
            }
            Ok(())
        }
    }

    #[test]
    fn a_simple_client_gets_its_own_bytes_back() {
        let c0c1: [u8; HELLO] = hello(&mut Counter(7)).try_into().unwrap();
        let s: [u8; REPLY] = reply(&c0c1, &mut Counter(1)).unwrap().try_into().unwrap();
        assert_eq!(s[0], 3);
        assert_eq!(s[1 + PACKET..], c0c1[1..]);
        assert_eq!(acknowledge(&s).unwrap(), s[1..=PACKET]);
    }

    #[test]
    fn a_client_with_a_digest_gets_digests_it_can_check() {
        for layout in LAYOUTS {
            let mut c1 = random_packet(&mut Counter(3));
            c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
            let (before, _, after) = split(&c1, layout).unwrap();
            let (at, digest) = (before.len(), hmac(PLAYER, &[before, after]));
            c1[at..at + DIGEST].copy_from_slice(&digest);
            let c0c1: [u8; HELLO] = [&[3][..], &c1].concat().try_into().unwrap();
            let s = reply(&c0c1, &mut Counter(1)).unwrap();
            let s1: &[u8; PACKET] = s[1..=PACKET].try_into().unwrap();
            let (before, s1_digest, after) = split(s1, layout).unwrap();
            assert_eq!(s1_digest, hmac(SERVER, &[before, after]));
            let key = hmac(&[SERVER, &KEY_TAIL].concat(), &[&digest]);
            let s2 = &s[1 + PACKET..];
            assert_eq!(s2[PACKET - DIGEST..], hmac(&key, &[&s2[..PACKET - DIGEST]]));
        }
    }

    #[test]
    fn a_version_that_is_not_rtmp_is_refused() {
        for version in [0, 2, b'G', 0x80] {
            let mut c0c1 = [0; HELLO];
            c0c1[0] = version;
            assert_eq!(reply(&c0c1, &mut Counter(1)), Err(NotRtmp));
        }
    }
}
