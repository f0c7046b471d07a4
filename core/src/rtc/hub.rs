//! The hub of WebRTC media: one per worker and listening UDP socket. It finds out whose a datagram is and passes it on
//! untouched. The diagram of a session's stages is in docs/webrtc.md.
//!
//! ```text
//!   clients          listening socket           one socket for each session         origins
//!  198.51.100.7:4 ◀──────────────────▶ session "Sx4f:9aQe" ◀──────────────────────▶ 10.0.0.1:8000
//!  203.0.113.9:51 ◀──────────────────▶ session "k0wP:Yx2b" ◀──────────────────────▶ 10.0.0.1:8000
//!                                      session "k0wP:77ab" ◀──────────────────────▶ 10.0.0.2:8000
//! ```
//!
//! **Who is at an address is said by the origin.** A client is known by the USERNAME of its ICE checks, the names
//! that signalling has exchanged (`server-ufrag:client-ufrag`, RFC 8445 §7.2.2). But anybody can write any
//! USERNAME, and the key to the check's MESSAGE-INTEGRITY is known to the client and its origin only. So a check
//! is passed on, and the address is the session's as soon as the origin's success response to just this
//! transaction comes back:
//!
//! ```text
//!   client at A                hub                        origin
//!      │ check n, "s:c" ───────▶│ n was asked by A          │
//!      │                        │ check n ─────────────────▶│ integrity is right
//!      │                        │◀──────────────── success n│
//!      │◀────────────── success n│ A is a client of "s:c"   │
//!      │ DTLS, SRTP ────────────▶│─────────────────────────▶│
//!      │◀────────────────────────│◀──────────────── SRTP    │
//!   forger at X                  │                          │
//!      │ check m, "s:c" ───────▶│ m was asked by X          │
//!      │                        │ check m ─────────────────▶│ integrity is wrong
//!      │◀──────────────── 401 m│◀──────────────────── 401 m│ A is a client of "s:c", as before
//! ```
//!
//! Until then responses to a check go to the address that sent it, and nothing else goes there. So a forged
//! USERNAME neither takes over a session nor cuts one off, and the hub needs no cryptography. An origin that
//! checks no integrity can be fooled through the hub exactly as without it. (An origin that is ICE-lite, as SRS
//! is, sends no checks. Those of another go to the client like media do, and the client's responses come back
//! like its media.)
//!
//! **A client has several addresses.** Browsers check from each network they are in, and go on doing so. All
//! addresses of which a check was granted are the client's. The present one, where everything goes that is no
//! response, is the newest; then whichever it sends media from. An address whose check is granted in another
//! session leaves the old one.
//!
//! **What strangers cost.** Only a check with a USERNAME makes the hub do anything for an unknown address, and
//! what it does is limited in number, in bytes and in time: lookups per second, in all and of one network;
//! sessions that wait; datagrams that wait with them; and a moment of memory for names that were not found.

mod session;
mod strangers;
mod table;

pub use strangers::UNKNOWN_LIFE;

