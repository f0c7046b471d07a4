//! STUN messages as far as a relay must read them: whom a request is for, and which request a response answers. Checks
//! no integrity, which is between client and origin, and writes nothing.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0 0|  class and method         |    length of what follows     |   RFC 8489 §5
//! |                    magic cookie 0x2112a442                    |
//! |                                                               |
//! |                    transaction id, 96 bits                    |
//! |                                                               |
//! +---------------------------------------------------------------+
//! |        attribute type         |   length without the padding  |   RFC 8489 §14
//! |   value, padded to a multiple of 4 bytes                   …  |
//! ```

use crate::read::Reader;
use core::fmt;

/// The longest USERNAME, in bytes: two names of 256 with a colon between them (RFC 8839 §5.4, RFC 8445 §7.2.2).
pub const MAX_USERNAME: usize = 513;

/// The longest message, in bytes. A check has 150, and with the longest USERNAME less than 800; attributes may
/// be empty, so that a longer one could only keep us busy.
pub const MAX_MESSAGE: usize = 2048;

/// The method of ICE's checks (RFC 8489 §18.2).
pub const BINDING: u16 = 1;

const COOKIE: u32 = 0x2112_a442;
const HEADER: usize = 20;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Wants a response.
    Request,
    /// Wants none.
    Indication,
    /// Grants a request.
    Success,
    /// Refuses one.
    Error,
}

impl Class {
    /// Whether it answers a request.
    pub const fn is_response(self) -> bool {
        matches!(self, Self::Success | Self::Error)
    }
}

/// What a response has in common with its request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TransactionId(pub [u8; 12]);

/// A message, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// What it is.
    pub class: Class,
    /// What it is about; [`BINDING`] in ICE.
    pub method: u16,
    /// Which transaction it belongs to.
    pub transaction: TransactionId,
    /// Its USERNAME, `server-ufrag:client-ufrag` in a client's request.
    pub username: Option<&'a str>,
}

/// Why a datagram is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StunError {
    /// It is shorter than a header.
    Short,
    /// It is longer than [`MAX_MESSAGE`].
    Long,
    /// Its first two bits or its cookie are another protocol's.
    NotStun,
    /// Its length is no multiple of 4, or not that of the datagram.
    Length,
    /// An attribute reaches beyond the end.
    Attribute,
    /// The USERNAME is longer than [`MAX_USERNAME`], not two parts with a colon between them, no UTF-8, or has
    /// a control character in it.
    Username,
}

impl StunError {
    /// The error in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Short => "shorter than a STUN header",
            Self::Long => "longer than a STUN message may be",
            Self::NotStun => "not STUN",
            Self::Length => "wrong STUN length",
            Self::Attribute => "STUN attribute beyond the end",
            Self::Username => "wrong STUN USERNAME",
        }
    }
}

impl fmt::Display for StunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for StunError {}

impl<'a> Message<'a> {
    /// Reads a datagram that is one message, and nothing but one.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, StunError> {
        if datagram.len() > MAX_MESSAGE {
            return Err(StunError::Long);
        }
        let mut reader = Reader::new(datagram);
        let header = (reader.u16(), reader.u16(), reader.u32(), reader.array());
        let (Some(kind), Some(length), Some(cookie), Some(transaction)) = header else {
            return Err(StunError::Short);
        };
        if kind >> 14 != 0 || cookie != COOKIE {
            return Err(StunError::NotStun);
        }
        if length % 4 != 0 || usize::from(length) + HEADER != datagram.len() {
            return Err(StunError::Length);
        }
        let (class, method) = class_and_method(kind);
        let username = username(reader)?;
        Ok(Self { class, method, transaction: TransactionId(transaction), username })
    }
}

/// The class is in bits 4 and 8, the method in the others (RFC 8489 §5, figure 3).
const fn class_and_method(kind: u16) -> (Class, u16) {
    let class = match kind & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    };
    (class, kind & 0x000f | (kind & 0x00e0) >> 1 | (kind & 0x3e00) >> 2)
}

/// Goes through all attributes. The first USERNAME counts (§14), unless it stands behind the integrity, which
/// does not cover it there (§14.5).
fn username(mut attributes: Reader<'_>) -> Result<Option<&str>, StunError> {
    let (mut found, mut covered) = (None, true);
    while !attributes.rest().is_empty() {
        let head = (attributes.u16(), attributes.u16());
        let (Some(kind), Some(length)) = head else { return Err(StunError::Attribute) };
        let length = usize::from(length);
        let value = attributes.take(length).ok_or(StunError::Attribute)?;
        let padding = length.next_multiple_of(4) - length;
        attributes.take(padding).ok_or(StunError::Attribute)?;
        match kind {
            USERNAME if covered && found.is_none() => found = Some(checked(value)?),
            MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => covered = false,
            _ => {}
        }
    }
    Ok(found)
}

