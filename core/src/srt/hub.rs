//! The SRT hub: one per worker and listening UDP socket. It finds out which stream a caller means, repeats its handshake
//! to the stream's origin, and then passes packets on untouched. The diagram of a session's stages is in docs/srt.md.
//!
//! ```text
//!   caller                          hub                           origin
//!     │ induction ──────────────────▶│                              │
//!     │◀──────── induction, cookie c │ nothing is kept              │
//!     │ conclusion, c, stream id ───▶│ c is right: Pick, Open       │
//!     │                              │ induction ──────────────────▶│  again each 250 ms,
//!     │                              │◀──────── induction, cookie o │  if nothing comes
//!     │                              │ the conclusion, with o ─────▶│
//!     │◀── its conclusion ───────────│◀── conclusion, or rejection ─│
//!     │ data, ACK, NAK, … ──────────▶│─────────────────────────────▶│
//!     │◀─────────────────────────────│◀── data, ACK, NAK, … ────────│
//!     │ SHUTDOWN ───────────────────▶│─────────────────────────────▶│  it is over
//! ```
//!
//! **Whose a packet is.** A caller is known by its address and its own socket id, which its handshakes carry: one that has
//! several connections on one UDP port is several callers. All other packets carry the id of the *receiver's* socket, so
//! those from a caller are found by its address and the origin's socket id. That one was chosen by the origin, and two
//! origins may choose the same. If they do so for two connections of one address, the second gets another id, an *alias*:
//! the caller reads it in the handshake's answer, and in each packet that it sends the id is put right (the only packets
//! that are copied). Packets from an origin come on the session's own socket and carry the caller's id.
//!
//! **What is changed in a handshake** is what is between two neighbours and not between the ends: the cookie, the peer's
//! address, an aliased socket id; and the timestamp of a conclusion grows by the time it waited here, since the origin
//! takes its clock's offset from it, and with that the latency. All extensions are passed on as they are.
//!
//! **Who is the same caller** is said by its address, its socket id and its first sequence number: a conclusion with all
//! three is a repetition, one with another sequence number is of somebody who has begun anew.
//!
//! **What strangers cost.** Without the right cookie, nothing but an answer that is no longer than the question. With it,
//! which proves the address, a session that ends within seconds; lookups per second and sessions are limited, in all and
//! of one network.

mod cookie;
mod messages;
mod session;
mod setup;
mod table;

use super::drops::DropReason;
use super::handshake::{Handshake, MIN_HANDSHAKE, Phase, Rejection};
use super::packet::{Header, Kind, readdressed, shutdown};
use crate::flow::{Drops, Gate, Keyed, Limits, Tickets};
use crate::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Note};
use crate::time::{Duration, Time};
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use messages::{clock, send};
use session::{Live, Session, Stage};
use table::Table;

/// From a caller's conclusion until its origin's answer: programs wait 3 s in all, and shall hear why there is none.
pub const SETUP_TIMEOUT: Duration = Duration::from_millis(2500);

/// After this time a handshake to the origin is sent again, as callers do.
pub const RETRY: Duration = Duration::from_millis(250);

/// How long a session that is over is remembered: a conclusion that comes again makes no second one, and hears the first
/// one's rejection again. As long as a caller goes on sending it.
pub const LINGER: Duration = Duration::from_secs(3);

/// A caller that the origin has accepted publishes once it has lasted so long. Servers accept first and ask their hooks
/// then, and who is turned out by them has published nothing.
pub const PROOF: Duration = Duration::from_secs(5);

/// The silence after which a session is usually taken for over: a living peer sends something each second.
pub const IDLE: Duration = Duration::from_secs(10);

/// All sessions of one listening socket.
#[derive(Debug)]
pub struct SrtHub {
    /// Of the cookies, too.
    keyed: Keyed,
    gate: Gate,
    table: Table,
    tickets: Tickets,
    /// Sessions of which nothing is left but the memory.
    over: usize,
    drops: Drops<DropReason>,
}

impl SrtHub {
    /// A hub without sessions. Nobody else knows the key, by which its cookies are made and what strangers choose is
    /// hashed.
    pub fn new(limits: Limits, key: [u8; 16]) -> Self {
        let keyed = Keyed::new(key);
        Self {
            keyed,
            gate: Gate::new(limits, keyed),
            table: Table::new(keyed),
            tickets: Tickets::default(),
            over: 0,
            drops: Drops::default(),
        }
    }

    /// What was dropped, by reason.
    pub fn drops(&self) -> &Drops<DropReason> {
        &self.drops
    }

    /// What must hold after every input, in O(n); for tests.
    ///
    /// # Errors
    /// What does not hold.
    pub fn invariants(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        self.table.invariants()?;
        let stages = || self.table.sessions.iter().map(|(at, session)| (at, &session.stage));
        self.tickets.invariants(stages().filter_map(|(at, stage)| Some((stage.ticket()?, at))))?;
        let waiting = stages().filter(|(_, stage)| stage.setup().is_some()).count();
        self.gate.invariants(self.table.sessions.len(), waiting)?;
        let over = |session: &Session| matches!(session.stage, Stage::Over(_)) && !session.has_leg;
        let over = self.table.sessions.iter().filter(|(_, session)| over(session)).count();
        ensure(over == self.over, "sessions that are over are miscounted")
    }

