//! RTMP chunk streams, written and read (RTMP 1.0 §5.3). No I/O; knows nothing of commands.
//!
//! ```text
//! +--------------+----------------+--------------------+--------------+
//! | Basic header | Message header | Extended timestamp | Chunk data   |
//! | 1-3 bytes    | 11, 7, 3 or 0  | 0 or 4 bytes       | ≤ chunk size |
//! +--------------+----------------+--------------------+--------------+
//! ```

use super::{Error, kind};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Chunk size of both directions until Set Chunk Size.
pub const DEFAULT_CHUNK_SIZE: usize = 128;

/// Largest chunk size that Set Chunk Size may name.
pub const MAX_CHUNK_SIZE: usize = 0x7FFF_FFFF;

/// A timestamp field of this value says that the extended timestamp follows; times from here on need it.
pub const EXTENDED: u32 = 0xFF_FFFF;

/// The longest chunk header: basic 3, message 11, extended timestamp 4 bytes.
const MAX_HEADER: usize = 18;

/// One whole message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The chunk stream it came by: 2–65599.
    pub csid: u32,
    /// Milliseconds, modulo 2³².
    pub timestamp: u32,
    /// What it is; see [`kind`].
    pub type_id: u8,
    /// The message stream it belongs to.
    pub stream_id: u32,
    /// Below 2²⁴ bytes.
    pub payload: Bytes,
}

/// What a side remembers of a chunk stream's last message header.
#[derive(Clone, Copy, Debug)]
struct Header {
    timestamp: u32,
    /// What the timestamp field meant: the time itself (type 0), or the difference to the last.
    field: u32,
    absolute: bool,
    length: usize,
    type_id: u8,
    stream_id: u32,
}

/// Cuts messages into chunks.
#[derive(Clone, Debug)]
pub struct Encoder {
    chunk_size: usize,
    compression: u8,
    by_csid: BTreeMap<u32, u8>,
    sent: BTreeMap<u32, Header>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder at the default chunk size that compresses headers as far as it may.
    pub fn new() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            compression: 3,
            by_csid: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    /// The present chunk size. It changes when a Set Chunk Size message is written.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// The highest chunk type (0–3) to begin messages with; a lower one is used where a message needs it.
    pub fn set_compression(&mut self, highest: u8) {
        self.compression = highest;
    }

    /// The same for one chunk stream.
    pub fn set_compression_of(&mut self, csid: u32, highest: u8) {
        self.by_csid.insert(csid, highest);
    }

    /// Adds a message's chunks to `out`.
    pub fn write(&mut self, message: &Message, out: &mut Vec<u8>) {
        let (first, next) = self.begin(message);
        out.extend(&first);
        let mut pieces = message.payload.chunks(self.chunk_size);
        out.extend(pieces.next().unwrap_or_default());
        for piece in pieces {
            out.extend(&next);
            out.extend(piece);
        }
        self.end(message);
    }

    /// Adds the chunks of several messages, each of another chunk stream, to `out` in mixed order:
    /// `pick(n)` says whose chunk is next among the `n` messages that are not through (taken modulo `n`).
    pub fn write_interleaved(
        &mut self,
        messages: &[Message],
        mut pick: impl FnMut(usize) -> usize,
        out: &mut Vec<u8>,
    ) {
        let mut open: Vec<VecDeque<Vec<u8>>> = messages.iter().map(|message| self.chunks(message)).collect();
        while !open.is_empty() {
            let turn = pick(open.len()) % open.len();
            out.extend(open[turn].pop_front().unwrap_or_default());
            open.retain(|chunks| !chunks.is_empty());
        }
    }

    /// A message's chunks one by one, for a caller that orders them.
    pub fn chunks(&mut self, message: &Message) -> VecDeque<Vec<u8>> {
        let (first, next) = self.begin(message);
        let mut pieces = message.payload.chunks(self.chunk_size);
        let mut chunks = VecDeque::from([[&first, pieces.next().unwrap_or_default()].concat()]);
        chunks.extend(pieces.map(|piece| [&next, piece].concat()));
        self.end(message);
        chunks
    }

