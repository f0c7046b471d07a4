//! Which legs a machine has, and what stands at their other ends: the slots of its present session. Moves nothing.

use super::net::Opening;
use srs_proxy_core::machine::Leg;
use std::net::SocketAddr;

/// Where a slot's present leg stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Closed, failed, or never used.
    Gone,
    /// Asked for, under this number.
    Opening(u64, Target),
    /// A TCP connection.
    Tcp(usize),
    /// An open file.
    File(usize),
    /// A UDP socket at this address, connected to one peer or to none.
    Udp(SocketAddr, Option<SocketAddr>),
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    /// A connection that was kept.
    Kept(usize),
    Udp(SocketAddr),
    /// A file that was found.
    File(usize),
}

#[derive(Debug)]
struct Slot {
    /// Of the present leg, or the last one.
    generation: Option<u32>,
    state: State,
}

/// All slots.
#[derive(Default, Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    openings: u64,
}

impl Slots {
    /// A session begins, with this at the other end of its client leg.
    pub(crate) fn begin(&mut self, client: State) {
        self.slots.clear();
        self.slots.push(Slot { generation: Some(0), state: client });
    }

    /// A slot is taken by a leg that is being opened.
    pub(crate) fn open(&mut self, leg: Leg, target: Target, most: usize) -> Opening {
        let slot = leg.slot as usize;
        assert!(slot < most, "{leg:?}: slots are dense");
        while self.slots.len() <= slot {
            self.slots.push(Slot { generation: None, state: State::Gone });
        }
        self.openings += 1;
        let old = &mut self.slots[slot];
        assert!(old.state == State::Gone, "{leg:?}: the slot is in use");
        assert!(old.generation < Some(leg.generation), "{leg:?}: the generation was used before");
        *old = Slot { generation: Some(leg.generation), state: State::Opening(self.openings, target) };
        Opening(leg, self.openings)
    }

    /// What is asked for under this number, if the machine still wants it.
    pub(crate) fn awaited(&self, Opening(leg, number): Opening) -> Option<Target> {
        match self.state(leg) {
            State::Opening(waiting, target) if waiting == number => Some(target),
            _ => None,
        }
    }

    pub(crate) fn state(&self, leg: Leg) -> State {
        match self.slots.get(leg.slot as usize) {
            Some(slot) if slot.generation == Some(leg.generation) => slot.state,
            _ => State::Gone,
        }
    }

    /// The present leg of its slot comes to this.
    pub(crate) fn set(&mut self, leg: Leg, state: State) {
        self.slots[leg.slot as usize].state = state;
    }

    pub(crate) fn tcp(&self, leg: Leg) -> Option<usize> {
        match self.state(leg) {
            State::Tcp(conn) => Some(conn),
            _ => None,
        }
    }

    pub(crate) fn is_open(&self, leg: Leg) -> bool {
        self.state(leg) != State::Gone
    }

    /// Every leg there is.
    pub(crate) fn open_legs(&self) -> impl Iterator<Item = Leg> {
        let open = self.slots.iter().enumerate().filter(|(_, slot)| slot.state != State::Gone);
        open.filter_map(|(index, slot)| Some(Leg::new(index as u32, slot.generation?)))
    }
}