fn checked(username: &[u8]) -> Result<&str, StunError> {
    if username.len() > MAX_USERNAME {
        return Err(StunError::Username);
    }
    let text = core::str::from_utf8(username).ok().filter(|text| !text.chars().any(char::is_control));
    let is_pair = |text: &&str| text.split_once(':').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
    text.filter(is_pair).ok_or(StunError::Username)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let mut bytes = [kind.to_be_bytes(), (attributes.len() as u16).to_be_bytes()].concat();
        bytes.extend_from_slice(&COOKIE.to_be_bytes());
        bytes.extend_from_slice(b"transaction!");
        bytes.extend(attributes);
        bytes
    }

    fn request(username: &[u8]) -> Vec<u8> {
        message(1, &[attribute(USERNAME, username)])
    }

    #[test]
    fn a_request_of_a_browser_is_read() {
        // Recorded from Chromium: USERNAME, an ICE attribute of its own, tie-breaker, PRIORITY, integrity, fingerprint.
        let bytes = message(
            1,
            &[
                attribute(USERNAME, b"48t96942:M2Ma"),
                attribute(0xc057, &[0, 1, 0, 10]),
                attribute(0x802a, &[7; 8]),
                attribute(0x0025, &[]),
                attribute(0x0024, &[0x6e, 0, 0x1e, 0xff]),
                attribute(MESSAGE_INTEGRITY, &[1; 20]),
                attribute(0x8028, &[2; 4]),
            ],
        );
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.username, Some("48t96942:M2Ma"));
        assert_eq!((message.class, message.method), (Class::Request, BINDING));
        assert_eq!(message.transaction, TransactionId(*b"transaction!"));
    }

    #[test]
    fn class_and_method_are_interleaved() {
        for (kind, class, method) in [
            (0x0001, Class::Request, BINDING),
            (0x0011, Class::Indication, BINDING),
            (0x0101, Class::Success, BINDING),
            (0x0111, Class::Error, BINDING),
            (0x0003, Class::Request, 3),
            (0x3eef, Class::Request, 0xfff),
            (0x3fff, Class::Error, 0xfff),
        ] {
            let bytes = message(kind, &[]);
            let read = Message::parse(&bytes).unwrap();
            assert_eq!((read.class, read.method, read.username), (class, method, None), "{kind:#06x}");
        }
    }

    #[test]
    fn a_user_name_is_two_parts_of_text() {
        let longest = [&[b'a'; 256][..], b":", &[b'b'; 256]].concat();
        for good in [&b"a:b"[..], b"48t96942:M2Ma", "ä:ö".as_bytes(), b"a+/:b=", b"a:b:c", &longest] {
            assert_eq!(
                Message::parse(&request(good)).unwrap().username.map(str::as_bytes),
                Some(good),
                "{good:?}"
            );
        }
        let too_long = [&longest[..], b"b"].concat();
        for bad in [&b""[..], b"a", b":", b"a:", b":b", b"a:\xff", b"a\n:b", b"a:b\0", &too_long] {
            assert_eq!(Message::parse(&request(bad)), Err(StunError::Username), "{bad:?}");
        }
    }

    #[test]
    fn the_first_user_name_before_the_integrity_counts() {
        let (first, second) = (attribute(USERNAME, b"a:b"), attribute(USERNAME, b"c:d"));
        let integrity = attribute(MESSAGE_INTEGRITY, &[0; 20]);
        let sha256 = attribute(MESSAGE_INTEGRITY_SHA256, &[0; 32]);
        let of = |attributes: &[Vec<u8>]| {
            Message::parse(&message(1, attributes)).unwrap().username.map(alloc::string::String::from)
        };
        assert_eq!(of(&[first.clone(), second.clone()]).as_deref(), Some("a:b"));
        assert_eq!(of(&[first.clone(), integrity.clone(), second.clone()]).as_deref(), Some("a:b"));
        assert_eq!(of(&[integrity, second.clone()]), None);
        assert_eq!(of(&[sha256, second]), None);
    }

    #[test]
    fn each_lie_is_named() {
        let good = request(b"48t96942:M2Ma");
        let changed = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            bytes
        };
        for (bytes, error) in [
            (vec![], StunError::Short),
            (good[..19].to_vec(), StunError::Short),
            // 21 bytes that say they are more.
            (good[..21].to_vec(), StunError::Length),
            ([&good[..], &[0]].concat(), StunError::Length),
            ([&good[..], &[0; 4]].concat(), StunError::Length),
            (changed(0, 0x40), StunError::NotStun),
            (changed(0, 0x80), StunError::NotStun),
            (changed(4, 0x20), StunError::NotStun),
            (changed(7, 0x41), StunError::NotStun),
            (changed(3, good[3] + 1), StunError::Length),
            (changed(3, good[3] - 4), StunError::Length),
            (changed(2, 0xff), StunError::Length),
            (changed(23, 17), StunError::Attribute),
            (changed(22, 0xff), StunError::Attribute),
            (message(1, &[vec![0; MAX_MESSAGE]]), StunError::Long),
            // Half of an attribute's head would not be a multiple of 4; a head without a value is.
            (message(1, &[vec![0, 6, 0, 1]]), StunError::Attribute),
        ] {
            assert_eq!(Message::parse(&bytes), Err(error), "{bytes:?}");
        }
        // No padding is needed where the value ends the message at a multiple of 4.
        assert!(Message::parse(&request(b"abc:defg")).is_ok());
    }

    #[test]
    fn truncated_at_any_length_it_is_no_message() {
        let good = request(b"48t96942:M2Ma");
        for end in 0..good.len() {
            assert!(Message::parse(&good[..end]).is_err(), "{end}");
            // Nor if the header says just that length, except where an attribute ends.
            let mut shorter = good[..end].to_vec();
            if let Some(length) = end.checked_sub(HEADER) {
                shorter[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                assert_eq!(Message::parse(&shorter).is_ok(), length == 0, "{end}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn it_is_total(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            let _ = Message::parse(&bytes);
            let _ = Message::parse(&message(1, &[bytes]));
        }
    }
}