    /// The headers of a message's first chunk and of all others.
    fn begin(&mut self, message: &Message) -> (Vec<u8>, Vec<u8>) {
        assert!((2..=65_599).contains(&message.csid), "a chunk stream id is 2-65599");
        assert!(message.payload.len() < 1 << 24, "a message is below 16 MB");
        let last = self.sent.get(&message.csid).copied();
        let (fmt, field) = self.fit(message, last);
        let mut first = Vec::with_capacity(MAX_HEADER);
        basic_header(fmt, message.csid, &mut first);
        if fmt < 3 {
            first.extend(&field.min(EXTENDED).to_be_bytes()[1..]);
        }
        if fmt < 2 {
            first.extend(&(message.payload.len() as u32).to_be_bytes()[1..]);
            first.push(message.type_id);
        }
        if fmt < 1 {
            first.extend(message.stream_id.to_le_bytes());
        }
        let mut next = Vec::with_capacity(MAX_HEADER);
        basic_header(3, message.csid, &mut next);
        if field >= EXTENDED {
            first.extend(field.to_be_bytes());
            next.extend(field.to_be_bytes());
        }
        let header = Header {
            timestamp: message.timestamp,
            field,
            absolute: if fmt == 3 { last.is_some_and(|last| last.absolute) } else { fmt == 0 },
            length: message.payload.len(),
            type_id: message.type_id,
            stream_id: message.stream_id,
        };
        self.sent.insert(message.csid, header);
        (first, next)
    }

    /// The chunk type to begin with, and its timestamp field.
    fn fit(&self, message: &Message, last: Option<Header>) -> (u8, u32) {
        let highest = *self.by_csid.get(&message.csid).unwrap_or(&self.compression);
        let Some(last) = last else { return (0, message.timestamp) };
        let delta = message.timestamp.wrapping_sub(last.timestamp);
        // A step of half the range or more is one backwards, which only type 0 can express.
        if highest == 0 || delta >= 1 << 31 || message.stream_id != last.stream_id {
            return (0, message.timestamp);
        }
        if highest == 1 || message.payload.len() != last.length || message.type_id != last.type_id {
            return (1, delta);
        }
        // After type 0 readers disagree on what type 3 means: the last timestamp again, or a difference of 0.
        if highest == 2 || last.absolute || delta != last.field { (2, delta) } else { (3, delta) }
    }

    fn end(&mut self, message: &Message) {
        if message.type_id == kind::SET_CHUNK_SIZE {
            let size = message.payload.first_chunk().map_or(0, |size| u32::from_be_bytes(*size) as usize);
            assert!((1..=MAX_CHUNK_SIZE).contains(&size), "a chunk size is 1-0x7FFFFFFF");
            self.chunk_size = size;
        }
    }
}

fn basic_header(fmt: u8, csid: u32, out: &mut Vec<u8>) {
    match csid {
        0..64 => out.push(fmt << 6 | csid as u8),
        64..320 => out.extend([fmt << 6, (csid - 64) as u8]),
        _ => {
            let [low, high, ..] = (csid - 64).to_le_bytes();
            out.extend([fmt << 6 | 1, low, high]);
        }
    }
}

/// Puts chunks together again, strictly: whatever the specification does not allow is an error.
#[derive(Clone, Debug)]
pub struct Dechunker {
    chunk_size: usize,
    streams: BTreeMap<u32, Incoming>,
    /// The beginning of a header whose end has not arrived.
    head: Vec<u8>,
    /// The chunk stream whose data comes next, and how many bytes.
    data: Option<(u32, usize)>,
    ready: VecDeque<Message>,
}

#[derive(Clone, Debug)]
struct Incoming {
    header: Header,
    /// The message as far as it has arrived; `None` between messages.
    body: Option<Vec<u8>>,
}

impl Default for Dechunker {
    fn default() -> Self {
        Self::new()
    }
}

