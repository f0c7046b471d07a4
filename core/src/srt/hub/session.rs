//! One session of the hub: where it stands. Sends nothing.

use crate::flow::{Network, Slotted};
use crate::key::StreamKey;
use crate::machine::{Fault, Leg, Ticket};
use crate::origin::OriginId;
use crate::query::Picked;
use crate::srt::handshake::Handshake;
use crate::srt::stream_id::StreamId;
use crate::time::{Duration, Time};
use crate::usage::Usage;
use bytes::Bytes;
use core::net::SocketAddr;

#[derive(Debug)]
pub(super) struct Session {
    /// The caller's address.
    pub(super) caller: SocketAddr,
    /// The caller's socket id: with the address, who it is.
    pub(super) socket: u32,
    /// The sequence number of its first packet: who begins anew with the same address and id has another.
    pub(super) first_sequence: u32,
    /// What notes call it: the first leg that it had.
    pub(super) name: Leg,
    /// Its own socket towards its origin.
    pub(super) leg: Leg,
    /// That socket is open, or about to be. Of a session that is over, its origin may say yes yet.
    pub(super) has_leg: bool,
    pub(super) stage: Stage,
}

impl Slotted for Session {
    fn leg(&self) -> Leg {
        self.leg
    }

    fn network(&self) -> Network {
        Network::from(self.caller.ip())
    }
}

/// Where a session stands. The transitions are in the hub, and in docs/srt.md.
#[derive(Debug)]
pub(super) enum Stage {
    /// Which origin has the stream?
    Picking(Ticket, Setup),
    /// The socket towards it is being opened.
    Opening(Picked, Setup),
    /// The origin was sent an induction.
    Inducing(Picked, Setup),
    /// The origin was sent the caller's conclusion, with this cookie.
    Concluding(Picked, Setup, u32),
    /// Packets flow.
    Live(Live),
    /// There was a connection, or none was made: then this is what the caller is told, as often as it asks.
    Over(Option<Bytes>),
}

impl Stage {
    /// The question that is to be answered.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Picking(ticket, _) => Some(*ticket),
            _ => None,
        }
    }

    /// What the caller asked for, as long as it has not got it.
    pub(super) fn setup(&self) -> Option<&Setup> {
        match self {
            Self::Picking(_, setup)
            | Self::Opening(_, setup)
            | Self::Inducing(_, setup)
            | Self::Concluding(_, setup, _) => Some(setup),
            Self::Live(_) | Self::Over(_) => None,
        }
    }

    /// The same, to take it on to the next stage; nothing is left of it here.
    pub(super) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::Over(None))
    }
}

/// A caller that waits for its origin.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) id: StreamId,
    /// The conclusion, as it came, and what it says.
    pub(super) conclusion: Bytes,
    pub(super) handshake: Handshake,
    /// When it came.
    pub(super) since: Time,
    /// Origins that were not there, and the last of them.
    pub(super) attempts: u8,
    pub(super) failed: Option<OriginId>,
}

/// A session whose packets flow.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) key: StreamKey,
    /// Since when they do.
    pub(super) since: Time,
    /// What the load balancer is told of it.
    pub(super) usage: Usage,
    /// What the caller was answered, until it is known that it has heard it.
    pub(super) answer: Option<Bytes>,
    /// The origin's socket id.
    pub(super) socket: u32,
    /// What the caller takes for it: the same, but for a caller that has a connection with just this id already.
    pub(super) alias: u32,
    pub(super) client_heard: Time,
    pub(super) origin_heard: Time,
}

impl Live {
    /// When it is over, if nothing more is heard: from the client, or from the origin.
    pub(super) fn ends_at(&self, idle: Duration) -> Time {
        self.client_heard.min(self.origin_heard) + idle
    }

    /// Who was silent, if that is how it ends.
    pub(super) fn silent(&self) -> Fault {
        let what = "silent for too long";
        if self.client_heard <= self.origin_heard { Fault::Client(what) } else { Fault::Origin(what) }
    }
}
