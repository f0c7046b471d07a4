//! The chunk stream (RTMP 1.0 §5.3): headers read in place, messages written. Holds no payload.
//!
//! ```text
//!  basic header (§5.3.1.1)         message header (§5.3.1.2)                           extended
//! ┌─────┬──────────────────┐ ┌───────────────┬────────────┬────────┬────────────────┐ ┌──────────┐
//! │ fmt │ csid: 1–3 bytes  │ │ timestamp: 3  │ length: 3  │ type:1 │ stream id: 4 LE│ │ time: 4  │
//! └─────┴──────────────────┘ └───────────────┴────────────┴────────┴────────────────┘ └──────────┘
//!   2 bit    2 … 65599         fmt 0: all │ fmt 1: no stream id │ fmt 2: time only │ fmt 3: nothing
//! ```

use super::message::kind;
use crate::machine::Parsed;
use crate::read::Reader;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// The chunk size both sides begin with, in bytes (§5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// Chunk streams one side may use: real peers use fewer than ten, the format allows 65,597 and a hostile peer
/// would use them all.
pub const MAX_CHUNK_STREAMS: usize = 256;

/// A timestamp field of this value says that an extended timestamp follows (§5.3.1.3).
const EXTENDED: u32 = 0x00ff_ffff;

/// The longest chunk header: 3 bytes of basic header, 11 of message header, 4 of extended timestamp.
pub const MAX_HEADER: usize = 18;

/// Why bytes are not a chunk stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkError {
    /// A compressed header on a chunk stream that has no earlier header.
    NoPreviousHeader,
    /// A new message's header before the chunk stream's last message was complete.
    Interrupted,
    /// More than [`MAX_CHUNK_STREAMS`].
    TooManyStreams,
    /// Set Chunk Size outside 1 … 0x7FFFFFFF.
    ChunkSize,
}

impl ChunkError {
    /// For logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPreviousHeader => "compressed chunk header without an earlier one",
            Self::Interrupted => "a message began inside another one of its chunk stream",
            Self::TooManyStreams => "too many chunk streams",
            Self::ChunkSize => "chunk size out of range",
        }
    }
}

/// A message's header, as the last header of its chunk stream left it: what later, compressed headers refer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageHeader {
    /// Milliseconds; absolute.
    pub timestamp: u32,
    /// Milliseconds to add for a new message with a type 3 header (§5.3.1.2.4).
    pub delta: u32,
    /// Payload bytes of the message.
    pub length: u32,
    /// Message type id.
    pub type_id: u8,
    /// Message stream id.
    pub stream_id: u32,
    /// Whether type 3 headers carry an extended timestamp.
    pub extended: bool,
}

impl MessageHeader {
    /// What a type 0 header leaves behind.
    pub const fn full(timestamp: u32, length: u32, type_id: u8, stream_id: u32) -> Self {
        Self { timestamp, delta: timestamp, length, type_id, stream_id, extended: timestamp >= EXTENDED }
    }

    /// Appends this header as a type 0 chunk header.
    pub fn put_full(&self, out: &mut impl Extend<u8>, csid: u32) {
        put_basic(out, 0, csid);
        out.extend(u24(if self.extended { EXTENDED } else { self.timestamp }));
        out.extend(u24(self.length));
        out.extend([self.type_id]);
        out.extend(self.stream_id.to_le_bytes());
        if self.extended {
            out.extend(self.timestamp.to_be_bytes());
        }
    }

    /// Appends this header as a type 2 chunk header: only the delta.
    pub fn put_delta(&self, out: &mut impl Extend<u8>, csid: u32) {
        put_basic(out, 2, csid);
        out.extend(u24(if self.extended { EXTENDED } else { self.delta }));
        if self.extended {
            out.extend(self.delta.to_be_bytes());
        }
    }

    /// Appends a type 3 chunk header that continues this message.
    pub fn put_continuation(&self, out: &mut impl Extend<u8>, csid: u32) {
        put_basic(out, 3, csid);
        if self.extended {
            // What the message's first header said: the time of a type 0, the delta of the others.
            out.extend(self.delta.to_be_bytes());
        }
    }
}

fn u24(value: u32) -> [u8; 3] {
    let [_, a, b, c] = value.to_be_bytes();
    [a, b, c]
}

