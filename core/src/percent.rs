//! Percent-encoding (RFC 3986 §2.1): the one place where it is undone, and where it is done. Knows no paths.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// What a text is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece<'a> {
    /// A byte as it is.
    Plain(u8),
    /// A byte, and how it is written: a percent sign and two digits.
    Encoded(u8, &'a [u8]),
    /// A percent sign that begins nothing.
    Stray,
}

/// The pieces of `text`, in order.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text.as_bytes();
    core::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        let encoded = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high, *low).zip(rest.split_at_checked(3)),
            _ => None,
        };
        let (piece, tail) = match (encoded, first) {
            (Some((byte, (written, tail))), _) => (Piece::Encoded(byte, written), tail),
            (None, b'%') => (Piece::Stray, tail),
            (None, byte) => (Piece::Plain(*byte), tail),
        };
        rest = tail;
        Some(piece)
    })
}

/// `text` without its encoding; `None` if that is broken or gives no UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let bytes = pieces(text).map(|piece| match piece {
        Piece::Plain(byte) | Piece::Encoded(byte, _) => Some(byte),
        Piece::Stray => None,
    });
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}

/// Adds `text` to `out`, all but letters, digits and `-._~` (RFC 3986 §2.3) and what `stays` encoded.
pub(crate) fn encode(out: &mut String, text: &str, stays: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || stays(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The byte that two hexadecimal digits stand for.
fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_encoding_is_told_from_what_is_one() {
        let found: Vec<_> = pieces("a%2f%zz%").collect();
        let z = Piece::Plain(b'z');
        assert_eq!(
            found,
            [Piece::Plain(b'a'), Piece::Encoded(b'/', b"%2f"), Piece::Stray, z, z, Piece::Stray]
        );
        assert_eq!(decode("a%20%E7%9B%B4").as_deref(), Some("a 直"));
        for broken in ["%", "%4", "a%zz", "%ff", "%\u{e9}1"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text in ".*") {
            let mut encoded = String::new();
            encode(&mut encoded, &text, |byte| byte == b'/');
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decode(&encoded), Some(text.to_string()));
        }

        #[test]
        fn any_text_is_its_pieces(text in "(.|%|[0-9a-f])*") {
            let mut bytes = Vec::new();
            for piece in pieces(&text) {
                match piece {
                    Piece::Plain(byte) => bytes.push(byte),
                    Piece::Encoded(_, written) => bytes.extend_from_slice(written),
                    Piece::Stray => bytes.push(b'%'),
                }
            }
            prop_assert_eq!(bytes, text.as_bytes());
        }
    }
}
