//! The flow table: each session, found by its leg, its user name, its client's addresses, and by when to look at it
//! next. Each way is O(1), the last O(log n); what finds a datagram's session allocates nothing. Decides and sends nothing.

use super::session::{MAX_CHECKS, MAX_PATHS, Session, Stage};
use crate::flow::{Index, Keyed, Network, Slots};
use crate::time::{Duration, Time};
use alloc::sync::Arc;
use core::net::SocketAddr;

#[derive(Debug)]
pub(super) struct Table {
    /// What is put in or taken out, is so below.
    pub(super) sessions: Slots<Session>,
    names: Index<Arc<str>>,
    addresses: Index<SocketAddr>,
}

impl Table {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { sessions: Slots::new(keyed), names: Index::new(keyed), addresses: Index::new(keyed) }
    }

    pub(super) fn of_name(&self, name: &str) -> Option<usize> {
        self.names.get(name)
    }

    pub(super) fn of_address(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.get(&address)
    }

    /// Puts a session in that nobody has yet, and gives it a leg. It is looked at again at `wake`.
    pub(super) fn insert(
        &mut self,
        name: Arc<str>,
        network: Network,
        wake: Time,
        stage: impl FnOnce(usize) -> Stage,
    ) -> usize {
        let own = Arc::clone(&name);
        let make = |at, leg| Session { name: own, network, leg, stage: stage(at) };
        let at = self.sessions.insert(wake, make);
        self.names.insert(name, at);
        at
    }

    /// Takes a session out, and all ways to it.
    pub(super) fn remove(&mut self, at: usize) -> Option<Session> {
        let session = self.sessions.remove(at)?;
        self.names.remove(&session.name);
        if let Stage::Live(live) = &session.stage {
            for address in live.addresses() {
                self.addresses.remove(&address);
            }
        }
        Some(session)
    }

    /// The origin has granted a check from this address: it is this session's, and no other's.
    pub(super) fn confirm(&mut self, at: usize, address: SocketAddr, now: Time) {
        let Some(Session { stage: Stage::Live(live), .. }) = self.sessions.get_mut(at) else { return };
        let key = live.flow.key.clone();
        if let Some(surplus) = live.confirm(address, now) {
            self.addresses.remove(&surplus);
        }
        if let Some(old) = self.addresses.insert(address, at).filter(|old| *old != at)
            && let Some(Session { stage: Stage::Live(live), .. }) = self.sessions.get_mut(old)
        {
            live.leave(address, &key);
        }
    }

    /// Addresses at which a client was silent for `idle` are its no more.
    pub(super) fn forget_silent(&mut self, at: usize, now: Time, idle: Duration) {
        let Some(Session { stage: Stage::Live(live), .. }) = self.sessions.get_mut(at) else { return };
        for address in live.forget_silent(now, idle) {
            self.addresses.remove(&address);
        }
    }

    /// What must always hold, in O(n).
    pub(super) fn invariants(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        self.sessions.invariants()?;
        let mut addresses = 0;
        for (at, session) in self.sessions.iter() {
            ensure(self.of_name(&session.name) == Some(at), "a name leads elsewhere")?;
            if let Stage::Live(live) = &session.stage {
                let known = live.addresses().count();
                ensure(known <= MAX_PATHS && live.asked() <= MAX_CHECKS, "a session holds too much")?;
                let mine = |address| self.of_address(address) == Some(at);
                ensure(live.addresses().all(mine), "an address leads elsewhere")?;
                addresses += known;
            }
        }
        ensure(addresses == self.addresses.len(), "an address leads nowhere")?;
        ensure(self.sessions.len() == self.names.len(), "a name leads nowhere")
    }
}
