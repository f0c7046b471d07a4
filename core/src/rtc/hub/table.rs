//! The flow table: each session, found by its leg, its user name, its client's addresses, and by when to look at it
//! next. Each way is O(1), the last O(log n); what finds a datagram's session allocates nothing. Decides and sends nothing.

use super::keyed::Keyed;
use super::session::{MAX_ASKED, MAX_PATHS, Network, Session, Stage};
use crate::machine::Leg;
use crate::time::{Duration, Time};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::net::SocketAddr;
use hashbrown::HashMap;
use slab::Slab;

#[derive(Debug)]
pub(super) struct Table {
    sessions: Slab<Entry>,
    names: HashMap<Arc<str>, usize, Keyed>,
    addresses: HashMap<SocketAddr, usize, Keyed>,
    networks: HashMap<Network, usize, Keyed>,
    timers: BTreeSet<(Time, usize)>,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    session: Session,
    wake: Time,
}

impl Table {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            sessions: Slab::new(),
            names: HashMap::with_hasher(keyed),
            addresses: HashMap::with_hasher(keyed),
            networks: HashMap::with_hasher(keyed),
            timers: BTreeSet::new(),
            generation: 0,
        }
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Session> {
        self.sessions.get(at).map(|entry| &entry.session)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Session> {
        self.sessions.get_mut(at).map(|entry| &mut entry.session)
    }

    pub(super) fn of_name(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    pub(super) fn of_address(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.get(&address).copied()
    }

    pub(super) fn of_leg(&self, leg: Leg) -> Option<usize> {
        let at = usize::try_from(leg.slot).ok()?.checked_sub(1)?;
        self.get(at).filter(|session| session.leg == leg).map(|_| at)
    }

    /// How many sessions a network is charged for.
    pub(super) fn charged(&self, network: Network) -> usize {
        self.networks.get(&network).copied().unwrap_or_default()
    }

    /// Puts a session in that nobody has yet, and gives it a leg. It is looked at again at `wake`.
    pub(super) fn insert(&mut self, name: Arc<str>, network: Network, stage: Stage, wake: Time) -> usize {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.sessions.vacant_entry();
        let at = entry.key();
        // There are fewer sessions than slots: a limit far below 2³² is checked before.
        let leg = Leg::new(at as u32 + 1, self.generation);
        self.names.insert(Arc::clone(&name), at);
        self.timers.insert((wake, at));
        *self.networks.entry(network).or_default() += 1;
        entry.insert(Entry { session: Session { name, network, leg, stage }, wake });
        at
    }

    /// Takes a session out, and all ways to it.
    pub(super) fn remove(&mut self, at: usize) -> Option<Session> {
        let Entry { session, wake } = self.sessions.try_remove(at)?;
        self.names.remove(&session.name);
        self.timers.remove(&(wake, at));
        if let Stage::Live(live) = &session.stage {
            for address in live.addresses() {
                self.addresses.remove(&address);
            }
        }
        if let Some(charged) = self.networks.get_mut(&session.network) {
            *charged -= 1;
            if *charged == 0 {
                self.networks.remove(&session.network);
            }
        }
        if self.sessions.is_empty() {
            self.free();
        }
        Some(session)
    }

    /// Gives back the memory that a crowd has left.
    fn free(&mut self) {
        self.sessions = Slab::new();
        self.names.shrink_to_fit();
        self.addresses.shrink_to_fit();
        self.networks.shrink_to_fit();
    }

    /// The origin has granted a check from this address: it is this session's, and no other's.
    pub(super) fn confirm(&mut self, at: usize, address: SocketAddr, now: Time) {
        let Some(Session { stage: Stage::Live(live), .. }) = self.get_mut(at) else { return };
        if let Some(surplus) = live.confirm(address, now) {
            self.addresses.remove(&surplus);
        }
        if let Some(old) = self.addresses.insert(address, at).filter(|old| *old != at)
            && let Some(Session { stage: Stage::Live(live), .. }) = self.get_mut(old)
        {
            live.leave(address);
        }
    }

    /// Addresses at which a client was silent for `idle` are its no more.
    pub(super) fn forget_silent(&mut self, at: usize, now: Time, idle: Duration) {
        let Some(Session { stage: Stage::Live(live), .. }) = self.get_mut(at) else { return };
        for address in live.forget_silent(now, idle) {
            self.addresses.remove(&address);
        }
    }

    /// Looks at a session again at `wake`, and not before.
    pub(super) fn wake(&mut self, at: usize, wake: Time) {
        if let Some(entry) = self.sessions.get_mut(at) {
            self.timers.remove(&(entry.wake, at));
            self.timers.insert((wake, at));
            entry.wake = wake;
        }
    }

    /// The next session to look at, and when.
    pub(super) fn next(&self) -> Option<(Time, usize)> {
        self.timers.first().copied()
    }

    /// Every session, for the invariants.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.sessions.iter().map(|(at, entry)| (at, &entry.session))
    }

    /// What must always hold, in O(n).
    pub(super) fn invariants(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        let mut addresses = 0;
        for (at, Entry { session, wake }) in &self.sessions {
            ensure(self.of_leg(session.leg) == Some(at), "a leg leads elsewhere")?;
            ensure(self.of_name(&session.name) == Some(at), "a name leads elsewhere")?;
            ensure(self.timers.contains(&(*wake, at)), "a session is never looked at")?;
            if let Stage::Live(live) = &session.stage {
                let known = live.addresses().count();
                ensure(known <= MAX_PATHS && live.asked() <= MAX_ASKED, "a session holds too much")?;
                let mine = |address| self.of_address(address) == Some(at);
                ensure(live.addresses().all(mine), "an address leads elsewhere")?;
                addresses += known;
            }
        }
        let sessions = self.len();
        ensure(addresses == self.addresses.len(), "an address leads nowhere")?;
        ensure(sessions == self.names.len(), "a name leads nowhere")?;
        ensure(sessions == self.timers.len(), "a timer is of no session")?;
        let charged: usize = self.networks.values().sum();
        ensure(sessions == charged, "a network is charged for nothing")
    }
}
