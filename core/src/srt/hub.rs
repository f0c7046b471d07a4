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
//! **What strangers cost.** Without the right cookie, nothing but an answer that is no longer than the question. With it,
//! which proves the address, a session that ends within seconds; lookups per second and sessions are limited, in all and
//! of one network.

mod cookie;
mod session;
mod table;

use super::drops::DropReason;
use super::handshake::{
    Change, Handshake, HandshakeError, MAGIC, MIN_HANDSHAKE, Phase, Rejection, stream_id,
};
use super::packet::{Header, Kind, readdressed, shutdown};
use super::stream_id::{Mode, StreamId, StreamIdError};
use crate::flow::{Drops, Gate, Keyed, Limits, Network, Tickets, Turned};
use crate::machine::{
    Action, Actions, Close, Cx, Fault, Input, Leg, Machine, Note, OpenError, Ticket, Transport,
};
use crate::origin::Protocol;
use crate::query::{Answer, Need, Picked, Query, Refusal, Report};
use crate::time::{Duration, Time};
use crate::usage::Usage;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::SocketAddr;
use session::{Live, Session, Setup, Stage};
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

/// Origins that are tried for one caller, if they are not there.
const MAX_ATTEMPTS: u8 = 3;

/// Draws of an alias. One is in use already with a chance of one in 2¹⁸, at most.
const ALIAS_DRAWS: usize = 8;

/// Nobody is at the origin's address.
const UNREACHABLE: Fault = Fault::Origin("cannot be reached");

