//! A driver without a network: bytes in at will, bytes out collected, the contract asserted. For split invariance, recorded
//! sessions and fuzzing; [`super::World`] is for everything that takes time.

use super::dice::Dice;
use srs_proxy_core::machine::{Action, Actions, Cx, Fault, Input, Leg, Machine, OpenError, Opened, Ticket};
use srs_proxy_core::query::{Answer, Query};
use srs_proxy_core::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;

/// One machine, driven by hand.
pub struct Straight<M> {
    machine: M,
    dice: Dice,
    now: Time,
    legs: BTreeMap<Leg, Side>,
    /// Legs the machine has opened and nobody has answered for.
    pub opening: VecDeque<Leg>,
    /// Questions nobody has answered.
    pub questions: VecDeque<(Ticket, Query)>,
    /// What was sent to each leg there ever was.
    sent: BTreeMap<Leg, Vec<u8>>,
    /// All other actions, in order.
    pub deeds: Vec<Action>,
    /// What ended the session.
    pub fault: Option<Fault>,
}

#[derive(Default)]
struct Side {
    open: bool,
    kept: Vec<u8>,
    paused: bool,
    splice: Option<(Leg, Option<u64>)>,
    hung_up: bool,
    ended: bool,
}

/// What is due after all actions of an input.
enum Due {
    Offer(Leg),
    Spliced(Leg),
}

impl<M: Machine> Straight<M> {
    /// A machine whose client leg is open. `seed` is for its randomness.
    pub fn new(seed: u64, machine: M) -> Self {
        let client = Side { open: true, ..Side::default() };
        Self {
            machine,
            dice: Dice::new(seed),
            now: Time::ZERO,
            legs: BTreeMap::from([(Leg::CLIENT, client)]),
            opening: VecDeque::new(),
            questions: VecDeque::new(),
            sent: BTreeMap::new(),
            deeds: Vec::new(),
            fault: None,
        }
    }

    /// Whether no leg is left.
    pub fn is_over(&self) -> bool {
        self.legs.is_empty()
    }

    /// What was sent to a leg.
    pub fn sent(&self, leg: Leg) -> &[u8] {
        self.sent.get(&leg).map_or(&[], Vec::as_slice)
    }

    /// What was sent to every leg there ever was.
    pub fn all_sent(&self) -> impl Iterator<Item = (Leg, &[u8])> {
        self.sent.iter().map(|(leg, bytes)| (*leg, bytes.as_slice()))
    }

    /// Whether a leg is not read.
    pub fn is_paused(&self, leg: Leg) -> bool {
        self.legs.get(&leg).is_some_and(|side| side.paused)
    }

    /// What a leg brought that the machine has not taken.
    pub fn kept(&self, leg: Leg) -> usize {
        self.legs.get(&leg).map_or(0, |side| side.kept.len())
    }

    /// Bytes from a leg; kept if it is paused, lost if it is gone.
    pub fn bytes(&mut self, leg: Leg, bytes: &[u8]) {
        let Some(side) = self.legs.get_mut(&leg).filter(|side| side.open && !side.ended) else { return };
        side.kept.extend_from_slice(bytes);
        if !side.paused {
            self.go_on(leg);
        }
    }

    /// Moves what is spliced, offers the rest.
    fn go_on(&mut self, leg: Leg) {
        if self.legs.get(&leg).is_some_and(|side| side.splice.is_none()) {
            self.offer(leg);
        } else if self.move_spliced(leg) {
            self.spliced(leg);
        }
    }

    /// Whether it is done.
    fn move_spliced(&mut self, leg: Leg) -> bool {
        let Some(Side { kept, splice: Some((to, left)), .. }) = self.legs.get_mut(&leg) else { return false };
        let most = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let bytes: Vec<u8> = kept.drain(..kept.len().min(most)).collect();
        if let Some(left) = left {
            *left -= bytes.len() as u64;
        }
        let done = *left == Some(0);
        self.sent.entry(*to).or_default().extend(bytes);
        done
    }

    fn spliced(&mut self, leg: Leg) {
        if let Some(side) = self.legs.get_mut(&leg) {
            side.splice = None;
            self.feed(Input::Spliced { leg }, &[]);
            self.go_on_unless_paused(leg);
        }
    }

    fn go_on_unless_paused(&mut self, leg: Leg) {
        if self.legs.get(&leg).is_some_and(|side| !side.paused) {
            self.go_on(leg);
        }
    }

    /// A leg's peer says no more, though what it said before may still be coming.
    pub fn hang_up(&mut self, leg: Leg) {
        if let Some(side) = self.legs.get_mut(&leg).filter(|side| side.open)
            && !std::mem::replace(&mut side.hung_up, true)
        {
            self.feed(Input::HungUp { leg }, &[]);
        }
    }

    /// The end of a leg's bytes, in good order or not; unless it is paused, when nobody would see it.
    pub fn eof(&mut self, leg: Leg, broken: bool) {
        if let Some(side) = self.legs.get_mut(&leg).filter(|side| side.open && !side.ended && !side.paused) {
            side.ended = true;
            self.hang_up(leg);
            if self.legs.contains_key(&leg) {
                self.feed(Input::Eof { leg, broken }, &[]);
            }
        }
    }

    /// The oldest leg that is being opened is open, with a peer that heard nothing yet.
    pub fn opened(&mut self) -> Option<Leg> {
        self.opened_as(Opened::Fresh)
    }

    /// The oldest leg that is being opened is open, and this is at its other end.
    pub fn opened_as(&mut self, what: Opened) -> Option<Leg> {
        let leg = self.opening.pop_front()?;
        if let Some(side) = self.legs.get_mut(&leg) {
            side.open = true;
        }
        self.feed(Input::Opened { leg, what }, &[]);
        Some(leg)
    }

