//! A session's way to its origin: from the caller's conclusion until packets flow, or the caller is told why they will not.

use super::messages::{self, clock, send};
use super::session::{Live, Session, Setup, Stage};
use super::{PROOF, RETRY, SETUP_TIMEOUT, SrtHub};
use crate::flow::{Network, Tickets};
use crate::machine::{Action, Actions, Close, Cx, Fault, Leg, Note, OpenError, Ticket, Transport};
use crate::origin::{OriginId, Protocol};
use crate::query::{Answer, Need, Picked, Query, Refusal, Report};
use crate::srt::drops::DropReason;
use crate::srt::handshake::{Handshake, MAGIC, Phase, Rejection};
use crate::srt::packet::shutdown;
use crate::srt::stream_id::Mode;
use crate::usage::Usage;
use bytes::Bytes;
use core::net::SocketAddr;

/// Origins that are tried for one caller, if they are not there.
const MAX_ATTEMPTS: u8 = 3;

/// Draws of an alias. One is in use already with a chance of one in 2¹⁸, at most.
const ALIAS_DRAWS: usize = 8;

/// Nobody is at the origin's address.
const UNREACHABLE: Fault = Fault::Origin("cannot be reached");

/// It is, or may be, and says nothing.
const SILENT: Fault = Fault::Origin("does not answer");

