//! Sessions in numbered slots: each has a leg of its own, is charged to a network, and is looked at again at a time.
//! Each way is O(1), the last O(log n). Decides and sends nothing.

use super::{Index, Keyed, Network};
use crate::machine::Leg;
use crate::time::Time;
use alloc::collections::BTreeSet;
use slab::Slab;

/// A session that knows its leg and who is charged for it.
pub(crate) trait Slotted {
    /// Its leg; as it was given.
    fn leg(&self) -> Leg;

    /// Who is charged for it; always the same.
    fn network(&self) -> Network;
}

#[derive(Debug)]
pub(crate) struct Slots<S> {
    entries: Slab<Entry<S>>,
    networks: Index<Network>,
    timers: BTreeSet<(Time, usize)>,
    generation: u32,
}

#[derive(Debug)]
struct Entry<S> {
    session: S,
    wake: Time,
}

impl<S: Slotted> Slots<S> {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self { entries: Slab::new(), networks: Index::new(keyed), timers: BTreeSet::new(), generation: 0 }
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&S> {
        self.entries.get(at).map(|entry| &entry.session)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut S> {
        self.entries.get_mut(at).map(|entry| &mut entry.session)
    }

    pub(crate) fn of_leg(&self, leg: Leg) -> Option<usize> {
        let at = usize::try_from(leg.slot).ok()?.checked_sub(1)?;
        self.get(at).filter(|session| session.leg() == leg).map(|_| at)
    }

    /// How many sessions a network is charged for.
    pub(crate) fn charged(&self, network: Network) -> usize {
        self.networks.get(&network).unwrap_or_default()
    }

    /// Puts in a session that is made for the slot and the leg it gets. It is looked at again at `wake`.
    pub(crate) fn insert(&mut self, wake: Time, make: impl FnOnce(usize, Leg) -> S) -> usize {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.entries.vacant_entry();
        let at = entry.key();
        let session = make(at, leg(at, self.generation));
        self.timers.insert((wake, at));
        let network = session.network();
        entry.insert(Entry { session, wake });
        self.networks.insert(network, self.charged(network) + 1);
        at
    }

    /// Another leg for a session whose first is closed.
    pub(crate) fn another_leg(&mut self, at: usize) -> Leg {
        self.generation = self.generation.wrapping_add(1);
        leg(at, self.generation)
    }

    /// Takes a session out.
    pub(crate) fn remove(&mut self, at: usize) -> Option<S> {
        let Entry { session, wake } = self.entries.try_remove(at)?;
        self.timers.remove(&(wake, at));
        match self.charged(session.network()) {
            0 | 1 => self.networks.remove(&session.network()),
            charged => self.networks.insert(session.network(), charged - 1),
        };
        if self.entries.is_empty() {
            // The memory that a crowd has left.
            self.entries = Slab::new();
        }
        Some(session)
    }

    /// Looks at a session again at `wake`, and not before.
    pub(crate) fn wake(&mut self, at: usize, wake: Time) {
        if let Some(entry) = self.entries.get_mut(at) {
            self.timers.remove(&(entry.wake, at));
            self.timers.insert((wake, at));
            entry.wake = wake;
        }
    }

    /// The next session to look at, and when.
    pub(crate) fn next(&self) -> Option<(Time, usize)> {
        self.timers.first().copied()
    }

    /// Every session, for the invariants.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &S)> {
        self.entries.iter().map(|(at, entry)| (at, &entry.session))
    }

    /// What must always hold, in O(n).
    pub(crate) fn invariants(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        for (at, Entry { session, wake }) in &self.entries {
            ensure(self.of_leg(session.leg()) == Some(at), "a leg leads elsewhere")?;
            ensure(self.timers.contains(&(*wake, at)), "a session is never looked at")?;
        }
        ensure(self.len() == self.timers.len(), "a timer is of no session")?;
        let charged: usize = self.networks.values().sum();
        ensure(self.len() == charged, "a network is charged for nothing")
    }
}

/// The leg of a slot. There are fewer sessions than slots: a limit far below 2³² is checked before.
fn leg(at: usize, generation: u32) -> Leg {
    Leg::new(at as u32 + 1, generation)
}
