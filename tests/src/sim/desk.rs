//! A hub of datagram flows driven by hand, without a network: datagrams in at will, datagrams out collected, the contract and the
//! hub's own invariants asserted after every input.

use super::Dice;
use super::hub::Hub;
use super::running::Running;
use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Action, Actions, Cx, Input, Leg, Note, OpenError, Opened, Ticket, Transport};
use srs_proxy_core::query::{Answer, Query, Report};
use srs_proxy_core::time::{Duration, Time};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// With more sessions than this, the invariants, which look at all of them, are not asserted after every input but after
/// each so-many-th.
const FEW: usize = 64;

/// A datagram that the hub sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// From which socket: its own, or a session's.
    pub by: Leg,
    /// To whom: the client, or nobody else than who the session's socket is connected to.
    pub to: Option<SocketAddr>,
    /// What.
    pub bytes: Vec<u8>,
}

/// One hub and its driver.
pub struct Desk<H> {
    hub: H,
    /// For who needs something random.
    pub dice: Dice,
    now: Time,
    actions: Actions,
    /// Sockets that are open, and to whom.
    open: BTreeMap<Leg, SocketAddr>,
    newest: BTreeMap<u32, u32>,
    /// Sockets that the hub has asked for and nobody has opened.
    pub opening: VecDeque<(Leg, SocketAddr)>,
    /// Questions that nobody has answered.
    pub questions: VecDeque<(Ticket, Query)>,
    /// Those for the end of something, which may have none.
    pub ends: VecDeque<(Ticket, Query)>,
    /// What was sent since it was taken last.
    sent: Vec<Sent>,
    /// What the load balancer was told.
    pub told: Vec<Report>,
    /// What was noted.
    pub notes: Vec<Note>,
    running: Running,
    /// How many questions there were.
    pub asked: usize,
    inputs: usize,
}

impl<H: Hub> Desk<H> {
    /// A new hub.
    pub fn new(seed: u64, limits: Limits) -> Self {
        Self {
            hub: H::new(limits, Dice::new(seed).key()),
            dice: Dice::new(seed),
            now: Time::ZERO,
            actions: Actions::new(),
            open: BTreeMap::new(),
            newest: BTreeMap::new(),
            opening: VecDeque::new(),
            questions: VecDeque::new(),
            ends: VecDeque::new(),
            sent: Vec::new(),
            told: Vec::new(),
            notes: Vec::new(),
            running: Running::default(),
            asked: 0,
            inputs: 0,
        }
    }

    /// The hub.
    pub fn hub(&self) -> &H {
        &self.hub
    }