fn put_basic(out: &mut impl Extend<u8>, fmt: u8, csid: u32) {
    let fmt = fmt << 6;
    match csid {
        // The masks only make the conversions visible; the ranges fit.
        2..=63 => out.extend([fmt | (csid & 0x3f) as u8]),
        64..=319 => out.extend([fmt, ((csid - 64) & 0xff) as u8]),
        _ => {
            let [low, high, ..] = csid.saturating_sub(64).to_le_bytes();
            out.extend([fmt | 1, low, high]);
        }
    }
}

/// One chunk's header, read but not yet counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkHeader {
    /// 0 to 3.
    pub fmt: u8,
    /// Chunk stream id, 2 to 65599.
    pub csid: u32,
    /// Whether a message begins with this chunk.
    pub begins: bool,
    /// The message's header.
    pub message: MessageHeader,
}

#[derive(Clone, Copy, Debug)]
struct ChunkStream {
    csid: u32,
    header: MessageHeader,
    /// Payload bytes of the current message that have not been read.
    remaining: u32,
}

/// What [`ChunkReader::next`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A chunk header.
    Header(ChunkHeader),
    /// Payload bytes of the chunk whose header came last.
    Payload {
        /// Its chunk stream.
        csid: u32,
        /// Whether the message is complete with them.
        complete: bool,
    },
}

/// Reads one direction of a connection, header by header and span by span.
///
/// Set Chunk Size and Abort are the caller's to notice; it then calls [`ChunkReader::set_chunk_size`] and
/// [`ChunkReader::abort`].
#[derive(Clone, Debug)]
pub struct ChunkReader {
    chunk_size: u32,
    streams: SmallVec<[ChunkStream; 4]>,
    /// Index of the last chunk's stream: almost always the next one's, too.
    last: usize,
    /// Payload bytes of the current chunk that have not been read.
    in_chunk: u32,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self { chunk_size: DEFAULT_CHUNK_SIZE, streams: SmallVec::new(), last: 0, in_chunk: 0 }
    }
}

impl ChunkReader {
    /// The size of the peer's chunks, in bytes.
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// The peer sent Set Chunk Size (§5.4.1).
    ///
    /// # Errors
    /// [`ChunkError::ChunkSize`].
    pub const fn set_chunk_size(&mut self, size: u32) -> Result<(), ChunkError> {
        if size == 0 || size > 0x7fff_ffff {
            return Err(ChunkError::ChunkSize);
        }
        self.chunk_size = size;
        Ok(())
    }