    fn discard(&mut self, cx: &mut Cx<'_>, reason: DropReason) {
        self.drops.add(cx.now, reason, cx.actions);
    }

    // From callers.

    fn client_datagram(&mut self, cx: &mut Cx<'_>, from: SocketAddr, bytes: &[u8]) {
        match Header::parse(bytes) {
            None => self.discard(cx, DropReason::NotSrt),
            Some(Header { destination: 0, kind: Kind::Handshake, .. }) => self.call(cx, from, bytes),
            Some(Header { destination, kind, .. }) => match self.table.of_flow(from, destination) {
                Some(at) => self.pass_on(cx, at, kind, bytes),
                None => self.discard(cx, DropReason::Stranger),
            },
        }
    }

    /// What a caller sends to its origin's socket goes there.
    fn pass_on(&mut self, cx: &mut Cx<'_>, at: usize, kind: Kind, bytes: &[u8]) {
        let Some(Session { stage: Stage::Live(live), leg, .. }) = self.table.sessions.get_mut(at) else {
            return;
        };
        live.client_heard = cx.now;
        // Who sends to the origin's socket was told its id.
        live.answer = None;
        if live.alias == live.socket {
            cx.actions.forward(*leg, 0..bytes.len());
        } else {
            cx.actions.write(*leg, readdressed(bytes, live.socket));
        }
        if kind == Kind::Shutdown {
            self.end(cx, at, None, None);
        }
    }

    /// A handshake to whoever listens.
    fn call(&mut self, cx: &mut Cx<'_>, from: SocketAddr, bytes: &[u8]) {
        match Handshake::parse(bytes) {
            Ok(handshake) if handshake.socket == 0 => self.discard(cx, DropReason::BadHandshake),
            Ok(handshake @ Handshake { phase: Phase::Induction, version: 4.., .. }) => {
                let cookie = cookie::cookie(self.keyed, from, cx.now);
                let answer = handshake.with_cookie(cookie, from.ip());
                send(cx, from, answer.write(handshake.socket, clock(cx.now)));
            }
            Ok(handshake @ Handshake { phase: Phase::Conclusion, .. }) => {
                if cookie::is_right(self.keyed, from, cx.now, handshake.cookie) {
                    self.conclude(cx, from, &handshake, bytes);
                } else {
                    self.discard(cx, DropReason::WrongCookie);
                }
            }
            _ => self.discard(cx, DropReason::BadHandshake),
        }
    }

    /// A conclusion, of somebody who is where it comes from.
    fn conclude(&mut self, cx: &mut Cx<'_>, from: SocketAddr, handshake: &Handshake, bytes: &[u8]) {
        if let Some(at) = self.table.of_caller(from, handshake.socket) {
            let known = self.table.sessions.get(at);
            if known.is_some_and(|session| session.first_sequence == handshake.first_sequence) {
                return self.repeat(cx, at);
            }
            self.supersede(cx, at);
        }
        self.begin(cx, from, handshake, bytes);
    }

    /// A conclusion that was there before makes nothing new: its caller has not heard the answer.
    fn repeat(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(Session { caller, stage, .. }) = self.table.sessions.get(at) else { return };
        match stage {
            Stage::Live(Live { answer: Some(answer), since, .. }) => {
                let answer = messages::aged(answer, cx.now.since(*since));
                send(cx, *caller, answer);
            }
            Stage::Over(Some(rejection)) => send(cx, *caller, rejection.clone()),
            // It is on its way, and the timer sees to that; or it was heard.
            _ => {}
        }
    }

    /// Another caller has this one's address and socket id: it has begun anew, and this one is no more.
    fn supersede(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(Session { leg, stage, .. }) = self.table.sessions.get(at) else { return };
        if let Stage::Live(live) = stage {
            cx.actions.write(*leg, shutdown(live.socket, clock(cx.now)));
        }
        if !matches!(stage, Stage::Over(_)) {
            self.end(cx, at, None, Some(Fault::Client("begins anew")));
        }
        self.table.forget_caller(at);
    }

    // From origins.

