//! What a hub dropped, counted by reason, and how often that is worth a log line. Decides nothing.

use crate::machine::{Actions, Fault, Note};
use crate::time::{Duration, Time};

/// A log line of one reason at most this often, whatever the flood.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

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
    /// A check with a new USERNAME, when the process is about to end.
    Draining,
}

impl DropReason {
    /// Each reason.
    pub const ALL: [Self; 12] = [
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
        Self::Draining,
    ];

    /// The reason in words, with who is to blame.
    pub const fn fault(self) -> Fault {
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
            Self::Draining => Fault::Proxy("no new sessions, the process ends"),
        }
    }
}

/// How many datagrams were dropped for each reason.
#[derive(Clone, Debug, Default)]
pub struct Drops {
    counts: [u64; DropReason::ALL.len()],
    noted: [Option<Time>; DropReason::ALL.len()],
}

impl Drops {
    /// How many, for this reason.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.counts.get(reason as usize).copied().unwrap_or_default()
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// One more; noted if none was for this reason within the last second.
    pub(super) fn add(&mut self, now: Time, reason: DropReason, actions: &mut Actions) {
        let at = reason as usize;
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        if let Some(noted) = self.noted.get_mut(at)
            && noted.is_none_or(|noted| now.since(noted) >= NOTE_INTERVAL)
        {
            *noted = Some(now);
            actions.note(Note::Dropped(reason.fault()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_by_itself_and_noted_once_a_second() {
        let (mut drops, mut actions) = (Drops::default(), Actions::new());
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            for millis in 0..1500 {
                drops.add(Time::from_micros(millis * 1000), reason, &mut actions);
            }
            assert_eq!(drops.count(reason), 1500);
            assert_eq!(actions.drain().count(), 2, "{reason:?}");
        }
        assert_eq!(drops.total(), 1500 * DropReason::ALL.len() as u64);
    }
}
