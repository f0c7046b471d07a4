//! Which protocol a datagram of a WebRTC port is, by its first byte (RFC 7983 §7). Looks at nothing else.
//!
//! ```text
//!   0 ..   3  STUN            64 ..  79  TURN channels, not for us
//!  16 ..  19  ZRTP, neither  128 .. 191  RTP and RTCP
//!  20 ..  63  DTLS           all others  nobody's
//! ```

/// A protocol of a WebRTC port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// STUN (RFC 8489).
    Stun,
    /// DTLS (RFC 6347, RFC 9147).
    Dtls,
    /// RTP and RTCP, encrypted or not (RFC 3550, RFC 3711).
    Rtp,
}

/// Whether a datagram of [`Kind::Rtp`] is media, and not RTCP that reports of them: whoever receives sends reports, too.
/// RTCP's packet types are where no payload type is, with or without a marker (RFC 5761 §4).
pub fn is_media(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|second| !matches!(second & 0x7f, 64..=95))
}

impl Kind {
    /// What this datagram is; `None` if nothing that WebRTC sends.
    pub const fn of(datagram: &[u8]) -> Option<Self> {
        match datagram.first() {
            Some(0..=3) => Some(Self::Stun),
            Some(20..=63) => Some(Self::Dtls),
            Some(128..=191) => Some(Self::Rtp),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_told_from_reports_of_them() {
        for (second, expected) in [(0, true), (63, true), (64, false), (72, false), (95, false), (96, true)] {
            assert_eq!(is_media(&[0x80, second, 0]), expected, "{second}");
            assert_eq!(is_media(&[0x80, second | 0x80, 0]), expected, "{second} and a marker");
        }
        assert!(!is_media(&[0x80]));
    }

    #[test]
    fn every_first_byte_is_one_protocol_or_none() {
        let kinds: [Option<Kind>; 256] = core::array::from_fn(|first| Kind::of(&[first as u8, 0]));
        for (range, kind) in [
            (0..4, Some(Kind::Stun)),
            (4..20, None),
            (20..64, Some(Kind::Dtls)),
            (64..128, None),
            (128..192, Some(Kind::Rtp)),
            (192..256, None),
        ] {
            assert!(kinds[range.clone()].iter().all(|found| *found == kind), "{range:?}");
        }
        assert_eq!(Kind::of(&[]), None);
    }
}