    /// The hub, for who wants to drive it otherwise from here on.
    pub fn into_hub(self) -> H {
        self.hub
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What the hub waits for.
    pub fn deadline(&self) -> Option<Time> {
        self.hub.deadline()
    }

    /// Sessions' sockets that are open.
    pub fn legs(&self) -> usize {
        self.open.len()
    }

    /// What was sent since it was asked for last.
    pub fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// A client sends; what the hub sends then.
    pub fn client(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        self.feed(Input::Datagram { leg: Leg::CLIENT, from, bytes }, bytes);
        self.sent()
    }

    /// An origin sends to a session's socket; what the hub sends then.
    pub fn origin(&mut self, leg: Leg, bytes: &[u8]) -> Vec<Sent> {
        if let Some(&from) = self.open.get(&leg) {
            self.feed(Input::Datagram { leg, from, bytes }, bytes);
        }
        self.sent()
    }

    /// Answers the oldest question.
    pub fn answer(&mut self, answer: Answer) {
        if let Some((ticket, _)) = self.questions.pop_front() {
            self.feed(Input::Answer { ticket, answer }, &[]);
        }
    }

    /// Answers the oldest question for an end.
    pub fn end(&mut self, answer: Answer) {
        if let Some((ticket, _)) = self.ends.pop_front() {
            self.feed(Input::Answer { ticket, answer }, &[]);
        }
    }

    /// The oldest socket asked for is open.
    pub fn opened(&mut self) -> Option<Leg> {
        let (leg, to) = self.opening.pop_front()?;
        self.open.insert(leg, to);
        self.feed(Input::Opened { leg, what: Opened::Fresh }, &[]);
        Some(leg)
    }

    /// The oldest socket asked for cannot be had.
    pub fn open_failed(&mut self, why: OpenError) {
        if let Some((leg, _)) = self.opening.pop_front() {
            self.feed(Input::OpenFailed { leg, why }, &[]);
        }
    }

    /// Something of a session's socket that is no datagram.
    pub fn eof(&mut self, leg: Leg) {
        if self.open.contains_key(&leg) {
            self.feed(Input::Eof { leg, broken: false }, &[]);
        }
    }

    /// The process is about to end.
    pub fn drain(&mut self) {
        self.feed(Input::Drain, &[]);
    }

    /// The process ends.
    pub fn stop(&mut self) {
        self.feed(Input::Stop, &[]);
    }

    /// Time passes, with all that is due in it.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.hub.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.feed(Input::Tick, &[]);
            let next = self.hub.deadline();
            assert!(next.is_none_or(|next| next > self.now), "the deadline has passed");
        }
        self.now = until;
    }

    fn feed(&mut self, input: Input<'_>, given: &[u8]) {
        let mut actions = std::mem::take(&mut self.actions);
        let mut cx = Cx { now: self.now, rng: self.dice.rng(), actions: &mut actions };
        let consumed = self.hub.handle(&mut cx, input);
        assert_eq!(consumed, Ok(0), "a hub consumes nothing, and nothing ends it");
        for action in actions.drain() {
            self.perform(action, given);
        }
        self.actions = actions;
        self.inputs += 1;
        if self.hub.sessions() <= FEW || self.inputs.is_multiple_of(FEW) {
            self.hub.invariants().unwrap_or_else(|broken| panic!("{broken}"));
        }
        let legs = self.open.len() + self.opening.len();
        assert!(legs <= self.hub.sessions(), "{legs} sockets for {} sessions", self.hub.sessions());
        let running = self.running.len();
        assert!(running <= self.hub.sessions(), "{running} sessions were not said to be over");
    }

    fn perform(&mut self, action: Action, given: &[u8]) {
        match action {
            Action::Forward { to, peer, range } => self.send(to, peer, given[range].to_vec()),
            Action::Write { to, peer, bytes } => self.send(to, peer, bytes.to_vec()),
            Action::Open { leg, to, transport: Transport::Udp } => {
                let newest = self.newest.insert(leg.slot, leg.generation);
                assert!(leg.slot > 0 && newest < Some(leg.generation), "{leg:?} was used before");
                assert!(self.open.keys().all(|open| open.slot != leg.slot), "{leg:?}: the slot is in use");
                self.opening.push_back((leg, to));
            }
            Action::Ask { ticket, query: query @ Query::EndOfRtc(_) } => self.ends.push_back((ticket, query)),
            Action::Ask { ticket, query } => {
                assert!(self.questions.iter().all(|(open, _)| *open != ticket), "{ticket:?} is unanswered");
                self.asked += 1;
                self.questions.push_back((ticket, query));
            }
            Action::Close { leg, .. } => {
                let before = self.opening.len();
                self.opening.retain(|(opening, _)| *opening != leg);
                let was_there = self.open.remove(&leg).is_some() || self.opening.len() < before;
                assert!(was_there, "{leg:?} is closed twice");
            }
            Action::Tell(report) => self.told.push(report),
            Action::Note { leg, note } => {
                self.running.hear(leg, &note);
                self.notes.push(note);
            }
            other => panic!("{other:?} is nothing for a hub"),
        }
    }

    fn send(&mut self, by: Leg, to: Option<SocketAddr>, bytes: Vec<u8>) {
        assert!(!bytes.is_empty());
        let is_right =
            if by == Leg::CLIENT { to.is_some() } else { to.is_none() && self.open.contains_key(&by) };
        assert!(is_right, "{by:?} cannot send to {to:?}");
        self.sent.push(Sent { by, to, bytes });
    }
}
