//! SRT handshakes (draft-sharabayko-srt-01 §3.2.1): read, written, and changed in a few places. Negotiates nothing.
//!
//! ```text
//!  ├───────────────────────────────────────────────────────────────┤ 0
//!  │                     header (see `packet`)                     │
//!  ├───────────────────────────────────────────────────────────────┤ 16
//!  │                            version                            │
//!  ├───────────────────────────────┬───────────────────────────────┤ 20
//!  │           encryption          │        extension field        │
//!  ├───────────────────────────────┴───────────────────────────────┤ 24
//!  │                 initial packet sequence number                │
//!  ├───────────────────────────────────────────────────────────────┤ 28
//!  │                              MTU                              │
//!  ├───────────────────────────────────────────────────────────────┤ 32
//!  │                      flow window, packets                     │
//!  ├───────────────────────────────────────────────────────────────┤ 36
//!  │                              type                             │
//!  ├───────────────────────────────────────────────────────────────┤ 40
//!  │                       sender's socket id                      │
//!  ├───────────────────────────────────────────────────────────────┤ 44
//!  │                           SYN cookie                          │
//!  ├───────────────────────────────────────────────────────────────┤ 48
//!  │                                                               │
//!  │                        peer IP address                        │
//!  │                                                               │
//!  ├───────────────────────────────┬───────────────────────────────┤ 64
//!  │         extension type        │    extension length, words    │  each
//!  ├───────────────────────────────┴───────────────────────────────┤  extension
//!  │                        extension contents                     │
//!  ├───────────────────────────────────────────────────────────────┤
//! ```

use super::packet::{HANDSHAKE_START, HEADER, Header, Kind, TIMESTAMP, put};
use crate::read::Reader;
use bytes::Bytes;
use core::net::IpAddr;
use smallvec::SmallVec;

/// The length of a handshake without extensions, in bytes.
pub const MIN_HANDSHAKE: usize = HEADER + 48;

/// The longest handshake, in bytes: what a path of Ethernet carries, and no peer sends more.
pub const MAX_HANDSHAKE: usize = 1472;

/// The longest stream id, in bytes (§3.2.1.3).
pub const MAX_STREAM_ID: usize = 512;

/// What the extension field of an answer to an induction says: that this is SRT (§4.3.1.1).
pub const MAGIC: u16 = 0x4a17;

/// What the extension field of an induction says: a datagram socket of UDT, which SRT came from.
const DATAGRAM_SOCKET: u16 = 2;

const SOCKET: usize = 40;
const COOKIE: usize = 44;
const PEER: usize = 48;

/// The type of the extension that carries the stream id (§3.2.1.3).
const SID: u16 = 5;

/// A handshake's type: its phase, or why there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Who is there? (§4.3.1.1)
    Induction,
    /// The connection, and its terms (§4.3.1.2).
    Conclusion,
    /// There is no connection.
    Rejected(Rejection),
    /// Of rendezvous connections, or nothing known.
    Other(u32),
}

/// Why there is no connection: the number that programs are given, which is 1000 less than the one on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejection(pub u32);

impl Rejection {
    /// `SRT_REJ_PEER`: the other side has ended it, and nothing is known of why.
    pub const PEER: Self = Self(2);
    /// `SRT_REJ_ROGUE`: the handshake cannot be read.
    pub const ROGUE: Self = Self(4);
    /// `SRT_REJ_CLOSE`: the listener is about to end.
    pub const CLOSE: Self = Self(7);
    /// `SRT_REJ_VERSION`: an older handshake than version 5, which has no stream id.
    pub const VERSION: Self = Self(8);
    /// `SRT_REJX_BAD_REQUEST`: the stream id is in no form that is known.
    pub const BAD_REQUEST: Self = Self(1400);
    /// `SRT_REJX_OVERLOAD`: a limit is reached.
    pub const OVERLOAD: Self = Self(1402);
    /// `SRT_REJX_BAD_MODE`: the stream id asks for a mode that there is not.
    pub const BAD_MODE: Self = Self(1405);
    /// `SRT_REJX_GW`: the origin cannot be reached.
    pub const GATEWAY: Self = Self(1502);
    /// `SRT_REJX_DOWN`: there is no origin.
    pub const DOWN: Self = Self(1503);

