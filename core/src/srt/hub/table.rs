//! The flow table: each session, found by its leg, by its caller, by what its caller's packets are addressed to, and by
//! when to look at it next. Each way is O(1), the last O(log n). Decides and sends nothing.

use super::session::{Session, Stage};
use crate::flow::{Keyed, Network, Slots};
use crate::machine::Leg;
use crate::time::Time;
use core::net::SocketAddr;
use hashbrown::HashMap;

/// A socket: of the caller, by its own id; or the one it calls, by that one's id.
type Socket = (SocketAddr, u32);

#[derive(Debug)]
pub(super) struct Table {
    sessions: Slots<Session>,
    /// By the caller's address and its own socket id: handshakes.
    callers: HashMap<Socket, usize, Keyed>,
    /// By the caller's address and the socket id that it sends to: everything else.
    flows: HashMap<Socket, usize, Keyed>,
}

impl Table {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            sessions: Slots::new(keyed),
            callers: HashMap::with_hasher(keyed),
            flows: HashMap::with_hasher(keyed),
        }
    }

    /// How many sessions there are, also those that are over.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Session> {
        self.sessions.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Session> {
        self.sessions.get_mut(at)
    }

    pub(super) fn of_leg(&self, leg: Leg) -> Option<usize> {
        self.sessions.of_leg(leg)
    }

    pub(super) fn of_caller(&self, address: SocketAddr, socket: u32) -> Option<usize> {
        self.callers.get(&(address, socket)).copied()
    }

    pub(super) fn of_flow(&self, address: SocketAddr, destination: u32) -> Option<usize> {
        self.flows.get(&(address, destination)).copied()
    }

    /// How many sessions a network is charged for.
    pub(super) fn charged(&self, network: Network) -> usize {
        self.sessions.charged(network)
    }

    /// Puts in a caller that is new, and gives it a leg. It is looked at again at `wake`.
    pub(super) fn insert(&mut self, caller: SocketAddr, socket: u32, stage: Stage, wake: Time) -> usize {
        let made = |leg| Session { caller, socket, name: leg, leg, has_leg: false, stage };
        let at = self.sessions.insert(wake, made);
        self.callers.insert((caller, socket), at);
        at
    }

    /// Gives a session whose leg is gone another one.
    pub(super) fn another_leg(&mut self, at: usize) {
        let leg = self.sessions.another_leg(at);
        if let Some(session) = self.sessions.get_mut(at) {
            session.leg = leg;
            session.has_leg = false;
        }
    }

    /// The caller of a session sends to this id, which is nobody else's at that address.
    pub(super) fn flow(&mut self, at: usize, destination: u32) {
        if let Some(session) = self.sessions.get(at) {
            self.flows.insert((session.caller, destination), at);
        }
    }

    /// Its packets flow no more.
    pub(super) fn end_flow(&mut self, at: usize) {
        if let Some(Session { caller, stage: Stage::Live(live), .. }) = self.sessions.get(at) {
            self.flows.remove(&(*caller, live.alias));
        }
    }

    /// Takes a session out, and all ways to it.
    pub(super) fn remove(&mut self, at: usize) {
        self.end_flow(at);
        if let Some(session) = self.sessions.remove(at) {
            self.callers.remove(&(session.caller, session.socket));
        }
        if self.len() == 0 {
            // The memory that a crowd has left.
            self.callers.shrink_to_fit();
            self.flows.shrink_to_fit();
        }
    }

    /// Looks at a session again at `wake`, and not before.
    pub(super) fn wake(&mut self, at: usize, wake: Time) {
        self.sessions.wake(at, wake);
    }

    /// The next session to look at, and when.
    pub(super) fn next(&self) -> Option<(Time, usize)> {
        self.sessions.next()
    }

    /// Every session, for the invariants.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.sessions.iter()
    }

    /// What must always hold, in O(n).
    pub(super) fn invariants(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        self.sessions.invariants()?;
        let mut flows = 0;
        for (at, session) in self.iter() {
            let Session { caller, socket, stage, has_leg, .. } = session;
            let is_legless = matches!(stage, Stage::Picking(..) | Stage::Over(_));
            ensure(*has_leg != is_legless, "a leg is miscounted")?;
            ensure(self.of_caller(*caller, *socket) == Some(at), "a caller leads elsewhere")?;
            if let Stage::Live(live) = stage {
                ensure(self.of_flow(*caller, live.alias) == Some(at), "a flow leads elsewhere")?;
                flows += 1;
            }
        }
        ensure(self.len() == self.callers.len(), "a caller leads nowhere")?;
        ensure(flows == self.flows.len(), "a flow leads nowhere")
    }
}