impl Dechunker {
    /// A dechunker at the default chunk size.
    pub fn new() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: BTreeMap::new(),
            head: Vec::new(),
            data: None,
            ready: VecDeque::new(),
        }
    }

    /// Takes bytes, split anywhere; [`Self::next_message`] has what they complete.
    ///
    /// # Errors
    /// What is not allowed; the dechunker is of no use after that.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if let Some((csid, left)) = self.data {
                let (data, rest) = bytes.split_at(left.min(bytes.len()));
                bytes = rest;
                let body = self.streams.get_mut(&csid).and_then(|stream| stream.body.as_mut());
                body.ok_or(Error("a chunk of an aborted message"))?.extend(data);
                self.data = (data.len() < left).then_some((csid, left - data.len()));
                if self.data.is_none() {
                    self.chunk_end(csid)?;
                }
            } else if self.head.is_empty() {
                match self.chunk_begin(bytes)? {
                    Some(used) => bytes = &bytes[used..],
                    None => {
                        self.head.extend(bytes);
                        bytes = &[];
                    }
                }
            } else {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                let head = std::mem::take(&mut self.head);
                if self.chunk_begin(&head)?.is_none() {
                    self.head = head;
                }
            }
        }
        Ok(())
    }

    /// The next whole message.
    pub fn next_message(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    /// The present chunk size, as the peer's Set Chunk Size messages have it.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// Whether the bytes so far end between messages: nothing is half there.
    pub fn is_idle(&self) -> bool {
        self.head.is_empty()
            && self.data.is_none()
            && self.streams.values().all(|stream| stream.body.is_none())
    }

    /// Reads a chunk's headers, if they are all there, and says how long they are.
    fn chunk_begin(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let mut rest = bytes;
        let Some((fmt, csid)) = read_basic_header(&mut rest) else { return Ok(None) };
        let last = self.streams.get(&csid);
        let open = last.is_some_and(|stream| stream.body.is_some());
        if open && fmt != 3 {
            return Err(Error("a message begins within a message of its chunk stream"));
        }
        let mut header = match (fmt, last) {
            (0, _) => Header { timestamp: 0, field: 0, absolute: true, length: 0, type_id: 0, stream_id: 0 },
            (_, Some(stream)) => stream.header,
            (_, None) => return Err(Error("a chunk stream begins without a type 0 chunk")),
        };
        if fmt < 3 {
            let Some(field) = take::<3>(&mut rest) else { return Ok(None) };
            header.field = be24(field);
            header.absolute = fmt == 0;
        }
        if fmt < 2 {
            let Some([a, b, c, type_id]) = take(&mut rest) else { return Ok(None) };
            header.length = be24([a, b, c]) as usize;
            header.type_id = type_id;
        }
        if fmt < 1 {
            let Some(stream_id) = take(&mut rest) else { return Ok(None) };
            header.stream_id = u32::from_le_bytes(stream_id);
        }
        if header.field >= EXTENDED {
            let Some(extended) = take(&mut rest).map(u32::from_be_bytes) else { return Ok(None) };
            if fmt == 3 && extended != header.field {
                return Err(Error("a type 3 chunk has another extended timestamp"));
            }
            if extended < EXTENDED {
                return Err(Error("an extended timestamp that needs no extension"));
            }
            header.field = extended;
        }
        if !open {
            header.timestamp =
                if fmt == 0 { header.field } else { header.timestamp.wrapping_add(header.field) };
        }
        let length = header.length;
        let stream = self.streams.entry(csid).or_insert(Incoming { header, body: None });
        stream.header = header;
        let body = stream.body.get_or_insert_with(|| Vec::with_capacity(length));
        match length - body.len() {
            0 => self.chunk_end(csid)?,
            left => self.data = Some((csid, left.min(self.chunk_size))),
        }
        Ok(Some(bytes.len() - rest.len()))
    }

    /// A chunk is complete; perhaps its message too.
    fn chunk_end(&mut self, csid: u32) -> Result<(), Error> {
        let Some(stream) = self.streams.get_mut(&csid) else { return Ok(()) };
        let Some(body) = stream.body.take_if(|body| body.len() == stream.header.length) else {
            return Ok(());
        };
        let Header { timestamp, type_id, stream_id, .. } = stream.header;
        match (type_id, body.first_chunk().map(|value| u32::from_be_bytes(*value))) {
            (kind::SET_CHUNK_SIZE, size) => {
                self.chunk_size = size.map_or(0, |size| size as usize);
                if body.len() != 4 || !(1..=MAX_CHUNK_SIZE).contains(&self.chunk_size) {
                    return Err(Error("a bad Set Chunk Size"));
                }
            }
            (kind::ABORT, aborted) => {
                let aborted = aborted.filter(|_| body.len() == 4).ok_or(Error("a bad Abort"))?;
                if let Some(stream) = self.streams.get_mut(&aborted) {
                    stream.body = None;
                }
            }
            _ => {}
        }
        self.ready.push_back(Message { csid, timestamp, type_id, stream_id, payload: body.into() });
        Ok(())
    }
}