    /// What is added on the wire.
    const BASE: u32 = 1000;
    /// The highest number, of an application's own, which begin at 2000: on the wire they are signed.
    const LAST: u32 = i32::MAX as u32 - Self::BASE;
}

impl Phase {
    fn of(wire: u32) -> Self {
        match wire {
            1 => Self::Induction,
            0xffff_ffff => Self::Conclusion,
            other => match other.checked_sub(Rejection::BASE) {
                Some(reason @ ..=Rejection::LAST) => Self::Rejected(Rejection(reason)),
                _ => Self::Other(other),
            },
        }
    }

    fn wire(self) -> u32 {
        match self {
            Self::Induction => 1,
            Self::Conclusion => 0xffff_ffff,
            Self::Rejected(Rejection(reason)) => Rejection::BASE + reason,
            Self::Other(wire) => wire,
        }
    }
}

/// What a handshake says, but for its extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// 4 in an induction, 5 in everything later.
    pub version: u32,
    /// The cipher's key length, in words of 8 bytes.
    pub encryption: u16,
    /// Which extensions there are; of an induction something else.
    pub extension: u16,
    /// The sequence number of the sender's first packet.
    pub first_sequence: u32,
    /// The longest packet, in bytes, with its IP and UDP headers.
    pub mtu: u32,
    /// How many packets may be on their way.
    pub flow_window: u32,
    /// Where the handshake is.
    pub phase: Phase,
    /// The socket id of the sender.
    pub socket: u32,
    /// The listener's cookie.
    pub cookie: u32,
    /// An address, as [`peer_field`] writes it.
    pub peer: [u8; 16],
}

/// Why a packet is no handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// It is another packet.
    OtherKind,
    /// It ends too early, or is longer than any.
    BadLength,
    /// An extension ends behind the packet's end.
    BadExtension,
    /// There are two stream ids.
    TwoStreamIds,
    /// The stream id is longer than it may be.
    LongStreamId,
}

impl Handshake {
    /// Reads a packet.
    ///
    /// # Errors
    /// If it is no handshake. Its extensions are not looked at.
    pub fn parse(packet: &[u8]) -> Result<Self, HandshakeError> {
        let header = Header::parse(packet).ok_or(HandshakeError::BadLength)?;
        if header.kind != Kind::Handshake {
            return Err(HandshakeError::OtherKind);
        }
        if packet.len() > MAX_HANDSHAKE {
            return Err(HandshakeError::BadLength);
        }
        let fields = packet.get(HEADER..).unwrap_or_default();
        Self::fields(&mut Reader::new(fields)).ok_or(HandshakeError::BadLength)
    }

    fn fields(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            version: reader.u32()?,
            encryption: reader.u16()?,
            extension: reader.u16()?,
            first_sequence: reader.u32()?,
            mtu: reader.u32()?,
            flow_window: reader.u32()?,
            phase: Phase::of(reader.u32()?),
            socket: reader.u32()?,
            cookie: reader.u32()?,
            peer: reader.array()?,
        })
    }

    /// The packet of a handshake without extensions.
    pub fn write(&self, destination: u32, timestamp: u32) -> Bytes {
        let mut packet = alloc::vec::Vec::with_capacity(MIN_HANDSHAKE);
        packet.extend_from_slice(&HANDSHAKE_START);
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&destination.to_be_bytes());
        packet.extend_from_slice(&self.version.to_be_bytes());
        packet.extend_from_slice(&self.encryption.to_be_bytes());
        packet.extend_from_slice(&self.extension.to_be_bytes());
        for word in
            [self.first_sequence, self.mtu, self.flow_window, self.phase.wire(), self.socket, self.cookie]
        {
            packet.extend_from_slice(&word.to_be_bytes());
        }
        packet.extend_from_slice(&self.peer);
        packet.into()
    }

    /// A listener's answer to this induction (§4.3.1.1): the caller shall come back with `cookie`. No cipher is
    /// advertised: which one the origin wants is not known yet.
    #[must_use]
    pub fn with_cookie(&self, cookie: u32, peer: IpAddr) -> Self {
        let peer = peer_field(peer);
        Self { version: 5, encryption: 0, extension: MAGIC, phase: Phase::Induction, cookie, peer, ..*self }
    }

    /// A listener's refusal of this conclusion.
    #[must_use]
    pub fn rejected(&self, why: Rejection, peer: IpAddr) -> Self {
        Self { phase: Phase::Rejected(why), peer: peer_field(peer), ..*self }
    }

    /// The induction that the sender of this conclusion may have sent.
    #[must_use]
    pub fn induction(&self, peer: IpAddr) -> Self {
        Self {
            version: 4,
            encryption: 0,
            extension: DATAGRAM_SOCKET,
            phase: Phase::Induction,
            cookie: 0,
            peer: peer_field(peer),
            ..*self
        }
    }
}

