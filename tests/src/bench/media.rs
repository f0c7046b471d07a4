//! Media messages that prove their own arrival. No I/O.
//!
//! ```text
//! | stream u64 | sequence u64 | sent at, ns u64 | check u64 | body: known bytes that depend on the sequence |
//! ```
//!
//! Sending is cheap: the chunks of a few messages are made once, and only the head is written anew. Receiving
//! compares the whole body with what it must be.

use crate::rtmp::{Encoder, Message, command::control, kind};
use bytes::Bytes;

/// Bytes before the body.
pub const HEAD: usize = 32;

/// Milliseconds between the timestamps of two messages.
pub const STEP: u32 = 20;

/// So many different bodies follow each other.
const VARIANTS: u64 = 16;
/// Bytes by which one body is ahead of the other in the table; odd, so that no two align.
const STRIDE: u64 = 61;

const CSID: u32 = 6;
/// Headers of the first message (type 0) and of all others (type 1), basic header included.
const FIRST_HEADER: usize = 12;
const NEXT_HEADER: usize = 8;

/// What one stream's media looks like.
#[derive(Clone, Debug)]
pub struct Media {
    /// Where all bodies are cut from.
    table: Bytes,
    size: usize,
    first: Vec<u8>,
    next: Vec<Vec<u8>>,
}

impl Media {
    /// Messages of `size` bytes, to be sent in chunks of `chunk_size` on message stream `stream_id`.
    pub fn new(size: usize, chunk_size: u32, stream_id: u32) -> Self {
        assert!(size >= HEAD && chunk_size as usize >= HEAD);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let table = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 56) as u8
        });
        let table = table.take(size + (VARIANTS * STRIDE) as usize).collect();
        let mut media = Self { table, size, first: Vec::new(), next: Vec::new() };
        let mut encoder = Encoder::new();
        encoder.set_compression(1);
        encoder.write(&control::set_chunk_size(chunk_size), &mut Vec::new());
        let mut chunks = (0..=VARIANTS).map(|sequence| {
            let payload = [&[0; HEAD], media.body(sequence)].concat().into();
            let timestamp = Self::timestamp(sequence);
            let message = Message { csid: CSID, timestamp, type_id: kind::VIDEO, stream_id, payload };
            let mut bytes = Vec::new();
            encoder.write(&message, &mut bytes);
            bytes
        });
        let first = chunks.next().unwrap_or_default();
        let mut next: Vec<_> = chunks.collect();
        next.rotate_right(1);
        media.first = first;
        media.next = next;
        media
    }

    /// Bytes of a message's payload.
    pub fn size(&self) -> usize {
        self.size
    }

    fn timestamp(sequence: u64) -> u32 {
        (sequence as u32).wrapping_mul(STEP)
    }

    fn body(&self, sequence: u64) -> &[u8] {
        let from = (sequence % VARIANTS * STRIDE) as usize;
        &self.table[from..from + self.size - HEAD]
    }

    /// Adds the chunks of a stream's message number `sequence` to `out`.
    pub fn write(&self, stream: u64, sequence: u64, now: u64, out: &mut Vec<u8>) {
        let (chunks, header) = match sequence {
            0 => (&self.first, FIRST_HEADER),
            _ => (&self.next[(sequence % VARIANTS) as usize], NEXT_HEADER),
        };
        let head = out.len() + header;
        out.extend_from_slice(chunks);
        let words = [stream, sequence, now, check(stream, sequence, now)];
        for (place, word) in out[head..head + HEAD].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// When the message was sent, if it is this stream's number `sequence` and whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, message: &Message, stream: u64, sequence: u64) -> Result<u64, &'static str> {
        let payload = &message.payload[..];
        if message.type_id != kind::VIDEO || payload.len() != self.size {
            return Err("another type or length");
        }
        let word = |n: usize| payload[8 * n..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let [of_stream, of_sequence, sent, sum] = [0, 1, 2, 3].map(word);
        if sum != check(of_stream, of_sequence, sent) || payload[HEAD..] != *self.body(of_sequence) {
            return Err("damaged");
        }
        if of_stream != stream {
            return Err("another stream's message");
        }
        if of_sequence != sequence {
            return Err("lost, repeated or out of order");
        }
        if message.timestamp != Self::timestamp(sequence) {
            return Err("another timestamp");
        }
        Ok(sent)
    }
}

fn check(stream: u64, sequence: u64, sent: u64) -> u64 {
    [stream, sequence, sent].iter().fold(0x2545_F491_4F6C_DD1D_u64, |sum, word| {
        (sum.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::Dechunker;

    fn arrive(media: &Media, chunk_size: u32, count: u64) -> Vec<Message> {
        let mut bytes = Vec::new();
        Encoder::new().write(&control::set_chunk_size(chunk_size), &mut bytes);
        (0..count).for_each(|sequence| media.write(9, sequence, sequence * 7, &mut bytes));
        let mut dechunker = Dechunker::new();
        dechunker.feed(&bytes).unwrap();
        std::iter::from_fn(|| dechunker.next_message()).skip(1).collect()
    }

    #[test]
    fn what_was_written_is_verified_at_every_size() {
        for (size, chunk_size) in [(32, 128), (100, 4096), (1024, 128), (16_384, 128), (16_384, 60_000)] {
            let media = Media::new(size, chunk_size, 1);
            let messages = arrive(&media, chunk_size, 40);
            assert_eq!(messages.len(), 40);
            for (message, sequence) in messages.iter().zip(0..) {
                assert_eq!(media.verify(message, 9, sequence), Ok(sequence * 7));
            }
        }
    }

    #[test]
    fn what_went_wrong_is_seen() {
        let media = Media::new(1024, 128, 1);
        let messages = arrive(&media, 128, 3);
        assert!(media.verify(&messages[1], 9, 2).is_err());
        assert!(media.verify(&messages[1], 8, 1).is_err());
        assert!(media.verify(&Message { timestamp: 0, ..messages[1].clone() }, 9, 1).is_err());
        for place in [0, 20, 31, 32, 1023] {
            let mut payload = messages[1].payload.to_vec();
            payload[place] ^= 1;
            assert!(media.verify(&Message { payload: payload.into(), ..messages[1].clone() }, 9, 1).is_err());
        }
    }
}