    /// The oldest leg that is being opened will not be.
    pub fn open_failed(&mut self, why: OpenError) {
        if let Some(leg) = self.opening.pop_front() {
            self.legs.remove(&leg);
            self.feed(Input::OpenFailed { leg, why }, &[]);
        }
    }

    /// Answers the oldest question.
    pub fn answer(&mut self, answer: Answer) {
        if let Some((ticket, _)) = self.questions.pop_front() {
            self.feed(Input::Answer { ticket, answer }, &[]);
        }
    }

    /// The process is about to end.
    pub fn drain(&mut self) {
        self.feed(Input::Drain, &[]);
    }

    /// Time passes to the next deadline.
    pub fn tick(&mut self) {
        if let Some(deadline) = self.machine.deadline().filter(|_| !self.is_over()) {
            self.now = self.now.max(deadline);
            self.feed(Input::Tick, &[]);
            let next = self.machine.deadline();
            assert!(self.is_over() || next.is_none_or(|next| next > self.now), "the deadline has passed");
        }
    }

    fn offer(&mut self, leg: Leg) {
        let Some(side) = self.legs.get_mut(&leg).filter(|side| !side.kept.is_empty()) else { return };
        let given = std::mem::take(&mut side.kept);
        self.feed(Input::Stream { leg, bytes: &given }, &given);
    }

    fn feed(&mut self, input: Input<'_>, given: &[u8]) {
        if self.is_over() {
            return;
        }
        let source = match input {
            Input::Stream { leg, .. } => Some(leg),
            _ => None,
        };
        let mut actions = Actions::new();
        let mut cx = Cx { now: self.now, rng: self.dice.rng(), actions: &mut actions };
        let result = self.machine.handle(&mut cx, input);
        let consumed = result.unwrap_or(given.len());
        assert!(consumed <= given.len() && (source.is_some() || consumed == 0), "{consumed} consumed");
        if let Some(side) = source.and_then(|leg| self.legs.get_mut(&leg)) {
            side.kept = given[consumed..].to_vec();
        }
        let mut due = Vec::new();
        for action in actions.drain() {
            self.perform(action, &given[..consumed], &mut due);
        }
        if let Err(fault) = result {
            self.fault = Some(fault);
            self.legs.clear();
        }
        if self.is_over() {
            self.opening.clear();
            self.questions.clear();
        }
        for due in due {
            match due {
                Due::Offer(leg) => self.go_on_unless_paused(leg),
                Due::Spliced(leg) => self.spliced(leg),
            }
        }
    }

    fn perform(&mut self, action: Action, given: &[u8], due: &mut Vec<Due>) {
        match action {
            Action::Forward { to, peer: None, range } => self.send(to, &given[range]),
            Action::Write { to, peer: None, bytes } => self.send(to, &bytes),
            Action::Forward { .. } | Action::Write { .. } => panic!("an address on a connection"),
            Action::Ask { ticket, query } => {
                assert!(self.questions.iter().all(|(open, _)| *open != ticket), "{ticket:?} is unanswered");
                self.questions.push_back((ticket, query.clone()));
                self.deeds.push(Action::Ask { ticket, query });
            }
            Action::Open { leg, .. } | Action::OpenFile { leg, .. } => {
                let newest =
                    self.legs.keys().chain(self.sent.keys()).filter(|old| old.slot == leg.slot).max();
                assert!(newest.is_none_or(|newest| newest.generation < leg.generation), "{leg:?} is not new");
                assert!(self.legs.keys().all(|open| open.slot != leg.slot), "{leg:?}: the slot is in use");
                self.legs.insert(leg, Side::default());
                self.opening.push_back(leg);
                self.deeds.push(action);
            }
            Action::Pause { leg } => {
                self.side(leg).paused = true;
                self.deeds.push(Action::Pause { leg });
            }
            Action::Resume { leg } => {
                self.side(leg).paused = false;
                due.push(Due::Offer(leg));
                self.deeds.push(Action::Resume { leg });
            }
            Action::Splice { from, to, limit } => {
                assert!(self.side(to).open, "{to:?} is not open yet");
                let side = self.side(from);
                let splice = (to, limit.map(NonZeroU64::get));
                assert!(side.splice.replace(splice).is_none() && !side.ended, "{from:?} is spliced, or over");
                if self.move_spliced(from) {
                    due.push(Due::Spliced(from));
                }
                self.deeds.push(Action::Splice { from, to, limit });
            }
            Action::Close { leg, how } => {
                self.side(leg);
                self.legs.remove(&leg);
                self.opening.retain(|opening| *opening != leg);
                self.deeds.push(Action::Close { leg, how });
            }
            // There are no files here; what is sent of one is as many zeros.
            Action::SendFile { from, to, ref range } => {
                self.side(from);
                self.send(to, &vec![0; (range.end - range.start) as usize]);
                due.push(Due::Spliced(from));
                self.deeds.push(action);
            }
            Action::Tell(_) | Action::Note { .. } => self.deeds.push(action),
        }
    }

    fn side(&mut self, leg: Leg) -> &mut Side {
        self.legs.get_mut(&leg).unwrap_or_else(|| panic!("{leg:?} is gone"))
    }

    fn send(&mut self, to: Leg, bytes: &[u8]) {
        assert!(self.side(to).open, "{to:?} is not open yet");
        let into =
            self.legs.values().any(|side| side.splice.is_some_and(|(into, _)| into == to) && !side.ended);
        assert!(!into, "{to:?} is spliced into; other bytes would get between");
        self.sent.entry(to).or_default().extend_from_slice(bytes);
    }
}
