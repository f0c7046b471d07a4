//! The flow table: each session, found by its leg, by its caller, by what its caller's packets are addressed to, and by
//! when to look at it next. Each way is O(1), the last O(log n). Decides and sends nothing.

use super::session::{Session, Stage};
use crate::flow::{Index, Keyed, Slots};
use crate::srt::handshake::Handshake;
use crate::time::Time;
use core::net::SocketAddr;

/// A socket: of the caller, by its own id; or the one it calls, by that one's id.
type Socket = (SocketAddr, u32);

#[derive(Debug)]
pub(super) struct Table {
    /// Also those that are over. What is put in or taken out, is so below.
    pub(super) sessions: Slots<Session>,
    /// By the caller's address and its own socket id: handshakes.
    callers: Index<Socket>,
    /// By the caller's address and the socket id that it sends to: everything else.
    flows: Index<Socket>,
}

impl Table {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { sessions: Slots::new(keyed), callers: Index::new(keyed), flows: Index::new(keyed) }
    }

    pub(super) fn of_caller(&self, address: SocketAddr, socket: u32) -> Option<usize> {
        self.callers.get(&(address, socket))
    }

    pub(super) fn of_flow(&self, address: SocketAddr, destination: u32) -> Option<usize> {
        self.flows.get(&(address, destination))
    }

    /// Puts in a caller that is new, and gives it a leg. It is looked at again at `wake`.
    pub(super) fn insert(
        &mut self,
        caller: SocketAddr,
        conclusion: &Handshake,
        wake: Time,
        stage: impl FnOnce(usize) -> Stage,
    ) {
        let Handshake { socket, first_sequence, .. } = *conclusion;
        let at = self.sessions.insert(wake, |at, leg| Session {
            caller,
            socket,
            first_sequence,
            name: leg,
            leg,
            has_leg: false,
            stage: stage(at),
        });
        self.callers.insert((caller, socket), at);
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

    /// What its caller was called is free for another.
    pub(super) fn forget_caller(&mut self, at: usize) {
        let Some(Session { caller, socket, .. }) = self.sessions.get(at) else { return };
        if self.of_caller(*caller, *socket) == Some(at) {
            self.callers.remove(&(*caller, *socket));
        }
    }

    /// Takes a session out, and all ways to it.
    pub(super) fn remove(&mut self, at: usize) {
        self.end_flow(at);
        self.forget_caller(at);
        self.sessions.remove(at);
    }

    /// What must always hold, in O(n).
    pub(super) fn invariants(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        self.sessions.invariants()?;
        let (mut callers, mut flows) = (0, 0);
        for (at, session) in self.sessions.iter() {
            let Session { caller, socket, stage, has_leg, .. } = session;
            let is_over = matches!(stage, Stage::Over(_));
            ensure(is_over || *has_leg != stage.ticket().is_some(), "a leg is miscounted")?;
            let is_led_to = self.of_caller(*caller, *socket) == Some(at);
            ensure(is_over || is_led_to, "a caller leads elsewhere")?;
            callers += usize::from(is_led_to);
            if let Stage::Live(live) = stage {
                ensure(self.of_flow(*caller, live.alias) == Some(at), "a flow leads elsewhere")?;
                flows += 1;
            }
        }
        ensure(callers == self.callers.len(), "a caller leads nowhere")?;
        ensure(flows == self.flows.len(), "a flow leads nowhere")
    }
}
