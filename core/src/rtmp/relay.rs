//! Relays one direction chunk by chunk, while its two ends cannot yet be given the same bytes.
//!
//! Payloads are never touched or held; only headers are rewritten, and only where they must be:
//! - the receiver's last header of a chunk stream differs from the sender's (the proxy answered some commands
//!   itself), so a compressed header would mean something else to it;
//! - the two ends know a message stream by different ids.
//!
//! When neither is left to do, the direction can be spliced.

use super::chunk::{ChunkError, ChunkHeader, ChunkReader, ChunkWriter, MAX_HEADER, MessageHeader, Step};
use super::command::Command;
use super::message::kind;
use crate::amf0::{Decoder, Encoder};
use crate::machine::{Actions, Leg, Parsed};
use crate::read::Reader;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// The longest message that is held to be read or rewritten, in bytes: protocol control, user control and
/// `deleteStream` are shorter.
const MAX_HELD: u32 = 96;

/// Two names of one message stream: the sender's and the receiver's.
pub(super) type StreamIds = SmallVec<[(u32, u32); 2]>;

/// One direction.
#[derive(Debug)]
pub(super) struct Relay {
    to: Leg,
    reader: ChunkReader,
    /// Chunk streams whose last header the receiver knows differently, and how it knows it.
    diverged: SmallVec<[(u32, Option<MessageHeader>); 2]>,
    stream_ids: StreamIds,
    /// Short messages on their way, kept to be understood.
    held: SmallVec<[Held; 1]>,
}

#[derive(Debug)]
struct Held {
    header: ChunkHeader,
    payload: Vec<u8>,
    /// Its payload waits here to be changed instead of going straight on.
    rewrite: bool,
}

impl Relay {
    /// A direction whose sender is at `reader` and whose receiver has been written to by `writer`.
    pub(super) fn new(to: Leg, reader: ChunkReader, writer: &ChunkWriter, stream_ids: StreamIds) -> Self {
        let diverged = reader
            .headers()
            .map(|(csid, header)| (csid, writer.header(csid), header))
            .filter(|(_, known, header)| *known != Some(*header))
            .map(|(csid, known, _)| (csid, known))
            .collect();
        Self { to, reader, diverged, stream_ids, held: SmallVec::new() }
    }

    /// A direction whose receiver has been sent every byte of the sender's, but for the stream ids.
    pub(super) fn verbatim(to: Leg, reader: ChunkReader, stream_ids: StreamIds) -> Self {
        Self { to, reader, diverged: SmallVec::new(), stream_ids, held: SmallVec::new() }
    }

    /// Whether the receiver can be given the sender's bytes from here on.
    pub(super) fn is_transparent(&self) -> bool {
        self.diverged.is_empty()
            && self.stream_ids.is_empty()
            && self.held.is_empty()
            && self.reader.at_boundary()
    }

    /// Relays from `bytes[start..]`; returns up to where bytes were used.
    pub(super) fn run(
        &mut self,
        bytes: &[u8],
        start: usize,
        actions: &mut Actions,
    ) -> Result<usize, ChunkError> {
        let mut at = start;
        // Everything before this has been sent on.
        let mut sent = start;
        while let Parsed::Complete(step, used) = self.reader.next(bytes.get(at..).unwrap_or_default())? {
            let end = at + used;
            match step {
                Step::Header(header) => {
                    if let Some(rewritten) = self.rewrite_header(&header) {
                        actions.forward(self.to, sent..at);
                        actions.write(self.to, rewritten.to_vec());
                        sent = end;
                    }
                    if header.begins {
                        self.begin(header);
                    }
                }
                Step::Payload { csid, complete } => {
                    if self.hold(csid, bytes.get(at..end).unwrap_or_default()) {
                        actions.forward(self.to, sent..at);
                        sent = end;
                    }
                    if complete {
                        self.finish(csid, actions)?;
                    }
                }
            }
            at = end;
            if self.is_transparent() {
                break;
            }
        }
        actions.forward(self.to, sent..at);
        Ok(at)
    }

    fn map(&self, stream_id: u32) -> u32 {
        map(&self.stream_ids, stream_id)
    }

    /// The header as the receiver must see it, if that is not how it came.
    fn rewrite_header(&mut self, header: &ChunkHeader) -> Option<SmallVec<[u8; MAX_HEADER]>> {
        let mut out = SmallVec::new();
        let csid = header.csid;
        let index = self.diverged.iter().position(|(id, _)| *id == csid);
        let mapped = MessageHeader { stream_id: self.map(header.message.stream_id), ..header.message };
        let Some(index) = index else {
            if header.fmt != 0 || mapped == header.message {
                return None;
            }
            mapped.put_full(&mut out, csid);
            return Some(out);
        };
        let known = self.diverged.get(index).and_then(|(_, known)| *known);
        let now = match known {
            Some(known) if !header.begins => {
                // A continuation repeats the extended timestamp (§5.3.1.3), and the receiver was told another one.
                if known.delta != mapped.delta && (known.extended || mapped.extended) {
                    known.put_continuation(&mut out, csid);
                }
                known
            }
            // It says all there is to know; only the stream id may have to change.
            _ if header.fmt == 0 => {
                if mapped != header.message {
                    mapped.put_full(&mut out, csid);
                }
                mapped
            }
            // The receiver's time, length, type and stream are right; only the delta may have to be said.
            Some(known) if known_but_delta(&known, &mapped, header.fmt) => {
                if header.fmt == 3 {
                    mapped.put_delta(&mut out, csid);
                }
                mapped
            }
            _ => {
                let full =
                    MessageHeader::full(mapped.timestamp, mapped.length, mapped.type_id, mapped.stream_id);
                full.put_full(&mut out, csid);
                full
            }
        };
        if now == mapped {
            self.diverged.remove(index);
        } else if let Some(entry) = self.diverged.get_mut(index) {
            entry.1 = Some(now);
        }
        (!out.is_empty()).then_some(out)
    }

