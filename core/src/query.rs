//! What machines ask the load balancer and what it answers. Who answers is no matter of this crate.

use crate::key::StreamKey;
use crate::origin::{Origin, OriginId, Protocol};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// A question to the load balancer.
#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    /// Which origin owns this stream, and where does it serve the protocol? → [`Answer::Picked`]
    Pick {
        /// The stream.
        key: StreamKey,
        /// What the origin must serve, and for whom.
        need: Need,
    },
    /// The stream's HLS session: this new one, if it has none. → [`Answer::Hls`]
    StoreHls(HlsSession),
    /// The HLS session with this id. → [`Answer::Hls`]
    LoadHls(Arc<str>),
    /// Store this WebRTC session. → [`Answer::Rtc`]
    StoreRtc(RtcSession),
    /// The WebRTC session of this ICE USERNAME. → [`Answer::Rtc`]
    LoadRtc(Arc<str>),
    /// That the WebRTC session of this ICE USERNAME ends, which it may have. → [`Answer::Rtc`] of none, when its client
    /// has left by signalling at this proxy; never, if it does not.
    EndOfRtc(Arc<str>),
    /// An origin's registration or heartbeat. → [`Answer::Registered`]
    Register(Origin),
    /// The list of origins. → [`Answer::Origins`]
    Origins,
    /// From now on the origin gets no new streams, or gets them again. → [`Answer::Known`]
    Drain {
        /// The origin.
        origin: OriginId,
        /// Whether it drains.
        on: bool,
    },
    /// The origin leaves: its streams go to others at their next pick. → [`Answer::Known`]
    Deregister(OriginId),
}

/// What a stream's origin is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Need {
    /// The protocol that it must serve, and by which it is asked.
    pub protocol: Protocol,
    /// Another one that it must serve as well: the media's, where the first is for signalling.
    pub media: Option<Protocol>,
    /// The client publishes. A stream goes where its publisher can: a player would find nothing elsewhere.
    pub publishes: bool,
}

impl Need {
    /// A client that plays, as far as is known.
    pub const fn to_play(protocol: Protocol) -> Self {
        Self { protocol, media: None, publishes: false }
    }

    /// All that the origin must serve.
    pub fn protocols(self) -> impl Iterator<Item = Protocol> {
        [Some(self.protocol), self.media].into_iter().flatten()
    }

    /// A client that publishes.
    pub const fn to_publish(protocol: Protocol) -> Self {
        Self { protocol, media: None, publishes: true }
    }
}

/// What the load balancer is told without being asked back.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// An origin did not take a connection of this protocol.
    Unreachable(OriginId, Protocol),
    /// A stream is being played: its mapping must not age.
    Playing(StreamKey),
    /// A stream is being published at this origin: there it is, wherever a mapping says it were.
    Publishing(StreamKey, OriginId),
    /// It is published there no more, or not by the one who said so.
    Ended(StreamKey, OriginId),
    /// The media of a WebRTC session flows: it is in use.
    Flowing(RtcSession),
    /// The client of a WebRTC session has left, and its origin agrees: the session of this stream that has this
    /// resource at its origin is over.
    Left(StreamKey, Arc<str>),
}

/// An answer of the load balancer.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// The stream's origin.
    Picked(Picked),
    /// The HLS session, if there is one.
    Hls(Option<HlsSession>),
    /// The WebRTC session, if there is one.
    Rtc(Option<RtcSession>),
    /// The registration is known.
    Registered,
    /// The origins.
    Origins(Vec<OriginStatus>),
    /// Whether the origin is known; if so, it was done.
    Known(bool),
    /// No.
    Refused(Refusal),
}

/// The origin picked for a stream.
#[derive(Clone, PartialEq, Debug)]
pub struct Picked {
    /// The origin.
    pub origin: OriginId,
    /// Where it serves the protocol asked for.
    pub to: SocketAddr,
}

/// An HLS session: all requests that carry its id go to the origin of its stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HlsSession {
    /// The session's id in URLs.
    pub spbhid: Arc<str>,
    /// The stream.
    pub key: StreamKey,
    /// The URL of the playlist that began it, without port and query; empty if it is too long to be held.
    pub full_url: Arc<str>,
}

/// A WebRTC session: its media is known by the ICE USERNAME.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtcSession {
    /// `server-ufrag:client-ufrag` (RFC 8445 §7.2.2).
    pub username: Arc<str>,
    /// The stream.
    pub key: StreamKey,
    /// What the origin calls it, a target of HTTP: who names it may end the session. Empty if that is not known, as
    /// it is at other proxies.
    pub resource: Arc<str>,
}

/// Why the load balancer says no.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No origin is registered that serves the protocol.
    NoOrigin,
    /// The shared store is away, or too many questions wait.
    Unavailable,
    /// A table is full.
    Full,
}

impl Refusal {
    /// The same in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoOrigin => "no origin",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
        }
    }
}

/// One origin as the load balancer sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct OriginStatus {
    /// As registered.
    pub origin: Origin,
    /// Its health.
    pub health: Health,
    /// Microseconds since its last heartbeat.
    pub heartbeat_age: u64,
    /// The streams mapped to it.
    pub streams: Vec<StreamKey>,
}

/// Whether an origin is offered streams: the worst of what is true of it, from good to bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Heartbeats are fresh and connects succeed.
    Alive,
    /// Alive, but it shall get no new streams; those that it has stay.
    Draining,
    /// A connect failed a moment ago.
    Quarantined,
    /// No heartbeat for longer than the TTL.
    Dead,
}