    /// The peer sent Abort Message (§5.4.2): the rest of the chunk stream's message will not come.
    pub fn abort(&mut self, csid: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.csid == csid) {
            stream.remaining = 0;
        }
    }

    /// Whether the next byte is a chunk header's.
    pub const fn at_boundary(&self) -> bool {
        self.in_chunk == 0
    }

    /// Whether no message is half read.
    pub fn idle(&self) -> bool {
        self.at_boundary() && self.streams.iter().all(|stream| stream.remaining == 0)
    }

    /// Each chunk stream and its last header.
    pub fn headers(&self) -> impl Iterator<Item = (u32, MessageHeader)> + '_ {
        self.streams.iter().map(|stream| (stream.csid, stream.header))
    }

    /// The last header of one chunk stream.
    fn find(&self, csid: u32) -> Option<(usize, &ChunkStream)> {
        match self.streams.get(self.last) {
            Some(stream) if stream.csid == csid => Some((self.last, stream)),
            _ => self.streams.iter().enumerate().find(|(_, stream)| stream.csid == csid),
        }
    }

    /// Reads a chunk header at the beginning of `bytes` and changes nothing.
    ///
    /// # Errors
    /// The bytes break the format.
    pub fn peek(&self, bytes: &[u8]) -> Result<Parsed<ChunkHeader>, ChunkError> {
        let mut reader = Reader::new(bytes);
        Ok(match self.header(&mut reader)? {
            Some(header) => Parsed::Complete(header, bytes.len() - reader.rest().len()),
            None => Parsed::Partial,
        })
    }

    fn header(&self, reader: &mut Reader<'_>) -> Result<Option<ChunkHeader>, ChunkError> {
        // `None` at every `?` below means: not all bytes are there.
        fn read(
            reader: &mut Reader<'_>,
            fmt: u8,
            previous: Option<&ChunkStream>,
        ) -> Option<(MessageHeader, bool)> {
            let old = previous.map_or(MessageHeader::full(0, 0, 0, 0), |stream| stream.header);
            let continues = previous.is_some_and(|stream| stream.remaining > 0);
            if fmt == 3 {
                if old.extended {
                    // Repeats what the message's first header said; nothing new.
                    reader.u32()?;
                }
                let timestamp = if continues { old.timestamp } else { old.timestamp.wrapping_add(old.delta) };
                return Some((MessageHeader { timestamp, ..old }, !continues));
            }
            let field = reader.u24()?;
            let mut new = old;
            if fmt <= 1 {
                new.length = reader.u24()?;
                new.type_id = reader.u8()?;
            }
            if fmt == 0 {
                new.stream_id = reader.u32_le()?;
            }
            new.extended = field == EXTENDED;
            new.delta = if new.extended { reader.u32()? } else { field };
            new.timestamp = if fmt == 0 { new.delta } else { old.timestamp.wrapping_add(new.delta) };
            Some((new, true))
        }
        let Some(first) = reader.u8() else { return Ok(None) };
        let fmt = first >> 6;
        let csid = match first & 0x3f {
            0 => reader.u8().map(|low| 64 + u32::from(low)),
            1 => reader.array().map(|bytes| 64 + u32::from(u16::from_le_bytes(bytes))),
            csid => Some(u32::from(csid)),
        };
        let Some(csid) = csid else { return Ok(None) };
        let previous = self.find(csid).map(|(_, stream)| stream);
        // A first header of type 1 is tolerated, as all servers do: librtmp sends its pings so.
        if previous.is_none() && fmt >= 2 {
            return Err(ChunkError::NoPreviousHeader);
        }
        if fmt != 3 && previous.is_some_and(|stream| stream.remaining > 0) {
            return Err(ChunkError::Interrupted);
        }
        let header = read(reader, fmt, previous);
        Ok(header.map(|(message, begins)| ChunkHeader { fmt, csid, begins, message }))
    }

    /// Reads the next header or payload span at the beginning of `bytes`: the step and how many bytes it took.
    ///
    /// # Errors
    /// The bytes break the format or a limit.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Parsed<Step>, ChunkError> {
        if self.in_chunk > 0 {
            return Ok(self.payload(bytes));
        }
        let Parsed::Complete(header, used) = self.peek(bytes)? else { return Ok(Parsed::Partial) };
        let index = match self.find(header.csid) {
            Some((index, _)) => index,
            None if self.streams.len() == MAX_CHUNK_STREAMS => return Err(ChunkError::TooManyStreams),
            None => {
                self.streams.push(ChunkStream { csid: header.csid, header: header.message, remaining: 0 });
                self.streams.len() - 1
            }
        };
        if let Some(stream) = self.streams.get_mut(index) {
            stream.header = header.message;
            if header.begins {
                stream.remaining = header.message.length;
            }
            self.in_chunk = stream.remaining.min(self.chunk_size);
        }
        self.last = index;
        Ok(Parsed::Complete(Step::Header(header), used))
    }

    fn payload(&mut self, bytes: &[u8]) -> Parsed<Step> {
        let span = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.in_chunk);
        let Some(stream) = self.streams.get_mut(self.last).filter(|_| span > 0) else {
            return Parsed::Partial;
        };
        self.in_chunk -= span;
        stream.remaining = stream.remaining.saturating_sub(span);
        let complete = stream.remaining == 0;
        Parsed::Complete(Step::Payload { csid: stream.csid, complete }, span as usize)
    }
}

/// Writes messages into one direction of a connection, each with a type 0 header.
#[derive(Clone, Debug)]
pub struct ChunkWriter {
    chunk_size: u32,
    /// What the peer's reader knows of each chunk stream.
    headers: SmallVec<[(u32, MessageHeader); 4]>,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { chunk_size: DEFAULT_CHUNK_SIZE, headers: SmallVec::new() }
    }
}

impl ChunkWriter {
    /// The size of the chunks written, in bytes.
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// What the peer knows of a chunk stream.
    pub fn header(&self, csid: u32) -> Option<MessageHeader> {
        self.headers.iter().find(|(id, _)| *id == csid).map(|(_, header)| *header)
    }