    /// A message begins: hold it if it has to be understood.
    fn begin(&mut self, header: ChunkHeader) {
        let MessageHeader { type_id, length, .. } = header.message;
        let control = matches!(type_id, kind::SET_CHUNK_SIZE | kind::ABORT);
        let rewrite = !self.stream_ids.is_empty()
            && matches!(type_id, kind::USER_CONTROL | kind::COMMAND | kind::COMMAND_AMF3)
            && length <= self.reader.chunk_size();
        if length > 0 && length <= MAX_HELD && (control || rewrite) {
            self.held.push(Held { header, payload: Vec::new(), rewrite });
        }
    }

    /// Keeps a span of the held message; whether it must not go on yet.
    fn hold(&mut self, csid: u32, span: &[u8]) -> bool {
        let Some(held) = self.held.iter_mut().find(|held| held.header.csid == csid) else { return false };
        held.payload.extend_from_slice(span);
        held.rewrite
    }

    fn finish(&mut self, csid: u32, actions: &mut Actions) -> Result<(), ChunkError> {
        let Some(index) = self.held.iter().position(|held| held.header.csid == csid) else { return Ok(()) };
        let held = self.held.swap_remove(index);
        let number = Reader::new(&held.payload).u32();
        match held.header.message.type_id {
            kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(number.unwrap_or(0))?,
            kind::ABORT => {
                let aborted = number.unwrap_or(0);
                self.reader.abort(aborted);
                // Its end will not come. Nobody can fill memory with beginnings.
                self.held.retain(|held| held.header.csid != aborted);
            }
            type_id => actions.write(self.to, self.rename(type_id, held.payload)),
        }
        Ok(())
    }

    /// A held message with the receiver's names of the message streams in it. The length stays the same.
    fn rename(&self, type_id: u8, payload: Vec<u8>) -> Vec<u8> {
        if type_id == kind::USER_CONTROL {
            return rename_event(&self.stream_ids, payload);
        }
        let amf3 = usize::from(type_id == kind::COMMAND_AMF3 && payload.first() == Some(&0));
        let amf0 = payload.get(amf3..).unwrap_or_default();
        let id = match Command::parse(amf0) {
            Ok(Some(command)) if command.name == "deleteStream" => {
                command.argument(1).and_then(|v| v.as_number())
            }
            _ => None,
        };
        let Some(id) = id else { return payload };
        // The id is a whole number from the wire; the conversion saturates.
        let renamed = f64::from(self.map(id as u32));
        let mut decoder = Decoder::new(amf0);
        let mut encoder = Encoder::new();
        for index in 0.. {
            match decoder.next_value() {
                Ok(Some(_)) if index == 3 => encoder = encoder.number(renamed),
                Ok(Some(value)) => encoder = encoder.value(&value),
                _ => break,
            }
        }
        let renamed = encoder.into_bytes();
        if renamed.len() != amf0.len() {
            return payload;
        }
        [payload.get(..amf3).unwrap_or_default(), &renamed].concat()
    }
}

/// The receiver's name of a message stream.
pub(super) fn map(ids: &StreamIds, stream_id: u32) -> u32 {
    ids.iter().find(|(ours, _)| *ours == stream_id).map_or(stream_id, |(_, theirs)| *theirs)
}

/// A user control message's payload with the receiver's name of the message stream in it.
pub(super) fn rename_event(ids: &StreamIds, mut payload: Vec<u8>) -> Vec<u8> {
    // Stream Begin, EOF, Dry, Set Buffer Length, Is Recorded (§7.1.7) name a stream after the event type.
    if let [0, 0..=4, id @ ..] = payload.as_mut_slice()
        && let Some(id) = id.first_chunk_mut::<4>()
    {
        *id = map(ids, u32::from_be_bytes(*id)).to_be_bytes();
    }
    payload
}

/// Whether the receiver knows all that a compressed header refers to, except for the delta.
fn known_but_delta(known: &MessageHeader, message: &MessageHeader, fmt: u8) -> bool {
    let before = message.timestamp.wrapping_sub(message.delta);
    known.timestamp == before
        && known.stream_id == message.stream_id
        && (fmt == 1 || (known.length == message.length && known.type_id == message.type_id))
}
