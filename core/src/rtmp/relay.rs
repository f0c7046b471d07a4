//! Relays one direction chunk by chunk, while its two ends cannot yet be given the same bytes.
//!
//! Media payloads are never touched or held; only what must be is rewritten:
//! - a header, where the receiver's last one of its chunk stream differs from the sender's (the proxy answered
//!   some commands itself), so that a compressed one would mean something else to it;
//! - a message stream's id, in headers and in the short messages that name it, where the two ends know it by
//!   different ones.
//!
//! When neither is left to do, the direction can be spliced.

use super::chunk::{ChunkError, ChunkHeader, ChunkReader, ChunkWriter, MAX_HEADER, MessageHeader, Step};
use super::command::Command;
use super::message::kind;
use crate::amf0::Encoder;
use crate::machine::{Actions, Leg, Parsed};
use crate::read::Reader;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// The longest message that is kept to be read or renamed, in bytes: protocol control, user control and
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
    csid: u32,
    /// As the receiver knows it.
    header: MessageHeader,
    /// The first chunk's header, as the receiver must see it.
    head: SmallVec<[u8; MAX_HEADER]>,
    payload: Vec<u8>,
    /// Nothing of it goes on before it is complete, for it may change then.
    withheld: bool,
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
        let (mut at, mut sent) = (start, start);
        let result = self.relay(bytes, &mut at, &mut sent, actions);
        // Also before an error: what came before it is good.
        actions.forward(self.to, sent..at);
        result.map(|()| at)
    }

    /// Relays from `at` on. Everything before `sent` has been sent on, what is between them has not.
    fn relay(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        sent: &mut usize,
        actions: &mut Actions,
    ) -> Result<(), ChunkError> {
        while let Parsed::Complete(step, used) = self.reader.next(bytes.get(*at..).unwrap_or_default())? {
            let end = *at + used;
            match step {
                Step::Header(header) => {
                    let (rewritten, known) = self.rewrite_header(&header);
                    if header.begins {
                        let raw = bytes.get(*at..end).unwrap_or_default();
                        let head = if rewritten.is_empty() { raw } else { &rewritten };
                        self.begin(header.csid, known, head);
                    }
                    let withheld = self.held.iter().any(|held| held.withheld && held.csid == header.csid);
                    if withheld || !rewritten.is_empty() {
                        actions.forward(self.to, *sent..*at);
                        *sent = end;
                    }
                    if !withheld && !rewritten.is_empty() {
                        actions.write(self.to, rewritten.to_vec());
                    }
                }
                Step::Payload { csid, complete } => {
                    if self.hold(csid, bytes.get(*at..end).unwrap_or_default()) {
                        actions.forward(self.to, *sent..*at);
                        *sent = end;
                    }
                    if complete {
                        self.finish(csid, actions)?;
                    }
                }
            }
            *at = end;
            if self.is_transparent() {
                break;
            }
        }
        Ok(())
    }

    /// The header as the receiver must see it, empty if that is how it came; and what the receiver knows then.
    fn rewrite_header(&mut self, header: &ChunkHeader) -> (SmallVec<[u8; MAX_HEADER]>, MessageHeader) {
        let mut out = SmallVec::new();
        let csid = header.csid;
        let index = self.diverged.iter().position(|(id, _)| *id == csid);
        let stream_id = receivers_id(&self.stream_ids, header.message.stream_id);
        let mapped = MessageHeader { stream_id, ..header.message };
        let Some(index) = index else {
            if header.fmt == 0 && mapped != header.message {
                mapped.put_full(&mut out, csid);
            }
            return (out, mapped);
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
        (out, now)
    }

    /// A message begins: keep it if it has to be understood.
    fn begin(&mut self, csid: u32, header: MessageHeader, head: &[u8]) {
        let control = matches!(header.type_id, kind::SET_CHUNK_SIZE | kind::ABORT);
        // Abort refers to what may be withheld, so it must not overtake it.
        let withheld = !self.stream_ids.is_empty()
            && matches!(
                header.type_id,
                kind::ABORT | kind::USER_CONTROL | kind::COMMAND | kind::COMMAND_AMF3
            );
        if header.length > 0 && header.length <= MAX_HELD && (control || withheld) {
            self.held.push(Held { csid, header, head: head.into(), payload: Vec::new(), withheld });
        }
    }

    /// Keeps a span of the held message; whether it must not go on yet.
    fn hold(&mut self, csid: u32, span: &[u8]) -> bool {
        let Some(held) = self.held.iter_mut().find(|held| held.csid == csid) else { return false };
        held.payload.extend_from_slice(span);
        held.withheld
    }

    fn finish(&mut self, csid: u32, actions: &mut Actions) -> Result<(), ChunkError> {
        let Some(held) = self.take(csid) else { return Ok(()) };
        let number = Reader::new(&held.payload).u32().unwrap_or(0);
        match held.header.type_id {
            kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(number)?,
            kind::ABORT => {
                self.reader.abort(number);
                if let Some(aborted) = self.take(number).filter(|aborted| aborted.withheld) {
                    self.release(&aborted, &aborted.payload, actions);
                }
            }
            _ => {}
        }
        if held.withheld {
            self.release(
                &held,
                &rename_payload(&self.stream_ids, held.header.type_id, &held.payload),
                actions,
            );
        }
        Ok(())
    }

    fn take(&mut self, csid: u32) -> Option<Held> {
        let index = self.held.iter().position(|held| held.csid == csid)?;
        Some(self.held.swap_remove(index))
    }

    /// Sends a withheld message, or as much of it as there will be.
    fn release(&self, held: &Held, payload: &[u8], actions: &mut Actions) {
        let mut out = held.head.to_vec();
        for (index, chunk) in payload.chunks(self.reader.chunk_size() as usize).enumerate() {
            if index > 0 {
                held.header.put_continuation(&mut out, held.csid);
            }
            out.extend_from_slice(chunk);
        }
        actions.write(self.to, out);
    }
}