/// What is to be another in a handshake that is passed on with its extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    /// Microseconds by which its timestamp grows.
    pub(super) later: u32,
    pub(super) socket: Option<u32>,
    pub(super) cookie: Option<u32>,
    pub(super) peer: Option<IpAddr>,
}

impl Change {
    /// A copy of a handshake with the changes made.
    pub(super) fn of(self, packet: &[u8]) -> Bytes {
        let mut copy = packet.to_vec();
        let timestamp = Header::parse(packet).map(|header| header.timestamp.wrapping_add(self.later));
        for (at, word) in [(TIMESTAMP, timestamp), (SOCKET, self.socket), (COOKIE, self.cookie)] {
            if let Some(word) = word {
                put(&mut copy, at, word.to_be_bytes());
            }
        }
        if let Some(peer) = self.peer {
            put(&mut copy, PEER, peer_field(peer));
        }
        copy.into()
    }
}

/// The field of the peer's address: that of the handshake's receiver, as its sender sees it (the draft calls it the
/// sender's; what all programs write is this, so that a socket learns its own address). Each word is in reversed order.
pub fn peer_field(ip: IpAddr) -> [u8; 16] {
    let mut field = [0; 16];
    let octets: SmallVec<[u8; 16]> = match ip.to_canonical() {
        IpAddr::V4(ip) => SmallVec::from_slice(&ip.octets()),
        IpAddr::V6(ip) => SmallVec::from_slice(&ip.octets()),
    };
    copy_words(&octets, &mut field);
    field
}

/// Copies words of four bytes, each reversed: what a little-endian machine makes of text when it swaps numbers.
fn copy_words(from: &[u8], to: &mut [u8]) {
    for (from, to) in from.chunks_exact(4).zip(to.chunks_exact_mut(4)) {
        to.copy_from_slice(from);
        to.reverse();
    }
}

/// One extension of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extension<'a> {
    /// Its type (§3.2.1, table 5).
    pub kind: u16,
    /// Its contents: whole words.
    pub contents: &'a [u8],
}

/// The extensions of a handshake, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    reader: Reader<'a>,
}

impl<'a> Extensions<'a> {
    /// Those of this packet.
    pub fn of(packet: &'a [u8]) -> Self {
        Self { reader: Reader::new(packet.get(MIN_HANDSHAKE..).unwrap_or_default()) }
    }

    fn read(&mut self) -> Option<Extension<'a>> {
        let (kind, words) = (self.reader.u16()?, self.reader.u16()?);
        Some(Extension { kind, contents: self.reader.take(usize::from(words) * 4)? })
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, HandshakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.rest().is_empty() {
            return None;
        }
        let extension = self.read();
        if extension.is_none() {
            self.reader = Reader::new(&[]);
        }
        Some(extension.ok_or(HandshakeError::BadExtension))
    }
}

