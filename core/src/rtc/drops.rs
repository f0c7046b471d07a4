//! Why the WebRTC hub drops a datagram. Counts nothing itself.

use crate::flow::Reason;
use crate::machine::Fault;

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// From a client: neither STUN nor DTLS nor RTP.
    NotWebRtc,
    /// From a client: not the STUN message it looks like.
    BadStun,
    /// From an address without a session: anything but a check with a USERNAME.
    Stranger,
    /// A check with a USERNAME that the load balancer did not know a moment ago.
    UnknownName,
    /// A check with a new USERNAME, when all lookups of this second are used up.
    TooManyNames,
    /// A check with a new USERNAME, when there are as many sessions as may be.
    TooManySessions,
    /// The same, of one client network.
    TooManyOfOne,
    /// More checks than are kept while a session's origin is being found.
    TooEarly,
    /// A check that repeats another's transaction from elsewhere.
    Repeated,
    /// From an origin: nothing that WebRTC sends.
    NotWebRtcOrigin,
    /// From an origin, to a client whose address is not known (any more).
    NoClient,
    /// From an origin: an answer to a check that is not remembered (any more).
    Unasked,
    /// A check with a new USERNAME, when the process is about to end.
    Draining,
}

impl DropReason {
    /// Each reason.
    pub const ALL: [Self; 13] = [
        Self::NotWebRtc,
        Self::BadStun,
        Self::Stranger,
        Self::UnknownName,
        Self::TooManyNames,
        Self::TooManySessions,
        Self::TooManyOfOne,
        Self::TooEarly,
        Self::Repeated,
        Self::NotWebRtcOrigin,
        Self::NoClient,
        Self::Unasked,
        Self::Draining,
    ];
}

impl Reason for DropReason {
    fn index(self) -> usize {
        self as usize
    }

    fn fault(self) -> Fault {
        match self {
            Self::NotWebRtc => Fault::Client("neither STUN nor DTLS nor RTP"),
            Self::BadStun => Fault::Client("malformed STUN"),
            Self::Stranger => Fault::Client("no session at this address"),
            Self::UnknownName => Fault::Client("unknown ICE user name"),
            Self::TooManyNames => Fault::Client("too many new ICE user names"),
            Self::TooManySessions => Fault::Proxy("too many WebRTC sessions"),
            Self::TooManyOfOne => Fault::Client("too many WebRTC sessions of one network"),
            Self::TooEarly => Fault::Client("too many checks before the origin is known"),
            Self::Repeated => Fault::Client("another's check, repeated"),
            Self::NotWebRtcOrigin => Fault::Origin("neither STUN nor DTLS nor RTP"),
            Self::NoClient => Fault::Origin("media for a client that is not there"),
            Self::Unasked => Fault::Origin("an answer to no check"),
            Self::Draining => Fault::Proxy("no new sessions, the process ends"),
        }
    }
}