impl SrtHub {
    /// A caller that is new: may it come in, and whom does it want?
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>, from: SocketAddr, handshake: &Handshake, bytes: &[u8]) {
        let id = match messages::asked_for(handshake, bytes) {
            Ok(id) => id,
            Err((why, what)) => {
                cx.actions.note(Note::Refused { key: None, fault: Fault::Client(what) });
                return send(cx, from, messages::rejection(handshake, from.ip(), why, cx.now));
            }
        };
        if let Err(turned) = self.gate.admit(cx.now, Network::from(from.ip()), &self.table.sessions) {
            let (reason, why) = messages::turned_away(turned);
            self.discard(cx, reason);
            if let Some(why) = why {
                send(cx, from, messages::rejection(handshake, from.ip(), why, cx.now));
            }
            return;
        }
        let setup = Setup {
            id,
            handshake: *handshake,
            conclusion: Bytes::copy_from_slice(bytes),
            since: cx.now,
            attempts: 0,
            failed: None,
        };
        self.table.insert(from, handshake, cx.now + SETUP_TIMEOUT, |at| {
            pick(at, setup, &mut self.tickets, cx.actions)
        });
    }

    /// The load balancer knows an origin, or says no.
    pub(super) fn answered(&mut self, cx: &mut Cx<'_>, ticket: Ticket, answer: Answer) {
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

    /// A session has its socket.
    pub(super) fn opened(&mut self, cx: &mut Cx<'_>, leg: Leg) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        session.stage = match session.stage.take() {
            Stage::Opening(picked, setup) => Stage::Inducing(picked, setup),
            other => other,
        };
        self.ask_origin(cx, at);
    }

    /// A session does not get its socket.
    pub(super) fn open_failed(&mut self, cx: &mut Cx<'_>, leg: Leg, why: OpenError) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        // It is gone already.
        self.table.another_leg(at);
        self.origin_failed(cx, at, why);
    }

    /// ICMP says that nobody is there. Of a session that is live it is no more than word of mouth: silence ends it.
    pub(super) fn origin_gone(&mut self, cx: &mut Cx<'_>, leg: Leg) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        if self.table.sessions.get(at).is_some_and(|session| session.stage.setup().is_some()) {
            cx.actions.close(leg, Close::Abort);
            self.table.another_leg(at);
            self.origin_failed(cx, at, OpenError::Unreachable);
        }
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
        if why == OpenError::Exhausted {
            return self.refuse(cx, at, Rejection::OVERLOAD, Fault::Proxy("no socket left"));
        }
        let (origin, setup) = (picked.origin.clone(), setup.clone());
        blame(cx, session, &origin, UNREACHABLE);
        let attempts = setup.attempts + 1;
        if attempts >= MAX_ATTEMPTS {
            return self.refuse(cx, at, Rejection::GATEWAY, UNREACHABLE);
        }
        let ends_at = setup.since + SETUP_TIMEOUT;
        let setup = Setup { attempts, failed: Some(origin), ..setup };
        session.stage = pick(at, setup, &mut self.tickets, cx.actions);
        self.table.sessions.wake(at, ends_at);
    }

    /// Sends the origin what it has not answered yet, and sets when to do so again.
    fn ask_origin(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(Session { leg, stage, .. }) = self.table.sessions.get(at) else { return };
        let (setup, asked) = match stage {
            Stage::Inducing(Picked { to, .. }, setup) => (setup, messages::induction(setup, to.ip(), cx.now)),
            Stage::Concluding(Picked { to, .. }, setup, cookie) => {
                (setup, messages::conclusion(setup, to.ip(), *cookie, cx.now))
            }
            _ => return,
        };
        cx.actions.write(*leg, asked);
        let wake = (cx.now + RETRY).min(setup.since + SETUP_TIMEOUT);
        self.table.sessions.wake(at, wake);
    }

    /// Time has passed while a caller waits: its origin is asked again, or it has waited long enough.
    pub(super) fn ask_again(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(session) = self.table.sessions.get(at) else { return };
        let Some(setup) = session.stage.setup() else { return };
        if cx.now < setup.since + SETUP_TIMEOUT {
            return self.ask_origin(cx, at);
        }
        let (why, fault) = match &session.stage {
            Stage::Picking(..) => (Rejection::DOWN, Fault::Balancer("does not answer")),
            Stage::Opening(..) => (Rejection::OVERLOAD, Fault::Proxy("no socket in time")),
            Stage::Inducing(Picked { origin, .. }, _) => {
                // Not one of ten inductions was answered, which costs an origin nothing.
                blame(cx, session, origin, SILENT);
                (Rejection::GATEWAY, SILENT)
            }
            _ => (Rejection::GATEWAY, SILENT),
        };
        self.refuse(cx, at, why, fault);
    }

    /// What the origin says to a handshake, at whatever stage that finds its session.
    pub(super) fn origin_answered(&mut self, cx: &mut Cx<'_>, at: usize, bytes: &[u8]) {
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let Ok(handshake) = Handshake::parse(bytes) else {
            return self.discard(cx, DropReason::BadOrigin);
        };
        match (handshake.phase, &mut session.stage) {
            (Phase::Rejected(_), Stage::Inducing(_, setup) | Stage::Concluding(_, setup, _)) => {
                let (key, fault) = (Some(setup.id.key.clone()), Fault::Origin("rejects the connection"));
                let rejection = messages::answer(bytes, session.caller.ip(), None);
                cx.actions.note_of(session.name, Note::Refused { key, fault });
                send(cx, session.caller, rejection.clone());
                self.close_leg(cx, at);
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
            (Phase::Conclusion, Stage::Concluding(..)) if handshake.socket != 0 => {
                self.connected(cx, at, &handshake, bytes);
            }
            // It says yes when its caller has been told no.
            (Phase::Conclusion, Stage::Over(_)) if session.has_leg && handshake.socket != 0 => {
                cx.actions.write(session.leg, shutdown(handshake.socket, clock(cx.now)));
            }
            (Phase::Rejected(_), Stage::Over(_)) => {}
            // The answers to what was sent twice.
            (Phase::Induction, Stage::Concluding(..) | Stage::Live(_) | Stage::Over(_)) => {}
            (Phase::Conclusion, Stage::Live(live)) => live.origin_heard = cx.now,
            _ => self.discard(cx, DropReason::BadOrigin),
        }
    }

    /// The origin has agreed: packets flow.
    fn connected(&mut self, cx: &mut Cx<'_>, at: usize, handshake: &Handshake, bytes: &[u8]) {
        let socket = handshake.socket;
        let Some(Session { caller, leg, .. }) = self.table.sessions.get(at) else { return };
        let (caller, leg) = (*caller, *leg);
        let is_free = |alias: &u32| *alias != 0 && self.table.of_flow(caller, *alias).is_none();
        let aliases = core::iter::once(socket).chain((0..ALIAS_DRAWS).map(|_| cx.rng.next_u32()));
        let Some(alias) = { aliases }.find(is_free) else {
            cx.actions.write(leg, shutdown(socket, clock(cx.now)));
            return self.refuse(cx, at, Rejection::OVERLOAD, Fault::Proxy("no socket id left"));
        };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let Stage::Concluding(picked, Setup { id, .. }, _) = session.stage.take() else { return };
        let answer = messages::answer(bytes, caller.ip(), Some(alias));
        send(cx, caller, answer.clone());
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
            answer: Some(answer),
            socket,
            alias,
            client_heard: cx.now,
            origin_heard: cx.now,
        });
        self.table.flow(at, alias);
        self.gate.settle();
        self.look(cx, at);
    }

    /// A caller that waits gets no connection, and is told so.
    pub(super) fn refuse(&mut self, cx: &mut Cx<'_>, at: usize, why: Rejection, fault: Fault) {
        let Some(session) = self.table.sessions.get(at) else { return };
        let Some(setup) = session.stage.setup() else { return };
        let rejection = messages::rejection(&setup.handshake, session.caller.ip(), why, cx.now);
        cx.actions.note_of(session.name, Note::Refused { key: Some(setup.id.key.clone()), fault });
        send(cx, session.caller, rejection.clone());
        self.end(cx, at, Some(rejection), None);
    }
}

/// An origin cannot be used by this session; the load balancer hears of it.
fn blame(cx: &mut Cx<'_>, session: &Session, origin: &OriginId, fault: Fault) {
    let key = session.stage.setup().map(|setup| setup.id.key.clone());
    cx.actions.note_of(session.name, Note::OriginFailed { key, origin: origin.clone(), fault });
    cx.actions.push(Action::Tell(Report::Unreachable(origin.clone(), Protocol::Srt)));
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
