//! RTMP messages: their types, protocol control messages and whole messages put together from chunks.

use super::chunk::{ChunkError, ChunkHeader, ChunkReader, MessageHeader, Step};
use crate::machine::Parsed;
use crate::read::Reader;
use alloc::vec::Vec;

/// Message type ids (RTMP 1.0 §5.4, §7.1).
pub mod kind {
    /// Set Chunk Size, 4 bytes.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message, 4 bytes: chunk stream id.
    pub const ABORT: u8 = 2;
    /// Acknowledgement, 4 bytes: bytes received.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control, 2 bytes of event type and its data.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size, 4 bytes.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth, 4 bytes and a limit type.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// A command in AMF3: one byte 0, then AMF0.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// A command in AMF0.
    pub const COMMAND: u8 = 20;
    /// Several messages in one.
    pub const AGGREGATE: u8 = 22;

    /// Whether a message of this type is part of the stream itself.
    pub const fn is_media(type_id: u8) -> bool {
        matches!(type_id, AUDIO | VIDEO | DATA_AMF3 | DATA | AGGREGATE)
    }
}

/// The chunk stream of protocol control messages (§5.4).
pub const CONTROL_CSID: u32 = 2;

/// Bytes of messages that may be half read while a session is set up. Commands take a few hundred, a
/// `connect` with a long token a few thousand; room for one AMF0 long string (over 64 KiB) is left.
pub const MAX_SETUP_BYTES: usize = 128 * 1024;

/// A whole message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The chunk stream it came on.
    pub csid: u32,
    /// Its header.
    pub header: MessageHeader,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// The payload's first four bytes as a number.
    pub fn u32(&self) -> Option<u32> {
        Reader::new(&self.payload).u32()
    }

    /// The AMF0 bytes of a command, in either of its two types.
    pub fn command(&self) -> Option<&[u8]> {
        match (self.header.type_id, self.payload.as_slice()) {
            (kind::COMMAND, amf0) | (kind::COMMAND_AMF3, [0, amf0 @ ..] | amf0) => Some(amf0),
            _ => None,
        }
    }
}

/// What [`Assembler::next`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Assembled {
    /// A message is complete.
    Message(Message),
    /// Bytes were read; none is complete yet.
    Progress,
    /// The stream itself begins: this is the header of a media message and nothing is half read. Not consumed.
    Media,
}

/// Puts whole messages together, bounded by [`MAX_SETUP_BYTES`], while a session is set up.
#[derive(Clone, Default, Debug)]
pub struct Assembler {
    reader: ChunkReader,
    partial: Vec<Message>,
    held: usize,
}

impl Assembler {
    /// The state of the direction.
    pub const fn reader(&self) -> &ChunkReader {
        &self.reader
    }

    /// The state of the direction, to read on without putting messages together.
    pub fn into_reader(self) -> ChunkReader {
        self.reader
    }

    /// Reads on at the beginning of `bytes`: what was found and how many bytes it took. Set Chunk Size and
    /// Abort have taken effect when their message is returned.
    ///
    /// # Errors
    /// The bytes break the format or a limit.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Parsed<Assembled>, &'static str> {
        if self.reader.idle()
            && let Parsed::Complete(header, _) = self.reader.peek(bytes).map_err(ChunkError::as_str)?
            && kind::is_media(header.message.type_id)
        {
            return Ok(Parsed::Complete(Assembled::Media, 0));
        }
        self.step(bytes)
    }

    /// As [`Assembler::next`], but media are messages like any other.
    ///
    /// # Errors
    /// The bytes break the format or a limit.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Parsed<Assembled>, &'static str> {
        let Parsed::Complete(step, used) = self.reader.next(bytes).map_err(ChunkError::as_str)? else {
            return Ok(Parsed::Partial);
        };
        let (csid, complete) = match step {
            Step::Header(ChunkHeader { begins: true, csid, message, .. }) => {
                if self.held.saturating_add(message.length as usize) > MAX_SETUP_BYTES {
                    return Err("message too long before the stream began");
                }
                self.held += message.length as usize;
                self.partial.push(Message { csid, header: message, payload: Vec::new() });
                (csid, message.length == 0)
            }
            Step::Header(_) => return Ok(Parsed::Complete(Assembled::Progress, used)),
            Step::Payload { csid, complete } => {
                if let Some(message) = self.partial.iter_mut().find(|message| message.csid == csid) {
                    message.payload.extend_from_slice(bytes.get(..used).unwrap_or_default());
                }
                (csid, complete)
            }
        };
        let found = if complete { self.take(csid) } else { None };
        if let Some(message) = &found {
            match (message.header.type_id, message.u32()) {
                (kind::SET_CHUNK_SIZE, size) => {
                    self.reader.set_chunk_size(size.unwrap_or(0)).map_err(ChunkError::as_str)?;
                }
                (kind::ABORT, Some(csid)) => {
                    self.reader.abort(csid);
                    self.take(csid);
                }
                _ => {}
            }
        }
        Ok(Parsed::Complete(found.map_or(Assembled::Progress, Assembled::Message), used))
    }

    fn take(&mut self, csid: u32) -> Option<Message> {
        let index = self.partial.iter().position(|message| message.csid == csid)?;
        let message = self.partial.swap_remove(index);
        self.held = self.held.saturating_sub(message.header.length as usize);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::ChunkWriter;
    use super::*;

    #[test]
    fn interleaved_messages_are_put_together() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        ChunkWriter::default().put(&mut one, 3, 0, kind::COMMAND, 0, &[1; 200]);
        ChunkWriter::default().put(&mut two, 4, 0, kind::COMMAND, 0, &[2; 200]);
        let first = 12 + 128;
        let wire = [&one[..first], &two[..first], &one[first..], &two[first..]].concat();
        let (mut assembler, mut at, mut got) = (Assembler::default(), 0, Vec::new());
        while at < wire.len() {
            let Parsed::Complete(found, used) = assembler.next(&wire[at..]).unwrap() else {
                panic!("partial")
            };
            at += used;
            if let Assembled::Message(message) = found {
                got.push((message.csid, message.payload));
            }
        }
        assert_eq!(got, [(3, alloc::vec![1; 200]), (4, alloc::vec![2; 200])]);
        assert_eq!(assembler.held, 0);
    }

    #[test]
    fn a_long_message_is_refused_at_its_header() {
        let header = [0x03, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0];
        assert!(Assembler::default().next(&header).is_err());
    }

    #[test]
    fn media_are_not_consumed() {
        let header = [0x04, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0];
        assert_eq!(Assembler::default().next(&header), Ok(Parsed::Complete(Assembled::Media, 0)));
    }
}