    fn origin_datagram(&mut self, cx: &mut Cx<'_>, leg: Leg, bytes: &[u8]) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        let Some(Header { kind, .. }) = Header::parse(bytes) else {
            return self.discard(cx, DropReason::BadOrigin);
        };
        if kind == Kind::Handshake {
            return self.origin_answered(cx, at, bytes);
        }
        let Some(Session { caller, stage, .. }) = self.table.sessions.get_mut(at) else { return };
        match stage {
            Stage::Live(live) => live.origin_heard = cx.now,
            Stage::Concluding(..) if kind == Kind::Shutdown => {
                // It had said yes, and that was lost.
                self.close_leg(cx, at);
                return self.refuse(cx, at, Rejection::PEER, Fault::Origin("ends the connection"));
            }
            // Overtakes the origin's conclusion; the caller knows what to do with it.
            Stage::Concluding(..) => {}
            // Follows the yes that came too late.
            Stage::Over(_) => return,
            _ => return self.discard(cx, DropReason::BadOrigin),
        }
        cx.actions.push(Action::Forward { to: Leg::CLIENT, peer: Some(*caller), range: 0..bytes.len() });
        if kind == Kind::Shutdown {
            self.end(cx, at, None, None);
        }
    }

    // The end.

    /// A session is over, and remembered for a moment. One that was live has a fault unless one side said goodbye.
    fn end(&mut self, cx: &mut Cx<'_>, at: usize, rejection: Option<Bytes>, fault: Option<Fault>) {
        self.table.end_flow(at);
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let stage = core::mem::replace(&mut session.stage, Stage::Over(rejection));
        if stage.setup().is_some() {
            self.gate.settle();
        }
        // Its origin may say yes yet. Then it is told that nobody is there, or it would wait for the caller and turn away
        // the next who publishes this stream.
        let is_asked = matches!(stage, Stage::Concluding(..)) && session.has_leg;
        match stage {
            Stage::Picking(ticket, _) => self.tickets.forget(ticket),
            Stage::Live(Live { key, since, usage, .. }) => {
                let (client, lasted) = (Some(session.caller), cx.now.since(since));
                cx.actions.note_of(session.name, Note::Ended { key, client, fault, lasted });
                usage.end(cx);
            }
            _ => {}
        }
        if !is_asked {
            self.close_leg(cx, at);
            self.over += 1;
        }
        self.table.sessions.wake(at, cx.now + LINGER);
    }

    /// A session has no use for its socket any more.
    fn close_leg(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        if core::mem::take(&mut session.has_leg) {
            cx.actions.close(session.leg, Close::Flush);
        }
    }

    /// A session is not even remembered.
    fn forget(&mut self, cx: &mut Cx<'_>, at: usize) {
        if self.table.sessions.get(at).is_some_and(|session| session.has_leg) {
            self.close_leg(cx, at);
        } else {
            self.over -= 1;
        }
        self.table.remove(at);
    }

    /// Ends a live session, and tells both sides: whoever is left need not find out by itself.
    fn say_goodbye(&mut self, cx: &mut Cx<'_>, at: usize, fault: Fault) {
        let Some(Session { stage: Stage::Live(live), leg, caller, socket, .. }) = self.table.sessions.get(at)
        else {
            return;
        };
        cx.actions.write(*leg, shutdown(live.socket, clock(cx.now)));
        send(cx, *caller, shutdown(*socket, clock(cx.now)));
        self.end(cx, at, None, Some(fault));
    }

    /// The process ends, and with it all sessions.
    fn stop(&mut self, cx: &mut Cx<'_>) {
        for at in Vec::from_iter(self.table.sessions.iter().map(|(at, _)| at)) {
            self.refuse(cx, at, Rejection::CLOSE, Fault::STOP);
            self.say_goodbye(cx, at, Fault::STOP);
        }
    }

    // Time.

    fn tick(&mut self, cx: &mut Cx<'_>) {
        while let Some((wake, at)) = self.table.sessions.next()
            && wake <= cx.now
        {
            match self.table.sessions.get(at).map(|session| &session.stage) {
                Some(Stage::Live(_)) => self.look(cx, at),
                Some(Stage::Over(_)) => self.forget(cx, at),
                Some(_) => self.ask_again(cx, at),
                None => return,
            }
        }
    }

    /// Ends a live session that has been silent, reports one that is not, and sets when to look again. Nothing of this is
    /// done with a packet, but for the one that begins it.
    fn look(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let Stage::Live(live) = &mut session.stage else { return };
        let ends_at = live.ends_at(self.gate.idle());
        if ends_at <= cx.now {
            let fault = live.silent();
            return self.say_goodbye(cx, at, fault);
        }
        live.usage.tell(cx);
        let wake = live.usage.next().min(ends_at);
        self.table.sessions.wake(at, wake);
    }
}

impl Machine for SrtHub {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Datagram { leg: Leg::CLIENT, from, bytes } => self.client_datagram(cx, from, bytes),
            Input::Datagram { leg, bytes, .. } => self.origin_datagram(cx, leg, bytes),
            Input::Answer { ticket, answer } => self.answered(cx, ticket, answer),
            Input::Opened { leg, .. } => self.opened(cx, leg),
            Input::OpenFailed { leg, why } => self.open_failed(cx, leg, why),
            Input::Eof { leg, .. } => self.origin_gone(cx, leg),
            Input::Tick => self.tick(cx),
            Input::Drain => self.gate.drain(cx.now),
            Input::Stop => self.stop(cx),
            Input::HungUp { .. } | Input::Stream { .. } | Input::Spliced { .. } => {}
        }
        Ok(0)
    }

    /// Also those whose origin is being found, or may say yes yet.
    fn sessions(&self) -> usize {
        self.table.sessions.len() - self.over
    }

    fn deadline(&self) -> Option<Time> {
        self.table.sessions.next().map(|(wake, _)| wake)
    }
}

const _: () = assert!(MIN_HANDSHAKE == 64, "an answer to an induction is no longer than the induction");
