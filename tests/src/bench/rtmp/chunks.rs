//! Media messages as RTMP chunks. No I/O.
//!
//! The chunks of a few messages are made once, and only their payloads' heads are written anew.

use crate::bench::media::{HEAD, Head, Payloads, VARIANTS, timestamp};
use crate::rtmp::{Encoder, Message, command::control, kind};

const CSID: u32 = 6;
/// Headers of the first message (type 0) and of all others (type 1), basic header included.
const FIRST_HEADER: usize = 12;
const NEXT_HEADER: usize = 8;

/// What one stream's media looks like.
#[derive(Clone, Debug)]
pub struct Media {
    payloads: Payloads,
    first: Vec<u8>,
    next: Vec<Vec<u8>>,
}

impl Media {
    /// Messages of `size` bytes, to be sent in chunks of `chunk_size` on message stream `stream_id`.
    pub fn new(size: usize, chunk_size: u32, stream_id: u32) -> Self {
        assert!(chunk_size as usize >= HEAD);
        let payloads = Payloads::new(size);
        let mut encoder = Encoder::new();
        encoder.set_compression(1);
        encoder.write(&control::set_chunk_size(chunk_size), &mut Vec::new());
        let mut chunks = (0..=VARIANTS).map(|sequence| {
            let payload = [&[0; HEAD], payloads.body(sequence)].concat().into();
            let timestamp = timestamp(sequence);
            let message = Message { csid: CSID, timestamp, type_id: kind::VIDEO, stream_id, payload };
            let mut bytes = Vec::new();
            encoder.write(&message, &mut bytes);
            bytes
        });
        let first = chunks.next().unwrap_or_default();
        let mut next: Vec<_> = chunks.collect();
        next.rotate_right(1);
        Self { payloads, first, next }
    }

    /// Adds the chunks of a stream's message number `sequence` to `out`.
    pub fn write(&self, stream: u64, sequence: u64, now: u64, out: &mut Vec<u8>) {
        let (chunks, header) = match sequence {
            0 => (&self.first, FIRST_HEADER),
            _ => (&self.next[(sequence % VARIANTS) as usize], NEXT_HEADER),
        };
        let head = out.len() + header;
        out.extend_from_slice(chunks);
        out[head..head + HEAD].copy_from_slice(&Head { stream, sequence, sent: now }.bytes());
    }

    /// When the message was sent, if it is this stream's number `sequence` and whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, message: &Message, stream: u64, sequence: u64) -> Result<u64, &'static str> {
        if message.type_id != kind::VIDEO || message.payload.len() != self.payloads.size() {
            return Err("another type or length");
        }
        let sent = self.payloads.verify(&message.payload, stream, sequence)?;
        if message.timestamp != timestamp(sequence) {
            return Err("another timestamp");
        }
        Ok(sent)
    }
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
