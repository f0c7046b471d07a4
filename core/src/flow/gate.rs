//! Whether a session may begin: the limits of a hub, and what counts towards them. Sends nothing.

use super::{Budget, Keyed, Network, Slots, Slotted};
use crate::time::{Duration, Time};

/// Sessions whose origin is being found. More than may begin, at the rate that is the default, before the first of them
/// is answered or given up: who waits for an origin that is silent takes nobody else's place.
const MAX_WAITING: usize = 4096;

/// Limits of a hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A session ends when its client or its origin was silent for so long.
    pub idle: Duration,
    /// Sessions at a time; each has a socket.
    pub max_sessions: usize,
    /// Of them, those that one client network (an IPv4 address or an IPv6 /64) may hold.
    pub max_sessions_per_network: usize,
    /// New sessions that are looked up within a second.
    pub lookups_per_second: u32,
    /// Of them, those of one client network.
    pub lookups_per_network: u32,
}

impl Limits {
    /// The ordinary ones, and for how long a protocol's living peers may be silent.
    pub const fn new(idle: Duration) -> Self {
        Self {
            idle,
            max_sessions: 16_384,
            // A whole company behind one address, or a load test.
            max_sessions_per_network: 8192,
            lookups_per_second: 1000,
            lookups_per_network: 500,
        }
    }

    /// Each of so many hubs of one process, which have its ports and its memory in common, may hold its part of the sessions.
    pub const fn divided_by(self, hubs: usize) -> Self {
        Self {
            max_sessions: self.max_sessions.div_ceil(hubs),
            max_sessions_per_network: self.max_sessions_per_network.div_ceil(hubs),
            ..self
        }
    }
}

/// Why a session may not begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turned {
    /// The process is about to end.
    Draining,
    /// There are as many sessions as may be.
    TooMany,
    /// The same, of this network.
    TooManyOfOne,
    /// All lookups of this second are used up.
    TooFast,
}

#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    budget: Budget,
    /// Sessions that were let in and are not settled.
    waiting: usize,
    /// When nobody is let in any more.
    closes: Option<Time>,
}

impl Gate {
    pub(crate) fn new(limits: Limits, keyed: Keyed) -> Self {
        Self { limits, budget: Budget::new(keyed), waiting: 0, closes: None }
    }

    /// A session ends when its client or its origin was silent for so long.
    pub(crate) const fn idle(&self) -> Duration {
        self.limits.idle
    }

    /// Lets one more session of this network in, which waits from now on. What a flood is refused for first costs least.
    pub(crate) fn admit<S: Slotted>(
        &mut self,
        now: Time,
        network: Network,
        sessions: &Slots<S>,
    ) -> Result<(), Turned> {
        let Limits {
            max_sessions, max_sessions_per_network, lookups_per_second, lookups_per_network, ..
        } = self.limits;
        if self.closes.is_some_and(|closes| now >= closes) {
            return Err(Turned::Draining);
        }
        if self.waiting >= MAX_WAITING || sessions.len() >= max_sessions {
            return Err(Turned::TooMany);
        }
        if sessions.charged(network) >= max_sessions_per_network {
            return Err(Turned::TooManyOfOne);
        }
        if !self.budget.admit(now, network, lookups_per_second, lookups_per_network) {
            return Err(Turned::TooFast);
        }
        self.waiting += 1;
        Ok(())
    }

    /// A session that was let in waits no more: it has its origin, or will have none.
    pub(crate) fn settle(&mut self) {
        self.waiting -= 1;
    }

    /// Nobody is let in from then on.
    pub(crate) fn drain(&mut self, from: Time) {
        self.closes.get_or_insert(from);
    }

    /// What must always hold of so many sessions, so many of which wait.
    pub(crate) fn invariants(&self, sessions: usize, waiting: usize) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        ensure(waiting == self.waiting && waiting <= MAX_WAITING, "waiting sessions are miscounted")?;
        ensure(sessions <= self.limits.max_sessions, "there are too many sessions")
    }
}
