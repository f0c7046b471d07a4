//! The header of SRT packets (draft-sharabayko-srt-01 §3). Reads no payload but what leads to its receiver.
//!
//! ```text
//!   0                   1                   2                   3
//!   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!  ├─┼─────────────────────────────┼───────────────────────────────┤
//!  │0│                    packet sequence number                   │  data
//!  │1│        control type         │            subtype            │  or control
//!  ├─┼─────────────────────────────┼───────────────────────────────┤
//!  │              message number; type-specific information         │
//!  ├────────────────────────────────────────────────────────────────┤
//!  │              timestamp, in µs since the sender began           │
//!  ├────────────────────────────────────────────────────────────────┤
//!  │                     destination socket id                      │
//!  ├────────────────────────────────────────────────────────────────┤
//! ```

use crate::read::Reader;
use alloc::vec::Vec;
use bytes::Bytes;

/// The length of the header, in bytes.
pub const HEADER: usize = 16;

/// Where the timestamp is.
pub(super) const TIMESTAMP: usize = 8;
/// Where the destination socket id is.
pub(super) const DESTINATION: usize = 12;

/// What kind of packet it is (§3.1, §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Media.
    Data,
    /// A handshake (§3.2.1).
    Handshake,
    /// The connection ends (§3.2.7).
    Shutdown,
    /// Any other control packet, of this type.
    Control(u16),
}

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The kind of packet.
    pub kind: Kind,
    /// Microseconds since its sender began; wraps around.
    pub timestamp: u32,
    /// The socket id of its receiver; 0 if the sender does not know it yet.
    pub destination: u32,
}

impl Header {
    /// The header of a packet; `None` if it is too short for one.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(packet);
        let first = reader.u32()?;
        let (_, timestamp, destination) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let kind = match (first >> 16) as u16 {
            HANDSHAKE => Kind::Handshake,
            SHUTDOWN => Kind::Shutdown,
            control @ CONTROL.. => Kind::Control(control & !CONTROL),
            _ => Kind::Data,
        };
        Some(Self { kind, timestamp, destination })
    }
}

/// The bit that tells control from data.
const CONTROL: u16 = 0x8000;
const HANDSHAKE: u16 = CONTROL;
const SHUTDOWN: u16 = CONTROL | 5;

/// The first half of a handshake's header.
pub(super) const HANDSHAKE_START: [u8; 8] = [0x80, 0, 0, 0, 0, 0, 0, 0];

/// A SHUTDOWN. Its four bytes of nothing are sent by everybody, since a control packet is not empty.
pub(super) fn shutdown(destination: u32, timestamp: u32) -> Bytes {
    let mut packet = Vec::with_capacity(HEADER + 4);
    packet.extend_from_slice(&[0x80, 5, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&destination.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.into()
}

/// A copy of a packet, for another receiver's socket id.
pub(super) fn readdressed(packet: &[u8], destination: u32) -> Bytes {
    let mut copy = packet.to_vec();
    put(&mut copy, DESTINATION, destination.to_be_bytes());
    copy.into()
}

/// Replaces bytes of a packet; nothing, if it has none there.
pub(super) fn put<const N: usize>(packet: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u32) -> Vec<u8> {
        [first, 1, 2, 3].iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn a_packet_is_known_by_its_first_bits() {
        for (first, kind) in [
            (0, Kind::Data),
            (0x7fff_ffff, Kind::Data),
            (0x8000_0000, Kind::Handshake),
            (0x8000_ffff, Kind::Handshake),
            (0x8001_0000, Kind::Control(1)),
            (0x8005_0000, Kind::Shutdown),
            (0xffff_0003, Kind::Control(0x7fff)),
        ] {
            let header = Header { kind, timestamp: 2, destination: 3 };
            assert_eq!(Header::parse(&packet(first)), Some(header), "{first:x}");
        }
    }

    #[test]
    fn what_is_shorter_than_a_header_is_none() {
        let packet = packet(0x8000_0000);
        for end in 0..HEADER {
            assert_eq!(Header::parse(&packet[..end]), None);
        }
    }

    #[test]
    fn a_shutdown_is_one_and_finds_its_receiver() {
        let header = Header { kind: Kind::Shutdown, timestamp: 7, destination: 9 };
        assert_eq!(Header::parse(&shutdown(9, 7)), Some(header));
        assert_eq!(Header::parse(&readdressed(&shutdown(8, 7), 9)), Some(header));
    }
}