/// Chunk type and chunk stream id.
fn read_basic_header(rest: &mut &[u8]) -> Option<(u8, u32)> {
    let [first] = take(rest)?;
    let csid = match first & 0x3F {
        0 => 64 + u32::from(take::<1>(rest)?[0]),
        1 => 64 + u32::from(u16::from_le_bytes(take(rest)?)),
        csid => u32::from(csid),
    };
    Some((first >> 6, csid))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn be24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::command::control;
    use proptest::prelude::*;

    fn any_message() -> impl Strategy<Value = Message> {
        let csid = prop_oneof![2..64u32, 64..320u32, 320..65_600u32, Just(6)];
        let timestamp = prop_oneof![0..5_000u32, EXTENDED - 3..EXTENDED + 3, any::<u32>()];
        let payload =
            prop_oneof![0..20usize, 100..400usize].prop_flat_map(|n| prop::collection::vec(any::<u8>(), n));
        (csid, timestamp, 8..23u8, 0..3u32, payload).prop_map(
            |(csid, timestamp, type_id, stream_id, payload)| Message {
                csid,
                timestamp,
                type_id,
                stream_id,
                payload: payload.into(),
            },
        )
    }

    /// A message, or a change of the chunk size.
    fn any_step() -> impl Strategy<Value = Message> {
        prop_oneof![9 => any_message(), 1 => (1..300u32).prop_map(control::set_chunk_size)]
    }

    fn dechunk<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Message> {
        let mut dechunker = Dechunker::new();
        pieces.into_iter().for_each(|piece| dechunker.feed(piece).unwrap());
        assert!(dechunker.is_idle());
        std::iter::from_fn(|| dechunker.next_message()).collect()
    }

    proptest! {
        #[test]
        fn messages_survive_chunking_however_split_and_compressed(
            steps in prop::collection::vec((any_step(), 0..4u8), 1..20),
            piece in 1..300usize,
        ) {
            let mut encoder = Encoder::new();
            let mut bytes = Vec::new();
            for (message, compression) in &steps {
                encoder.set_compression_of(message.csid, *compression);
                encoder.write(message, &mut bytes);
            }
            let messages: Vec<_> = steps.into_iter().map(|(message, _)| message).collect();
            prop_assert_eq!(&dechunk([&bytes[..]]), &messages);
            prop_assert_eq!(&dechunk(bytes.chunks(piece)), &messages);
            prop_assert_eq!(&dechunk(bytes.chunks(1)), &messages);
        }

        #[test]
        fn interleaved_messages_arrive_whole(
            mut messages in prop::collection::vec(any_message(), 1..6),
            order in prop::collection::vec(any::<prop::sample::Index>(), 32),
        ) {
            for (n, message) in messages.iter_mut().enumerate() {
                message.csid = 60 + n as u32;
            }
            let mut order = order.iter().cycle();
            let mut bytes = Vec::new();
            let mut encoder = Encoder::new();
            encoder.write_interleaved(&messages, |n| order.next().unwrap().index(n), &mut bytes);
            let mut got = dechunk([&bytes[..]]);
            got.sort_by_key(|message| message.csid);
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn any_bytes_are_dechunked_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Dechunker::new().feed(&bytes);
        }
    }

    fn video(timestamp: u32, payload: &'static [u8]) -> Message {
        Message {
            csid: 6,
            timestamp,
            type_id: kind::VIDEO,
            stream_id: 1,
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn equal_steps_compress_to_one_byte_of_header() {
        let mut encoder = Encoder::new();
        let lengths = [0, 40, 80, 120].map(|timestamp| {
            let mut bytes = Vec::new();
            encoder.write(&video(timestamp, b"x"), &mut bytes);
            bytes.len() - 1
        });
        assert_eq!(lengths, [12, 4, 1, 1]);
    }

    #[test]
    fn the_extended_timestamp_is_repeated_in_type_3_chunks() {
        let mut bytes = Vec::new();
        Encoder::new().write(&video(0x0100_0000, &[7; 200]), &mut bytes);
        assert_eq!(bytes.len(), 12 + 4 + 128 + 1 + 4 + 72);
        assert_eq!(bytes[16 + 128..16 + 128 + 5], [0xC6, 1, 0, 0, 0]);
    }

    #[test]
    fn an_aborted_message_is_dropped_and_its_chunk_stream_goes_on() {
        let mut encoder = Encoder::new();
        let mut chunks = encoder.chunks(&video(0, &[1; 300]));
        let mut bytes = chunks.pop_front().unwrap();
        encoder.write(&control::abort(6), &mut bytes);
        encoder.write(&video(5, b"whole"), &mut bytes);
        assert_eq!(dechunk([&bytes[..]]), [control::abort(6), video(5, b"whole")]);
    }

    #[test]
    fn a_chunk_size_set_within_a_message_holds_for_its_next_chunk() {
        let mut encoder = Encoder::new();
        let message = video(0, &[1; 300]);
        let mut chunks = encoder.chunks(&message);
        let mut bytes = chunks.pop_front().unwrap();
        encoder.write(&control::set_chunk_size(4096), &mut bytes);
        bytes.push(0xC6);
        bytes.extend(&message.payload[128..]);
        assert_eq!(dechunk([&bytes[..]]), [control::set_chunk_size(4096), message]);
    }

    #[test]
    fn what_the_specification_forbids_is_an_error() {
        let start: &[u8] = &[6, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
        let cases: [(&str, Vec<u8>); 5] = [
            ("begins without type 0", vec![0x46, 0, 0, 0, 0, 0, 1, 9, 0]),
            ("begins within a message", [start, &[0; 128], start].concat()),
            ("chunk size 0", vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("chunk size with the top bit", vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0x80, 0, 0, 1]),
            ("needless extension", vec![6, 255, 255, 255, 0, 0, 1, 9, 1, 0, 0, 0, 0, 0, 0, 1]),
        ];
        for (what, bytes) in cases {
            assert!(Dechunker::new().feed(&bytes).is_err(), "{what}");
        }
    }
}