    /// Appends a message; a Set Chunk Size takes effect after it.
    pub fn put(
        &mut self,
        out: &mut Vec<u8>,
        csid: u32,
        timestamp: u32,
        type_id: u8,
        stream_id: u32,
        payload: &[u8],
    ) {
        // Only short messages of ours and bounded ones of the origin come here.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).min(0x00ff_ffff);
        let header = MessageHeader::full(timestamp, length, type_id, stream_id);
        match self.headers.iter_mut().find(|(id, _)| *id == csid) {
            Some((_, known)) => *known = header,
            None => self.headers.push((csid, header)),
        }
        header.put_full(out, csid);
        for (index, chunk) in payload.chunks(self.chunk_size as usize).enumerate() {
            if index > 0 {
                header.put_continuation(out, csid);
            }
            out.extend_from_slice(chunk);
        }
        if let (kind::SET_CHUNK_SIZE, Some(size)) = (type_id, Reader::new(payload).u32()) {
            self.chunk_size = size.clamp(1, 0x7fff_ffff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(reader: &mut ChunkReader, mut bytes: &[u8]) -> Vec<(u32, MessageHeader, Vec<u8>)> {
        let mut messages = Vec::new();
        let mut payload = Vec::new();
        let mut header = None;
        while !bytes.is_empty() {
            let Parsed::Complete(step, used) = reader.next(bytes).unwrap() else { panic!("partial") };
            match step {
                Step::Header(h) => header = Some(h),
                Step::Payload { csid, complete } => {
                    payload.extend_from_slice(&bytes[..used]);
                    if complete {
                        messages.push((csid, header.unwrap().message, core::mem::take(&mut payload)));
                    }
                }
            }
            bytes = &bytes[used..];
        }
        messages
    }

    #[test]
    fn messages_are_read_back_on_every_csid_form_and_timestamp() {
        for csid in [2, 63, 64, 319, 320, 65_599] {
            for timestamp in [0, 1, 0x00ff_fffe, 0x00ff_ffff, 0x0100_0000, u32::MAX] {
                let payload: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
                let (mut writer, mut out) = (ChunkWriter::default(), Vec::new());
                writer.put(&mut out, csid, timestamp, 9, 1, &payload);
                let messages = read_all(&mut ChunkReader::default(), &out);
                assert_eq!(messages, [(csid, MessageHeader::full(timestamp, 1000, 9, 1), payload)]);
            }
        }
    }

    #[test]
    fn a_type_3_header_repeats_delta_and_length() {
        let mut reader = ChunkReader::default();
        let stream = [
            &[0x04, 0, 0, 100, 0, 0, 1, 9, 1, 0, 0, 0, 0xaa][..], // type 0 at 100 ms
            &[0x84, 0, 0, 40, 0xbb],                              // type 2, + 40 ms
            &[0xc4, 0xcc],                                        // type 3: + 40 ms
        ]
        .concat();
        let times: Vec<u32> = read_all(&mut reader, &stream).iter().map(|m| m.1.timestamp).collect();
        assert_eq!(times, [100, 140, 180]);
    }

    #[test]
    fn broken_streams_are_refused() {
        let mut reader = ChunkReader::default();
        assert_eq!(reader.next(&[0xc3]), Err(ChunkError::NoPreviousHeader));
        assert_eq!(reader.set_chunk_size(0), Err(ChunkError::ChunkSize));
        assert_eq!(reader.set_chunk_size(0x8000_0000), Err(ChunkError::ChunkSize));
        reader.next(&[0x03, 0, 0, 0, 0, 0, 200, 20, 0, 0, 0, 0]).unwrap();
        reader.next(&[0; 128]).unwrap();
        assert_eq!(reader.next(&[0x43, 0, 0, 0]), Err(ChunkError::Interrupted));
        reader.abort(3);
        assert_eq!(reader.next(&[0x43, 0, 0, 0]), Ok(Parsed::Partial));
    }

    #[test]
    fn chunk_streams_are_bounded() {
        let mut reader = ChunkReader::default();
        for csid in 0..MAX_CHUNK_STREAMS as u16 {
            let [low, high] = csid.to_le_bytes();
            reader.next(&[0x01, low, high, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0]).unwrap();
        }
        let next = reader.next(&[0x01, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0]);
        assert_eq!(next, Err(ChunkError::TooManyStreams));
    }
}
