//! What the hub says of its own in handshakes, and what it changes in those of others. Knows no session, keeps nothing.

use super::session::Setup;
use crate::flow::Turned;
use crate::machine::{Action, Cx, Leg};
use crate::srt::drops::DropReason;
use crate::srt::handshake::{Change, Handshake, HandshakeError, Rejection, stream_id};
use crate::srt::stream_id::{StreamId, StreamIdError};
use crate::time::{Duration, Time};
use bytes::Bytes;
use core::net::{IpAddr, SocketAddr};

/// Sends a caller something of our own.
pub(super) fn send(cx: &mut Cx<'_>, to: SocketAddr, bytes: Bytes) {
    cx.actions.push(Action::Write { to: Leg::CLIENT, peer: Some(to), bytes });
}

/// The time as packets carry it: the lower bits of microseconds.
pub(super) fn clock(now: Time) -> u32 {
    now.as_micros() as u32
}

/// What a conclusion asks for; or the rejection that it gets, and why.
pub(super) fn asked_for(handshake: &Handshake, bytes: &[u8]) -> Result<StreamId, (Rejection, &'static str)> {
    // Version 4, and what is no version, has no stream id.
    if handshake.version != 5 {
        return Err((Rejection::VERSION, "SRT handshake of an old version"));
    }
    let text = stream_id(bytes).map_err(|error| match error {
        HandshakeError::LongStreamId => (Rejection::BAD_REQUEST, StreamIdError::TooLong.as_str()),
        _ => (Rejection::ROGUE, "malformed SRT handshake"),
    })?;
    StreamId::parse(&text.unwrap_or_default()).map_err(|error| match error {
        StreamIdError::UnknownMode => (Rejection::BAD_MODE, error.as_str()),
        _ => (Rejection::BAD_REQUEST, error.as_str()),
    })
}

/// What a caller is told that may not come in. Who comes too fast is told nothing: it will come again.
pub(super) fn turned_away(turned: Turned) -> (DropReason, Option<Rejection>) {
    match turned {
        Turned::Draining => (DropReason::Draining, Some(Rejection::CLOSE)),
        Turned::TooMany => (DropReason::TooManySessions, Some(Rejection::OVERLOAD)),
        Turned::TooManyOfOne => (DropReason::TooManyOfOne, Some(Rejection::OVERLOAD)),
        Turned::TooFast => (DropReason::TooManyLookups, None),
    }
}

/// The rejection of this conclusion.
pub(super) fn rejection(conclusion: &Handshake, to: IpAddr, why: Rejection, now: Time) -> Bytes {
    conclusion.rejected(why, to).write(conclusion.socket, clock(now))
}

/// The induction that the origin is sent.
pub(super) fn induction(setup: &Setup, to: IpAddr, now: Time) -> Bytes {
    setup.handshake.induction(to).write(0, clock(now))
}

/// The caller's conclusion as the origin is sent it. Its clock has gone on while it waited.
pub(super) fn conclusion(setup: &Setup, to: IpAddr, cookie: u32, now: Time) -> Bytes {
    let later = micros(now.since(setup.since));
    Change { later, cookie: Some(cookie), peer: Some(to), socket: None }.of(&setup.conclusion)
}

/// What the origin says to a conclusion, as the caller is sent it; and who the origin's socket is for the caller.
pub(super) fn answer(bytes: &[u8], to: IpAddr, socket: Option<u32>) -> Bytes {
    Change { peer: Some(to), socket, ..Change::default() }.of(bytes)
}

/// The same answer, so much later.
pub(super) fn aged(answer: &[u8], by: Duration) -> Bytes {
    Change { later: micros(by), ..Change::default() }.of(answer)
}

/// A time that has passed, as packets carry it.
fn micros(duration: Duration) -> u32 {
    clock(Time::ZERO + duration)
}