use super::demux::{Kind, is_media};
use super::drops::DropReason;
use super::stun::{BINDING, Class, Message};
use crate::flow::{Drops, Gate, Keyed, Limits, Network, Tickets, Turned};
use crate::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Note, OpenError, Ticket, Transport};
use crate::origin::Protocol;
use crate::query::{Answer, Need, Picked, Query, Report};
use crate::time::{Duration, Time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use session::{Live, MAX_PARKED_DATAGRAM, Parked, Session, Stage};
use strangers::Strangers;
use table::Table;

/// From a session's first check until its origin is known: a client gives up a candidate after some ten seconds.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(3);

/// The silence after which a session is usually taken for over: as long as a client keeps sending without consent (RFC
/// 7675 §5.1).
pub const IDLE: Duration = Duration::from_secs(30);

/// How long sessions may begin once the process drains: offers that were taken before are answered yet, and their clients
/// check then.
pub const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// What sessions have parked whose origin is being found, all together, in bytes.
const MAX_PARKED_BYTES: usize = 2 * 1024 * 1024;

/// All sessions of one listening socket.
#[derive(Debug)]
pub struct RtcHub {
    gate: Gate,
    table: Table,
    strangers: Strangers,
    tickets: Tickets,
    /// What sessions that are not live have parked, in bytes.
    parked: usize,
    drops: Drops<DropReason>,
}

impl RtcHub {
    /// A hub without sessions. Nobody else knows the key, by which what strangers choose is hashed.
    pub fn new(limits: Limits, key: [u8; 16]) -> Self {
        let keyed = Keyed::new(key);
        Self {
            gate: Gate::new(limits, keyed),
            table: Table::new(keyed),
            strangers: Strangers::new(keyed),
            tickets: Tickets::default(),
            parked: 0,
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
        let sessions = || self.table.sessions.iter();
        self.tickets
            .invariants(sessions().filter_map(|(at, session)| Some((session.stage.ticket()?, at))))?;
        let parked = || sessions().filter_map(|(_, session)| session.stage.parked());
        self.gate.invariants(self.table.sessions.len(), parked().count())?;
        let bytes: usize = parked().map(Parked::bytes).sum();
        ensure(bytes == self.parked && bytes <= MAX_PARKED_BYTES, "parked bytes are miscounted")?;
        ensure(self.strangers.remembered().is_some(), "unknown names are miscounted")
    }

    fn discard(&mut self, cx: &mut Cx<'_>, reason: DropReason) {
        self.drops.add(cx.now, reason, cx.actions);
    }

    // From clients.

    fn client_datagram(&mut self, cx: &mut Cx<'_>, from: SocketAddr, bytes: &[u8]) {
        match Kind::of(bytes) {
            Some(Kind::Stun) => self.stun_from_client(cx, from, bytes),
            Some(kind @ (Kind::Dtls | Kind::Rtp)) => match self.table.of_address(from) {
                Some(at) => self.pass_on(cx, at, from, bytes, kind),
                None => self.discard(cx, DropReason::Stranger),
            },
            None => self.discard(cx, DropReason::NotWebRtc),
        }
    }

    fn stun_from_client(&mut self, cx: &mut Cx<'_>, from: SocketAddr, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else { return self.discard(cx, DropReason::BadStun) };
        let known = self.table.of_address(from);
        let is_check = message.class == Class::Request && message.method == BINDING;
        match (message.username.filter(|_| is_check), known) {
            (Some(name), _) => self.check(cx, known, from, name, &message, bytes),
            (None, Some(at)) => {
                if message.class == Class::Request
                    && let Some(Session { stage: Stage::Live(live), .. }) = self.table.sessions.get_mut(at)
                    && !live.ask_else(message.transaction, from, cx.now)
                {
                    return self.discard(cx, DropReason::Repeated);
                }
                self.pass_on(cx, at, from, bytes, Kind::Stun);
            }
            (None, None) => self.discard(cx, DropReason::Stranger),
        }
    }

    /// What a client sends from an address that is its own goes to its origin.
    fn pass_on(&mut self, cx: &mut Cx<'_>, at: usize, from: SocketAddr, bytes: &[u8], kind: Kind) {
        if let Some(Session { stage: Stage::Live(live), leg, .. }) = self.table.sessions.get_mut(at) {
            live.hear(from, cx.now, kind != Kind::Stun);
            cx.actions.forward(*leg, 0..bytes.len());
            if kind == Kind::Rtp && is_media(bytes) {
                live.send_media(cx);
            }
        }
    }

    /// A check goes to the session it names, wherever it comes from.
    fn check(
        &mut self,
        cx: &mut Cx<'_>,
        known: Option<usize>,
        from: SocketAddr,
        name: &str,
        message: &Message<'_>,
        bytes: &[u8],
    ) {
        let same =
            known.filter(|at| self.table.sessions.get(*at).is_some_and(|session| &*session.name == name));
        let Some(at) = same.or_else(|| self.table.of_name(name)) else {
            return self.begin(cx, from, name, message, bytes);
        };
        match self.table.sessions.get_mut(at) {
            Some(Session { stage: Stage::Live(live), leg, .. }) => {
                live.hear(from, cx.now, false);
                if live.ask(message.transaction, from, cx.now) {
                    cx.actions.forward(*leg, 0..bytes.len());
                } else {
                    self.discard(cx, DropReason::Repeated);
                }
            }
            Some(_) => self.park(cx, at, from, message, bytes),
            None => {}
        }
    }

    // A session's way to its origin.

    /// A check with a USERNAME that is new here: is there such a session?
    fn begin(&mut self, cx: &mut Cx<'_>, from: SocketAddr, name: &str, message: &Message<'_>, bytes: &[u8]) {
        let network = Network::from(from.ip());
        if let Err(reason) = self.admit(cx.now, network, name, bytes.len()) {
            return self.discard(cx, reason);
        }
        let name: Arc<str> = name.into();
        let at = self.table.insert(Arc::clone(&name), network, cx.now + SETUP_TIMEOUT, |at| {
            Stage::Loading(self.tickets.ask(at, Query::LoadRtc(name), cx.actions), Parked::default())
        });
        self.park(cx, at, from, message, bytes);
    }

    /// Whether a session may begin.
    fn admit(&mut self, now: Time, network: Network, name: &str, length: usize) -> Result<(), DropReason> {
        if length > MAX_PARKED_DATAGRAM || self.parked + length > MAX_PARKED_BYTES {
            return Err(DropReason::TooEarly);
        }
        if self.strangers.is_unknown(now, name) {
            return Err(DropReason::UnknownName);
        }
        self.gate.admit(now, network, &self.table.sessions).map_err(|turned| match turned {
            Turned::Draining => DropReason::Draining,
            Turned::TooMany => DropReason::TooManySessions,
            Turned::TooManyOfOne => DropReason::TooManyOfOne,
            Turned::TooFast => DropReason::TooManyNames,
        })
    }

    fn park(&mut self, cx: &mut Cx<'_>, at: usize, from: SocketAddr, message: &Message<'_>, bytes: &[u8]) {
        let fits = self.parked + bytes.len() <= MAX_PARKED_BYTES;
        let Some(parked) = self.table.sessions.get_mut(at).and_then(|session| session.stage.parked_mut())
        else {
            return;
        };
        if parked.has(from, message.transaction) {
            return;
        }
        if fits && parked.push(from, message.transaction, bytes) {
            self.parked += bytes.len();
        } else {
            self.discard(cx, DropReason::TooEarly);
        }
    }

    fn answered(&mut self, cx: &mut Cx<'_>, ticket: Ticket, answer: Answer) {
        let Some(at) = self.tickets.answered(ticket) else { return };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let refused = match (&mut session.stage, answer) {
            (Stage::Live(live), answer) => {
                live.end = None;
                if answer == Answer::Rtc(None) {
                    self.end(cx, at, None);
                }
                return;
            }
            (Stage::Loading(_, parked), Answer::Rtc(Some(flow))) => {
                let query = Query::Pick { key: flow.key.clone(), need: Need::to_play(Protocol::Rtc) };
                let ticket = self.tickets.ask(at, query, cx.actions);
                session.stage = Stage::Picking(ticket, core::mem::take(parked), flow);
                return;
            }
            (Stage::Picking(_, parked, flow), Answer::Picked(picked)) => {
                let (leg, to) = (session.leg, picked.to);
                session.stage = Stage::Opening(core::mem::take(parked), flow.clone(), picked);
                return cx.actions.push(Action::Open { leg, to, transport: Transport::Udp });
            }
            (_, Answer::Rtc(None)) => None,
            (_, Answer::Refused(refusal)) => Some(refusal.as_str()),
            _ => Some("answers another question"),
        };
        match refused {
            Some(why) => self.give_up(cx, at, Fault::Balancer(why)),
            None => {
                self.discard(cx, DropReason::UnknownName);
                self.abandon(cx, at);
            }
        }
    }

    fn opened(&mut self, cx: &mut Cx<'_>, leg: Leg) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        let Some(session) = self.table.sessions.get_mut(at) else { return };
        let Stage::Opening(parked, flow, Picked { origin, to }) = &mut session.stage else { return };
        let (parked, origin, to) = (core::mem::take(parked), origin.clone(), *to);
        let (key, flow) = (flow.key.clone(), flow.clone());
        let end = self.tickets.ask(at, Query::EndOfRtc(Arc::clone(&session.name)), cx.actions);
        let mut live = Live::new(flow, origin.clone(), end, cx.now);
        self.gate.settle();
        self.parked -= parked.bytes();
        cx.actions.note_of(leg, Note::Routed { verb: "webrtc", key, origin, to });
        for (from, transaction, bytes) in parked.into_iter() {
            if live.ask(transaction, from, cx.now) {
                cx.actions.write(leg, bytes);
            } else {
                self.drops.add(cx.now, DropReason::Repeated, cx.actions);
            }
        }
        let wake = live.ends_at(self.gate.idle());
        session.stage = Stage::Live(live);
        self.table.sessions.wake(at, wake);
    }

    fn open_failed(&mut self, cx: &mut Cx<'_>, leg: Leg, why: OpenError) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        let Some(session) = self.table.sessions.get(at) else { return };
        // Of a session that is live it is no more than word of mouth: silence ends it.
        let Stage::Opening(_, flow, Picked { origin, .. }) = &session.stage else { return };
        let fault = match why {
            OpenError::Unreachable => Fault::Origin("cannot be reached"),
            OpenError::Exhausted => Fault::Proxy("no socket left"),
        };
        if why == OpenError::Unreachable {
            cx.actions.push(Action::Tell(Report::Unreachable(origin.clone(), Protocol::Rtc)));
        }
        let key = Some(flow.key.clone());
        cx.actions.note_of(leg, Note::OriginFailed { key, origin: origin.clone(), fault });
        self.forget(cx.now, at);
    }

    /// A session finds no origin; its client will ask again.
    fn give_up(&mut self, cx: &mut Cx<'_>, at: usize, fault: Fault) {
        let Some(session) = self.table.sessions.get(at) else { return };
        let key = match &session.stage {
            Stage::Picking(_, _, flow) | Stage::Opening(_, flow, _) => Some(flow.key.clone()),
            Stage::Loading(..) | Stage::Live(_) => None,
        };
        cx.actions.note_of(session.leg, Note::Refused { key, fault });
        self.abandon(cx, at);
    }

    fn abandon(&mut self, cx: &mut Cx<'_>, at: usize) {
        if let Some(Session { leg, stage: Stage::Opening(..), .. }) = self.table.sessions.get(at) {
            cx.actions.close(*leg, Close::Abort);
        }
        self.forget(cx.now, at);
    }

    /// Frees a session that never was live. Its name is unknown for a moment, so that not every check asks anew.
    fn forget(&mut self, now: Time, at: usize) {
        let Some(session) = self.remove(at) else { return };
        if let Some(parked) = session.stage.parked() {
            self.gate.settle();
            self.parked -= parked.bytes();
        }
        self.strangers.remember(now, &session.name);
    }

    fn remove(&mut self, at: usize) -> Option<Session> {
        let session = self.table.remove(at)?;
        if let Some(ticket) = session.stage.ticket() {
            self.tickets.forget(ticket);
        }
        Some(session)
    }

    /// A live session is over: for a fault, or because its client has left. Then its name is unknown for a moment, for
    /// its client may not have heard of it yet.
    fn end(&mut self, cx: &mut Cx<'_>, at: usize, fault: Option<Fault>) {
        let Some(Session { name, leg, stage: Stage::Live(mut live), .. }) = self.remove(at) else { return };
        cx.actions.close(leg, Close::Abort);
        live.end(cx, leg, fault);
        if fault.is_none() {
            self.strangers.remember(cx.now, &name);
        }
    }

    // From origins.

    fn origin_datagram(&mut self, cx: &mut Cx<'_>, leg: Leg, bytes: &[u8]) {
        let Some(at) = self.table.sessions.of_leg(leg) else { return };
        let Some(Session { stage: Stage::Live(live), .. }) = self.table.sessions.get_mut(at) else { return };
        live.hear_origin(cx.now);
        let present = live.client();
        let to = match Kind::of(bytes) {
            None => return self.discard(cx, DropReason::NotWebRtcOrigin),
            Some(Kind::Stun) => match Message::parse(bytes) {
                Ok(message) if message.class.is_response() => match self.response(cx, at, &message) {
                    Some(asker) => Some(asker),
                    None => return self.discard(cx, DropReason::Unasked),
                },
                _ => present,
            },
            Some(Kind::Dtls | Kind::Rtp) => present,
        };
        let Some(peer) = to else { return self.discard(cx, DropReason::NoClient) };
        cx.actions.push(Action::Forward { to: Leg::CLIENT, peer: Some(peer), range: 0..bytes.len() });
    }

    /// The address that sent the check which this answers, if it is an answer to one that is remembered. A
    /// success makes that address the session's.
    fn response(&mut self, cx: &mut Cx<'_>, at: usize, message: &Message<'_>) -> Option<SocketAddr> {
        let is_success = message.class == Class::Success;
        let Some(Session { stage: Stage::Live(live), .. }) = self.table.sessions.get_mut(at) else {
            return None;
        };
        let answered = live.answered(message.transaction, is_success, cx.now)?;
        if answered.granted {
            let begins = !live.has_begun();
            self.table.confirm(at, answered.from, cx.now);
            if begins {
                self.look(cx, at);
            }
        }
        Some(answered.from)
    }

    // Time.

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.strangers.forget(cx.now);
        while let Some((wake, at)) = self.table.sessions.next()
            && wake <= cx.now
        {
            match self.table.sessions.get(at).map(|session| &session.stage) {
                Some(Stage::Live(_)) => {
                    self.look(cx, at);
                    self.table.forget_silent(at, cx.now, self.gate.idle());
                }
                Some(Stage::Loading(..) | Stage::Picking(..)) => {
                    self.give_up(cx, at, Fault::Balancer("does not answer"));
                }
                Some(Stage::Opening(..)) => self.give_up(cx, at, Fault::Proxy("no socket in time")),
                None => return,
            }
        }
    }

    /// Ends a live session that has been silent, tells of one that flows, and sets when to look again. Nothing of
    /// this is done with a datagram, but for the one that begins it.
    fn look(&mut self, cx: &mut Cx<'_>, at: usize) {
        let Some(Session { stage: Stage::Live(live), .. }) = self.table.sessions.get_mut(at) else { return };
        let ends_at = live.ends_at(self.gate.idle());
        if ends_at <= cx.now {
            let silent = live.silent();
            return self.end(cx, at, Some(silent));
        }
        live.tell(cx);
        let wake = live.tell_at().map_or(ends_at, |tell_at| tell_at.min(ends_at));
        self.table.sessions.wake(at, wake);
    }

    /// The process ends, and with it all sessions. Only who holds the keys of DTLS could say goodbye.
    fn stop(&mut self, cx: &mut Cx<'_>) {
        let all: Vec<_> = self.table.sessions.iter().map(|(at, _)| at).collect();
        for at in all {
            if let Some(Session { leg, stage: Stage::Live(live), .. }) = self.table.sessions.get_mut(at) {
                live.end(cx, *leg, Some(Fault::STOP));
            }
        }
    }
}

impl Machine for RtcHub {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Datagram { leg: Leg::CLIENT, from, bytes } => self.client_datagram(cx, from, bytes),
            Input::Datagram { leg, bytes, .. } => self.origin_datagram(cx, leg, bytes),
            Input::Answer { ticket, answer } => self.answered(cx, ticket, answer),
            Input::Opened { leg, .. } => self.opened(cx, leg),
            Input::OpenFailed { leg, why } => self.open_failed(cx, leg, why),
            Input::Tick => self.tick(cx),
            Input::Drain => self.gate.drain(cx.now + DRAIN_GRACE),
            // Of a datagram socket the end is what ICMP says: anybody's word. Silence ends a session.
            Input::Eof { .. } | Input::HungUp { .. } | Input::Stream { .. } | Input::Spliced { .. } => {}
            Input::Stop => self.stop(cx),
        }
        Ok(0)
    }

    /// Also those whose origin is being found.
    fn sessions(&self) -> usize {
        self.table.sessions.len()
    }

    fn deadline(&self) -> Option<Time> {
        let session = self.table.sessions.next().map(|(wake, _)| wake);
        session.into_iter().chain(self.strangers.next()).min()
    }
}