/// The receiver's name of a message stream.
pub(super) fn receivers_id(ids: &StreamIds, stream_id: u32) -> u32 {
    ids.iter().find(|(ours, _)| *ours == stream_id).map_or(stream_id, |(_, theirs)| *theirs)
}

/// A message's payload with the receiver's names of the message streams in it. The length stays the same.
pub(super) fn rename_payload(ids: &StreamIds, type_id: u8, payload: &[u8]) -> Vec<u8> {
    let renamed = match (type_id, payload) {
        // Stream Begin, EOF, Dry, Set Buffer Length, Is Recorded (§7.1.7) name a stream after the event type.
        (kind::USER_CONTROL, [0, event @ 0..=4, a, b, c, d, rest @ ..]) => {
            let id = receivers_id(ids, u32::from_be_bytes([*a, *b, *c, *d]));
            Some([&[0, *event], id.to_be_bytes().as_slice(), rest].concat())
        }
        (kind::COMMAND_AMF3, [0, amf0 @ ..]) => {
            rename_delete_stream(ids, amf0).map(|amf0| [&[0], &amf0[..]].concat())
        }
        (kind::COMMAND | kind::COMMAND_AMF3, amf0) => rename_delete_stream(ids, amf0),
        _ => None,
    };
    renamed.filter(|renamed| renamed.len() == payload.len()).unwrap_or_else(|| payload.to_vec())
}

/// A `deleteStream` with the receiver's name of the message stream; `None` for anything else.
fn rename_delete_stream(ids: &StreamIds, amf0: &[u8]) -> Option<Vec<u8>> {
    let command = Command::parse(amf0).ok().flatten().filter(|command| command.name == "deleteStream")?;
    // The id is a whole number from the wire; the conversion saturates.
    let id = receivers_id(ids, command.argument(1)?.as_number()? as u32);
    let object = command.argument(0)?;
    let encoder = Encoder::new().string(command.name).number(command.transaction).value(&object);
    Some(encoder.number(f64::from(id)).into_bytes())
}

/// Whether the receiver knows all that a compressed header refers to, except for the delta.
fn known_but_delta(known: &MessageHeader, message: &MessageHeader, fmt: u8) -> bool {
    let before = message.timestamp.wrapping_sub(message.delta);
    known.timestamp == before
        && known.stream_id == message.stream_id
        && (fmt == 1 || (known.length == message.length && known.type_id == message.type_id))
}
