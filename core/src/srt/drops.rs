//! Why the SRT hub drops a datagram. Counts nothing itself.

use crate::flow::Reason;
use crate::machine::Fault;

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// From a client: too short for SRT.
    NotSrt,
    /// From a client: a handshake that is none, or of a rendezvous.
    BadHandshake,
    /// A conclusion without a cookie that was given to this address a moment ago.
    WrongCookie,
    /// To a socket id that this address has no connection with.
    Stranger,
    /// A conclusion, when all lookups of this second are used up.
    TooManyLookups,
    /// A conclusion, when there are as many sessions as may be.
    TooManySessions,
    /// The same, of one client network.
    TooManyOfOne,
    /// From an origin: nothing that an origin sends at that stage.
    BadOrigin,
    /// A conclusion, when the process is about to end.
    Draining,
}

impl DropReason {
    /// Each reason.
    pub const ALL: [Self; 9] = [
        Self::NotSrt,
        Self::BadHandshake,
        Self::WrongCookie,
        Self::Stranger,
        Self::TooManyLookups,
        Self::TooManySessions,
        Self::TooManyOfOne,
        Self::BadOrigin,
        Self::Draining,
    ];
}

impl Reason for DropReason {
    fn index(self) -> usize {
        self as usize
    }

    fn fault(self) -> Fault {
        match self {
            Self::NotSrt => Fault::Client("not SRT"),
            Self::BadHandshake => Fault::Client("malformed SRT handshake"),
            Self::WrongCookie => Fault::Client("SRT conclusion with a wrong cookie"),
            Self::Stranger => Fault::Client("no SRT connection of this address and socket id"),
            Self::TooManyLookups => Fault::Client("too many new SRT connections in a second"),
            Self::TooManySessions => Fault::Proxy("too many SRT sessions"),
            Self::TooManyOfOne => Fault::Client("too many SRT sessions of one network"),
            Self::BadOrigin => Fault::Origin("unexpected SRT packet"),
            Self::Draining => Fault::Proxy("no new sessions, the process ends"),
        }
    }
}
