//! The simple RTMP handshake (RTMP 1.0 §5.2) as bytes. Knows no state.

/// C1, S1, C2 and S2 have this many bytes.
pub const PART: usize = 1536;

/// The only version there is.
pub const VERSION: u8 = 3;

/// C0 and C1 (or S0 and S1): version, time 0, four zero bytes, bytes that `seed` determines.
pub fn hello(seed: u64) -> Vec<u8> {
    let mut bytes = vec![VERSION, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while bytes.len() < 1 + PART {
        // xorshift64: any bytes will do that a peer cannot echo by chance.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push((state >> 32) as u8);
    }
    bytes
}

/// Whether `part` (S2 or C2) answers what `hello` sent: time and the bytes after the two times are the same.
pub fn answers(part: &[u8], hello: &[u8]) -> bool {
    part.len() == PART && part[..4] == hello[1..5] && part[8..] == hello[9..]
}