/// All sessions of one listening socket.
#[derive(Debug)]
pub struct SrtHub {
    /// Of the cookies, too.
    keyed: Keyed,
    gate: Gate,
    table: Table,
    tickets: Tickets,
    /// Sessions that are over.
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
        let over = stages().filter(|(_, stage)| matches!(stage, Stage::Over(_))).count();
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
                send(
                    cx,
                    from,
                    handshake.with_cookie(cookie, from.ip()).write(handshake.socket, clock(cx.now)),
                );
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
            return self.repeated(cx, at, bytes);
        }
        let id = match asked_for(handshake, bytes) {
            Ok(id) => id,
            Err((why, what)) => {
                cx.actions.note(Note::Refused { key: None, fault: Fault::Client(what) });
                return reject(cx, from, handshake, why);
            }
        };
        if let Err((reason, why)) = self.admit(cx.now, Network::from(from.ip())) {
            self.discard(cx, reason);
            if let Some(why) = why {
                reject(cx, from, handshake, why);
            }
            return;
        }
        let conclusion = Bytes::copy_from_slice(bytes);
        let setup = Setup { id, conclusion, since: cx.now, attempts: 0, failed: None };
        self.table.insert(from, handshake.socket, cx.now + SETUP_TIMEOUT, |at| {
            pick(at, setup, &mut self.tickets, cx.actions)
        });
    }

    /// Whether a session may begin, and if not, what the caller is told. Who comes too fast is told nothing: it will
    /// come again.
    fn admit(&mut self, now: Time, network: Network) -> Result<(), (DropReason, Option<Rejection>)> {
        self.gate.admit(now, network, &self.table.sessions).map_err(|turned| match turned {
            Turned::Draining => (DropReason::Draining, Some(Rejection::CLOSE)),
            Turned::TooMany => (DropReason::TooManySessions, Some(Rejection::OVERLOAD)),
            Turned::TooManyOfOne => (DropReason::TooManyOfOne, Some(Rejection::OVERLOAD)),
            Turned::TooFast => (DropReason::TooManyLookups, None),
        })
    }

    /// A conclusion that was there before makes nothing new.
    fn repeated(&mut self, cx: &mut Cx<'_>, at: usize, bytes: &[u8]) {
        let Some(Session { caller, leg, stage, .. }) = self.table.sessions.get(at) else { return };
        match stage {
            // The answer was lost: the origin gives it again.
            Stage::Live(Live { cookie, to, .. }) => {
                let change = Change { cookie: Some(*cookie), peer: Some(to.ip()), ..Change::default() };
                cx.actions.write(*leg, change.of(bytes));
            }
            Stage::Over(Some(rejection)) => send(cx, *caller, rejection.clone()),
            // It is on its way, and the timer sees to that.
            _ => {}
        }
    }

    // A session's way to its origin.

    fn answered(&mut self, cx: &mut Cx<'_>, ticket: Ticket, answer: Answer) {
        let Some(at) = self.tickets.answered(ticket) else { return };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let Stage::Picking(_, setup) = &session.stage else { return };
        let (why, what) = match answer {
            Answer::Picked(picked) if setup.failed.as_ref() == Some(&picked.origin) => {
                return self.refuse(cx, at, Rejection::GATEWAY, UNREACHABLE);
            }
            Answer::Picked(picked) => {
                let (leg, to, setup) = (session.leg, picked.to, setup.clone());
                session.has_leg = true;
                session.stage = Stage::Opening(picked, setup);
                return cx.actions.push(Action::Open { leg, to, transport: Transport::Udp });
            }
            Answer::Refused(refusal @ Refusal::Full) => (Rejection::OVERLOAD, refusal.as_str()),
            Answer::Refused(refusal) => (Rejection::DOWN, refusal.as_str()),
            _ => (Rejection::DOWN, "answers another question"),
        };
        self.refuse(cx, at, why, Fault::Balancer(what));
    }

    fn opened(&mut self, cx: &mut Cx<'_>, leg: Leg) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        session.stage = match session.stage.take() {
            Stage::Opening(picked, setup) => Stage::Inducing(picked, setup),
            other => other,
        };
        self.ask_origin(cx, at);
    }

    /// Sends the origin what it has not answered yet, and sets when to do so again.
    fn ask_origin(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(Session { leg, stage, .. }) = self.table.sessions.get(at) else { return };
        let setup = match stage {
            Stage::Inducing(Picked { to, .. }, setup) => {
                let Ok(handshake) = Handshake::parse(&setup.conclusion) else { return };
                cx.actions.write(*leg, handshake.induction(to.ip()).write(0, clock(cx.now)));
                setup
            }
            Stage::Concluding(Picked { to, .. }, setup, cookie) => {
                let waited = clock(Time::ZERO + cx.now.since(setup.since));
                let sent = Header::parse(&setup.conclusion).map(|header| header.timestamp);
                let timestamp = sent.map(|sent| sent.wrapping_add(waited));
                let (cookie, peer) = (Some(*cookie), Some(to.ip()));
                let change = Change { timestamp, cookie, peer, ..Change::default() };
                cx.actions.write(*leg, change.of(&setup.conclusion));
                setup
            }
            _ => return,
        };
        let wake = (cx.now + RETRY).min(setup.since + SETUP_TIMEOUT);
        self.table.sessions.wake(at, wake);
    }

    /// The origin of a session that waits for it is not there: another is asked for, if there is time.
    fn origin_failed(&mut self, cx: &mut Cx<'_>, at: usize, why: OpenError) {
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let (Stage::Opening(picked, setup)
        | Stage::Inducing(picked, setup)
        | Stage::Concluding(picked, setup, _)) = &session.stage
        else {
            return;
        };
        let (origin, setup) = (picked.origin.clone(), setup.clone());
        if why == OpenError::Exhausted {
            return self.refuse(cx, at, Rejection::OVERLOAD, Fault::Proxy("no socket left"));
        }
        let key = Some(setup.id.key.clone());
        cx.actions
            .note_of(session.name, Note::OriginFailed { key, origin: origin.clone(), fault: UNREACHABLE });
        cx.actions.push(Action::Tell(Report::Unreachable(origin.clone(), Protocol::Srt)));
        let attempts = setup.attempts + 1;
        if attempts >= MAX_ATTEMPTS {
            return self.refuse(cx, at, Rejection::GATEWAY, UNREACHABLE);
        }
        let ends_at = setup.since + SETUP_TIMEOUT;
        let setup = Setup { attempts, failed: Some(origin), ..setup };
        session.stage = pick(at, setup, &mut self.tickets, cx.actions);
        self.table.sessions.wake(at, ends_at);
    }

    fn open_failed(&mut self, cx: &mut Cx<'_>, leg: Leg, why: OpenError) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        // It is gone already.
        self.table.another_leg(at);
        self.origin_failed(cx, at, why);
    }

    /// ICMP says that nobody is there. Of a session that is live it is no more than word of mouth: silence ends it.
    fn origin_gone(&mut self, cx: &mut Cx<'_>, leg: Leg) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        if self.table.sessions.get(at).is_some_and(|session| session.stage.setup().is_some()) {
            cx.actions.close(leg, Close::Abort);
            self.table.another_leg(at);
            self.origin_failed(cx, at, OpenError::Unreachable);
        }
    }

    /// A caller gets no connection, and is told so.
    fn refuse(&mut self, cx: &mut Cx<'_>, at: usize, why: Rejection, fault: Fault) {
        let Some(session) = self.table.sessions.get(at) else { return };
        let Some(setup) = session.stage.setup() else { return };
        let Ok(handshake) = Handshake::parse(&setup.conclusion) else { return };
        let rejection = handshake.rejected(why, session.caller.ip()).write(session.socket, clock(cx.now));
        cx.actions.note_of(session.name, Note::Refused { key: Some(setup.id.key.clone()), fault });
        send(cx, session.caller, rejection.clone());
        self.end(cx, at, Some(rejection), None);
    }

    /// A session is over, and remembered for a moment. One that was live has a fault unless one side said goodbye.
    fn end(&mut self, cx: &mut Cx<'_>, at: usize, rejection: Option<Bytes>, fault: Option<Fault>) {
        self.table.end_flow(at);
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let stage = core::mem::replace(&mut session.stage, Stage::Over(rejection));
        if core::mem::take(&mut session.has_leg) {
            cx.actions.close(session.leg, Close::Flush);
        }
        if stage.setup().is_some() {
            self.gate.settle();
        }
        match stage {
            Stage::Picking(ticket, _) => self.tickets.forget(ticket),
            Stage::Live(Live { key, since, usage, .. }) => {
                let (client, lasted) = (Some(session.caller), cx.now.since(since));
                cx.actions.note_of(session.name, Note::Ended { key, client, fault, lasted });
                usage.end(cx);
            }
            _ => {}
        }
        self.over += 1;
        self.table.sessions.wake(at, cx.now + LINGER);
    }

    // From origins.

    fn origin_datagram(&mut self, cx: &mut Cx<'_>, leg: Leg, bytes: &[u8]) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        let Some(Header { kind, .. }) = Header::parse(bytes) else {
            return self.discard(cx, DropReason::BadOrigin);
        };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let caller = session.caller;
        match &mut session.stage {
            Stage::Live(live) => {
                live.origin_heard = cx.now;
                if kind == Kind::Handshake {
                    let alias = live.alias;
                    return self.answered_again(cx, caller, alias, bytes);
                }
            }
            Stage::Inducing(..) | Stage::Concluding(..) if kind == Kind::Handshake => {
                return self.origin_answered(cx, at, bytes);
            }
            Stage::Concluding(..) if kind == Kind::Shutdown => {
                // It had said yes, and that was lost.
                return self.refuse(cx, at, Rejection::PEER, Fault::Origin("ends the connection"));
            }
            // Overtakes the origin's conclusion; the caller knows what to do with it.
            Stage::Concluding(..) => {}
            _ => return self.discard(cx, DropReason::BadOrigin),
        }
        cx.actions.push(Action::Forward { to: Leg::CLIENT, peer: Some(caller), range: 0..bytes.len() });
        if kind == Kind::Shutdown {
            self.end(cx, at, None, None);
        }
    }

    /// What the origin says to a handshake.
    fn origin_answered(&mut self, cx: &mut Cx<'_>, at: usize, bytes: &[u8]) {
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let Ok(handshake) = Handshake::parse(bytes) else {
            return self.discard(cx, DropReason::BadOrigin);
        };
        let caller = session.caller;
        match (handshake.phase, &session.stage) {
            (Phase::Rejected(_), Stage::Inducing(_, setup) | Stage::Concluding(_, setup, _)) => {
                let (key, fault) = (Some(setup.id.key.clone()), Fault::Origin("rejects the connection"));
                let rejection = Change { peer: Some(caller.ip()), ..Change::default() }.of(bytes);
                cx.actions.note_of(session.name, Note::Refused { key, fault });
                send(cx, caller, rejection.clone());
                self.end(cx, at, Some(rejection), None);
            }
            (Phase::Induction, Stage::Inducing(..)) if handshake.extension == MAGIC => {
                if let Stage::Inducing(picked, setup) = session.stage.take() {
                    session.stage = Stage::Concluding(picked, setup, handshake.cookie);
                }
                self.ask_origin(cx, at);
            }
            (Phase::Induction, Stage::Inducing(..)) => {
                self.refuse(cx, at, Rejection::GATEWAY, Fault::Origin("speaks UDT, not SRT"));
            }
            // The answer to an induction that was sent twice.
            (Phase::Induction, Stage::Concluding(..)) => {}
            (Phase::Conclusion, Stage::Concluding(..)) if handshake.socket != 0 => {
                self.connected(cx, at, &handshake, bytes);
            }
            _ => self.discard(cx, DropReason::BadOrigin),
        }
    }

    /// A handshake of an origin that has agreed already: the answer to a conclusion that came again, or one that is late.
    fn answered_again(&mut self, cx: &mut Cx<'_>, caller: SocketAddr, alias: u32, bytes: &[u8]) {
        match Handshake::parse(bytes).map(|handshake| handshake.phase) {
            Ok(Phase::Conclusion) => {
                let (socket, peer) = (Some(alias), Some(caller.ip()));
                send(cx, caller, Change { socket, peer, ..Change::default() }.of(bytes));
            }
            Ok(Phase::Induction) => {}
            _ => self.discard(cx, DropReason::BadOrigin),
        }
    }

    /// The origin has agreed: packets flow.
    fn connected(&mut self, cx: &mut Cx<'_>, at: usize, handshake: &Handshake, bytes: &[u8]) {
        let socket = handshake.socket;
        let Some(caller) = self.table.sessions.get(at).map(|session| session.caller) else { return };
        let is_free = |alias: &u32| *alias != 0 && self.table.of_flow(caller, *alias).is_none();
        let aliases = core::iter::once(socket).chain((0..ALIAS_DRAWS).map(|_| cx.rng.next_u32()));
        let Some(alias) = { aliases }.find(is_free) else {
            return self.refuse(cx, at, Rejection::OVERLOAD, Fault::Proxy("no socket id left"));
        };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let Stage::Concluding(picked, Setup { id, .. }, cookie) = session.stage.take() else { return };
        let change = Change { socket: Some(alias), peer: Some(caller.ip()), ..Change::default() };
        send(cx, caller, change.of(bytes));
        let routed = Note::Routed {
            verb: if id.mode == Mode::Request { "play" } else { "publish" },
            key: id.key.clone(),
            origin: picked.origin.clone(),
            to: picked.to,
        };
        cx.actions.note_of(session.name, routed);
        let key = id.key.clone();
        let usage = match id.mode {
            Mode::Request => Usage::begin(cx, Report::Playing(id.key)),
            Mode::Publish | Mode::Bidirectional => {
                Usage::from(cx.now + PROOF, Report::Publishing(id.key, picked.origin))
            }
        };
        session.stage = Stage::Live(Live {
            key,
            since: cx.now,
            usage,
            to: picked.to,
            cookie,
            socket,
            alias,
            client_heard: cx.now,
            origin_heard: cx.now,
        });
        self.table.flow(at, alias);
        self.gate.settle();
        self.look(cx, at);
    }

    // Time.

    fn tick(&mut self, cx: &mut Cx<'_>) {
        while let Some((wake, at)) = self.table.sessions.next()
            && wake <= cx.now
        {
            let Some(session) = self.table.sessions.get(at) else { return };
            match &session.stage {
                Stage::Live(_) => self.look(cx, at),
                Stage::Over(_) => {
                    self.over -= 1;
                    self.table.remove(at);
                }
                stage => {
                    if stage.setup().is_some_and(|setup| cx.now < setup.since + SETUP_TIMEOUT) {
                        self.ask_origin(cx, at);
                    } else {
                        self.out_of_time(cx, at);
                    }
                }
            }
        }
    }

    /// A caller has waited long enough.
    fn out_of_time(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(session) = self.table.sessions.get(at) else { return };
        let (why, fault) = match &session.stage {
            Stage::Picking(..) => (Rejection::DOWN, Fault::Balancer("does not answer")),
            Stage::Opening(..) => (Rejection::OVERLOAD, Fault::Proxy("no socket in time")),
            Stage::Inducing(Picked { origin, .. }, setup) => {
                // Not one of ten inductions was answered, which costs an origin nothing.
                let (origin, fault) = (origin.clone(), Fault::Origin("does not answer"));
                let key = Some(setup.id.key.clone());
                cx.actions.note_of(session.name, Note::OriginFailed { key, origin: origin.clone(), fault });
                cx.actions.push(Action::Tell(Report::Unreachable(origin, Protocol::Srt)));
                (Rejection::GATEWAY, fault)
            }
            _ => (Rejection::GATEWAY, Fault::Origin("does not answer")),
        };
        self.refuse(cx, at, why, fault);
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

    /// The process ends, and with it all sessions.
    fn stop(&mut self, cx: &mut Cx<'_>) {
        let is_live = |session: &Session| matches!(session.stage, Stage::Live(_));
        let live = self.table.sessions.iter().filter_map(|(at, session)| is_live(session).then_some(at));
        for at in Vec::from_iter(live) {
            self.say_goodbye(cx, at, Fault::STOP);
        }
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
}

/// Asks for the origin of the session in this slot.
fn pick(at: usize, setup: Setup, tickets: &mut Tickets, actions: &mut Actions) -> Stage {
    let need = match setup.id.mode {
        Mode::Request => Need::to_play(Protocol::Srt),
        Mode::Publish | Mode::Bidirectional => Need::to_publish(Protocol::Srt),
    };
    let query = Query::Pick { key: setup.id.key.clone(), need };
    Stage::Picking(tickets.ask(at, query, actions), setup)
}

/// What a conclusion asks for; or the rejection that it gets, and why.
fn asked_for(handshake: &Handshake, bytes: &[u8]) -> Result<StreamId, (Rejection, &'static str)> {
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

fn reject(cx: &mut Cx<'_>, to: SocketAddr, handshake: &Handshake, why: Rejection) {
    let rejection = handshake.rejected(why, to.ip()).write(handshake.socket, clock(cx.now));
    send(cx, to, rejection);
}

/// Sends a caller something of our own.
fn send(cx: &mut Cx<'_>, to: SocketAddr, bytes: Bytes) {
    cx.actions.push(Action::Write { to: Leg::CLIENT, peer: Some(to), bytes });
}

/// The time as packets carry it: the lower bits of microseconds.
fn clock(now: Time) -> u32 {
    now.as_micros() as u32
}

impl Machine for SrtHub {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Datagram { leg: Leg::CLIENT, from, bytes } => self.client_datagram(cx, from, bytes),
            Input::Datagram { leg, bytes, .. } => self.origin_datagram(cx, leg, bytes),
            Input::Answer { ticket, answer } => self.answered(cx, ticket, answer),
            Input::Opened { leg, .. } => self.opened(cx, leg),
            Input::OpenFailed { leg, why } => self.open_failed(cx, leg, why),
            Input::Eof { leg } => self.origin_gone(cx, leg),
            Input::Tick => self.tick(cx),
            Input::Drain => self.gate.drain(cx.now),
            Input::Stop => self.stop(cx),
            Input::HungUp { .. } | Input::Stream { .. } | Input::Spliced { .. } => {}
        }
        Ok(0)
    }

    /// Also those whose origin is being found.
    fn sessions(&self) -> usize {
        self.table.sessions.len() - self.over
    }

    fn deadline(&self) -> Option<Time> {
        self.table.sessions.next().map(|(wake, _)| wake)
    }
}

const _: () = assert!(MIN_HANDSHAKE == 64, "an answer to an induction is no longer than the induction");
