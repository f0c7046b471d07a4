//! Payloads that prove their own arrival. No framing, no I/O.
//!
//! ```text
//! | stream u64 | sequence u64 | sent at, ns u64 | check u64 | body: known bytes that depend on the sequence |
//! ```
//!
//! Sending is cheap: bodies are cut from one table, and only the head is made anew. Receiving compares the
//! whole body with what it must be.

use bytes::Bytes;

/// Bytes before the body.
pub const HEAD: usize = 32;

/// Milliseconds between the timestamps of two messages.
pub const STEP: u32 = 20;

/// So many different bodies follow each other.
pub const VARIANTS: u64 = 16;
/// Bytes by which one body is ahead of the other in the table; odd, so that no two align.
const STRIDE: u64 = 61;

/// The payloads of one case's messages, all of one size.
#[derive(Clone, Debug)]
pub struct Payloads {
    /// Where all bodies are cut from.
    table: Bytes,
    size: usize,
}

/// A payload's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Which stream it is of.
    pub stream: u64,
    /// Which of the stream's messages it is.
    pub sequence: u64,
    /// When it was sent, in nanoseconds of the sender's clock.
    pub sent: u64,
}

impl Payloads {
    /// Payloads of `size` bytes.
    pub fn new(size: usize) -> Self {
        assert!(size >= HEAD);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let table = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 56) as u8
        });
        Self { table: table.take(size + (VARIANTS * STRIDE) as usize).collect(), size }
    }

    /// Bytes of each payload, head and body.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What follows the head of message number `sequence`.
    pub fn body(&self, sequence: u64) -> &[u8] {
        let from = (sequence % VARIANTS * STRIDE) as usize;
        &self.table[from..from + self.size - HEAD]
    }

    /// When the message, once it has come whole, was sent: if it is `stream`'s number `sequence`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, payload: &[u8], stream: u64, sequence: u64) -> Result<u64, &'static str> {
        let head = payload.first_chunk().ok_or("another length")?;
        let sent = Head::read(head)?.verify(stream, sequence)?;
        if payload[HEAD..] != *self.body(sequence) {
            return Err("damaged");
        }
        Ok(sent)
    }
}

/// The timestamp, in milliseconds, of message number `sequence`.
pub fn timestamp(sequence: u64) -> u32 {
    (sequence as u32).wrapping_mul(STEP)
}

impl Head {
    /// Its bytes.
    pub fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let words = [self.stream, self.sequence, self.sent, self.check()];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// What it says.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(bytes: &[u8; HEAD]) -> Result<Self, &'static str> {
        let word = |n: usize| bytes[8 * n..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let head = Self { stream: word(0), sequence: word(1), sent: word(2) };
        if word(3) == head.check() { Ok(head) } else { Err("damaged") }
    }

    /// When its message was sent, if it is `stream`'s number `sequence`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, stream: u64, sequence: u64) -> Result<u64, &'static str> {
        if self.stream != stream {
            return Err("another stream's message");
        }
        if self.sequence != sequence {
            return Err("lost, repeated or out of order");
        }
        Ok(self.sent)
    }

    fn check(&self) -> u64 {
        [self.stream, self.sequence, self.sent].iter().fold(0x2545_F491_4F6C_DD1D_u64, |sum, word| {
            (sum.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        })
    }
}