/// The stream id of a conclusion, without what fills its last word; `None` if it has none.
///
/// # Errors
/// If an extension is malformed, or the stream id is there twice or too long.
pub fn stream_id(packet: &[u8]) -> Result<Option<SmallVec<[u8; MAX_STREAM_ID]>>, HandshakeError> {
    let mut found = None;
    for extension in Extensions::of(packet) {
        let Extension { kind, contents } = extension?;
        if kind != SID {
            continue;
        }
        if contents.len() > MAX_STREAM_ID {
            return Err(HandshakeError::LongStreamId);
        }
        let mut text = SmallVec::from_elem(0, contents.len());
        copy_words(contents, &mut text);
        while text.last() == Some(&0) {
            text.pop();
        }
        if found.replace(text).is_some() {
            return Err(HandshakeError::TwoStreamIds);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn conclusion() -> Handshake {
        Handshake {
            version: 5,
            encryption: 2,
            extension: 5,
            first_sequence: 7,
            mtu: 1500,
            flow_window: 8192,
            phase: Phase::Conclusion,
            socket: 77,
            cookie: 99,
            peer: peer_field([10, 0, 0, 1].into()),
        }
    }

    fn with_extensions(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = conclusion().write(0, 5).to_vec();
        for (kind, contents) in extensions {
            packet.extend_from_slice(&kind.to_be_bytes());
            packet.extend_from_slice(&((contents.len() / 4) as u16).to_be_bytes());
            packet.extend_from_slice(contents);
        }
        packet
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for phase in [
            Phase::Induction,
            Phase::Conclusion,
            Phase::Rejected(Rejection::BAD_MODE),
            Phase::Rejected(Rejection(0)),
            Phase::Rejected(Rejection(3404)),
            Phase::Rejected(Rejection(i32::MAX as u32 - 1000)),
            Phase::Other(0),
            Phase::Other(0xffff_fffe),
            Phase::Other(999),
            Phase::Other(0x8000_0000),
        ] {
            let handshake = Handshake { phase, ..conclusion() };
            assert_eq!(Handshake::parse(&handshake.write(1, 2)), Ok(handshake));
        }
    }

    #[test]
    fn what_is_cut_is_no_handshake() {
        let packet = conclusion().write(0, 0);
        for end in 0..packet.len() {
            assert_eq!(Handshake::parse(&packet[..end]), Err(HandshakeError::BadLength), "{end}");
        }
        let long = [&packet[..], &[0; MAX_HANDSHAKE]].concat();
        assert_eq!(Handshake::parse(&long), Err(HandshakeError::BadLength));
        let other = super::super::packet::shutdown(0, 0);
        assert_eq!(Handshake::parse(&other), Err(HandshakeError::OtherKind));
    }

    #[test]
    fn addresses_are_written_in_reversed_words() {
        assert_eq!(peer_field([127, 0, 0, 1].into())[..5], [1, 0, 0, 127, 0]);
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(peer_field(mapped)[..5], [1, 0, 0, 127, 0]);
        let v6: IpAddr = "102:304:506:708:90a:b0c:d0e:f10".parse().unwrap();
        assert_eq!(peer_field(v6), [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13]);
    }

    #[test]
    fn a_stream_id_is_found_among_other_extensions_and_put_in_order() {
        let packet = with_extensions(&[(1, &[0; 12]), (SID, b"evilc/ma\0\0\0x"), (6, b"evil")]);
        assert_eq!(stream_id(&packet).unwrap().unwrap().as_slice(), b"liveam/cx");
        assert_eq!(stream_id(&with_extensions(&[(1, &[0; 12])])), Ok(None));
        assert_eq!(stream_id(&with_extensions(&[(SID, b"")])).unwrap().unwrap().as_slice(), b"");
        let longest = with_extensions(&[(SID, &[b'a'; MAX_STREAM_ID])]);
        assert_eq!(stream_id(&longest).unwrap().unwrap().len(), MAX_STREAM_ID);
    }

    #[test]
    fn extensions_that_lie_are_refused() {
        let good = with_extensions(&[(1, &[0; 12]), (SID, b"evil")]);
        for end in MIN_HANDSHAKE + 1..good.len() {
            let is_whole = end == MIN_HANDSHAKE + 16;
            assert_eq!(stream_id(&good[..end]).is_ok(), is_whole, "{end}");
        }
        let twice = with_extensions(&[(SID, b"evil"), (SID, b"evil")]);
        assert_eq!(stream_id(&twice), Err(HandshakeError::TwoStreamIds));
        let long = with_extensions(&[(SID, &[b'a'; MAX_STREAM_ID + 4])]);
        assert_eq!(stream_id(&long), Err(HandshakeError::LongStreamId));
    }

    #[test]
    fn a_change_changes_nothing_else() {
        let packet = with_extensions(&[(SID, b"evil")]);
        assert_eq!(Change::default().of(&packet), packet);
        let changed = Change { cookie: Some(1), socket: Some(2), ..Change::default() }.of(&packet);
        let handshake = Handshake { cookie: 1, socket: 2, ..conclusion() };
        assert_eq!(Handshake::parse(&changed), Ok(handshake));
        assert_eq!(changed[MIN_HANDSHAKE..], packet[MIN_HANDSHAKE..]);
        // The clock goes around.
        let late = conclusion().write(5, u32::MAX - 1);
        assert_eq!(Change { later: 3, ..Change::default() }.of(&late), conclusion().write(5, 1));
    }
}
